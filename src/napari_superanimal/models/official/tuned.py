"""Model folders of networks that were fine-tuned from SuperAnimal's own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from napari_superanimal.jobs.files import atomic_path
from napari_superanimal.models.card import DETECTOR_FILE, POSE_FILE, ModelCard, write_card
from napari_superanimal.models.zoo import ModelRef, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


def save_tuned(card: ModelCard, pose: nn.Module, detector: nn.Module | None, folder: Path) -> ModelRef:
    """Write a model folder: weights in float32, as precise as the released ones, then the card with their checksums.

    Parameters
    ----------
    card : ModelCard
        ``official`` names the released network, ``keypoints`` the channels.
    detector : nn.Module or None
        None where the card names another model's.

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    sums = {}
    for network, name in ((pose, POSE_FILE), (detector, DETECTOR_FILE)):
        if network is None:
            continue
        with atomic_path(folder / name) as temporary:
            save_file(
                {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}, temporary
            )
        sums[name] = sha256(folder / name)
    card = replace(card, sha256=sums)
    write_card(card, folder)
    return ModelRef(card, folder)
