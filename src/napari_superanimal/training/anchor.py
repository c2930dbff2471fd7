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

from napari_superanimal.training.channels import MINI_ROWS, ChannelRows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

#: Stops on the way, as shares of it.
STOPS = (0.25, 0.5, 0.75)
#: An error this much larger than the one at the end is as good.
AS_GOOD = 1.03


def no_further_than_needed(
    start: dict[str, Tensor],
    trained: nn.Module,
    new: Sequence[int],
    error: Callable[[nn.Module], float] | None,
    rows: Sequence[ChannelRows] = MINI_ROWS,
) -> tuple[nn.Module, float]:
    """The network at the first stop that is as good as the trained one, and how far on the way it lies, 0..1.

    Parameters
    ----------
    start : dict
        Weights before the training.
    new : sequence of int
        Channels that the old model never had: theirs are always the trained weights.
    error : callable or None
        Of a network on labels that it was not trained on. None, or not finite, where there are none: that ends at 1.
    rows : sequence of ChannelRows
        Which weights belong to single channels.
    """
    aim = math.nan if error is None else error(trained)
    if error is None or not math.isfinite(aim):
        return trained, 1.0
    for share in STOPS:
        network = between(start, trained, share, new, rows)
        if error(network) <= AS_GOOD * aim:
            return network, share
    return trained, 1.0


@torch.no_grad()
def between(
    start: dict[str, Tensor],
    trained: nn.Module,
    share: float,
    new: Sequence[int],
    rows: Sequence[ChannelRows] = MINI_ROWS,
) -> nn.Module:
    """A network whose weights lie at `share` of the way from `start` to `trained`."""
    network = copy.deepcopy(trained).eval()
    weights, ends = network.state_dict(), trained.state_dict()
    for name, value in weights.items():
        if value.dtype.is_floating_point:
            value.copy_(torch.lerp(start[name], ends[name], share))
    for each in rows:
        for k in new:
            each.of(weights, k).copy_(each.of(ends, k))
    return network
