"""Several videos at the same time on real worker processes; what is broken does not concern the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from napari_superanimal.cli import main
from napari_superanimal.demo.render import render_clip
from napari_superanimal.jobs.inputs import gather
from napari_superanimal.poses.formats import registry
from napari_superanimal.video import VideoWriter

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos; one of them is only the first half of a file."""
    folder = tmp_path_factory.mktemp("night")
    for number, name in enumerate(("left", "middle", "right")):
        path = folder / f"{name}.mp4"
        with VideoWriter(path, 30, (128, 96)) as writer:
            for frame in render_clip(FRAMES, (128, 96), 1, number).frames:
                writer.write(frame)
    broken = folder / "middle.mp4"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    return folder


def run(*words: object) -> int:
    return main([str(word) for word in words])


def as_before(
    folder: Path, out: Path, model: Path, capsys: pytest.CaptureFixture[str], *words: object
) -> None:
    """Two complete results, one clear failure, and the exit code says so."""
    report = out.with_suffix(".json")
    assert run("predict", folder, "--model", model, "--out", out, "--json", report, *words) == 2
    said = capsys.readouterr()
    result = json.loads(report.read_text())
    assert result["status"] == "error"
    rows = {row["input"].rpartition("/")[2].rpartition("\\")[2]: row for row in result["videos"]}
    assert [rows[f"{name}.mp4"]["status"] for name in ("left", "middle", "right")] == [
        "complete",
        "failed",
        "complete",
    ]
    assert "middle.mp4" in rows["middle.mp4"]["error"]
    assert "; " in rows["middle.mp4"]["error"], "no remedy"
    assert rows["left.mp4"]["frames"] == FRAMES
    assert rows["left.mp4"]["fps"] > 0
    for name in ("left", "right"):
        assert len(registry.read(out / f"{name}_tiny.h5")) == FRAMES
        card = json.loads((out / f"{name}_tiny.run.json").read_text())
        assert card["status"] == "complete"
    assert not list(out.glob("middle*"))
    table = said.out.splitlines()[-4:]
    assert table[0].split() == ["input", "status", "frames", "fps", "output"]
    assert any(line.split()[:2] == ["middle.mp4", "failed"] for line in table)
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "1 of 3" in errors[0]
    assert "middle.mp4" in errors[0]
    assert "Traceback" not in said.err


def test_three_videos_on_two_workers_one_of_them_broken(
    folder: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    out = tmp_path / "out"
    as_before(folder, out, tiny, capsys, "--workers", 2)
    # again: what is complete is left alone, what failed is tried again
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.h5")}
    as_before(folder, out, tiny, capsys, "--workers", 2, "--resume")
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*.h5")}


def test_one_after_another_it_is_the_same(
    folder: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_before(folder, tmp_path / "out", tiny, capsys)


def test_workers_give_what_one_process_gives(folder: Path, tiny: Path, tmp_path: Path) -> None:
    """On a scheduler that runs already, which is reached by its address."""
    distributed = pytest.importorskip("distributed")
    videos = [folder / "left.mp4", folder / "right.mp4"]
    assert run("predict", *videos, "--model", tiny, "--out", tmp_path / "one") == 0
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as cluster:
        words = ("--out", tmp_path / "many", "--scheduler", cluster.scheduler_address)
        assert run("predict", *videos, "--model", tiny, *words) == 0
    for video in videos:
        one, many = (registry.read(tmp_path / d / f"{video.stem}_tiny.h5") for d in ("one", "many"))
        np.testing.assert_array_equal(one.xy, many.xy)
        np.testing.assert_array_equal(one.likelihood, many.likelihood)


def test_a_cluster_that_a_file_names_is_started_and_ended(
    folder: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real worker processes again; afterwards none of them is left."""
    pytest.importorskip("distributed")
    plan = tmp_path / "here.yaml"
    plan.write_text("cluster: distributed.LocalCluster\njobs: 2\narguments:\n  threads_per_worker: 2\n")
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    as_before(folder, tmp_path / "out", tiny, capsys, "--scheduler", plan)
    left = [c for c in psutil.Process().children(recursive=True) if c.pid not in before]
    # Python's own tracker of shared memory stays
    assert not [c for c in left if "spawn_main" in " ".join(c.cmdline())]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")
def test_ctrl_c_keeps_what_is_done_and_resume_goes_on(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    tiles = np.random.default_rng(0).integers(0, 60, (10, 240, 320, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "long.mp4", 30, (320, 240)) as writer:
        for i in range(1500):
            writer.write(tiles[i % 10])
    out = tmp_path / "out"
    words = ["predict", tmp_path / "long.mp4", "--model", tiny, "--out", out, "--workers", 1]
    command = [sys.executable, "-m", "napari_superanimal.cli", *map(str, words)]
    # a group of its own, as in a terminal: the workers get the signal too
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not list(out.glob("*.chunks")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    card = json.loads((out / "long_tiny.run.json").read_text())
    assert card["status"] == "cancelled"
    assert 0 < card["frames"] < 1500
    assert run(*words, "--resume") == 0
    assert json.loads((out / "long_tiny.run.json").read_text())["frames"] == 1500


def test_what_a_cluster_needs_is_said(
    folder: Path,
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("predict", folder, "--model", tiny, "--out", tmp_path / "out")
    assert run(*words, "--workers", 2, "--scheduler", "tcp://127.0.0.1:1") == 2
    assert "exclude each other" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run(*words, "--workers", 2) == 2
    assert 'pip install "napari-superanimal[cluster]"' in capsys.readouterr().err


def test_nobody_answers_at_the_address(
    folder: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    words = ("predict", folder, "--model", tiny, "--out", tmp_path / "out")
    assert run(*words, "--scheduler", "tcp://127.0.0.1:1") == 2
    said = capsys.readouterr().err
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in said
    assert len(said.splitlines()) == 1


def test_a_wrong_cluster_file_is_told_in_one_line(
    folder: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "queue.yaml"
    words = ("predict", folder, "--model", tiny, "--out", tmp_path / "out", "--scheduler", plan)
    for text, expected in (
        (None, "no such file"),
        ("cluster: os.system\narguments: {command: ls}\n", "use HTCondorCluster"),
        ("cluster: LocalCluster\nqueue: long\n", "unknown key 'queue'"),
    ):
        if text is not None:
            plan.write_text(text)
        assert run(*words) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        assert expected in said
        assert str(plan) in said
    assert not (tmp_path / "out").exists()


def test_a_folder_of_videos_stands_for_its_videos(folder: Path, tmp_path: Path) -> None:
    """Those with poses drawn into them are results, not inputs."""
    for name in ("a10.mp4", "a2.mp4", "a2_m_annotated.mp4", "a2_m.h5", ".hidden.mp4", "notes.txt"):
        (tmp_path / name).touch()
    assert [s.name for s in gather([tmp_path])] == ["a2", "a10"]
    (tmp_path / "a.png").touch()
    assert run("predict", tmp_path, "--model", "mouse-topview-mini") == 2
