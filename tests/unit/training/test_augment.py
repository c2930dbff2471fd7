"""Pictures and points move together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_superanimal.training.augment import (
    Augmentation,
    draw_affines,
    photometric,
    warp_images,
    warp_points,
)

pytestmark = pytest.mark.usefixtures("one_thread")

STORED, SHOWN = 109, 64


@pytest.mark.parametrize(("zoom", "stretch"), [(1.0, 1.0), (0.7, 1.0), (1.0, 1.3)])
def test_a_bright_dot_lands_where_its_point_says(zoom: float, stretch: float) -> None:
    """Turned, scaled, shifted, mirrored and stretched."""
    n = 40
    rng = np.random.default_rng(0)
    changes = Augmentation(rotation=180, scale=1.4, shift=0.1, flip=True, stretch=stretch)
    affines = draw_affines(n, SHOWN, changes, rng, zoom)
    assert 5 < int(affines.mirrored.sum()) < 35
    points = torch.from_numpy(rng.uniform(-12, 12, (n, 1, 2)).astype(np.float32)) + (STORED - 1) / 2
    y, x = torch.meshgrid(torch.arange(STORED), torch.arange(STORED), indexing="ij")
    grid = torch.stack([x, y], -1).float()
    dots = 255 * torch.exp(-((grid - points[:, :, None]) ** 2).sum(-1) / (2 * 2.5**2))
    shown = warp_images(dots[:, None].expand(n, 3, STORED, STORED), affines, SHOWN)
    assert shown.shape == (n, 3, SHOWN, SHOWN)
    expected = warp_points(points, affines, STORED, SHOWN)[:, 0]
    weight = shown[:, 0]
    y, x = torch.meshgrid(torch.arange(SHOWN), torch.arange(SHOWN), indexing="ij")
    total = weight.sum((1, 2))
    centroid = torch.stack([(weight * x).sum((1, 2)) / total, (weight * y).sum((1, 2)) / total], -1)
    inside = ((expected > 14) & (expected < SHOWN - 15)).all(-1)
    assert inside.sum() > 15
    assert bool((affines.mirrored & inside).any())
    assert bool((~affines.mirrored & inside).any())
    assert (centroid - expected)[inside].abs().max() < 0.2


def test_mirrored_means_mirrored() -> None:
    """The map turns a right-handed corner into a left-handed one, and only then."""
    affines = draw_affines(50, SHOWN, Augmentation(), np.random.default_rng(1))
    torch.testing.assert_close(torch.linalg.det(affines.matrix) < 0, affines.mirrored)
    never = draw_affines(50, SHOWN, Augmentation(flip=False), np.random.default_rng(1))
    assert not never.mirrored.any()


def test_stretched_is_longer_one_way_and_shorter_across() -> None:
    still = Augmentation(rotation=0, scale=1, shift=0, flip=False, stretch=1.2)
    affines = draw_affines(200, SHOWN, still, np.random.default_rng(1))
    longest, shortest = torch.linalg.svdvals(affines.matrix).T
    torch.testing.assert_close(longest * shortest, torch.ones(200))
    assert 1.19 < float(longest.max()) <= 1.2001
    assert 1.05 < float(longest.mean()) < 1.15
    # not along the picture's sides only
    assert float(affines.matrix[:, 0, 1].abs().max()) > 0.15


def test_nothing_asked_nothing_changed() -> None:
    still = Augmentation(rotation=0, scale=1, shift=0, flip=False, photometric=0)
    affines = draw_affines(2, 33, still, np.random.default_rng(0))
    images = torch.randint(0, 256, (2, 3, 33, 33), dtype=torch.uint8)
    torch.testing.assert_close(warp_images(images, affines, 33), images.float(), atol=0.02, rtol=0)
    # a smaller view is the middle of the stored picture
    torch.testing.assert_close(
        warp_images(images, affines, 21), images[:, :, 6:27, 6:27].float(), atol=0.02, rtol=0
    )
    assert photometric(images, 0, np.random.default_rng(0)) is images


def test_missing_points_stay_missing() -> None:
    affines = draw_affines(1, 64, Augmentation(), np.random.default_rng(0))
    out = warp_points(torch.tensor([[[float("nan")] * 2, [3.0, 4.0]]]), affines, 64, 64)
    assert out[0, 0].isnan().all()
    assert out[0, 1].isfinite().all()


@pytest.mark.parametrize("strength", [0.3, 1.0, 2.0])
def test_light_and_noise_keep_the_range(strength: float) -> None:
    rng = np.random.default_rng(2)
    images = torch.rand(64, 3, 32, 32) * 255
    images[0], images[1] = 0, 255
    before = images.clone()
    out = photometric(images, strength, rng)
    assert out.shape == images.shape
    assert out.isfinite().all()
    assert 0 <= float(out.min()) <= float(out.max()) <= 255
    assert torch.equal(images, before)
    changed = (out - images).abs().mean((1, 2, 3)) > 0.5
    assert changed.float().mean() > 0.5


def test_the_same_seed_draws_the_same() -> None:
    images = torch.rand(4, 3, 32, 32) * 255
    a = photometric(images, 1.0, np.random.default_rng((3, 7)))
    assert torch.equal(a, photometric(images, 1.0, np.random.default_rng((3, 7))))
    assert not torch.equal(a, photometric(images, 1.0, np.random.default_rng((3, 8))))
