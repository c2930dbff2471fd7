"""Datasets carried into a keypoint space, merged, and the way animals face."""

from __future__ import annotations

import numpy as np
import pytest

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import ConversionTable, KeypointSpace, load_space
from napari_superanimal.poses import (
    LABELLED,
    OCCLUDED,
    UNDEFINED,
    UNLABELLED,
    facing,
    make_poses,
    merge,
    project,
)

SPACE = KeypointSpace(
    name="side",
    keypoints=("nose", "left_eye", "right_eye", "tail_base", "left_paw", "right_paw"),
    skeleton=(("nose", "tail_base"),),
    pairs=(("left_eye", "right_eye"), ("left_paw", "right_paw")),
    front=("nose", "left_eye", "right_eye"),
    rear=("tail_base",),
)
TABLE = ConversionTable(
    "horse",
    (("snout", "nose"), ("eye", "left_eye|right_eye"), ("tail", "tail_base"), ("Nearpaw", "left_paw")),
)
NAMES = ("withers", "eye", "tail", "snout", "Nearpaw")

LEFTWARD, RIGHTWARD, FRONTAL = 0, 1, 2


def herd() -> np.ndarray:
    """(3, 1, 5, 2): an animal that faces left, one that faces right, one seen from the front."""
    right = np.array([[50.0, 20], [90, 18], [0, 30], [100, 25], [70, 60]])
    left = right * [-1, 1] + [100, 0]
    front = np.array([[50.0, 20], [48, 18], [52, 30], [51, 25], [50, 90]])
    return np.stack([left, right, front])[:, None]


def test_keypoints_keep_everything_that_belongs_to_them() -> None:
    rng = np.random.default_rng(0)
    visibility = rng.choice([UNLABELLED, OCCLUDED, LABELLED], (3, 1, 5))
    sure, human = rng.random((3, 1, 5)), rng.random((3, 1, 5)) < 0.5
    poses = make_poses(
        NAMES,
        herd(),
        visibility=visibility,
        likelihood=sure,
        human=human,
        scorer="Ann",
        metadata={"origin": "here"},
    )
    out = project(poses, TABLE, SPACE)
    assert out.keypoints == SPACE.keypoints
    assert out.skeleton == SPACE.skeleton
    assert out.scorer == "Ann"
    for source, target in (("snout", "nose"), ("tail", "tail_base"), ("Nearpaw", "left_paw")):
        i, j = NAMES.index(source), SPACE.index(target)
        for name in ("xy", "visibility", "likelihood", "human"):
            np.testing.assert_array_equal(getattr(out, name)[:, :, j], getattr(poses, name)[:, :, i])
    undefined = SPACE.index("right_paw")
    assert (out.visibility[:, :, undefined] == UNDEFINED).all()
    assert np.isnan(out.xy[:, :, undefined]).all()
    assert np.isnan(out.likelihood[:, :, undefined]).all()
    assert not out.human[:, :, undefined].any()
    assert out.metadata == {
        "origin": "here",
        "space": "side",
        "table": "horse",
        "table_rows": [list(row) for row in TABLE.rows],
        "source_keypoints": list(NAMES),
        "unmapped": ["withers"],
    }
    # the source is as it was
    assert poses.keypoints == NAMES
    assert poses.metadata == {"origin": "here"}


def test_a_side_view_keypoint_goes_to_the_side_that_is_seen() -> None:
    out = project(make_poses(NAMES, herd(), likelihood=np.full((3, 1, 5), 0.7)), TABLE, SPACE)
    left, right = SPACE.index("left_eye"), SPACE.index("right_eye")
    eye = herd()[:, 0, 1]
    np.testing.assert_array_equal(out.xy[LEFTWARD, 0, left], eye[LEFTWARD])
    np.testing.assert_array_equal(out.xy[RIGHTWARD, 0, right], eye[RIGHTWARD])
    assert out.likelihood[RIGHTWARD, 0, right] == 0.7
    for row, other in ((LEFTWARD, right), (RIGHTWARD, left), (FRONTAL, left), (FRONTAL, right)):
        assert out.visibility[row, 0, other] == UNDEFINED
        assert np.isnan(out.xy[row, 0, other]).all()


