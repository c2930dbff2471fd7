"""Animals before other backgrounds, beside other animals, with boxes that fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_superanimal.poses import make_poses
from napari_superanimal.training.augment import Augmentation, draw_affines
from napari_superanimal.training.detector_stage import inside
from napari_superanimal.training.samples import PoseSamples
from napari_superanimal.training.scenery import (
    PATCH,
    Scenery,
    background,
    compose_scenes,
    gather_scenery,
    warp_into_scenes,
)

pytestmark = pytest.mark.usefixtures("one_thread")

STORED, SHOWN = 96, 64
STILL = Augmentation(rotation=0, scale=1, shift=0, flip=False, photometric=0)
#: The animal of every sample: a red block, x, y, width, height in the stored crop.
BLOCK = (33, 39, 30, 18)


@pytest.fixture(scope="module")
def samples() -> PoseSamples:
    """Red blocks on blue."""
    n, (x, y, w, h) = 6, BLOCK
    crops = torch.zeros(n, 3, STORED, STORED, dtype=torch.uint8)
    crops[:, 2] = 200
    silhouettes = torch.zeros(n, 1, STORED, STORED, dtype=torch.uint8)
    crops[:, :, y : y + h, x : x + w] = torch.tensor([200, 0, 0], dtype=torch.uint8)[:, None, None]
    silhouettes[:, :, y : y + h, x : x + w] = 255
    corners = np.array([(x, y), (x + w, y), (x, y + h), (x + w, y + h)], np.float32) - 0.5
    return PoseSamples(
        crops,
        np.tile(corners, (n, 1, 1)),
        np.full((n, 4), 2, np.int8),
        np.ones(n, np.float32),
        ("a",) * n,
        np.zeros((n, 2), np.int64),
        np.full(n, 2.0, np.float32),
        np.full(n, 2.0 * np.sqrt(w * h), np.float32),
        (corners,) * n,
        np.ones(n, bool),
        silhouettes,
    )


@pytest.fixture
def gray() -> Scenery:
    return Scenery(torch.full((3, 3, PATCH, PATCH), 90, dtype=torch.uint8), ("a", "b", "a"))


def red(images: torch.Tensor) -> torch.Tensor:
    return (images[:, 0] > 90) & (images[:, 1] < 30) & (images[:, 2] < 30)


def test_the_animal_stays_and_its_surroundings_change(samples: PoseSamples, gray: Scenery) -> None:
    assert samples.silhouettes is not None
    everywhere = replace(STILL, background=1.0)
    rng = np.random.default_rng(0)
    affines = draw_affines(6, SHOWN, everywhere, rng)
    shown = warp_into_scenes(samples.crops, samples.silhouettes, gray, affines, SHOWN, everywhere, rng)
    assert shown.shape == (6, 3, SHOWN, SHOWN)
    assert 0 <= float(shown.min()) <= float(shown.max()) <= 255
    margin = (STORED - SHOWN) // 2
    x, y = BLOCK[0] - margin, BLOCK[1] - margin
    block = shown[:, :, y + 1 : y + 17, x + 1 : x + 29]
    assert bool(red(block).all())
    blue = (shown[:, 2] > 150) & (shown[:, 0] < 30)
    assert blue.float().mean() < 0.2


def test_without_a_share_the_surroundings_stay(samples: PoseSamples, gray: Scenery) -> None:
    assert samples.silhouettes is not None
    rng = np.random.default_rng(0)
    affines = draw_affines(6, SHOWN, STILL, rng)
    shown = warp_into_scenes(samples.crops, samples.silhouettes, gray, affines, SHOWN, STILL, rng)
    assert (shown[:, :, :10] - torch.tensor([0, 0, 200.0])[:, None, None]).abs().max() < 0.1


def test_a_neighbour_stands_behind(samples: PoseSamples, gray: Scenery) -> None:
    assert samples.silhouettes is not None
    crowded = replace(STILL, neighbour=1.0)
    rng = np.random.default_rng(1)
    affines = draw_affines(6, SHOWN, crowded, rng)
    alone = warp_into_scenes(samples.crops, samples.silhouettes, gray, affines, SHOWN, STILL, rng)
    shown = warp_into_scenes(samples.crops, samples.silhouettes, gray, affines, SHOWN, crowded, rng)
    area = BLOCK[2] * BLOCK[3]
    assert int(red(alone[:1]).sum()) == pytest.approx(area, abs=60)
    more = red(shown).sum((1, 2)).float()
    assert (more > 1.05 * area).float().mean() > 0.6
    assert float(more.max()) <= 2.1 * area


TURNING = Augmentation(rotation=180, flip=True, photometric=0)


def test_scenes_have_one_to_three_animals(samples: PoseSamples, gray: Scenery) -> None:
    rng = np.random.default_rng(4)
    images, boxes = compose_scenes(samples, gray, np.full(6, 1 / 6), 40, 128, TURNING, rng)
    assert images.shape == (40, 3, 128, 128)
    assert {len(b) for b in boxes} >= {1, 2, 3}
    assert max(len(b) for b in boxes) == 3


def test_boxes_of_a_scene_hold_its_animals(
    samples: PoseSamples, gray: Scenery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_superanimal.training.scenery.ANIMALS", (1,))
    monkeypatch.setattr("napari_superanimal.training.scenery.DRAWN", 0.0)  # a drawn one may be red
    rng = np.random.default_rng(4)
    images, boxes = compose_scenes(samples, gray, np.full(6, 1 / 6), 20, 128, TURNING, rng)
    checked = 0
    for image, each in zip(images, boxes, strict=True):
        one = red(image[None])[0]
        if len(each) != 1 or one.sum() < 30:
            continue
        rows, columns = np.nonzero(one.numpy())
        x, y, w, h = inside(each, 128)[0].tolist()
        assert columns.min() > x - 2
        assert rows.min() > y - 2
        assert columns.max() < x + w + 2
        assert rows.max() < y + h + 2
        seen = (columns.max() - columns.min() + 1) * (rows.max() - rows.min() + 1)
        assert seen > 0.75 * (w + 1) * (h + 1)
        checked += 1
    assert checked > 8


def test_boxes_end_at_the_border() -> None:
    boxes = torch.tensor([[-10.0, 5, 30, 20], [90, 90, 50, 50], [10, 10, 20, 20]])
    torch.testing.assert_close(inside(boxes, 100), torch.tensor([[0.0, 5, 20, 20], [10, 10, 20, 20]]))
    assert inside(torch.empty(0, 4), 100).shape == (0, 4)


def test_patches_are_taken_beside_the_animals() -> None:
    poses = make_poses(
        ("a", "b"),
        np.full((4, 1, 2, 2), np.nan),
        images=tuple(f"{i}.png" for i in range(4)),
        boxes=np.tile([60.0, 20, 80, 60], (4, 1, 1)),
        image_sizes=np.tile([200, 100], (4, 1)),
    )
    poses = replace(poses, sources=("x", "x", "y", "y"))
    frame = np.full((100, 200, 3), 50, np.uint8)
    frame[20:80, 60:140] = 255
    found = gather_scenery(poses, lambda *_: frame, 30, 0)
    assert 10 < len(found.patches) <= 30
    assert found.patches.shape[1:] == (3, PATCH, PATCH)
    assert (found.patches == 255).float().mean((1, 2, 3)).max() < 0.2
    assert set(found.source) == {"x", "y"}
    rest = found.without("x")
    assert set(rest.source) == {"y"}
    assert len(rest.patches) == found.source.count("y")
    whole = replace(poses, boxes=np.tile([0.0, 0, 200, 100], (4, 1, 1)))
    assert len(gather_scenery(whole, lambda *_: frame, 5, 0).patches) == 0


@pytest.mark.parametrize("count", [0, 3])
def test_backgrounds_follow_from_the_seed(count: int, gray: Scenery) -> None:
    patches = gray.patches[:count]
    one = torch.stack([background(patches, 48, np.random.default_rng(i)) for i in range(20)])
    two = torch.stack([background(patches, 48, np.random.default_rng(i)) for i in range(20)])
    assert torch.equal(one, two)
    assert 0 <= float(one.min()) <= float(one.max()) <= 255
    same = ((one - 90).abs() < 0.01).flatten(1).all(1).sum()
    assert (same == 0) if count == 0 else (5 < same < 20)
    assert (one.flatten(1) - one.flatten(1)[0]).abs().mean(1)[1:].max() > 5
