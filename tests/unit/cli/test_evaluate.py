"""`superanimal evaluate` against labels whose truth is known."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.cli import main
from napari_superanimal.poses import make_poses
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Recording

    from napari_superanimal.poses import Poses

FIELDS = {
    "n_images",
    "n_individuals",
    "mean_error_px",
    "rmse_px",
    "median_error_px",
    "pck",
    "map",
    "per_keypoint",
}


def evaluate(tmp_path: Path, *words: object) -> dict:
    target = tmp_path / "report.json"
    assert main(["evaluate", *map(str, words), "--json", str(target)]) == 0
    return json.loads(target.read_text(encoding="utf-8"))


def as_predictions(poses: Poses) -> Poses:
    """The same poses as a machine would give them."""
    return replace(poses, human=np.zeros_like(poses.human), scorer="machine", metadata={})


@pytest.mark.parametrize("boxes", ["detector", "labels"])
def test_a_model_on_labelled_images(
    boxes: str, labels: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = evaluate(tmp_path, "--labels", labels, "--model", tiny, "--boxes", boxes)
    captured = capsys.readouterr()
    assert report.keys() >= FIELDS
    assert report["pck"].keys() == {"0.05", "0.1"}
    assert report["n_images"] == report["n_individuals"] == 24
    assert report["mean_error_px"] <= report["rmse_px"]
    for name, row in report["per_keypoint"].items():
        assert name in captured.out
        assert row["n"] <= 24
    assert "conversion table found" in captured.err


def test_known_errors_come_out(clip: Recording, tmp_path: Path) -> None:
    truth, guess = tmp_path / "truth.h5", tmp_path / "guess.h5"
    registry.write(as_predictions(clip.truth), truth, "dlc-h5")
    shifted = clip.truth.xy.copy()
    shifted[:30] += (3.0, 4.0)  # 5 px in the first half
    # individuals in the other order: they have to be matched
    moved = replace(
        as_predictions(clip.truth), xy=shifted[:, ::-1], likelihood=clip.truth.likelihood[:, ::-1]
    )
    moved = replace(moved, visibility=clip.truth.visibility[:, ::-1])
    registry.write(moved, guess, "dlc-h5")
    report = evaluate(tmp_path, "--labels", truth, "--predictions", guess)
    distance = np.linalg.norm(shifted - clip.truth.xy, axis=-1)
    assert report["mean_error_px"] == pytest.approx(float(np.nanmean(distance)), abs=1e-4)
    assert report["rmse_px"] == pytest.approx(float(np.sqrt(np.nanmean(distance**2))), abs=1e-4)
    assert report["n_individuals"] == 120
    assert evaluate(tmp_path, "--labels", truth, "--predictions", truth)["map"] == pytest.approx(1.0)


def test_labelled_pictures_against_predictions_of_their_video(
    clip: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # DeepLabCut's names: a folder per video, the frame's number in the picture's name
    chosen = [4, 17, 33]
    rows = clip.truth.take(chosen)
    images = (*(f"labeled-data/mice/img{i:04d}.png" for i in chosen), "labeled-data/other/img0004.png")
    xy = np.concatenate([rows.xy, rows.xy[:1]])
    table = make_poses(
        rows.keypoints, xy, individuals=("a", "b"), images=images, root=tmp_path, human=True, scorer="me"
    )
    labels, predictions = tmp_path / "CollectedData_me.h5", tmp_path / "mice_machine.h5"
    registry.write(table, labels, "dlc-h5", kind="labels")
    registry.write(as_predictions(clip.truth), predictions, "dlc-h5")
    report = evaluate(tmp_path, "--labels", labels, "--predictions", predictions)
    assert report["n_images"] == 3
    assert report["mean_error_px"] == pytest.approx(0, abs=1e-4)
    assert "1 of 4" in capsys.readouterr().err


def test_only_some_images(labels: Path, tiny: Path, tmp_path: Path) -> None:
    some = evaluate(
        tmp_path, "--labels", labels, "--model", tiny, "--boxes", "labels", "--only", "match:img01"
    )
    assert some["n_images"] == 10
    (tmp_path / "names.txt").write_text("# held out\nimg003.png\nimages/img005.png\n", encoding="utf-8")
    two = evaluate(
        tmp_path, "--labels", labels, "--model", tiny, "--boxes", "labels", "--only", tmp_path / "names.txt"
    )
    assert two["n_images"] == 2


def test_a_folder_with_one_label_file_is_enough(labels: Path, tiny: Path, tmp_path: Path) -> None:
    report = evaluate(tmp_path, "--labels", labels.parent, "--model", tiny, "--boxes", "labels")
    assert report["n_images"] == 24


def rename(source: Path, target: Path, names: dict[str, str]) -> Path:
    data = json.loads(source.read_text(encoding="utf-8"))
    for category in data["categories"]:
        category["keypoints"] = [names.get(k, f"thing{i}") for i, k in enumerate(category["keypoints"])]
    for image in data["images"]:
        image["file_name"] = str(source.parent / image["file_name"])
    target.write_text(json.dumps(data), encoding="utf-8")
    return target


def test_unknown_names_need_a_table(
    labels: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = rename(labels, tmp_path / "strange.json", {"nose": "Schnauze", "tail_base": "Schwanz"})
    assert main(["evaluate", "--labels", str(strange), "--model", str(tiny)]) == 2
    assert "--table" in capsys.readouterr().err
    table = tmp_path / "table.csv"
    table.write_text("source,keypoint\nSchnauze,nose\nSchwanz,tail_base\n", encoding="utf-8")
    report = evaluate(tmp_path, "--labels", strange, "--model", tiny, "--boxes", "labels", "--table", table)
    assert set(report["per_keypoint"]) == {"nose", "tail_base"}
    whole = evaluate(tmp_path, "--labels", labels, "--model", tiny, "--boxes", "labels")
    assert report["per_keypoint"]["nose"]["n"] == whole["per_keypoint"]["nose"]["n"]


def test_the_names_that_a_model_was_fine_tuned_with(
    labels: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = shutil.copytree(tiny, tmp_path / "mine")
    (mine / "table.csv").write_text("source,keypoint\nSchnauze,nose\nSchwanz,tail_base\n", encoding="utf-8")
    strange = rename(labels, tmp_path / "strange.json", {"nose": "Schnauze", "tail_base": "Schwanz"})
    words = ("--labels", str(strange), "--model", str(mine), "--boxes", "labels")
    assert main(["evaluate", *words]) == 2, "the labels have keypoints beside those two: another data set"
    own = drop(strange, {"Schnauze", "Schwanz"})
    report = evaluate(tmp_path, "--labels", own, *words[2:])
    assert set(report["per_keypoint"]) == {"nose", "tail_base"}
    assert "fine-tuned with" in capsys.readouterr().err
    assert evaluate(tmp_path, "--labels", labels, *words[2:])["per_keypoint"]["nose"]["n"] == 24


def drop(file: Path, keep: set[str]) -> Path:
    """The same labels without those of other keypoints."""
    data = json.loads(file.read_text(encoding="utf-8"))
    names = data["categories"][0]["keypoints"]
    for animal in data["annotations"]:
        triples = np.array(animal["keypoints"]).reshape(-1, 3)
        triples[[name not in keep for name in names]] = 0
        animal["keypoints"] = triples.ravel().tolist()
    target = file.with_name("own.json")
    target.write_text(json.dumps(data), encoding="utf-8")
    return target


def test_a_data_set_without_its_images(
    labels: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "labels.json"
    alone.write_bytes(labels.read_bytes())
    assert main(["evaluate", "--labels", str(alone), "--model", str(tiny)]) == 2
    line = capsys.readouterr().err
    assert "none of the 24 images can be found" in line
    assert line.count("\n") == 1


@pytest.mark.realdata
def test_the_shipped_mouse_model_on_real_mice(shared_data: Path, tmp_path: Path) -> None:
    data = shared_data / "mouse_openfield_dlc"
    report = evaluate(
        tmp_path,
        "--labels",
        data,
        "--model",
        "mouse-topview-mini",
        "--boxes",
        "labels",
        "--only",
        "match:img0[0-2]",
    )
    assert set(report["per_keypoint"]) == {"nose", "left_ear", "right_ear", "tail_base"}
    assert report["median_error_px"] < 6
