"""Which earlier run may be continued, and what run cards say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_superanimal.errors import UserError
from napari_superanimal.jobs import run_card
from napari_superanimal.jobs.plain_json import plain, write_json
from napari_superanimal.jobs.resume import unfinished
from napari_superanimal.poses import Poses, make_poses
from napari_superanimal.poses.formats import registry

KEYPOINTS = ("nose", "left_ear", "tail_base")


def walk(animals: int, frames: range, seed: int = 0) -> Poses:
    """Animals that keep far from each other and move a little."""
    rng = np.random.default_rng(seed)
    places = 200.0 * np.arange(animals)[:, None, None] + rng.normal(0, 10, (animals, len(KEYPOINTS), 2))
    xy = places + rng.normal(0, 1, (100, 1, 1, 2)).cumsum(0)
    rows = list(frames)
    names = [f"animal{i}" for i in range(animals)]
    return make_poses(KEYPOINTS, xy[rows], frames=rows, individuals=names, scorer="m")


def card(**changes: object) -> dict:
    base = {
        "status": "cancelled",
        "input_bytes": 10,
        "input_content": "00",
        "model": "m",
        "detector": "m",
        "weights_sha256": {"m/pose.safetensors": "00"},
        "frame_range": [0, 20, 1],
        "max_individuals": 2,
        "options": {"flip": False},
    }
    return base | changes


def test_only_the_same_work_is_resumed(tmp_path: Path) -> None:
    h5 = tmp_path / "v_m.h5"
    assert unfinished(h5, card()) is None
    registry.write(walk(2, range(5)), h5, "dlc-h5")
    with pytest.raises(UserError, match="no run card"):
        unfinished(h5, card())
    write_json(run_card.card_path(h5), card())
    with pytest.raises(UserError, match=r"v_m\.chunks, from which it could be, is not beside it"):
        unfinished(h5, card())
    write_json(run_card.card_path(h5), card(status="complete"))
    for field, value in (("weights_sha256", {"m/pose.safetensors": "01"}), ("frame_range", [0, 30, 1])):
        with pytest.raises(UserError, match=field):
            unfinished(h5, card(**{field: value}))
    assert unfinished(h5, card()) == "complete"
    run_card.card_path(h5).write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="cannot read the run card"):
        unfinished(h5, card())


def test_results_are_plain_json(tmp_path: Path) -> None:
    data = {"a": np.float32("nan"), "b": (np.int64(3), float("inf")), "c": np.arange(2), 4: Path("x")}
    assert plain(data) == {"a": None, "b": [3, None], "c": [0, 1], "4": "x"}
    write_json(tmp_path / "d.json", data)
    assert json.loads((tmp_path / "d.json").read_text()) == plain(data)


def test_quality_of_nothing_is_not_a_number() -> None:
    empty = make_poses(KEYPOINTS, np.full((4, 1, 3, 2), np.nan))
    assert run_card.quality([empty], 0.5) == {
        "frames_without_animal": 4,
        "share_of_keypoints_above_threshold": None,
        "mean_likelihood": None,
    }
    half = make_poses(KEYPOINTS, np.zeros((2, 1, 3, 2)), likelihood=[[[0.9, 0.1, 0.6]]] * 2)
    assert run_card.quality([empty, half, half], 0.5)["share_of_keypoints_above_threshold"] == pytest.approx(
        2 / 3
    )
