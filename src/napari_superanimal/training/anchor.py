"""How far a fine-tuned model goes from the one it started from: no further than the user's keypoints need.

What a model knows of recordings that fine-tuning does not show is lost bit by bit on the way through weight space, and
weights half-way between the old and the new ones often keep both (Wortsman et al. 2022, Robust fine-tuning of zero-shot
models). The way is tried in steps; the first stop at which the user's keypoints are as good as at its end is taken.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_superanimal.models.networks import PoseNet

#: Stops on the way, as shares of it.
STOPS = (0.25, 0.5, 0.75)
#: An error this much larger than the one at the end is as good.
AS_GOOD = 1.03


def no_further_than_needed(
    start: dict[str, Tensor],
    trained: PoseNet,
    new: Sequence[int],
    error: Callable[[PoseNet], float] | None,
    stops: Sequence[float] = STOPS,
) -> tuple[PoseNet, float]:
    """The network at the first stop that is as good as the trained one, and how far on the way it lies, 0..1.

    Parameters
    ----------
    start : dict
        Weights before the training.
    new : sequence of int
        Channels that the old model never had: theirs are always the trained weights.
    error : callable or None
        Of a network on labels that it was not trained on. None, or not finite, where there are none: that ends at 1.
    """
    aim = math.nan if error is None else error(trained)
    if error is None or not math.isfinite(aim):
        return trained, 1.0
    for share in stops:
        network = between(start, trained, share, new)
        if error(network) <= AS_GOOD * aim:
            return network, share
    return trained, 1.0


@torch.no_grad()
def between(start: dict[str, Tensor], trained: PoseNet, share: float, new: Sequence[int]) -> PoseNet:
    """A network whose weights lie at `share` of the way from `start` to `trained`."""
    network = copy.deepcopy(trained).eval()
    ends = trained.state_dict()
    for name, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            value.copy_(torch.lerp(start[name], ends[name], share))
    for layer, width in (("heatmaps", 1), ("offsets", 2)):
        for k in new:
            rows = slice(width * k, width * (k + 1))
            for part in ("weight", "bias"):
                network.state_dict()[f"{layer}.{part}"][rows] = ends[f"{layer}.{part}"][rows]
    return network
