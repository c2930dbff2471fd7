"""What a fine-tuned model rehearses: the frozen starting model's own answer to every crop that it is shown.

A pseudo-label says where a keypoint lies, where the old model is sure of it. How surely, and with what shape, that
model answers on this very crop, turned and lit as it is, says more; and it says so of keypoints below the threshold,
too, which have no label at all. A network that is trained towards these answers changes less on pictures that
fine-tuning never shows (Hinton et al. 2015, Distilling the knowledge in a neural network; Li and Hoiem 2017, Learning
without forgetting).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_superanimal.inference.decode import decode_keypoints

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from napari_superanimal.models.networks import PoseNet


@dataclass(frozen=True)
class Rehearsal:
    """The frozen model and what it answers for.

    Attributes
    ----------
    teacher : PoseNet
    channels : sequence of (int or None)
        Per channel of the new model that of the old one, None where it has none.
    asked : (N, K) bool
        Keypoints of the training samples that nobody labelled, nor declared absent.
    """

    teacher: PoseNet
    channels: Sequence[int | None]
    asked: npt.NDArray[np.bool_]

    @torch.no_grad()
    def answer(self, images: Tensor, xy: Tensor, asked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What to learn for the keypoints of a batch that nobody labelled.

        Also where a pseudo-label lies elsewhere: on a crop that misleads the old model, the new one may err likewise.

        Parameters
        ----------
        images : (N, 3, S, S), as the networks want them
        xy : (N, K, 2) labels and pseudo-labels, px of the crop, NaN where there is neither
        asked : (N, K) bool
            `Rehearsal.asked` of the batch.

        Returns
        -------
        xy : (N, K, 2)
            Where the old model sees the keypoint in this crop, where its answer is taken.
        heat : (N, K, H, W), 0..1
            Its heatmaps.
        taken : (N, K) bool
            Where they are to be learned.
        """
        out = self.teacher(images)
        stride = self.teacher.config.stride
        at, _ = decode_keypoints(out.heatmaps, out.offsets, stride)
        known = [k for k, channel in enumerate(self.channels) if channel is not None]
        theirs = [channel for channel in self.channels if channel is not None]
        seen = torch.full_like(xy, torch.nan)
        seen[:, known] = at[:, theirs].to(xy.dtype)
        heat = xy.new_zeros(*xy.shape[:2], *out.heatmaps.shape[-2:])
        heat[:, known] = out.heatmaps[:, theirs].float().sigmoid()
        taken = asked & torch.isfinite(seen).all(-1)
        return torch.where(taken[..., None], seen, xy), heat, taken
