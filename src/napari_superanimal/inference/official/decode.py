"""From what SuperAnimal's networks give to keypoints, as the reference decodes it."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_superanimal.models.official.networks import LOCREF_STD, HeatmapOutput
from napari_superanimal.models.official.rtmpose import DECODE_BETA, SPLIT, SimccOutput


def decode_heatmaps(output: HeatmapOutput, stride: int) -> tuple[Tensor, Tensor]:
    """Keypoints (N, K, 2) in crop px and scores (N, K): the best cell's centre, plus its offset where there is one.

    Scores are the heatmap's value there, cut to 0..1.
    """
    heatmaps = output.heatmaps.float()
    n, k, _, w = heatmaps.shape
    best = heatmaps.flatten(2).argmax(-1)
    score = heatmaps.flatten(2).gather(2, best[..., None])[..., 0].clamp(0, 1)
    xy = torch.stack([best % w, best // w], -1).to(heatmaps.dtype) * stride + stride / 2
    if output.offsets is not None:
        offsets = output.offsets.float().view(n, k, 2, -1)
        xy = xy + offsets.gather(3, best[..., None, None].expand(n, k, 2, 1))[..., 0] * LOCREF_STD
    return xy, score


def decode_simcc(
    output: SimccOutput, sigma: tuple[float, float], *, reference: bool = False
) -> tuple[Tensor, Tensor]:
    """Keypoints (N, K, 2) in crop px and scores (N, K): the likeliest x and the likeliest y.

    A keypoint whose score is no better than chance is not found: NaN, or (-0.5, -0.5) px of the crop as in
    the reference.
    """
    chances = [
        (scores.float() * (width * DECODE_BETA)).softmax(-1)
        for scores, width in zip(output, sigma, strict=True)
    ]
    (px, x), (py, y) = (chance.max(-1) for chance in chances)
    score = torch.minimum(px, py)
    xy = torch.stack([x, y], -1).float()
    lost = score <= 1.0 / chances[0].shape[-1]
    xy[lost] = -1.0 if reference else torch.nan
    return xy / SPLIT, score
