"""The animal is told from its background by its keypoints and its colour."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.draw import ellipse

from napari_superanimal.training.silhouettes import Outline, silhouette

pytestmark = pytest.mark.usefixtures("one_thread")

OUTLINE = Outline(body=("neck", "rump", "chest"), lines=(("neck", "nose"), ("chest", "foot")), reach=0.2)
AT = {
    "neck": (40, 50),
    "rump": (88, 50),
    "chest": (60, 62),
    "nose": (22, 44),
    "foot": (60, 96),
}


def drawn(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A brown animal on a mottled green meadow, (H, W, 3) uint8, and its pixels (H, W)."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((128, 128), bool)
    for row, column, height, width in ((54, 64, 16, 32), (46, 28, 9, 12), (82, 60, 20, 5)):
        truth[ellipse(row, column, height, width, truth.shape)] = True
    picture = np.where(truth[..., None], (120, 70, 40), (60, 130, 60)) + rng.normal(0, 8, (128, 128, 3))
    return picture.clip(0, 255).astype(np.uint8), truth


def points(**changed: tuple[float, float]) -> dict[str, np.ndarray]:
    return {k: np.array(p, np.float32) for k, p in (AT | changed).items()}


def test_an_animal_is_cut_out() -> None:
    picture, truth = drawn()
    share = silhouette(picture, points(), OUTLINE, extent=60)
    assert share.shape == truth.shape
    assert share.dtype == np.float32
    assert 0 <= share.min() <= share.max() <= 1
    found = share > 0.5
    assert (found & truth).sum() / (found | truth).sum() > 0.85


def test_missing_keypoints_leave_out_what_they_draw() -> None:
    """The foot is far from all that is drawn then, and belongs to the background."""
    picture, truth = drawn()
    share = silhouette(picture, points(foot=(np.nan, np.nan)), OUTLINE, extent=60)
    assert share[95, 60] == 0
    assert share[54, 64] == 1
    assert (share > 0.5)[truth].mean() > 0.7


@pytest.mark.parametrize("kept", [(), ("nose",), ("neck", "rump")])
def test_without_anything_drawn_the_picture_stays_whole(kept: tuple[str, ...]) -> None:
    picture, _ = drawn()
    nowhere = {k: (np.nan, np.nan) for k in AT if k not in kept}
    assert (silhouette(picture, points(**nowhere), OUTLINE, extent=60) == 1).all()


def test_points_on_one_line_or_outside_the_picture_do_no_harm() -> None:
    picture, _ = drawn()
    line = points(neck=(20, 50), rump=(100, 50), chest=(60, 50), nose=(-40, 50), foot=(60, 400))
    share = silhouette(picture, line, OUTLINE, extent=60)
    assert np.isfinite(share).all()
    assert share[50, 10] == 1  # on the way to the nose outside
    assert share[5, 5] == 0
