"""What a fine-tuned model rehearses: the frozen starting model's own answer to every crop that it is shown.

A pseudo-label says where a keypoint lies, where the old model is sure of it. How surely, and with what shape, that
model answers on this very crop, turned and lit as it is, says more. A network that is trained towards these answers
changes less on pictures that fine-tuning never shows (Hinton et al. 2015, Distilling the knowledge in a neural
network; Li and Hoiem 2017, Learning without forgetting).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_superanimal.inference.decode import decode_keypoints
from napari_superanimal.models.networks import PoseNet

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor, nn


#: Weight of squared differences of logits in the loss, and that of offsets (cells) beside them.
LOGITS, OFFSETS = 0.1, 0.1
#: Share of what nobody labelled that the old model must be sure of for logits to weigh so much; they weigh
#: proportionally less below. Who knows little of these animals has little to keep, and would only stand in the way.
ENOUGH = 0.5


@dataclass(frozen=True)
class Rehearsal:
    """The frozen model and what it answers for.

    Attributes
    ----------
    teacher : nn.Module
        Of the kind that is trained; `answer` is for a `PoseNet`.
    channels : sequence of (int or None)
        Per channel of the new model that of the old one, None where it has none.
    asked : (N, K) bool
        Keypoints of the training samples that nobody labelled and the old model is sure of, on animals where it agrees
        with what somebody did label. What it is not sure of, it would teach not to find.
    unlabelled : (N, K) bool
        Keypoints that nobody labelled.
    """

    teacher: nn.Module
    channels: Sequence[int | None]
    asked: npt.NDArray[np.bool_]
    unlabelled: npt.NDArray[np.bool_]

    @cached_property
    def worth(self) -> float:
        """How much logits weigh, 0..1: the share of what nobody labelled that is asked, relative to `ENOUGH`."""
        known = np.array([channel is not None for channel in self.channels])
        missing = int((self.unlabelled & known).sum())
        return min(1.0, float(self.asked.sum()) / (ENOUGH * missing)) if missing else 0.0

    @torch.no_grad()
    def answer(self, images: Tensor, xy: Tensor, asked: Tensor) -> Answer:
        """What to learn for the keypoints of a batch that nobody labelled.

        Also where a pseudo-label lies elsewhere: on a crop that misleads the old model, the new one may err likewise.

        Parameters
        ----------
        images : (N, 3, S, S), as the networks want them
        xy : (N, K, 2) labels and pseudo-labels, px of the crop, NaN where there is neither
        asked : (N, K) bool
            `Rehearsal.asked` of the batch.
        """
        assert isinstance(self.teacher, PoseNet)
        out = self.teacher(images)
        at, _ = decode_keypoints(out.heatmaps, out.offsets, self.teacher.config.stride)
        n, k = asked.shape
        cells = out.heatmaps.shape[-2:]
        known = [i for i, channel in enumerate(self.channels) if channel is not None]
        theirs = [channel for channel in self.channels if channel is not None]
        seen = torch.full_like(xy, torch.nan)
        seen[:, known] = at[:, theirs].to(xy.dtype)
        logits = xy.new_zeros(n, k, *cells)
        logits[:, known] = out.heatmaps[:, theirs].float()
        offsets = xy.new_zeros(n, k, 2, *cells)
        offsets[:, known] = out.offsets.float().view(n, -1, 2, *cells)[:, theirs]
        taken = asked & torch.isfinite(seen).all(-1)
        return Answer(torch.where(taken[..., None], seen, xy), logits, offsets, taken, self.worth)


@dataclass(frozen=True)
class Answer:
    """What the old model says of a batch.

    Attributes
    ----------
    xy : (N, K, 2)
        Labels, and where the old model sees the keypoint in this crop, where its answer is taken.
    logits : (N, K, H, W)
    offsets : (N, K, 2, H, W), cells
    taken : (N, K) bool
        Where it is to be learned.
    worth : float
        As `Rehearsal.worth`.
    """

    xy: Tensor
    logits: Tensor
    offsets: Tensor
    taken: Tensor
    worth: float

    def heat(self, labelled: Tensor) -> Tensor:
        """Target heatmaps (N, K, H, W): those of the labels, and the old model's where its answer is taken."""
        return torch.where(self.taken[..., None, None], self.logits.sigmoid(), labelled)

    def unlike(self, heatmaps: Tensor, offsets: Tensor) -> Tensor:
        """How far outputs, (N, K, H, W) logits and (N, 2K, H, W), are from the answer; a sum over keypoints.

        Probabilities near zero hide how far they are from it, logits do not: a network that keeps these keeps more.
        """
        learned = self.taken.float()[..., None, None]
        apart = ((heatmaps.float() - self.logits).square() * learned).mean((-2, -1))
        shift = (offsets.float().view_as(self.offsets) - self.offsets).square().sum(2)
        astray = (shift * self.logits.sigmoid() * learned).sum((-2, -1))
        return self.worth * LOGITS * (apart + OFFSETS * astray).sum()
