"""`superanimal smooth`: a new file with its card; the predictions stay as they are."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.cli import main
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Recording


@pytest.fixture
def predictions(clip: Recording, tmp_path: Path) -> Path:
    """Noisy true poses with one exchanged pair and one stray point, as a machine's file."""
    truth = clip.truth
    xy = truth.xy + np.random.default_rng(0).normal(0, 0.7, truth.xy.shape)
    ears = [truth.keypoints.index("left_ear"), truth.keypoints.index("right_ear")]
    rows = np.arange(20, 26)
    xy[rows[:, None], 0, [ears]] = xy[rows[:, None], 0, [ears[::-1]]]
    xy[40, 1, truth.keypoints.index("mid_back")] += 50.0
    path = tmp_path / "mice_machine.h5"
    poses = replace(truth, xy=xy, human=np.zeros_like(truth.human), scorer="machine")
    registry.write(poses, path, "dlc-h5")
    return path


def test_mend_and_smooth(
    predictions: Path, clip: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = predictions.read_bytes()
    out, report_file = tmp_path / "smooth.h5", tmp_path / "report.json"
    words = ["smooth", str(predictions), "--out", str(out), "--fix", "swaps,outliers"]
    assert main([*words, "--json", str(report_file)]) == 0
    report = json.loads(report_file.read_text("utf-8"))
    kinds = [(f["kind"], f["keypoints"], f["first_frame"], f["last_frame"]) for f in report["findings"]]
    assert ("swap", ["left_ear", "right_ear"], 20, 25) in kinds
    assert ("outlier", ["mid_back"], 40, 40) in kinds
    printed = capsys.readouterr().out
    assert "left_ear ↔ right_ear" in printed
    assert "jitter" in printed
    assert report["after"]["jitter_px"] < report["before"]["jitter_px"]
    assert predictions.read_bytes() == before

    written = registry.read(out)
    assert written.scorer == "machine_kalman"
    off = np.linalg.norm(written.xy - clip.truth.xy, axis=-1)
    assert np.nanmax(off[:, :, [clip.truth.keypoints.index("left_ear")]]) < 6.0
    card = json.loads((tmp_path / "smooth.run.json").read_text("utf-8"))
    assert card["status"] == "complete"
    assert card["made_from"]["smoothing"]["method"] == "kalman"

    assert main(words) == 2  # exists already
    assert "exists already" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--method", "none"]) == 0
    assert registry.read(out).scorer == "machine_cleaned"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "none"], "nothing to do"),
        (["--window", "4", "--method", "median"], "odd number"),
        (["--fix", "everything"], "swaps, outliers"),
        (["--method", "savgol", "--order", "9"], "does not fit"),
    ],
)
def test_wrong_options(
    words: list[str], said: str, predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.h5"
    assert main(["smooth", str(predictions), "--out", str(out), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not out.exists()


def test_wrong_files(
    predictions: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        ([predictions, "--out", predictions], "in place"),
        ([predictions, "--out", tmp_path / "x.txt"], ".csv"),
        ([labels, "--out", tmp_path / "x.h5"], "single images"),
        ([tmp_path / "none.h5", "--out", tmp_path / "x.h5"], "none.h5"),
    ):
        assert main(["smooth", *map(str, words)]) == 2
        assert said in capsys.readouterr().err


def test_a_parameter_of_another_method_is_said(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "smooth",
        str(predictions),
        "--out",
        str(tmp_path / "a.csv"),
        "--method",
        "median",
        "--beta",
        "3",
    ]
    assert main(words) == 0
    assert "--beta means nothing to median" in capsys.readouterr().err
