"""Jitter, dropping and body size by their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from napari_superanimal.evaluation.jitter import steadiness
from napari_superanimal.poses import make_poses


def test_constant_velocity_has_no_jitter() -> None:
    t = np.arange(10)[:, None, None]
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]]) + 3.0 * t
    found = steadiness(make_poses(("a", "b", "c", "d"), square))
    assert found.jitter_px == pytest.approx(0.0, abs=1e-9)
    assert found.body_size_px == pytest.approx(4.0)
    assert found.body_size_change == pytest.approx(0.0, abs=1e-9)
    assert found.dropped == 0.0


def test_second_difference() -> None:
    """One point jumps by (3, 4) for one frame: 5, 10 and 5 px per frame^2 around it."""
    xy = np.zeros((7, 1, 2))
    xy[3] = (3.0, 4.0)
    found = steadiness(make_poses(("a",), xy))
    assert found.triplets == 5
    assert found.jitter_px == pytest.approx((5 + 10 + 5) / 5)
    assert found.per_keypoint == {"a": pytest.approx(4.0)}


def test_only_frames_that_follow_each_other_count() -> None:
    xy = np.random.default_rng(0).normal(size=(6, 1, 2))
    found = steadiness(make_poses(("a",), xy, frames=[0, 1, 2, 10, 11, 12]))
    assert found.triplets == 2


def test_dropped_are_missing_or_doubtful_keypoints() -> None:
    xy = np.zeros((4, 3, 2))
    xy[0, 0] = np.nan
    xy[:, 2] = np.nan  # never given: the model does not know it
    likelihood = np.full((4, 3), 0.9)
    likelihood[1, 1] = 0.2
    found = steadiness(make_poses(("a", "b", "c"), xy, likelihood=likelihood), threshold=0.5)
    assert found.dropped == pytest.approx(2 / 4)
    assert found.dropped_share == pytest.approx(2 / 8)


def test_nothing_gives_no_figures() -> None:
    found = steadiness(make_poses(("a",), np.full((3, 1, 2), np.nan)))
    assert np.isnan(found.jitter_px)
    assert np.isnan(found.dropped)
