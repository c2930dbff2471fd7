"""Which weights of a network belong to single keypoints, and how another network takes them over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn


@dataclass(frozen=True)
class ChannelRows:
    """A weight of which every keypoint has a part of its own.

    Attributes
    ----------
    name : str
        In the network's state dict.
    axis : int
        Along which keypoints follow each other.
    width : int
        Rows per keypoint.
    """

    name: str
    axis: int = 0
    width: int = 1

    def of(self, weights: Mapping[str, Tensor], keypoint: int) -> Tensor:
        """The part of a keypoint; writing to it writes to the weight."""
        return weights[self.name].narrow(self.axis, self.width * keypoint, self.width)


#: Of a `models.networks.PoseNet`.
MINI_ROWS = (
    ChannelRows("heatmaps.weight"),
    ChannelRows("heatmaps.bias"),
    ChannelRows("offsets.weight", width=2),
    ChannelRows("offsets.bias", width=2),
)


@torch.no_grad()
def take_over_channels(
    network: nn.Module,
    old: nn.Module,
    channels: Sequence[int | None],
    rows: Sequence[ChannelRows],
    head: tuple[str, ...] = (),
) -> None:
    """Fill a fresh network with an old one's weights.

    Parameters
    ----------
    network : nn.Module
        Freshly built: what is not taken over keeps the weights that it has.
    channels : sequence of (int or None)
        The old channel that each new one starts from, None for one that starts anew.
    rows : sequence of ChannelRows
        What belongs to single channels.
    head : tuple of str
        Beginnings of the names of weights that all keypoints of a head share. They start anew, too, where no keypoint
        is taken over.
    """
    fresh, known = network.state_dict(), old.state_dict()
    own = {each.name for each in rows}
    alone = all(channel is None for channel in channels)
    for name, value in fresh.items():
        if name not in own and not (alone and head and name.startswith(head)):
            value.copy_(known[name])
    for each in rows:
        for k, channel in enumerate(channels):
            if channel is not None:
                each.of(fresh, k).copy_(each.of(known, channel))
