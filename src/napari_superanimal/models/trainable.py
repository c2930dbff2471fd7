"""Models that can be fine-tuned, whichever family they belong to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_superanimal.models.load import LoadedModel, load_model
from napari_superanimal.models.official.load import OfficialPose, detector_release, load_detector, load_pose
from napari_superanimal.models.zoo import ModelRef, detector_of, find_model

if TYPE_CHECKING:
    from pathlib import Path

#: Both have ``card``, ``space``, ``pose`` (the network), ``detector`` and ``calibration``.
TrainableModel = LoadedModel | OfficialPose


def load_trainable(model: str | Path | ModelRef) -> TrainableModel:
    """A model of ours, or one of SuperAnimal's with its detector where that is on this computer.

    Raises
    ------
    UserError
        If the model is unknown, or its weights are not here, damaged or do not fit its card.
    """
    ref = model if isinstance(model, ModelRef) else find_model(model)
    if not ref.official:
        return load_model(ref)
    pose = load_pose(ref)
    finder = ref if detector_release(ref) else detector_of(ref)
    if finder is None or not finder.here or not finder.official:
        return pose
    return replace(pose, detector=load_detector(finder))
