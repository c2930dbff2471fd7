"""Targets, masks and losses. Undefined keypoints (visibility -1) weigh exactly nothing."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Width of the target gaussian in heatmap cells.
SIGMA = 1.5
#: Offsets are learned within this distance of the keypoint, in cells.
OFFSET_REACH = 2.0


def cell_grid(height: int, width: int) -> Tensor:
    """Cell indices (2, H, W) as x, y."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y]).float()


def keypoint_targets(
    xy: Tensor, visibility: Tensor, stride: int, cells: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Heatmaps, offsets and weights for crops.

    Parameters
    ----------
    xy : (N, K, 2) px of the crop, NaN where missing
    visibility : (N, K)
        -1 weighs nothing; 0 (defined, not labelled here) is trained as absent; 1 and 2 are drawn.
    stride, cells : int
        Crop pixels per cell; cells per side.

    Returns
    -------
    heat : (N, K, H, W), 0..1
    offsets : (N, K, 2, H, W) cells from the cell's centre to the keypoint
    weight : (N, K)
    """
    at = (xy + 0.5) / stride - 0.5
    drawn = (visibility > 0) & torch.isfinite(xy).all(-1)
    # a keypoint outside the crop is absent, as far as the network can see
    drawn &= ((at > -0.5) & (at < cells - 0.5)).all(-1)
    safe = torch.where(drawn[..., None], at, torch.full_like(at, -1e4))
    offsets = safe[..., None, None] - cell_grid(cells, cells)
    heat = torch.exp(-(offsets**2).sum(2) / (2 * SIGMA**2))
    return heat, offsets, (visibility >= 0).float()


@dataclass
class MaskSum:
    """Number of defined keypoints over the parts of one step."""

    total: float = 0.0


_OPEN: ContextVar[MaskSum | None] = ContextVar("mask_sum", default=None)


@contextmanager
def pooled() -> Iterator[MaskSum]:
    """Inside, losses of keypoints give plain sums and add up what they are to be divided by.

    A step of several parts is divided once, by the sum over all of them: were every part divided by its own,
    a keypoint would weigh more where few are defined.
    """
    count = MaskSum()
    token = _OPEN.set(count)
    try:
        yield count
    finally:
        _OPEN.reset(token)


def mask_total(weight: Tensor, norm: Tensor | None = None) -> Tensor:
    """What a sum over defined keypoints is divided by: `norm`, else the sum of `weight`; 1 inside `pooled`."""
    total = weight.sum() if norm is None else norm
    if norm is None and (count := _OPEN.get()) is not None:
        count.total += float(total)
        total = torch.ones_like(total)
    return total.clamp_min(1.0)


def pose_loss(
    heatmaps: Tensor,
    offsets: Tensor,
    heat: Tensor,
    shift: Tensor,
    weight: Tensor,
    norm: Tensor | None = None,
    extra: Tensor | None = None,
) -> Tensor:
    """Masked loss of heatmaps (N, K, H, W) logits and offsets (N, 2K, H, W).

    Binary cross-entropy in which positive cells count more, plus a smooth L1 on offsets near the keypoint. Both
    are sums over defined keypoints divided by their number `norm`, by default the number in this batch; of a step
    in several parts see `pooled`. `extra` is a further sum over defined keypoints, divided likewise.
    Gradients of undefined keypoints are exactly zero (paper, Methods: keypoint gradient masking).
    """
    n, k, h, w = heatmaps.shape
    total = mask_total(weight, norm)
    cell = F.binary_cross_entropy_with_logits(heatmaps, heat, reduction="none") * (1 + 20 * heat)
    heat_loss = (cell.mean((-2, -1)) * weight).sum() / total
    near = (shift.square().sum(2) < OFFSET_REACH**2).float()
    distance = F.smooth_l1_loss(offsets.view(n, k, 2, h, w), shift.clamp(-3, 3), reduction="none", beta=0.25)
    per_keypoint = (distance.sum(2) * near).sum((-2, -1)) / near.sum((-2, -1)).clamp_min(1.0)
    loss = heat_loss + 0.1 * (per_keypoint * weight).sum() / total
    return loss if extra is None else loss + extra / total


def box_targets(boxes: list[Tensor], stride: int, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centre heatmaps (N, 1, H, W), box values (N, 4, H, W) and where they count (N, 1, H, W).

    Where bumps of several animals overlap, the strongest one's box is learned.
    """
    heat = torch.zeros(len(boxes), 1, cells, cells)
    values = torch.zeros(len(boxes), 4, cells, cells)
    grid = cell_grid(cells, cells)
    for i, each in enumerate(boxes):
        centre = (each[:, :2] + each[:, 2:] / 2 + 0.5) / stride - 0.5
        inside = ((centre > -0.5) & (centre < cells - 0.5)).all(-1)
        if not inside.any():
            continue
        centre, size = centre[inside], each[inside, 2:].clamp_min(1.0) / stride
        offset = centre[..., None, None] - grid
        sigma = (0.1 * size.amin(-1)).clamp_min(1.0)
        bump = torch.exp(-offset.square().sum(1) / (2 * sigma.square())[:, None, None])
        heat[i, 0], best = bump.max(0)
        box = torch.cat([offset, size.log()[..., None, None].expand(-1, -1, cells, cells)], dim=1)
        values[i] = box.gather(0, best.expand(1, 4, -1, -1))[0]
    near = (heat > 0.3).float()
    return heat, values * near, near


def detector_loss(heatmaps: Tensor, boxes: Tensor, heat: Tensor, values: Tensor, near: Tensor) -> Tensor:
    """Cross-entropy with more weight on centres, plus a smooth L1 on box values near them."""
    cell = F.binary_cross_entropy_with_logits(heatmaps, heat, reduction="none") * (1 + 20 * heat)
    distance = F.smooth_l1_loss(boxes, values, reduction="none", beta=0.1)
    return cell.mean() * 10 + (distance * near).sum() / near.sum().clamp_min(1.0)
