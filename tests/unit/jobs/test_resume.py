"""Joining the parts of a prediction that was stopped in between."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_superanimal.errors import UserError
from napari_superanimal.jobs import run_card
from napari_superanimal.jobs.plain_json import plain, write_json
from napari_superanimal.jobs.resume import join, read_done, reorder, same_animals, unfinished
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


@given(st.permutations(range(4)), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_identities_are_carried_over_whatever_their_order(order: list[int], seed: int) -> None:
    whole = walk(4, range(20), seed)
    done, rest = walk(4, range(12), seed), walk(4, range(11, 20), seed)
    joined = join(done, reorder(rest, np.array(order)))
    assert joined.frames.tolist() == list(range(20))
    np.testing.assert_array_equal(joined.xy, whole.xy)
    np.testing.assert_array_equal(joined.likelihood, whole.likelihood)


def test_animals_without_keypoints_take_the_places_left() -> None:
    before = walk(3, range(1)).xy[0]
    after = before[[2, 0, 1]].copy()
    after[0] = np.nan  # the third animal is not seen any more
    order = same_animals(before, after)
    np.testing.assert_array_equal(after[order][:2], before[:2])
    assert np.isnan(after[order][2]).all()


def test_without_shared_frames_the_parts_are_put_one_after_the_other() -> None:
    joined = join(walk(2, range(5)), walk(2, range(5, 9)))
    np.testing.assert_array_equal(joined.xy, walk(2, range(9)).xy)


def card(**changes: object) -> dict:
    base = {
        "status": "cancelled",
        "input_bytes": 10,
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
    assert unfinished(h5, card()) == "cancelled"
    for field, value in (("weights_sha256", {"m/pose.safetensors": "01"}), ("frame_range", [0, 30, 1])):
        with pytest.raises(UserError, match=field):
            unfinished(h5, card(**{field: value}))
    write_json(run_card.card_path(h5), card(status="complete"))
    assert unfinished(h5, card()) == "complete"
    run_card.card_path(h5).write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="cannot read the run card"):
        unfinished(h5, card())


def test_finished_rows_come_back_in_the_models_order(tmp_path: Path) -> None:
    poses = walk(2, range(5))
    registry.write(poses, tmp_path / "v.h5", "dlc-h5")
    back = read_done(tmp_path / "v.h5", KEYPOINTS[::-1], ("animal1", "animal0"))
    np.testing.assert_array_equal(back.xy, poses.xy[:, ::-1, ::-1])
    with pytest.raises(UserError, match="other keypoints"):
        read_done(tmp_path / "v.h5", KEYPOINTS[:2], ("animal0", "animal1"))


def test_results_are_plain_json(tmp_path: Path) -> None:
    data = {"a": np.float32("nan"), "b": (np.int64(3), float("inf")), "c": np.arange(2), 4: Path("x")}
    assert plain(data) == {"a": None, "b": [3, None], "c": [0, 1], "4": "x"}
    write_json(tmp_path / "d.json", data)
    assert json.loads((tmp_path / "d.json").read_text()) == plain(data)


def test_quality_of_nothing_is_not_a_number() -> None:
    empty = make_poses(KEYPOINTS, np.full((4, 1, 3, 2), np.nan))
    assert run_card.quality(empty, 0.5) == {
        "frames_without_animal": 4,
        "share_of_keypoints_above_threshold": None,
        "mean_likelihood": None,
    }
    half = make_poses(KEYPOINTS, np.zeros((2, 1, 3, 2)), likelihood=[[[0.9, 0.1, 0.6]]] * 2)
    assert run_card.quality(half, 0.5)["share_of_keypoints_above_threshold"] == pytest.approx(2 / 3)