def test_a_keypoint_not_labelled_here_stays_defined() -> None:
    xy = herd()
    xy[:, :, 3] = np.nan
    out = project(make_poses(NAMES, xy), TABLE, SPACE)
    assert (out.visibility[:, :, SPACE.index("nose")] == UNLABELLED).all()


def test_a_table_that_does_not_fit_is_an_error() -> None:
    poses = make_poses(("a", "b"), np.zeros((1, 2, 2)))
    with pytest.raises(UserError, match="none of the dataset's keypoints"):
        project(poses, TABLE, SPACE)


def test_facing_of_animals_without_keypoints_is_unknown() -> None:
    space = load_space("superanimal_quadruped")
    xy = np.full((2, 3, len(space), 2), np.nan)
    xy[0, 1, space.index("nose")] = [10, 10]
    xy[0, 2, space.index("nose")], xy[0, 2, space.index("tail_base")] = [10, 10], [90, 12]
    xy[1, 2, space.index("nose")], xy[1, 2, space.index("tail_base")] = [90, 10], [10, 12]
    np.testing.assert_array_equal(facing(xy, space), [[0, 0, -1], [0, 0, 1]])
    # half a point counts as none
    xy[1, 2, space.index("tail_base"), 1] = np.nan
    assert facing(xy, space)[1, 2] == 0


def test_facing_goes_by_the_keypoints_that_are_trusted() -> None:
    """Two doubtful head keypoints at the wrong end do not turn the animal round."""
    weight = np.array([1.0, 0.01, 0.01, 1.0, 1, 1])
    xy = np.array([[0.0, 0], [100, 0], [95, 0], [50, 5], [30, 40], [60, 40]])
    assert facing(xy, SPACE) == 0
    assert facing(xy, SPACE, weight) == -1
    assert facing(xy, SPACE, np.where(weight < 1, np.nan, weight)) == -1, "no likelihood, no weight"
    assert facing(xy, SPACE, np.zeros(6)) == 0


def test_facing_of_a_space_without_front_or_rear_is_unknown() -> None:
    bare = KeypointSpace("bare", ("a", "b"))
    np.testing.assert_array_equal(facing(np.random.default_rng(0).random((4, 2, 2)), bare), np.zeros(4))


def test_merging_datasets_with_different_numbers_of_animals() -> None:
    rng = np.random.default_rng(0)

    def part(t: int, a: int, folder: str) -> object:
        return make_poses(
            ("x", "y"),
            rng.random((t, a, 2, 2)),
            images=tuple(f"{i}.png" for i in range(t)),
            image_sizes=np.full((t, 2), 10 * t),
            root=folder,
            human=True,
            boxes=rng.random((t, a, 4)),
            metadata={"space": "s"},
        )

    from pathlib import Path

    one, three = part(2, 1, Path("one")), part(3, 3, Path("three"))
    out = merge([one, three], ["mice", "pairs"])
    assert out.xy.shape == (5, 3, 2, 2)
    assert len(set(out.individuals)) == 3
    assert out.sources == ("mice",) * 2 + ("pairs",) * 3
    assert out.image_path(0) == Path("one/0.png")
    assert out.image_path(4) == Path("three/2.png")
    np.testing.assert_array_equal(out.xy[:2, :1], one.xy)
    np.testing.assert_array_equal(out.xy[2:], three.xy)
    np.testing.assert_array_equal(out.boxes[2:], three.boxes)
    np.testing.assert_array_equal(out.image_sizes[:, 0], [20, 20, 30, 30, 30])
    assert not out.found[:2, 1:].any()
    assert not out.present[:2, 1:].any()
    assert (out.visibility[:2, 1:] == UNDEFINED).all(), "an animal that is not there teaches nothing"
    assert not out.human[:2, 1:].any()
    assert out.metadata["space"] == "s"
    assert [a["name"] for a in out.metadata["merged"]] == ["mice", "pairs"]


def test_what_cannot_be_merged() -> None:
    images = make_poses(("x",), np.zeros((1, 1, 2)), images=("a.png",))
    other = make_poses(("y",), np.zeros((1, 1, 2)), images=("a.png",))
    video = make_poses(("x",), np.zeros((1, 1, 2)))
    with pytest.raises(ValueError, match="same keypoint space"):
        merge([images, other], ["a", "b"])
    with pytest.raises(ValueError, match="image datasets"):
        merge([images, video], ["a", "b"])
