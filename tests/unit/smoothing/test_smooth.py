"""Smoothing: closer to the truth than the noise, nothing invented, a person's points untouched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_superanimal.demo.render import render_clip
from napari_superanimal.errors import UserError
from napari_superanimal.evaluation.jitter import steadiness
from napari_superanimal.poses import Poses, make_poses
from napari_superanimal.smoothing import METHODS, SmoothOptions, smooth
from napari_superanimal.smoothing.kalman import rts


@pytest.fixture(scope="module")
def truth() -> Poses:
    return render_clip(300, seed=4).truth


@pytest.fixture
def noisy(truth: Poses) -> Poses:
    rng = np.random.default_rng(0)
    xy = truth.xy + rng.normal(0, 2.0, truth.xy.shape)
    xy[rng.random(xy.shape[:3]) < 0.05] = np.nan
    return make_poses(truth.keypoints, xy, metadata=truth.metadata)


@pytest.mark.parametrize("method", METHODS)
def test_nearer_to_the_truth_and_steadier(noisy: Poses, truth: Poses, method: str) -> None:
    result = smooth(noisy, SmoothOptions(method=method))
    before, after = (np.nanmean(np.linalg.norm(p.xy - truth.xy, axis=-1)) for p in (noisy, result))
    assert after < 0.9 * before
    assert steadiness(result).jitter_px < 0.7 * steadiness(noisy).jitter_px
    # nothing is invented or lost, and likelihoods are what they were
    np.testing.assert_array_equal(result.found, noisy.found)
    np.testing.assert_array_equal(result.likelihood, noisy.likelihood)
    assert result.metadata["smoothing"]["method"] == method


@pytest.mark.parametrize("method", METHODS)
def test_a_person_s_points_stay(noisy: Poses, method: str) -> None:
    human = np.zeros(noisy.likelihood.shape, bool)
    human[10:20, 0, :4] = noisy.found[10:20, 0, :4]
    result = smooth(replace(noisy, human=human), SmoothOptions(method=method))
    np.testing.assert_array_equal(result.xy[human], noisy.xy[human])
    assert (result.xy != noisy.xy)[noisy.found & ~human].mean() > 0.5


@pytest.mark.parametrize("method", METHODS)
def test_constant_velocity_is_left_alone(method: str) -> None:
    """A point that moves evenly is not delayed or bent, whatever its speed."""
    t = np.arange(80)[:, None, None]
    xy = np.concatenate([5.0 + 3.0 * t, 200.0 - 1.5 * t], -1)[:, :, None]
    poses = make_poses(("a",), xy[:, 0])
    result = smooth(poses, SmoothOptions(method=method))
    np.testing.assert_allclose(result.xy[20:-20], poses.xy[20:-20], atol=0.35)


@pytest.mark.parametrize("method", METHODS)
def test_left_out_frames_part_the_track(method: str) -> None:
    """Two stretches 500 px apart do not pull at each other."""
    xy = np.concatenate([np.zeros((20, 1, 2)), np.full((20, 1, 2), 500.0)])
    frames = np.concatenate([np.arange(20), 1000 + np.arange(20)])
    result = smooth(make_poses(("a",), xy, frames=frames), SmoothOptions(method=method))
    np.testing.assert_allclose(result.xy[:, 0], xy, atol=1e-6)


def test_gaps_are_filled_only_when_asked(noisy: Poses) -> None:
    noisy.xy[100:103] = np.nan
    noisy.xy[150:170] = np.nan
    poses = make_poses(noisy.keypoints, noisy.xy)
    assert not smooth(poses, SmoothOptions()).found[101].any()
    filled = smooth(poses, SmoothOptions(fill=5))
    assert filled.found[101].all()
    assert not filled.found[160].any()


def test_kalman_matches_the_textbook() -> None:
    """Against the smoother written with matrices, with gaps and unequal weights."""
    rng = np.random.default_rng(2)
    xy = np.cumsum(rng.normal(0, 1, (40, 1, 2)), 0)
    xy[[7, 8, 20], 0] = np.nan
    weight = rng.uniform(0.2, 1.0, (40, 1))
    ours, _ = rts(xy, weight, np.array([0.5]))
    f = np.array([[1.0, 1.0], [0.0, 1.0]])
    q = 0.25 * np.array([[1 / 3, 1 / 2], [1 / 2, 1.0]])
    h = np.array([[1.0, 0.0]])
    for axis in range(2):
        x, p = np.array([xy[0, 0, axis], 0.0]), np.diag([1e6, 1e4])
        states, covs, before = [], [], []
        for t in range(len(xy)):
            if t:
                x, p = f @ x, f @ p @ f.T + q
            before.append((x, p))
            if np.isfinite(xy[t, 0, axis]):
                gain = p @ h.T / (h @ p @ h.T + 1 / weight[t, 0] ** 2)
                x = x + gain[:, 0] * (xy[t, 0, axis] - x[0])
                p = p - gain @ h @ p
            states.append(x)
            covs.append(p)
        for t in range(len(xy) - 2, -1, -1):
            gain = covs[t] @ f.T @ np.linalg.inv(before[t + 1][1])
            states[t] = states[t] + gain @ (states[t + 1] - before[t + 1][0])
        wanted = np.array([s[0] for s in states])
        seen = np.isfinite(xy[:, 0, axis])
        np.testing.assert_allclose(ours[seen, 0, axis], wanted[seen], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        SmoothOptions(method="mean"),
        SmoothOptions(window=4),
        SmoothOptions(method="savgol", window=5, order=4),
        SmoothOptions(method="one-euro", min_cutoff=0.0),
        SmoothOptions(noise_ratio=-1.0),
    ],
)
def test_odd_parameters_are_refused(noisy: Poses, options: SmoothOptions) -> None:
    with pytest.raises(UserError):
        smooth(noisy, options)


def test_nothing_and_one_frame(noisy: Poses) -> None:
    for n in (0, 1, 2):
        part = noisy.take(np.arange(n))
        for method in METHODS:
            np.testing.assert_array_equal(smooth(part, SmoothOptions(method=method)).xy, part.xy)
