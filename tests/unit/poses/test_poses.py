"""The data model keeps its promises; boxes around keypoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_superanimal.poses import LABELLED, UNLABELLED, Poses, boxes_from_keypoints, make_poses, with_boxes

COORDINATE = st.one_of(st.floats(-1e4, 1e4), st.just(float("nan")), st.just(float("inf")))
POINTS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(1, 4), st.just(2)),
    elements=COORDINATE,
)


def names(n: int) -> tuple[str, ...]:
    return tuple(f"k{i}" for i in range(n))


@settings(max_examples=60)
@given(POINTS, st.booleans())
def test_missing_is_missing_everywhere(xy: np.ndarray, human: bool) -> None:
    before = xy.copy()
    poses = make_poses(names(xy.shape[2]), xy, human=human)
    np.testing.assert_array_equal(xy, before)
    found = np.isfinite(xy).all(-1)
    np.testing.assert_array_equal(poses.found, found)
    assert np.isnan(poses.xy[~found]).all(), "half a point is no point"
    np.testing.assert_array_equal(poses.xy[found], xy[found])
    assert (poses.visibility == np.where(found, LABELLED, UNLABELLED)).all()
    np.testing.assert_array_equal(np.isfinite(poses.likelihood), found)
    np.testing.assert_array_equal(poses.human, found & human)
    assert not np.isfinite(poses.boxes).any()
    np.testing.assert_array_equal(poses.present, found.any(-1))
    assert len(set(poses.individuals)) == xy.shape[1]


@settings(max_examples=60)
@given(POINTS, st.data())
def test_taking_rows_takes_everything_of_them(xy: np.ndarray, data: st.DataObject) -> None:
    t = len(xy)
    images = data.draw(st.booleans())
    rng = np.random.default_rng(0)
    poses = make_poses(
        names(xy.shape[2]),
        xy,
        frames=np.arange(t) if images else np.arange(t) * 3 + 7,
        likelihood=rng.random(xy.shape[:3]),
        boxes=rng.random((*xy.shape[:2], 4)),
        box_scores=rng.random(xy.shape[:2]),
        image_sizes=rng.integers(1, 99, (t, 2)),
        images=tuple(f"{i}.png" for i in range(t)) if images else (),
        sources=tuple(f"s{i}" for i in range(t)),
        metadata={"a": 1},
    )
    rows = data.draw(st.lists(st.integers(0, t - 1), max_size=6) if t else st.just([]))
    some = poses.take(np.array(rows, np.int64))
    assert len(some) == len(rows)
    for name in ("xy", "visibility", "likelihood", "human", "boxes", "box_scores", "image_sizes"):
        np.testing.assert_array_equal(getattr(some, name), getattr(poses, name)[rows])
    assert some.sources == tuple(poses.sources[i] for i in rows)
    assert some.images == (tuple(poses.images[i] for i in rows) if images else ())
    # an image's row is its frame; a video's frames keep their numbers
    np.testing.assert_array_equal(some.frames, np.arange(len(rows)) if images else poses.frames[rows])
    assert some.metadata == poses.metadata

    mask = np.array(data.draw(st.lists(st.booleans(), min_size=t, max_size=t)), bool)
    np.testing.assert_array_equal(poses.take(mask).xy, poses.xy[mask])


def test_one_animal_needs_no_axis_of_its_own() -> None:
    poses = make_poses(("a", "b"), np.zeros((3, 2, 2)))
    assert poses.xy.shape == (3, 1, 2, 2)
    assert poses.individuals == ("",)
    assert poses.is_video


@pytest.mark.parametrize(
    "change",
    [
        {"xy": np.zeros((2, 1, 3, 2))},
        {"visibility": np.zeros((2, 1, 2), np.int16).reshape(2, 2)},
        {"boxes": np.zeros((2, 1, 5))},
        {"box_scores": np.zeros((1, 1))},
        {"images": ("only one.png",)},
        {"sources": ("a", "b", "c")},
        {"keypoints": ("a", "a")},
        {"frames": np.arange(3)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict) -> None:
    poses = make_poses(("a", "b"), np.zeros((2, 1, 2, 2)))
    with pytest.raises(ValueError, match=r"shape|entries|different names"):
        replace(poses, **change)


def test_two_individuals_need_two_names() -> None:
    with pytest.raises(ValueError, match="different names"):
        make_poses(("a",), np.zeros((1, 2, 1, 2)), individuals=("x", "x"))


def test_image_paths_are_relative_to_the_root(tmp_path: Path) -> None:
    absolute = str(tmp_path / "b.png")
    poses = make_poses(("a",), np.zeros((2, 1, 2)), images=("x/a.png", absolute), root=Path("data"))
    assert poses.image_path(0) == Path("data/x/a.png")
    assert poses.image_path(1) == Path(absolute)
    assert replace(poses, root=None).image_path(0) == Path("x/a.png")


def test_boxes_hold_the_keypoints_with_a_margin() -> None:
    xy = np.array([[10.0, 20.0], [50.0, 30.0], [np.nan, np.nan]])
    # the longer side is 40 px: 10 px on each side
    np.testing.assert_allclose(boxes_from_keypoints(xy), [0.0, 10.0, 60.0, 30.0])
    np.testing.assert_allclose(boxes_from_keypoints(xy, margin=0.0), [10.0, 20.0, 40.0, 10.0])
    np.testing.assert_allclose(boxes_from_keypoints(xy, np.array([56, 25])), [0.0, 10.0, 55.0, 14.0])
    np.testing.assert_allclose(boxes_from_keypoints(xy, np.array([0, 0])), [0.0, 10.0, 60.0, 30.0])


def test_one_keypoint_has_a_box_and_none_has_none() -> None:
    np.testing.assert_allclose(boxes_from_keypoints(np.array([[9.0, 9.0]])), [5.0, 5.0, 8.0, 8.0])
    assert np.isnan(boxes_from_keypoints(np.full((2, 3, 2), np.nan))).all()


@settings(max_examples=60)
@given(POINTS)
def test_boxes_are_never_turned_inside_out(xy: np.ndarray) -> None:
    """Labels may lie outside of the picture."""
    boxes = boxes_from_keypoints(xy, np.array([640, 480]))
    nothing = ~np.isfinite(xy).all(-1).any(-1)
    assert (boxes[~nothing][:, 2:] >= 0).all()
    assert np.isnan(boxes[nothing]).all()
    corners = boxes[~nothing][:, :2] + boxes[~nothing][:, 2:]
    assert (boxes[~nothing][:, :2] >= 0).all()
    assert (corners <= [639 + 1e-9, 479 + 1e-9]).all()


def test_given_boxes_are_kept() -> None:
    xy = np.full((1, 3, 1, 2), 40.0)
    xy[0, 2] = np.nan
    boxes = np.full((1, 3, 4), np.nan)
    boxes[0, 0] = [1, 2, 3, 4]
    boxed: Poses = with_boxes(make_poses(("a",), xy, boxes=boxes))
    np.testing.assert_array_equal(boxed.boxes[0, 0], [1, 2, 3, 4])
    np.testing.assert_array_equal(boxed.boxes[0, 1], [36, 36, 8, 8])
    assert np.isnan(boxed.boxes[0, 2]).all()
