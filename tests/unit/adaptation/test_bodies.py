"""Rendered mice and the proportions in the shipped model's card: right animals are not accused."""

from __future__ import annotations

import numpy as np
import pytest

from napari_superanimal.adaptation.bodies import odd_points
from napari_superanimal.demo.render import render_clip
from napari_superanimal.keypoints import load_space
from napari_superanimal.models.known import known_proportions
from napari_superanimal.models.zoo import DEFAULT_MODEL, find_model
from napari_superanimal.poses.proportions import ROOM, Proportions

SPACE = load_space("superanimal_topviewmouse")


@pytest.fixture(scope="module")
def usual() -> Proportions:
    """What the shipped model's card says."""
    found = known_proportions(find_model(DEFAULT_MODEL).card, SPACE.keypoints)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def mice() -> np.ndarray:
    """(clip, frame, keypoint, 2): true points of mice that also turn round."""
    return np.stack([render_clip(240, seed=seed).truth.xy[:, 0] for seed in range(1, 9)])


def bend(xy: np.ndarray) -> np.ndarray:
    """Angle between head and trunk, degrees."""
    nose, head, tail = (xy[..., SPACE.index(k), :] for k in ("nose", "head_midpoint", "tail_base"))
    ahead, trunk = ((a - b) @ [1, 1j] for a, b in ((nose, head), (head, tail)))
    return np.degrees(np.abs(np.angle(ahead * trunk.conj())))


def test_a_mouse_that_turns_round_is_unusual_but_not_wrong(usual: Proportions, mice: np.ndarray) -> None:
    """All of its points lie off a little at once, for as long as it is bent: a quarter of a short proof."""
    curled = mice[bend(mice) > 100]
    assert len(curled) > 10
    assert (usual.distances(curled) > ROOM).mean() > 0.1, "else this proves nothing"
    assert odd_points(usual, curled).share == 0
    shares = [odd_points(usual, clip[i : i + 16]).share for clip in mice for i in range(0, 240, 16)]
    assert max(shares) < 0.05


def test_right_clips_are_not_accused_and_exchanged_names_are(usual: Proportions, mice: np.ndarray) -> None:
    for clip in mice:
        assert odd_points(usual, clip).wrong() == ()
        for one, other in (("nose", "tail_base"), ("left_ear", "right_ear"), ("nose", "head_midpoint")):
            order = np.arange(len(SPACE))
            i, j = SPACE.index(one), SPACE.index(other)
            order[i], order[j] = j, i
            assert odd_points(usual, clip[:, order]).wrong(), (one, other)
