"""The risk of an exchange stays with its frame and individual, whatever happens to the table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.poses import Poses, joined_risk, make_poses, risk_rows, swap_risk_of
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("left", "right")


def some(frames: range = range(10, 20), first: float = 0.0) -> Poses:
    """Two individuals; a risk that grows along the frames, for the second one only."""
    rng = np.random.default_rng(0)
    risk = np.zeros((len(frames), 2), np.float32)
    risk[:, 1] = first + np.arange(len(frames)) / 20
    numbers = np.array(frames, np.int64)
    note = {"risk": 0.5, "frames": 0, "spans": [], "rows": risk_rows([(numbers, risk)], NAMES)}
    xy = rng.uniform(0, 90, (len(frames), 2, 3, 2))
    return make_poses(
        ("a", "b", "c"), xy, frames=numbers, individuals=NAMES, scorer="m", metadata={"swap_risk": note}
    )


def test_there_and_back() -> None:
    risk = swap_risk_of(some())
    assert risk is not None
    assert risk.dtype == np.float32
    np.testing.assert_allclose(risk[:, 0], 0)
    np.testing.assert_allclose(risk[:, 1], np.arange(10) / 20, atol=1e-3)


def test_only_what_has_a_risk_is_kept() -> None:
    rows = some().metadata["swap_risk"]["rows"]
    assert rows["frame"] == list(range(11, 20))
    assert set(rows["individual"]) == {"right"}


def test_frames_and_individuals_in_another_order() -> None:
    poses = some()
    whole = swap_risk_of(poses)
    rows = np.array([7, 2, 5])
    np.testing.assert_array_equal(swap_risk_of(poses.take(rows)), whole[rows])
    swapped = replace(
        poses,
        individuals=(*NAMES[::-1],),
        xy=poses.xy[:, ::-1],
        likelihood=poses.likelihood[:, ::-1],
        visibility=poses.visibility[:, ::-1],
        human=poses.human[:, ::-1],
    )
    np.testing.assert_array_equal(swap_risk_of(swapped), whole[:, ::-1])
    renamed = replace(poses, individuals=("left", "another"))
    np.testing.assert_array_equal(swap_risk_of(renamed), np.zeros((10, 2)))


def test_nobody_looked_for_it() -> None:
    assert swap_risk_of(make_poses(("a",), np.zeros((2, 1, 2)))) is None


@pytest.mark.parametrize(
    "rows", [None, [], {"frame": [1]}, {"frame": ["x"], "individual": ["left"], "swap_risk": [1]}]
)
def test_a_table_that_was_damaged_is_none(rows: object) -> None:
    poses = replace(some(), metadata={"swap_risk": {"risk": 0.5, "frames": 0, "spans": [], "rows": rows}})
    np.testing.assert_array_equal(swap_risk_of(poses), np.zeros((10, 2)))


@pytest.mark.parametrize(("name", "file"), [("dlc-h5", "p.h5"), ("coco", "p.json")])
def test_files_keep_it(tmp_path: Path, name: str, file: str) -> None:
    registry.write(some(), tmp_path / file, name)
    again = registry.read(tmp_path / file)
    np.testing.assert_array_equal(swap_risk_of(again), swap_risk_of(some()))


def test_frames_that_were_predicted_again_have_their_new_risk() -> None:
    old, new = some(range(10, 20)), some(range(15, 18), first=0.9)
    joined = replace(old, metadata=joined_risk(old, new))
    before, after = swap_risk_of(old), swap_risk_of(joined)
    np.testing.assert_array_equal(after[:5], before[:5])
    np.testing.assert_allclose(after[5:8, 1], [0.9, 0.95, 1.0], atol=1e-3)
    np.testing.assert_array_equal(after[8:], before[8:])
    plain = replace(new, metadata={})
    assert joined_risk(plain, plain) == {}
    assert joined_risk(plain, new)["swap_risk"] == new.metadata["swap_risk"]
    assert joined_risk(old, plain)["swap_risk"] == old.metadata["swap_risk"]
