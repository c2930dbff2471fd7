"""Files that say which cluster to start: a class of Dask, its arguments, how many jobs."""

from __future__ import annotations

import importlib
import inspect
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".yaml", ".yml")
#: Classes that a file may name, by module; the module's package is installed by `pip install PACKAGE`.
CLUSTERS = {
    "dask_jobqueue": (
        "HTCondorCluster",
        "LSFCluster",
        "MoabCluster",
        "OARCluster",
        "PBSCluster",
        "SGECluster",
        "SLURMCluster",
    ),
    "distributed": ("LocalCluster",),
}
PACKAGES = {"dask_jobqueue": "dask-jobqueue", "distributed": "napari-superanimal[cluster]"}
KEYS = ("cluster", "jobs", "arguments", "wait_minutes")
#: Arguments that the number of jobs stands for.
COUNTS = ("n_workers", "jobs")
#: Every worker has one of these, and every input takes one: a worker with many cores uses them all on one video.
RESOURCE = "video"
#: What an argument is where the file does not say: quiet, no web page; on this computer a worker is a job.
_LOCAL = {
    "threads_per_worker": 1,
    "memory_limit": 0,
    "dashboard_address": None,
    "silence_logs": logging.CRITICAL,
    "resources": {RESOURCE: 1},
}
_QUEUE = {"processes": 1, "silence_logs": logging.CRITICAL, "scheduler_options": {"dashboard": False}}


@dataclass(frozen=True)
class ClusterFile:
    """What a file says of a cluster.

    Attributes
    ----------
    path : Path
    module, name : str
        Of the class, one of `CLUSTERS`.
    jobs : int
        Jobs to ask the queue for.
    arguments : dict
        Keyword arguments of the class.
    wait_minutes : float or None
        How long the first job may take to start; None waits until somebody cancels.
    """

    path: Path
    module: str
    name: str
    jobs: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)
    wait_minutes: float | None = None

    def start(self, tasks: int) -> Any:
        """The cluster, with as many jobs as it may have but no more than tasks; every worker has one `RESOURCE`.

        Raises
        ------
        UserError
            If its package is missing, or the cluster does not take the arguments.
        """
        jobs = min(self.jobs, tasks)
        cluster_class = self._class()
        try:
            if self.name == "LocalCluster":
                _refuse_unknown(cluster_class, self.arguments)
                cluster = cluster_class(n_workers=0, **{**_LOCAL, **self.arguments})
                cluster.scale(jobs)
            else:
                given = {**_QUEUE, **self.arguments, "worker_extra_args": self._worker_options()}
                cluster = cluster_class(**given)
                cluster.scale(jobs=jobs)
        except (TypeError, ValueError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"{self.name} could not be started ({reason})",
                path=self.path,
                remedy=f"compare `arguments` with what {self.module}.{self.name} takes",
            ) from error
        return cluster

    def _worker_options(self) -> list[str]:
        """What every `dask worker` is started with: the file's words, or else those of the user's jobqueue.yaml."""
        import dask

        section = self.arguments.get("config_name") or self.name.removesuffix("Cluster").lower()
        usual = dask.config.get(f"jobqueue.{section}.worker-extra-args", None) or ()
        given = self.arguments.get("worker_extra_args", usual)
        return [*map(str, given), "--resources", f"{RESOURCE}=1"]

    def _class(self) -> Any:
        try:
            return getattr(importlib.import_module(self.module), self.name)
        except ImportError as error:
            raise UserError(
                f"{self.name} needs {self.module}, which is not installed",
                path=self.path,
                remedy=f'pip install "{PACKAGES[self.module]}"',
            ) from error


