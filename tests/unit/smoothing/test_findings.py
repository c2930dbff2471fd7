"""Swaps and outliers are found where they were put, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_superanimal.demo.render import render_clip
from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import load_space
from napari_superanimal.poses import Poses, make_poses
from napari_superanimal.smoothing import Finding, clean, find_problems

SPACE = load_space("superanimal_topviewmouse")
EARS = [SPACE.index("left_ear"), SPACE.index("right_ear")]


@pytest.fixture(scope="module")
def truth() -> Poses:
    return render_clip(240, n_mice=2, seed=4).truth


@pytest.fixture
def noisy(truth: Poses) -> Poses:
    rng = np.random.default_rng(0)
    return replace(truth, xy=truth.xy + rng.normal(0, 1.2, truth.xy.shape))


def exchange(poses: Poses, rows: np.ndarray, animal: int, pairs: list[list[int]]) -> Poses:
    xy = poses.xy.copy()
    for pair in pairs:
        xy[rows[:, None], animal, [pair]] = xy[rows[:, None], animal, [pair[::-1]]]
    return replace(poses, xy=xy)


def test_a_clean_track_has_no_findings(noisy: Poses) -> None:
    assert find_problems(noisy) == []


@pytest.mark.parametrize("length", [1, 5, 40])
def test_a_swapped_pair_is_found_and_exchanged_back(noisy: Poses, length: int) -> None:
    rows = np.arange(100, 100 + length)
    spoilt = exchange(noisy, rows, 1, [EARS])
    found = find_problems(spoilt)
    assert [(f.kind, f.individual, f.keypoints) for f in found] == [
        ("swap", noisy.individuals[1], ("left_ear", "right_ear"))
    ]
    np.testing.assert_array_equal(found[0].frames, rows)
    np.testing.assert_array_equal(clean(spoilt, found).xy, noisy.xy)


def test_a_mirrored_animal_is_one_finding(noisy: Poses) -> None:
    rows = np.arange(60, 75)
    pairs = [[SPACE.index(a), SPACE.index(b)] for a, b in SPACE.pairs]
    spoilt = exchange(noisy, rows, 0, pairs)
    found = find_problems(spoilt)
    assert len(found) == 1
    assert set(found[0].keypoints) == {name for pair in SPACE.pairs for name in pair}
    np.testing.assert_array_equal(clean(spoilt, found).xy, noisy.xy)
    assert "left and right exchanged" in found[0].text
    assert "frames 60 to 74" in found[0].text


def test_a_person_s_points_are_never_touched(noisy: Poses) -> None:
    """Neither exchanged with their partner nor called outliers, however odd they look."""
    rows = np.arange(100, 106)
    spoilt = exchange(noisy, rows, 0, [EARS])
    spoilt.xy[50, 0, SPACE.index("nose")] += 200.0
    human = spoilt.human.copy()
    human[rows, 0, EARS[0]] = True
    human[50, 0, SPACE.index("nose")] = True
    spoilt = replace(spoilt, human=human)
    found = find_problems(spoilt)
    assert not any(np.isin(f.frames, rows).any() for f in found if f.kind == "swap")
    assert not any("nose" in f.keypoints for f in found)
    # also when somebody asks for it
    asked = [
        Finding("swap", spoilt.individuals[0], ("left_ear", "right_ear"), rows, 9.0),
        Finding("outlier", spoilt.individuals[0], ("nose",), np.array([50]), 9.0),
    ]
    np.testing.assert_array_equal(clean(spoilt, asked).xy[human], spoilt.xy[human])
    np.testing.assert_array_equal(clean(spoilt, asked).xy, spoilt.xy)


@pytest.mark.parametrize("length", [1, 3, 5])
def test_a_stray_point_is_found_and_bridged(noisy: Poses, length: int) -> None:
    k = SPACE.index("mid_back")
    rows = np.arange(120, 120 + length)
    spoilt = replace(noisy, xy=noisy.xy.copy())
    spoilt.xy[rows, 0, k] += (60.0, -45.0)
    spoilt.likelihood[rows, 0, k] = 0.4
    found = find_problems(spoilt)
    assert [(f.kind, f.keypoints) for f in found] == [("outlier", ("mid_back",))]
    np.testing.assert_array_equal(found[0].frames, rows)
    mended = clean(spoilt, found)
    off = np.linalg.norm(mended.xy[rows, 0, k] - noisy.xy[rows, 0, k], axis=-1)
    assert off.max() < 8.0
    # an invented point does not look surer than what it replaces
    assert (mended.likelihood[rows, 0, k] == 0.4).all()
    assert np.isnan(clean(spoilt, found, bridge=0).xy[rows, 0, k]).all()
    np.testing.assert_array_equal(np.delete(mended.xy, rows, 0), np.delete(noisy.xy, rows, 0))


def test_a_point_that_stays_away_is_told_by_its_bones(noisy: Poses) -> None:
    """Forty frames: no jump and return within any window, but no bone has its length."""
    k = SPACE.index("tail_base")
    rows = np.arange(100, 140)
    spoilt = replace(noisy, xy=noisy.xy.copy())
    spoilt.xy[rows, 0, k] += (80.0, 80.0)
    found = [f for f in find_problems(spoilt) if f.kind == "outlier"]
    accused = {n for f in found for n in f.keypoints}
    hit = np.unique(np.concatenate([f.frames for f in found if "tail_base" in f.keypoints]))
    assert len(np.intersect1d(hit, rows)) >= 30
    assert accused == {"tail_base"}


def test_gaps_and_lonely_frames_do_not_disturb(noisy: Poses) -> None:
    """Missing keypoints, left-out frames and an animal that is never there."""
    rng = np.random.default_rng(1)
    xy = noisy.xy.copy()
    xy[rng.random(xy.shape[:3]) < 0.3] = np.nan
    xy[:, 1] = np.nan
    sparse = make_poses(SPACE.keypoints, xy, frames=noisy.frames, individuals=noisy.individuals)
    sparse = sparse.take(np.flatnonzero((noisy.frames < 90) | (noisy.frames > 130)))
    assert find_problems(sparse, SPACE) == []
    assert find_problems(sparse.take(np.arange(2)), SPACE) == []
    assert find_problems(sparse.take(np.arange(0)), SPACE) == []


def test_single_images_have_no_tracks(noisy: Poses) -> None:
    images = replace(noisy, images=tuple(f"{i}.png" for i in range(len(noisy))))
    with pytest.raises(UserError, match="single images"):
        find_problems(images)
    with pytest.raises(UserError, match="order"):
        find_problems(noisy.take(np.arange(len(noisy))[::-1]))
