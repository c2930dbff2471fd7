"""`superanimal demo` without a screen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.cli import main
from napari_superanimal.poses.formats import registry
from napari_superanimal.video import open_video
from napari_superanimal.video.draw import read_image

if TYPE_CHECKING:
    from pathlib import Path


def test_demo_writes_everything_and_measures_the_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "demo", tmp_path / "demo.json"
    assert main(["demo", "--no-view", "--frames", "24", "--out", str(out), "--json", str(report)]) == 0
    printed = capsys.readouterr().out
    result = json.loads(report.read_text(encoding="utf-8"))
    names = {path.name for path in out.iterdir()}
    scorer = "demo_mouse_mouse-topview-mini"
    assert names == {
        "demo_mouse.mp4",
        "demo_mouse_truth.h5",
        f"{scorer}.h5",
        f"{scorer}.run.json",
        f"{scorer}_annotated.mp4",
        "demo_mouse_frames.png",
    }
    assert all(name in printed for name in names)
    with open_video(out / "demo_mouse.mp4") as clip, open_video(out / f"{scorer}_annotated.mp4") as annotated:
        assert len(clip) == len(annotated) == 24
    assert read_image(out / "demo_mouse_frames.png").std() > 10

    # the error that is printed is that between the two files
    truth, predicted = registry.read(out / "demo_mouse_truth.h5"), registry.read(out / f"{scorer}.h5")
    assert truth.keypoints == predicted.keypoints
    distance = np.linalg.norm(truth.xy - predicted.xy, axis=-1)
    mean = float(np.nanmean(distance))
    assert result["mean_error_px"] == pytest.approx(mean, abs=0.01)
    assert f"measured error: {mean:.2f} px" in printed
    assert result["n_images"] == 24


def test_a_demo_is_not_replaced_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo_mouse_truth.h5").write_bytes(b"mine")
    assert main(["demo", "--no-view", "--frames", "4", "--out", str(tmp_path)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["demo_mouse_truth.h5"]


def test_without_out_every_demo_gets_its_own_folder(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["demo", "--no-view", "--frames", "2", "--mice", "2", "--model", str(tiny)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["superanimal-demo", "superanimal-demo-2"]
    poses = registry.read(tmp_path / "superanimal-demo-2" / "demo_mouse_tiny.h5")
    assert len(poses.individuals) == 2


def test_without_a_display_the_demo_says_so(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["demo", "--frames", "2", "--model", str(tiny), "--out", str(tmp_path)]) == 0
    assert "napari is not opened: there is no display" in capsys.readouterr().err
