"""Augmentation of a batch: one affine map in one resampling, then what cameras and light do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_superanimal.poses.boxes import KEYPOINT_MARGIN, boxes_from_keypoints


@dataclass(frozen=True)
class Augmentation:
    """How far samples are changed.

    Attributes
    ----------
    rotation : float
        Degrees to either side; 180 for top views.
    scale : float
        Largest factor, either way.
    shift : float
        Of the input size, either way.
    flip : bool
        Mirror half of the samples.
    photometric : float
        Strength of colour, light, blur, noise and occlusion; 0 switches them off.
    background : float
        Share of samples that are put before another background; needs silhouettes.
    neighbour : float
        Share of samples that get another animal of the batch behind them; needs silhouettes.
    stretch : float
        Largest factor by which samples get longer in one direction and shorter across it: other proportions.
    """

    rotation: float = 180.0
    scale: float = 1.35
    shift: float = 0.1
    flip: bool = True
    photometric: float = 1.0
    background: float = 0.0
    neighbour: float = 0.0
    stretch: float = 1.0

    @property
    def changes_scene(self) -> bool:
        """Whether silhouettes and backgrounds are needed."""
        return self.background > 0 or self.neighbour > 0


def turning(view: str) -> float:
    """Degrees to either side that pictures are turned by: top views have no upper side, side views have."""
    return 180.0 if "top" in view else 25.0


def mild(view: str, *, flip: bool) -> Augmentation:
    """How crops are changed for a model that is trained already and learns from a few more pictures."""
    return Augmentation(rotation=turning(view), scale=1.25, shift=0.08, photometric=0.7, flip=flip)


@dataclass(frozen=True)
class Affines:
    """Maps from stored to shown pixels, ``shown = matrix @ (stored - stored_centre) + shown_centre + shift``.

    matrix : (N, 2, 2) float32, shift : (N, 2) float32 px, mirrored : (N,) bool
    """

    matrix: Tensor
    shift: Tensor
    mirrored: Tensor


def draw_affines(
    n: int,
    out_size: int,
    aug: Augmentation,
    rng: np.random.Generator,
    zoom: float | npt.NDArray[np.float64] = 1.0,
) -> Affines:
    """Random maps; `zoom`, one for all or (n,), is the scale that shows a stored pixel at its usual size."""
    angle = np.deg2rad(rng.uniform(-aug.rotation, aug.rotation, n))
    scale = zoom * np.exp(rng.uniform(-math.log(aug.scale), math.log(aug.scale), n))
    mirrored = (rng.random(n) < 0.5) & aug.flip
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    sign = np.where(mirrored, -1.0, 1.0)
    matrix = np.stack([np.stack([cos * sign, -sin], -1), np.stack([sin * sign, cos], -1)], -2)
    if aug.stretch > 1:
        matrix = matrix @ _pulls(n, aug.stretch, rng)
    shift = rng.uniform(-aug.shift, aug.shift, (n, 2)) * out_size
    return Affines(
        torch.from_numpy(matrix.astype(np.float32)),
        torch.from_numpy(shift.astype(np.float32)),
        torch.from_numpy(mirrored),
    )


def _pulls(n: int, largest: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Matrices (n, 2, 2) that make longer in one direction, drawn at random, and shorter across it."""
    along = rng.uniform(0, np.pi, n)
    factor = np.exp(rng.uniform(-math.log(largest), math.log(largest), n))
    cos, sin = np.cos(along), np.sin(along)
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    pull = np.stack([factor, 1 / factor], -1)[:, None, :]
    return (turn * pull) @ turn.transpose(0, 2, 1)


