"""What fine-tuning must know of a kind of pose network: one loop and one set of modes serve every head."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_superanimal.inference.crops import cut
from napari_superanimal.models.load import LoadedModel
from napari_superanimal.models.networks import NetworkConfig, PoseNet
from napari_superanimal.training.channels import MINI_ROWS, ChannelRows
from napari_superanimal.training.pose_stage import Batch, batch_loss, predict_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from napari_superanimal.inference.pose_pass import Symmetry
    from napari_superanimal.models.trainable import TrainableModel
    from napari_superanimal.training.rehearsal import Rehearsal
    from napari_superanimal.training.samples import Cutter, PoseSamples

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """What a kind of pose network gives to fine-tuning.

    Attributes
    ----------
    size : int
        Side of the square crops that it learns from, px.
    aspect : float
        Width of what the network sees of them relative to its height.
    cutter : callable
        Cuts and resamples as the network's predictor does.
    rows : tuple of ChannelRows
        Which weights belong to single keypoints: so a head grows a channel, or drops one.
    shared : tuple of str
        Beginnings of the names of weights that all keypoints of the head share.
    rates : mapping
        Peak learning rate by mode.
    keeps_statistics : bool
        Batch norm keeps its statistics in every mode but "scratch"; else where all weights are taken over only.
    build : callable
        Number of channels -> a fresh network.
    loss : callable
        Network, batch and rehearsal (or None) -> masked loss: undefined keypoints (-1) weigh nothing, the gradient
        at their outputs is exactly zero.
    predict : callable
        Network, samples and symmetry -> keypoints (N, K, 2), scores (N, K), truth (N, K, 2), px of the crop.
    """

    size: int
    aspect: float
    cutter: Cutter
    rows: tuple[ChannelRows, ...]
    shared: tuple[str, ...]
    rates: Mapping[str, float]
    keeps_statistics: bool
    build: Callable[[int], nn.Module]
    loss: Callable[[nn.Module, Batch, Rehearsal | None], Tensor]
    predict: Callable[[nn.Module, PoseSamples, Symmetry], tuple[Floats, Floats, Floats]]


#: Of our own models.
MINI_RATES = {"replay": 7e-4, "naive": 7e-4, "backbone": 7e-4, "scratch": 2e-3}


def head_of(model: TrainableModel) -> Head:
    """The head of a model's pose network."""
    if isinstance(model, LoadedModel):
        return mini_head(model.pose.config)
    from napari_superanimal.training.official_head import official_head

    return official_head(model)


def mini_head(config: NetworkConfig) -> Head:
    """Of our own models: heatmaps of logits and offsets in cells."""

    def loss(network: nn.Module, batch: Batch, rehearsal: Rehearsal | None) -> Tensor:
        return batch_loss(network, batch, config, rehearsal=rehearsal)

    def predict(
        network: nn.Module, samples: PoseSamples, symmetry: Symmetry
    ) -> tuple[Floats, Floats, Floats]:
        assert isinstance(network, PoseNet)
        at, score, _, truth = predict_samples(network, samples, symmetry)
        return at, score, truth

    return Head(
        size=config.input_size,
        aspect=1.0,
        cutter=cut,
        rows=MINI_ROWS,
        shared=(),
        rates=MINI_RATES,
        keeps_statistics=False,
        build=partial(PoseNet, config),
        loss=loss,
        predict=predict,
    )
