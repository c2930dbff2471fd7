"""Saving on disks that are full, or become full while the work runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from napari_superanimal.cli import main
from napari_superanimal.errors import UserError
from napari_superanimal.jobs.predict import predict_files
from napari_superanimal.jobs.predict_plan import PredictOptions
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_superanimal.jobs.progress import Progress

SIZE = 4_000_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a small file system can only be mounted by root on Linux")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no room on the disk."""
    with open(folder / "filler", "wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return


def test_too_little_room_is_said_before_the_work(
    small_disk: Path, tiny: Path, clip, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(small_disk)
    assert main(["predict", str(clip.path), "--model", str(tiny), "--out", str(small_disk)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert str(small_disk) in line
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_predictions_survive_a_disk_that_fills_up_meanwhile(small_disk: Path, tiny: Path, clip) -> None:
    options = PredictOptions(model=tiny, out=small_disk)
    with pytest.raises(UserError, match="frames before are kept") as caught:
        predict_files([clip.path], options, on_progress=lambda _: fill(small_disk))
    assert "--resume" in caught.value.remedy
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "mice_tiny.chunks"]
    (small_disk / "filler").unlink()
    [result] = predict_files([clip.path], replace(options, resume=True))
    assert result.status == "complete"
    assert len(registry.read(result.predictions)) == 60
    assert result.card["frames_this_run"] < 60


def test_predictions_survive_a_disk_without_room_for_the_table(small_disk: Path, tiny: Path, clip) -> None:
    options = PredictOptions(model=tiny, out=small_disk)

    def at_the_end(progress: Progress) -> None:
        if progress.done == progress.total:
            fill(small_disk)

    with pytest.raises(UserError) as caught:
        predict_files([clip.path], options, on_progress=at_the_end)
    assert "kept in mice_tiny.chunks" in caught.value.remedy
    (small_disk / "filler").unlink()
    [result] = predict_files([clip.path], replace(options, resume=True))
    assert result.card["frames_this_run"] == 0
    assert len(registry.read(result.predictions)) == 60


def test_an_older_result_survives_a_full_disk(small_disk: Path, tiny: Path, clip) -> None:
    options = PredictOptions(model=tiny, out=small_disk)
    predict_files([clip.path], options)
    before = {path.name: path.read_bytes() for path in small_disk.iterdir()}
    again = PredictOptions(model=tiny, out=small_disk, overwrite=True)
    with pytest.raises(UserError):
        predict_files([clip.path], again, on_progress=lambda _: fill(small_disk))
    for name in ("filler", "mice_tiny.chunks"):
        (small_disk / name).unlink()
    assert {path.name: path.read_bytes() for path in small_disk.iterdir()} == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_limit_on_file_size_is_one_line(tiny: Path, clip, tmp_path: Path) -> None:
    # the quota of a shared computer: files may not become larger than 20 kB
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "from napari_superanimal.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["predict", str(clip.path), "--model", str(tiny), "--out", str(tmp_path / "out")]
    result = subprocess.run(
        [sys.executable, "-c", code, *words, "--json", str(tmp_path / "r.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: ")
    assert "cannot write" in result.stderr
    [kept] = (tmp_path / "out").iterdir()
    assert kept.name == "mice_tiny.chunks"
    assert "--resume" in result.stderr
    assert json.loads((tmp_path / "r.json").read_text())["status"] == "error"
