"""From network outputs to keypoints and boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


#: Peaks of a channel that are looked at when two channels of a pair would share one.
PEAKS = 3
#: Two keypoints of a pair closer than this (cells) are taken to lie on the same spot...
SAME_SPOT = 2.5
#: ... which is believed only if it is this much likelier than the best two different spots.
SAME_SPOT_PRIOR = 0.5

#: Two legs must get shorter by this much together, in sides of the crop, for their feet to trade places. Legs do cross.
CLEARLY = 0.08
#: Joints with a lower raw confidence say nothing about their feet.
SURE_JOINTS = 0.5


def decode_keypoints(
    heatmaps: Tensor, offsets: Tensor, stride: int, pairs: Sequence[tuple[int, int]] = ()
) -> tuple[Tensor, Tensor]:
    """Keypoints in crop pixels and their raw confidence.

    The cell with the highest probability is taken; within its 3x3 neighbourhood the predicted positions
    (cell centre plus offset) are averaged with the probabilities as weights. Both keypoints of a pair are
    decoded together: networks like to put both feet of a pair on one foot.

    Parameters
    ----------
    heatmaps : (N, K, H, W) logits
    offsets : (N, 2K, H, W), cells
    pairs : (channel, channel)
        Keypoints that exist on both sides of the body.

    Returns
    -------
    xy : (N, K, 2), crop px
    confidence : (N, K), 0..1
    """
    n, k, h, w = heatmaps.shape
    probability = heatmaps.float().sigmoid()
    confidence, best = _cells(probability, pairs)
    row, column = best // w, best % w
    step = torch.arange(-1, 2, device=heatmaps.device)
    rows = (row[..., None, None] + step[:, None]).expand(n, k, 3, 3)
    columns = (column[..., None, None] + step).expand(n, k, 3, 3)
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    flat = (rows.clamp(0, h - 1) * w + columns.clamp(0, w - 1)).flatten(2)
    weight = probability.flatten(2).gather(2, flat) * inside.flatten(2)
    shift = offsets.float().view(n, k, 2, h * w)
    x = columns.flatten(2) + shift[:, :, 0].gather(2, flat)
    y = rows.flatten(2) + shift[:, :, 1].gather(2, flat)
    total = weight.sum(-1).clamp_min(1e-9)
    mean = torch.stack([(weight * x).sum(-1) / total, (weight * y).sum(-1) / total], dim=-1)
    return (mean + 0.5) * stride - 0.5, confidence


def _cells(probability: Tensor, pairs: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Probability and flat index of each channel's cell (N, K), pairs on two spots where that is plausible."""
    if not pairs:
        return probability.flatten(2).max(-1)
    width = probability.shape[-1]
    peak = (probability == F.max_pool2d(probability, 5, 1, 2)) * probability
    value, index = peak.flatten(2).topk(PEAKS)
    confidence, best = value[..., 0].clone(), index[..., 0].clone()
    one, two = (torch.tensor(side, device=probability.device) for side in zip(*pairs, strict=True))
    at = torch.stack([index % width, index // width], -1).float()
    apart = (at[:, one, :, None] - at[:, two, None]).norm(dim=-1)
    joint = (
        value[:, one, :, None] * value[:, two, None] * torch.where(apart < SAME_SPOT, SAME_SPOT_PRIOR, 1.0)
    )
    chosen = joint.flatten(2).argmax(-1)
    for channel, rank in ((one, chosen // PEAKS), (two, chosen % PEAKS)):
        confidence[:, channel] = value[:, channel].gather(2, rank[..., None])[..., 0]
        best[:, channel] = index[:, channel].gather(2, rank[..., None])[..., 0]
    return confidence, best


def untangle(
    xy: Tensor, confidence: Tensor, limbs: Sequence[tuple[int, int, int, int]], size: int
) -> tuple[Tensor, Tensor]:
    """Ends of limbs given to the joint they hang on.

    Of two legs side by side the nearer foot is often taken for the farther one. Feet trade places where both legs
    get clearly shorter by it together, as far as their joints can be trusted.

    Parameters
    ----------
    xy : (N, K, 2) crop px; confidence : (N, K)
    limbs : (joint, other joint, end, other end)
        Channels.
    size : int
        Side of the crop, px.
    """
    if not limbs:
        return xy, confidence
    xy, confidence = xy.clone(), confidence.clone()
    for a, b, end, other in limbs:
        kept = (xy[:, a] - xy[:, end]).norm(dim=-1) + (xy[:, b] - xy[:, other]).norm(dim=-1)
        traded = (xy[:, a] - xy[:, other]).norm(dim=-1) + (xy[:, b] - xy[:, end]).norm(dim=-1)
        sure = torch.minimum(confidence[:, a], confidence[:, b]) > SURE_JOINTS
        trade = sure & (traded < kept - CLEARLY * size)
        both = [end, other]
        xy[:, both] = torch.where(trade[:, None, None], xy[:, [other, end]], xy[:, both])
        confidence[:, both] = torch.where(trade[:, None], confidence[:, [other, end]], confidence[:, both])
    return xy, confidence


def decode_boxes(
    heatmaps: Tensor, boxes: Tensor, stride: int, limit: int, threshold: float, overlap: float = 0.5
) -> list[tuple[Tensor, Tensor]]:
    """Boxes of every image, best first.

    Parameters
    ----------
    heatmaps : (N, 1, H, W) logits of centres
    boxes : (N, 4, H, W) centre offsets (cells) and log sizes (cells)
    limit : int
        Most boxes per image.
    threshold : float
        Lowest score.
    overlap : float
        Of two boxes with a higher IoU, the one with the lower score is dropped.

    Returns
    -------
    list of (boxes (M, 4) x, y, width, height in image px; scores (M,)), on the CPU
    """
    n, _, _, w = heatmaps.shape
    probability = heatmaps.float().sigmoid()
    peak = probability == F.max_pool2d(probability, 3, 1, 1)
    scores, best = (probability * peak).flatten(1).topk(min(4 * limit + 8, probability[0].numel()))
    values = boxes.float().flatten(2).gather(2, best[:, None].expand(n, 4, -1))
    cx = (best % w + values[:, 0] + 0.5) * stride - 0.5
    cy = (best // w + values[:, 1] + 0.5) * stride - 0.5
    size = values[:, 2:].clamp(-3, 6).exp() * stride
    corners = torch.stack([cx - size[:, 0] / 2, cy - size[:, 1] / 2, size[:, 0], size[:, 1]], dim=-1)
    # a few numbers per image are left, which are looked at one by one
    corners, scores = corners.cpu(), scores.cpu()
    found = []
    for i in range(n):
        keep: list[int] = []
        for j in range(scores.shape[1]):
            if scores[i, j] < threshold or len(keep) == limit:
                break
            if all(iou(corners[i, j], corners[i, other]) <= overlap for other in keep):
                keep.append(j)
        found.append((corners[i, keep], scores[i, keep]))
    return found


def iou(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two boxes (4,) x, y, width, height."""
    ax, ay, aw, ah = a.tolist()
    bx, by, bw, bh = b.tolist()
    x = max(0.0, min(ax + aw, bx + bw) - max(ax, bx))
    y = max(0.0, min(ay + ah, by + bh) - max(ay, by))
    both = x * y
    return both / max(aw * ah + bw * bh - both, 1e-9)
