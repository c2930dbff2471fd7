"""Poses to write, and pictures for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_superanimal.poses import Poses, make_poses

if TYPE_CHECKING:
    from pathlib import Path

#: Names that have broken readers: typos, spaces, dots, parentheses, unicode, commas, quotes.
ODD_NAMES = ("lefthanbdtop", "tail.base (mid)", "Schnauze ä", 'a,"b"')


@pytest.fixture
def odd_project(tmp_path: Path) -> Poses:
    """Labels of two folders with odd names; one picture is missing, one keypoint was never labelled."""
    rng = np.random.default_rng(3)
    folders = ["Horse Walk-5J1.v (2)", "日本 clip"]
    images = tuple(f"labeled-data/{f}/img{i:03d}.png" for f in folders for i in (3, 7))
    root = tmp_path / "a project"
    for name in images[:-1]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (64, 48), 90).save(root / name)
    xy = rng.uniform(0, 48, (4, 2, 4, 2))
    xy[0, 1] = np.nan
    xy[:, :, 3] = np.nan
    return make_poses(
        ODD_NAMES,
        xy,
        individuals=("individual1", "rat (2)"),
        images=images,
        image_sizes=np.array([[64, 48]] * 3 + [[0, 0]]),
        root=root,
        human=True,
        scorer="Ann",
        skeleton=(("lefthanbdtop", "Schnauze ä"),),
    )


@pytest.fixture
def predicted_video() -> Poses:
    """Predictions of two animals in frames 4, 6, 8..., some corrected by a person, with boxes."""
    rng = np.random.default_rng(5)
    xy = rng.uniform(0, 300, (6, 2, 3, 2))
    xy[1, 1] = np.nan
    xy[2, 0, 1] = np.nan
    boxes = rng.uniform(0, 300, (6, 2, 4))
    boxes[1, 1] = np.nan
    return make_poses(
        ("nose", "tail_base", "mid back"),
        xy,
        frames=np.arange(4, 16, 2),
        likelihood=rng.uniform(0, 1, (6, 2, 3)),
        human=rng.uniform(size=(6, 2, 3)) > 0.7,
        boxes=boxes,
        box_scores=np.where(np.isfinite(boxes[..., 0]), 0.75, np.nan),
        image_sizes=np.tile([640, 480], (6, 1)),
        scorer="superanimal_topviewmouse_mini",
        metadata={"video": "clip.mp4", "space": "superanimal_topviewmouse"},
    )
