"""Saving on disks that are full, or become full while the work runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from napari_superanimal.cli import main
from napari_superanimal.errors import UserError
from napari_superanimal.jobs.predict import predict_files
from napari_superanimal.jobs.predict_plan import PredictOptions
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results are rescued to."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


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


def test_predictions_survive_a_disk_that_fills_up_meanwhile(
    small_disk: Path, temporary: Path, tiny: Path, clip
) -> None:
    options = PredictOptions(model=tiny, out=small_disk)
    with pytest.raises(UserError) as caught:
        predict_files([clip.path], options, on_progress=lambda _: fill(small_disk))
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    saved = Path(caught.value.remedy.partition("saved as ")[2].partition(" instead")[0])
    assert saved.name == "mice_tiny.h5"
    assert saved.parent.parent == temporary
    assert len(registry.read(saved)) == 60


def test_an_older_result_survives_a_full_disk(small_disk: Path, tiny: Path, clip) -> None:
    options = PredictOptions(model=tiny, out=small_disk)
    predict_files([clip.path], options)
    before = {path.name: path.read_bytes() for path in small_disk.iterdir()}
    again = PredictOptions(model=tiny, out=small_disk, overwrite=True)
    with pytest.raises(UserError):
        predict_files([clip.path], again, on_progress=lambda _: fill(small_disk))
    (small_disk / "filler").unlink()
    assert {path.name: path.read_bytes() for path in small_disk.iterdir()} == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_limit_on_file_size_is_one_line(tiny: Path, clip, tmp_path: Path, temporary: Path) -> None:
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
    assert list((tmp_path / "out").iterdir()) == list(temporary.iterdir()) == []
    assert json.loads((tmp_path / "r.json").read_text())["status"] == "error"
