"""Files that say which cluster to start: what is in them, and what is refused."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.cluster import client_of, plan_of
from napari_superanimal.jobs.cluster_file import read_cluster_file
from napari_superanimal.jobs.progress import Cancelled, CancelToken

if TYPE_CHECKING:
    from pathlib import Path

SLURM = """\
cluster: dask_jobqueue.SLURMCluster
jobs: 8
wait_minutes: 90
arguments:
  queue: gpu
  cores: 4
  memory: 16GB
  walltime: "04:00:00"
  job_extra_directives: ["--gres=gpu:1"]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_queue_is_read(tmp_path: Path) -> None:
    plan = read_cluster_file(written(tmp_path, SLURM))
    assert (plan.module, plan.name, plan.jobs, plan.wait_minutes) == ("dask_jobqueue", "SLURMCluster", 8, 90)
    assert plan.arguments["walltime"] == "04:00:00"
    assert plan.arguments["job_extra_directives"] == ["--gres=gpu:1"]


@pytest.mark.parametrize(
    ("text", "module", "name"),
    [
        ("cluster: PBSCluster", "dask_jobqueue", "PBSCluster"),
        ("cluster: LocalCluster", "distributed", "LocalCluster"),
        ("cluster: dask.distributed.LocalCluster", "distributed", "LocalCluster"),
    ],
)
def test_the_module_may_be_left_out(tmp_path: Path, text: str, module: str, name: str) -> None:
    plan = read_cluster_file(written(tmp_path, text))
    assert (plan.module, plan.name, plan.jobs, plan.arguments) == (module, name, 1, {})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "does not say which cluster"),
        ("- a\n- b", "does not say which cluster"),
        ("cluster: [", "not a readable YAML file"),
        ("cluster: subprocess.Popen", "is not one that is started from here"),
        ("cluster: evil.LocalCluster", "is not one that is started from here"),
        ("cluster: {a: 1}", "is not one that is started from here"),
        ("cluster: LocalCluster\nworkers: 3", "unknown key 'workers'"),
        ("cluster: LocalCluster\njobs: 0", "`jobs` is 0"),
        ("cluster: LocalCluster\njobs: many", "`jobs` is 'many'"),
        ("cluster: LocalCluster\njobs: true", "`jobs` is True"),
        ("cluster: LocalCluster\nwait_minutes: -1", "`wait_minutes` is -1"),
        ("cluster: LocalCluster\narguments: [1]", "`arguments` is not a list of names and values"),
        ("cluster: LocalCluster\narguments: {n_workers: 4}", "`n_workers` is under `arguments`"),
        ("cluster: LocalCluster\narguments: {1: 4}", "`arguments` is not a list of names and values"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_a_remedy(tmp_path: Path, text: str, problem: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_cluster_file(path)
    assert problem in caught.value.problem
    assert caught.value.path == path
    assert caught.value.remedy


def test_no_object_is_made_of_what_a_file_says(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    path = written(tmp_path, f"cluster: !!python/object/apply:pathlib.Path.touch [{trap}]")
    with pytest.raises(UserError, match="not a readable YAML file"):
        read_cluster_file(path)
    assert not trap.exists()


def test_addresses_and_dasks_own_files_are_no_plans() -> None:
    for scheduler in (None, "tcp://node7:8786", "scheduler.json"):
        assert plan_of(scheduler) is None


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(UserError, match=r'pip install "dask-jobqueue"'):
        read_cluster_file(written(tmp_path, SLURM)).start(3)


def test_arguments_that_nobody_knows_are_refused_before_anything_starts(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    plan = read_cluster_file(written(tmp_path, "cluster: LocalCluster\narguments: {queue: long}"))
    with pytest.raises(UserError, match=r"unexpected keyword argument 'queue'"):
        plan.start(3)


def test_the_wait_for_a_first_worker_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the file's time is over, or when the user has enough of it."""
    pytest.importorskip("distributed")
    monkeypatch.setattr("napari_superanimal.jobs.cluster_file.ClusterFile.start", _nobody_comes)
    path = written(tmp_path, "cluster: LocalCluster\nwait_minutes: 0.005")
    told = []
    with (
        pytest.raises(UserError, match=r"no job had started after 0\.005 minutes"),
        client_of(None, str(path), 1, token=CancelToken(), on_progress=told.append),
    ):
        raise AssertionError("nobody came")
    assert told[0].message == "waiting for the first worker"
    path.write_text("cluster: LocalCluster")
    token = CancelToken()
    threading.Timer(0.5, token.cancel).start()
    began = time.monotonic()
    with pytest.raises(Cancelled), client_of(None, str(path), 1, token=token):
        raise AssertionError("nobody came")
    assert time.monotonic() - began < 30


def _nobody_comes(self: object, tasks: int) -> object:
    """A cluster whose queue is full: a real scheduler without workers."""
    from distributed import LocalCluster

    return LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=None)


def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, submit: str) -> Path:
    """A file for SLURM, and a stand-in for its `sbatch` and `scancel` that comes first in the PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in (("sbatch", submit), ("scancel", 'kill -- "-$1"')):
        (programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return written(
        tmp_path,
        "cluster: dask_jobqueue.SLURMCluster\njobs: 2\n"
        f"arguments: {{cores: 2, memory: 2GB, queue: short, log_directory: {tmp_path / 'logs'}}}\n",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no queue of this kind")
def test_jobs_are_submitted_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real classes of dask-jobqueue; what `sbatch` gets is run here, in a group of processes of its own."""
    pytest.importorskip("dask_jobqueue")
    script = tmp_path / "script.sh"
    path = queue(
        tmp_path,
        monkeypatch,
        f'cp "$1" {script}\nset -m\nbash {script} >/dev/null 2>&1 &\necho "Submitted batch job $!"',
    )
    with client_of(None, str(path), 1, token=CancelToken()) as client:
        assert client.submit(sum, [1, 2], resources={"video": 1}).result(timeout=60) == 3
        [worker] = client.scheduler_info()["workers"].values()
        # one input asks for one job; it is one worker with all the cores
        assert worker["nthreads"] == 2
        assert worker["resources"] == {"video": 1}
        pid = client.submit(os.getpid, resources={"video": 1}).result(timeout=60)
    text = script.read_text()
    assert "#SBATCH -p short" in text
    assert "#SBATCH --cpus-per-task=2" in text
    deadline = time.monotonic() + 30
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(pid)


@pytest.mark.skipif(sys.platform == "win32", reason="no queue of this kind")
def test_what_the_queue_says_against_a_job_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue")
    path = queue(
        tmp_path, monkeypatch, 'echo "sbatch: error: invalid partition specified: short" >&2; exit 1'
    )
    with (
        pytest.raises(UserError, match="invalid partition specified: short") as caught,
        client_of(None, str(path), 1, token=CancelToken()),
    ):
        raise AssertionError("there is no such queue")
    assert caught.value.path == path
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with (
        pytest.raises(UserError, match="sbatch is not there"),
        client_of(None, str(path), 1, token=CancelToken()),
    ):
        raise AssertionError("there is no queue")


@pytest.mark.skipif(sys.platform == "win32", reason="no queue of this kind")
def test_arguments_that_no_queue_knows(tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    plan = read_cluster_file(written(tmp_path, SLURM.replace("queue: gpu", "partition: gpu")))
    with pytest.raises(UserError, match="unexpected keyword argument 'partition'"):
        plan.start(1)
