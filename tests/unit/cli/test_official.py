"""`superanimal predict` and `match` with SuperAnimal's own models, from snapshots named on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch

from napari_superanimal.cli import main
from napari_superanimal.keypoints import read_table
from napari_superanimal.models.official.build import build
from napari_superanimal.models.official.catalogue import find_release
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Recording

POSE, DETECTOR = "superanimal_quadruped_rtmpose_s", "superanimal_quadruped_ssdlite"
SCORER = f"{POSE}_ssdlite"


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """NAME:FILE of the smallest pose model and the smallest detector, with random weights."""
    folder = tmp_path_factory.mktemp("snapshots")
    found = {}
    for seed, name in enumerate((POSE, DETECTOR)):
        torch.manual_seed(seed)
        release = find_release(name)
        assert release is not None
        torch.save({"model": build(release).state_dict(), "metadata": {"epoch": 1}}, folder / f"{seed}.pt")
        found[name] = f"{name}:{folder / f'{seed}.pt'}"
    return found


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_reference_and_ours(
    home: Path, clip: Recording, snapshots: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random weights find junk of about 0.5: the reference keeps it all, we keep nothing below 0.6."""
    asked = [
        "--model",
        snapshots[POSE],
        "--detector",
        snapshots[DETECTOR],
        "--frames",
        "0:3",
        "--device",
        "cpu",
    ]
    assert run("predict", clip.path, *asked, "--reference", "--out", tmp_path / "theirs") == 0
    table = tmp_path / "theirs" / f"{clip.path.stem}_{SCORER}.h5"
    theirs = pd.read_hdf(table)
    assert theirs.columns.names == ["scorer", "individuals", "bodyparts", "coords"]
    assert theirs.columns.get_level_values(0)[0] == SCORER
    assert theirs.shape == (3, 10 * 39 * 3)
    assert np.isfinite(theirs.to_numpy()).all()
    boxes = json.loads(table.with_name(f"{table.stem}_before_adapt.json").read_text())
    assert np.shape([f["bboxes"] for f in boxes]) == (3, 10, 4)
    assert np.shape([f["bodyparts"] for f in boxes]) == (3, 10, 39, 3)
    scores = np.array([f["bbox_scores"] for f in boxes])
    assert (np.diff(scores, axis=1) <= 0).all()
    card = json.loads(table.with_suffix(".run.json").read_text())
    assert card["options"]["reference"] is True
    assert card["weights_sha256"].keys() == {f"{POSE}/pose.safetensors", f"{DETECTOR}/detector.safetensors"}

    assert run("predict", clip.path, *asked, "--max-individuals", 10, "--out", tmp_path / "ours") == 0
    ours = registry.read(tmp_path / "ours" / f"{clip.path.stem}_{SCORER}.h5")
    assert len(ours) == 3
    assert ours.present.sum(1).tolist() == (scores >= 0.6).sum(1).tolist()
    assert list((home / "cache" / "snapshots").iterdir())
    assert not (home / "models").exists()  # naming a file does not add it to the user's models
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", DETECTOR], "is a detector"),
        (["--model", "mouse-topview-mini", "--reference"], "not"),
        (["--model", f"{POSE}:nowhere.pt"], "no such file"),
        (["--model", "{pose}", "--detector", "whole-frame", "--flip"], "--flip"),
        (["--model", "{pose}", "--detector", "whole-frame", "--reference", "--resume"], "cannot be resumed"),
        (
            ["--model", "superanimal_quadruped_resnet_50:{file}"],
            "does not fit superanimal_quadruped_resnet_50",
        ),
    ],
)
def test_what_does_not_go_is_one_line(
    words: list[str],
    said: str,
    home: Path,
    clip: Recording,
    snapshots: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = {"pose": snapshots[POSE], "file": snapshots[POSE].split(":", 1)[1]}
    words = [word.format(**own) for word in words]
    assert run("predict", clip.path, *words, "--frames", "0:1", "--out", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not list((tmp_path / "out").glob("*.h5"))


def test_frames_after_the_last_animal_are_lost_only_for_comparison() -> None:
    from napari_superanimal.jobs.reference import padded, shorten
    from napari_superanimal.poses import make_poses

    xy = np.full((5, 2, 3, 2), np.nan)
    xy[1, 0] = xy[2, 1] = 4.0
    poses = make_poses(("a", "b", "c"), xy, individuals=("animal0", "animal1"))
    assert shorten(poses).frames.tolist() == [0, 1, 2]
    empty = make_poses(("a", "b", "c"), np.full((5, 2, 3, 2), np.nan), individuals=("animal0", "animal1"))
    assert len(shorten(empty)) == 5
    assert padded(xy[0, 0]) == [[-1, -1]] * 3


def test_the_list_tells_licence_and_state(
    home: Path, snapshots: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("models", "import", snapshots[DETECTOR]) == 0
    assert "research only" in capsys.readouterr().err
    assert run("models", "list") == 0
    lines = {line.split(" ", 1)[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert lines[POSE].endswith("[research only; not yet fetched]")
    assert lines[DETECTOR].endswith("[research only; here]")
    assert run("models", "verify") == 0
    assert f"{DETECTOR}/detector.safetensors: ok" in capsys.readouterr().out
    assert run("models", "verify", POSE) == 2
    assert f"models fetch {POSE}" in capsys.readouterr().err
    assert run("models", "show", POSE) == 0
    assert "Not on this computer yet" in capsys.readouterr().out


def test_official_models_match_in_the_boxes_of_the_labels(
    home: Path, labels: Path, snapshots: dict[str, str], tmp_path: Path
) -> None:
    """Random weights match nothing, which is the right answer; no detector is asked for."""
    out = tmp_path / "table.csv"
    assert run("match", labels, "--model", snapshots[POSE], "--out", out, "--device", "cpu") == 0
    table = read_table(out)
    assert table.rows == ()
    assert table.space == "superanimal_quadruped"


def test_fine_tuning_one_and_predicting_with_the_result(
    home: Path,
    clip: Recording,
    labels: Path,
    snapshots: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, table = tmp_path / "mine", tmp_path / "table.csv"
    table.write_text("source,keypoint\nnose,nose\ntail_base,tail_base\n", encoding="utf-8")
    words = ["finetune", labels, "--model", snapshots[POSE], "--table", table, "--out", out]
    words += ["--steps", 1, "--batch-size", 1]
    assert run(*words, "--mode", "naive", "--json", tmp_path / "told.json") == 0
    told = capsys.readouterr()
    assert "detector is the starting model's, unchanged: it is not on this computer" in told.out
    result = json.loads((tmp_path / "told.json").read_text())
    assert result["parent"] == POSE
    assert result["recipe"]["detector"] == {"kept": "it is not on this computer"}
    assert run("models", "import", out) == 0
    assert "for research only" in capsys.readouterr().err
    assert run("models", "list") == 0
    listed = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mine "))
    assert "[research only; here]" in listed
    asked = ["--model", "mine", "--detector", "whole-frame", "--frames", "0:2", "--device", "cpu"]
    assert run("predict", clip.path, *asked, "--out", tmp_path / "seen") == 0
    seen = registry.read(tmp_path / "seen" / f"{clip.path.stem}_mine_whole-frame.h5")
    assert len(seen) == 2
    assert set(result["keypoints"]) == set(seen.keypoints)
    capsys.readouterr()
    # what cannot be trained on says so in one line
    assert run("finetune", labels, "--model", DETECTOR, "--mode", "naive", "--out", tmp_path / "no") == 2
    assert "is a detector" in capsys.readouterr().err
    assert run("adapt", clip.path, "--model", "mine", "--out", tmp_path / "no") == 2
    assert "cannot be trained on without labels" in capsys.readouterr().err


def test_fine_tuning_one_that_cannot_be_fetched_is_one_line(
    home: Path,
    labels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    assert run("finetune", labels, "--model", POSE, "--mode", "naive", "--out", tmp_path / "mine") == 2
    told = capsys.readouterr().err
    assert "for research only" in told
    (line,) = [each for each in told.splitlines() if each.startswith("error:")]
    assert f"models import {POSE}:FILE" in line
    assert not (tmp_path / "mine" / "card.json").exists()
