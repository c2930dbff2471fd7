"""Animals that walk backwards, and cameras that follow them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.adaptation.camera import camera_path
from napari_superanimal.adaptation.heading import headings
from napari_superanimal.keypoints import load_space
from napari_superanimal.models.card import ModelCard

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_superanimal.adaptation.teacher import Looks

SPACE = load_space("superanimal_quadruped")
CHANNELS = ("nose", "neck_base", "tail_base", "tail_end")
CARD = ModelCard("m", space=SPACE.to_json(), keypoints=CHANNELS, view="side view")


def horse(speed: float, frames: int = 12) -> np.ndarray:
    """A horse that looks to the right and goes `speed` px per frame, (T, 4, 2)."""
    body = np.array([[50.0, 0.0], [30.0, 0.0], [-30.0, 0.0], [-50.0, 0.0]])
    return 300 + body[None] + np.arange(frames)[:, None, None] * np.array([speed, 0.0])


@pytest.mark.parametrize(("speed", "way"), [(5.0, 1), (-5.0, -1), (0.0, 0), (0.5, 0)])
def test_the_way_is_compared_with_the_head(looks_at: Callable[..., Looks], speed: float, way: int) -> None:
    assert (headings(looks_at(horse(speed)), CARD, SPACE) == way).all()


def test_frames_beside_tell_the_way_of_a_slow_animal(looks_at: Callable[..., Looks]) -> None:
    slow = horse(-1.0, frames=40)
    held, before, after = looks_at(slow[15:25], first=15), looks_at(slow[:11]), looks_at(slow[29:], first=29)
    assert (headings(held, CARD, SPACE) == 0).all()
    names = [f.name for f in fields(before) if f.name not in ("crops", "embedding")]
    beside = replace(before, **{n: np.concatenate([getattr(before, n), getattr(after, n)]) for n in names})
    assert (headings(held, CARD, SPACE, beside) == -1).all()


def test_a_camera_that_follows_is_taken_off(looks_at: Callable[..., Looks]) -> None:
    # in the picture the horse drifts back, since the camera is faster
    pan = np.arange(12)[:, None] * np.array([-9.0, 0.0])
    assert (headings(looks_at(horse(-4.0), camera=pan), CARD, SPACE) == 1).all()
    unknown = np.full((12, 2), np.nan)
    assert (headings(looks_at(horse(5.0), camera=unknown), CARD, SPACE) == 0).all()


def test_the_background_tells_how_the_camera_moves() -> None:
    rng = np.random.default_rng(0)
    world = np.kron(rng.integers(0, 255, (60, 120)), np.ones((8, 8))).astype(np.uint8)
    frames, boxes = [], []
    for i in range(6):
        frame = np.repeat(world[40:280, 100 + 6 * i : 420 + 6 * i, None], 3, -1).copy()
        frame[90:150, 120 + 10 * i : 180 + 10 * i] = 0  # the animal goes its own way
        frames.append(frame)
        boxes.append(np.array([[120.0 + 10 * i, 90.0, 60.0, 60.0]]))
    path = camera_path(frames, boxes)
    assert np.abs(path - np.arange(6)[:, None] * np.array([-6.0, 0.0])).max() < 1.5


def test_a_plain_background_tells_nothing() -> None:
    frames = [np.full((240, 320, 3), 200, np.uint8)] * 3
    path = camera_path(frames, [np.empty((0, 4))] * 3)
    assert np.isnan(path[1:]).all()
