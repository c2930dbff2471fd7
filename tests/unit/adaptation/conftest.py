"""Looks at animals whose truth is known, without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_superanimal.adaptation.teacher import Looks


@pytest.fixture
def looks_at() -> Callable[..., Looks]:
    """Builds `Looks` of one animal in one burst from true positions (T, K, 2), with a little noise per look."""

    def build(
        truth: np.ndarray,
        *,
        views: int = 4,
        likelihood: float = 0.9,
        noise: float = 0.3,
        size: float = 100.0,
        first: int = 0,
        camera: np.ndarray | None = None,
    ) -> Looks:
        import torch

        from napari_superanimal.adaptation.teacher import Looks

        rng = np.random.default_rng(0)
        t, k = truth.shape[:2]
        xy = truth[:, None] + rng.normal(0, noise, (t, views, k, 2))
        centre = truth.mean(1)
        boxes = np.concatenate([centre - size / 2, np.full((t, 2), size)], -1)
        return Looks(
            frames=np.arange(first, first + t),
            burst=np.zeros(t, np.int64),
            individual=np.zeros(t, np.int64),
            boxes=boxes,
            scores=np.ones(t),
            xy=xy,
            likelihood=np.full((t, views, k), likelihood),
            crops=torch.zeros((t, 3, 54, 54), dtype=torch.uint8),
            squares=np.concatenate([boxes[:, :2] - 35, np.full((t, 1), 170.0)], -1),
            embedding=torch.zeros((t, 4)),
            camera=np.zeros((t, 2)) if camera is None else camera,
        )

    return build
