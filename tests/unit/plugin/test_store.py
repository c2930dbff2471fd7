"""The store keeps exactly what a person did."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_superanimal.plugin.store import PointTable, PoseStore, reindex
from napari_superanimal.poses import OCCLUDED, make_poses


def some(t: int = 4, a: int = 2, k: int = 3, seed: int = 0, missing: float = 0.3):
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 100, (t, a, k, 2))
    xy[rng.random((t, a, k)) < missing] = np.nan
    likelihood = rng.uniform(0.1, 1, (t, a, k))
    names = tuple("abcdefgh"[:k])
    animals = ("",) if a == 1 else tuple(f"m{i}" for i in range(a))
    boxes = rng.uniform(0, 50, (t, a, 4))
    return make_poses(names, xy, individuals=animals, likelihood=likelihood, boxes=boxes)


def edited(table: PointTable, row: int, shift: float = 5.0) -> PointTable:
    xy = table.xy.copy()
    xy[row] += shift
    return PointTable(table.frames, xy, table.keypoint, table.individual, table.likelihood, table.human)


def drop(table: PointTable, rows: list[int]) -> PointTable:
    keep = np.setdiff1d(np.arange(len(table)), rows)
    return PointTable(*(getattr(table, f)[keep] for f in table.__dataclass_fields__))


def test_unchanged_points_change_nothing() -> None:
    store = PoseStore(some())
    before = store.poses.xy.copy()
    assert store.reconcile(store.table()) == 0
    np.testing.assert_array_equal(store.poses.xy, before)
    assert not store.poses.human.any()
    assert not store.undo_stack


def test_a_moved_point_is_a_persons() -> None:
    store = PoseStore(some(missing=0))
    table = edited(store.table(), 7)
    assert store.reconcile(table) == 1
    assert store.poses.human.sum() == 1
    t, a, k = (int(i[0]) for i in np.nonzero(store.poses.human))
    assert (t, a, k) == np.unravel_index(7, (4, 2, 3))
    assert store.poses.likelihood[t, a, k] == 1
    np.testing.assert_array_equal(store.poses.xy[t, a, k], table.xy[7])


def test_a_deleted_point_is_remembered_and_can_come_back() -> None:
    store = PoseStore(some(missing=0))
    before = store.poses.likelihood.copy()
    assert store.reconcile(drop(store.table(), [3])) == 1
    assert store.removed.sum() == 1
    assert np.isnan(store.poses.likelihood).sum() == 1
    store.undo()
    assert not store.removed.any()
    np.testing.assert_array_equal(store.poses.likelihood, before)
    store.redo()
    assert store.removed.sum() == 1
    assert store.undo() is not None
    assert store.undo() is None


def test_occluded_stays_occluded_when_moved() -> None:
    poses = some(missing=0)
    poses.visibility[0, 0, 0] = OCCLUDED
    store = PoseStore(poses)
    store.reconcile(edited(store.table(), 0))
    assert store.poses.visibility[0, 0, 0] == OCCLUDED
    assert store.poses.visibility[0, 0, 1] == 2


def test_a_new_frame_and_a_new_keypoint_find_room() -> None:
    store = PoseStore(some(a=1, missing=0))
    one = PointTable(
        np.array([9]),
        np.array([[1.0, 2.0]]),
        np.array(["tail"], object),
        np.array([""], object),
        np.array([1.0]),
        np.array([True]),
    )
    old = store.table()
    both = PointTable(*(np.concatenate([getattr(old, f), getattr(one, f)]) for f in old.__dataclass_fields__))
    assert store.reconcile(both) == 1
    assert store.poses.frames.tolist() == [0, 1, 2, 3, 9]
    assert store.poses.keypoints == ("a", "b", "c", "tail")
    assert store.poses.human.sum() == 1
    # an edit made before rows moved can still be taken back
    store.undo()
    assert store.count() == len(old)


def test_only_the_frames_in_view_are_judged() -> None:
    store = PoseStore(some(missing=0))
    view = store.table([1])
    assert store.reconcile(drop(view, [0]), [1]) == 1
    assert store.count() == 4 * 6 - 1


def test_the_later_of_two_points_counts() -> None:
    store = PoseStore(some(missing=0))
    table = store.table()
    twice = PointTable(
        *(
            np.concatenate([getattr(table, f), getattr(edited(table, 0), f)[:1]])
            for f in table.__dataclass_fields__
        )
    )
    assert store.reconcile(twice) == 1
    np.testing.assert_array_equal(store.poses.xy[0, 0, 0], table.xy[0] + 5)


def test_points_beyond_the_images_are_ignored() -> None:
    poses = make_poses(("a",), np.zeros((2, 1, 1, 2)), images=("x.png", "y.png"))
    store = PoseStore(poses)
    table = store.table()
    far = PointTable(
        np.array([0, 7]), table.xy, table.keypoint, table.individual, table.likelihood, table.human
    )
    assert store.reconcile(far, [0]) == 0
    assert len(store.poses) == 2


def test_new_predictions_leave_a_persons_work() -> None:
    store = PoseStore(some(missing=0))
    store.reconcile(drop(edited(store.table(), 0), [5]))
    mine, removed = store.poses.xy[0, 0, 0].copy(), store.removed.copy()
    fresh = some(t=6, seed=9, missing=0)
    store.replace_predictions(fresh)
    assert len(store.poses) == 6
    np.testing.assert_array_equal(store.poses.xy[0, 0, 0], mine)
    assert store.poses.human.sum() == 1
    assert np.isnan(store.poses.xy[0, 1, 2]).all()
    np.testing.assert_array_equal(store.removed[:4], removed)
    np.testing.assert_array_equal(store.poses.xy[5], fresh.xy[5])
    np.testing.assert_array_equal(store.poses.boxes, fresh.boxes)


def test_frames_edited_by_a_person_survive_shorter_predictions() -> None:
    store = PoseStore(some(missing=0))
    store.reconcile(edited(store.table(), 3 * 6))
    store.replace_predictions(some(t=2, seed=3, missing=0))
    assert store.poses.frames.tolist() == [0, 1, 3]
    assert store.count() == 13


def test_rows_come_sorted() -> None:
    poses = make_poses(("a",), np.arange(6.0).reshape(3, 1, 1, 2), frames=[5, 1, 3])
    store = PoseStore(poses)
    assert store.poses.frames.tolist() == [1, 3, 5]
    assert store.rows([1, 2, 5]).tolist() == [0, -1, 2]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 999)), max_size=12))
def test_undoing_everything_gives_the_beginning(seed: int, actions: list[tuple[int, int]]) -> None:
    store = PoseStore(some(seed=seed))
    first = [getattr(store.poses, n).copy() for n in ("xy", "likelihood", "visibility", "human")]
    done = 0
    for action, number in actions:
        table = store.table()
        if not len(table):
            break
        row = number % len(table)
        if action == 2:
            done -= store.undo() is not None
        else:
            done += store.reconcile(edited(table, row) if action == 0 else drop(table, [row])) > 0
    for _ in range(done):
        assert store.undo() is not None
    last = [getattr(store.poses, n) for n in ("xy", "likelihood", "visibility", "human")]
    for a, b in zip(first, last, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not store.removed.any()


def test_reindex_names_the_one_nameless_animal() -> None:
    poses = some(a=1)
    wide = reindex(poses, poses.frames, ("m0", "m1"), ("c", "a", "b"))
    np.testing.assert_array_equal(wide.xy[:, 0, 1], poses.xy[:, 0, 0])
    assert np.isnan(wide.xy[:, 1]).all()


@pytest.mark.parametrize("frames", [None, [0, 2]])
def test_count_agrees_with_the_table(frames: list[int] | None) -> None:
    store = PoseStore(some())
    assert store.count(frames) == len(store.table(frames))