def warp_images(images: Tensor, affines: Affines, out_size: int) -> Tensor:
    """Images (N, C, S, S) to (N, C, out_size, out_size) float32 0..255, bilinear, black outside."""
    n, channels, size, _ = images.shape
    inverse = torch.linalg.inv(affines.matrix)
    # grid_sample wants normalised coordinates of the stored image for every shown pixel
    offset = -(inverse @ affines.shift[..., None]) * (2.0 / size)
    theta = torch.cat([inverse * (out_size / size), offset], dim=-1)
    grid = F.affine_grid(theta, [n, channels, out_size, out_size], align_corners=False)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def warp_points(xy: Tensor, affines: Affines, size: int, out_size: int) -> Tensor:
    """Points (N, P, 2) px of the stored images to px of the shown ones; NaN stays NaN."""
    centred = xy + 0.5 - size / 2
    return centred @ affines.matrix.transpose(1, 2) + affines.shift[:, None] + out_size / 2 - 0.5


def warp_boxes(
    hulls: npt.NDArray[np.float32], given: bool, affines: Affines, n: int, size: int, out_size: int
) -> Tensor:
    """Boxes (M, 4) px of a picture after the n-th map, drawn anew around the moved points (M, P, 2).

    Around a given box's points it is drawn tightly, around keypoints with the usual margin.
    """
    one = Affines(affines.matrix[n : n + 1], affines.shift[n : n + 1], affines.mirrored[n : n + 1])
    points = warp_points(torch.from_numpy(hulls).reshape(1, -1, 2), one, size, out_size)[0]
    boxes = boxes_from_keypoints(
        points.reshape(hulls.shape).double().numpy(), margin=0.0 if given else KEYPOINT_MARGIN
    )
    return torch.from_numpy(boxes[np.isfinite(boxes).all(-1)]).float()


def photometric(images: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Light, colour, sharpness, resolution, noise and occlusion of images (N, 3, S, S) 0..255, each at random."""
    if strength <= 0:
        return images
    n, _, size, _ = images.shape

    def uniform(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (n, 1, 1, 1)).astype(np.float32))

    def some(share: float) -> Tensor:
        return torch.from_numpy((rng.random((n, 1, 1, 1)) < share).astype(np.float32))

    x = images / 255.0
    gray = x.mean(1, keepdim=True)
    x = torch.lerp(x, gray.expand_as(x), some(0.4) * uniform(0.3, 1.0))
    tint = torch.from_numpy(rng.uniform(-0.15, 0.15, (n, 3, 1, 1)).astype(np.float32))
    x = x * (1 + some(0.5) * strength * tint)
    gamma = torch.exp(strength * uniform(-0.5, 0.5))
    x = x.clamp_min(1e-4) ** gamma
    # inverted contrast makes a dark animal on a bright floor a bright one on a dark floor
    x = torch.where(some(0.08) > 0, 1 - x, x)
    ramp = torch.linspace(-1, 1, size)
    slope = uniform(-0.3, 0.3) * ramp[:, None] + uniform(-0.3, 0.3) * ramp[None, :]
    x = x * (1 + some(0.5) * strength * slope)

    blurred = F.interpolate(F.avg_pool2d(x, 2), size=(size, size), mode="bilinear", align_corners=False)
    coarse = F.interpolate(F.avg_pool2d(x, 4), size=(size, size), mode="bilinear", align_corners=False)
    x = torch.lerp(x, blurred, some(0.3) * uniform(0.3, 1.0))
    x = torch.where(some(0.08 * strength) > 0, coarse, x)
    noise = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
    x = x + some(0.5) * uniform(0.0, 0.06 * strength) * noise

    for i in np.flatnonzero(rng.random(n) < 0.3 * strength):
        height, width = (rng.uniform(0.05, 0.3, 2) * size).astype(int)
        if rng.random() < 0.5:  # a post or a rail
            height, width = (size, max(width // 5, 2)) if rng.random() < 0.5 else (max(height // 5, 2), size)
        top, left = (rng.uniform(0, 0.9, 2) * size).astype(int)
        x[i, :, top : top + height, left : left + width] = float(rng.random())
    return x.clamp(0, 1) * 255.0