def submitted(cluster: Any, path: Path) -> None:
    """See that the jobs of a started cluster were taken by the queue; those that were not are submitted once more.

    Raises
    ------
    UserError
        If the queue does not take them, with what it says.
    """

    async def again(job: Any) -> None:
        await job

    refused = [job for job in cluster.workers.values() if getattr(job, "job_id", "") is None]
    if not refused:
        return
    try:
        for job in refused:
            cluster.sync(again, job)
    except (RuntimeError, ValueError, OSError) as error:
        from distributed.core import Status

        for job in refused:
            if job.job_id is None:
                job.status = Status.failed  # else the cluster would not end
        if isinstance(error, FileNotFoundError):
            problem, remedy = (
                f"{error.filename} is not there to submit jobs with",
                "run this where jobs can be submitted",
            )
        else:
            said = " ".join(str(error).rpartition("stderr:")[2].split())[:200] or type(error).__name__
            problem, remedy = f"the queue did not take the job ({said})", "correct `arguments`"
        raise UserError(problem, path=path, remedy=remedy) from error


def is_cluster_file(scheduler: str) -> bool:
    """Whether a scheduler is told by a file of this kind, and not by an address or Dask's own file (JSON)."""
    return scheduler.lower().endswith(SUFFIXES)


def read_cluster_file(path: Path) -> ClusterFile:
    """Read and check a file.

    Raises
    ------
    UserError
        If it cannot be read, names a class that is not one of `CLUSTERS`, or has other keys or values than it should.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError("no such file", path=path, remedy="give --scheduler an address or a file") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:160]
        raise UserError(f"not a readable YAML file ({reason})", path=path, remedy="correct it") from error
    if not isinstance(data, dict) or "cluster" not in data:
        raise UserError(
            "does not say which cluster to start",
            path=path,
            remedy="give it a line such as `cluster: dask_jobqueue.SLURMCluster`",
        )
    if unknown := [str(key) for key in data if key not in KEYS]:
        raise UserError(
            f"unknown key {unknown[0]!r}",
            path=path,
            remedy=f"the keys are {', '.join(KEYS)}; what the cluster's class takes goes under `arguments`",
        )
    module, name = _named(data["cluster"], path)
    arguments = data.get("arguments") or {}
    if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
        raise UserError(
            "`arguments` is not a list of names and values", path=path, remedy="one `name: value` a line"
        )
    if counted := [key for key in COUNTS if key in arguments]:
        raise UserError(
            f"`{counted[0]}` is under `arguments`", path=path, remedy="say `jobs: N` at the top level instead"
        )
    jobs, wait = data.get("jobs", 1), data.get("wait_minutes")
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise UserError(f"`jobs` is {jobs!r}", path=path, remedy="give a whole number from 1 on")
    if wait is not None and (isinstance(wait, bool) or not isinstance(wait, int | float) or not wait > 0):
        raise UserError(
            f"`wait_minutes` is {wait!r}", path=path, remedy="give a number above 0, or leave it out"
        )
    return ClusterFile(path, module, name, jobs, arguments, None if wait is None else float(wait))


def _named(text: Any, path: Path) -> tuple[str, str]:
    """Module and name of a class that may be started; the module may be left out."""
    module, _, name = str(text).rpartition(".")
    module = {"dask.distributed": "distributed"}.get(module, module)
    for known, names in CLUSTERS.items():
        if name in names and module in ("", known):
            return known, name
    every = ", ".join(name for names in CLUSTERS.values() for name in names)
    raise UserError(
        f"cluster {str(text)!r} is not one that is started from here", path=path, remedy=f"use {every}"
    )


def _refuse_unknown(cluster_class: Any, arguments: dict[str, Any]) -> None:
    """A worker that does not take an argument says so only in its own process, and is started again for ever.

    Raises
    ------
    TypeError
        If neither the cluster nor its workers know an argument.
    """
    from distributed import Nanny, Worker

    known = {name for each in (cluster_class, Nanny, Worker) for name in inspect.signature(each).parameters}
    for name in arguments:
        if name not in known:
            raise TypeError(f"unexpected keyword argument {name!r}")
