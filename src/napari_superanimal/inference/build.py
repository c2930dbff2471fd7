"""From the models a user names to a predictor, whichever family they belong to."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.inference.frame_predictor import OWN_DETECTOR, WHOLE_FRAME
from napari_superanimal.inference.predictor import Predictor, pick_device
from napari_superanimal.models.load import load_model
from napari_superanimal.models.zoo import ModelRef, detector_of

if TYPE_CHECKING:
    from napari_superanimal.inference.frame_predictor import FramePredictor
    from napari_superanimal.inference.official.detect import BoxFinder
    from napari_superanimal.models.trainable import TrainableModel


def build_predictor(
    model: ModelRef,
    *,
    detector: ModelRef | str = OWN_DETECTOR,
    max_individuals: int = 1,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int = 16,
    flip: bool | None = None,
    runtime: str = "auto",
    detect_every: int = 1,
    reference: bool = False,
) -> FramePredictor:
    """Load a model and what finds its boxes.

    Parameters
    ----------
    model : ModelRef
        One of ours or of SuperAnimal's.
    detector : ModelRef, "model" or "whole-frame"
        A model of either family, the one that the model's card names, or none.
    reference : bool
        See `OfficialPredictor`; only for SuperAnimal's models.
    max_individuals, device, precision, batch_size, flip, runtime, detect_every
        As for `Predictor`.

    Raises
    ------
    UserError
        If weights are not here or damaged, or the options do not fit the model.
    """
    if detector == OWN_DETECTOR:
        detector = detector_of(model) or OWN_DETECTOR
    settings: dict[str, Any] = {
        "max_individuals": max_individuals,
        "device": device,
        "precision": precision,
        "batch_size": batch_size,
        "runtime": runtime,
        "detect_every": detect_every,
    }
    if not model.official:
        if reference:
            raise UserError(
                f"--reference is for SuperAnimal's own models, which {model.card.name} is not",
                remedy="leave --reference out",
            )
        loaded = load_model(model)
        source: Any = detector
        if isinstance(detector, ModelRef):
            source = _finder(detector, device, False) if detector.official else load_model(detector)
        return Predictor(loaded, detector=source, flip=flip, **settings)

    from napari_superanimal.inference.official.predictor import OfficialPredictor
    from napari_superanimal.models.official.load import detector_release, load_pose

    pose = load_pose(model)
    if detector == OWN_DETECTOR and detector_release(model) is not None:
        detector = model
    if not isinstance(detector, ModelRef):
        return OfficialPredictor(pose, detector=WHOLE_FRAME, flip=flip, reference=reference, **settings)
    own = detector.official
    finder: Any = _finder(detector, device, reference) if own else Predictor(load_model(detector), **settings)
    return OfficialPredictor(pose, detector=finder, flip=flip, reference=reference, **settings)


def predictor_of(
    model: TrainableModel, *, max_individuals: int = 1, whole_frame: bool = False
) -> FramePredictor:
    """A loaded model on the CPU, exactly as it predicts; the model itself stays as it is.

    Parameters
    ----------
    whole_frame : bool
        Leave its detector out. So are models without one.
    """
    from napari_superanimal.models.load import LoadedModel

    settings: dict[str, Any] = {"max_individuals": max_individuals, "device": "cpu"}
    alone = whole_frame or model.detector is None
    if isinstance(model, LoadedModel):
        return Predictor(model, detector=WHOLE_FRAME if alone else OWN_DETECTOR, **settings)

    from napari_superanimal.inference.official.detect import BoxFinder
    from napari_superanimal.inference.official.predictor import OfficialPredictor

    mine = replace(model, network=copy.deepcopy(model.network))
    if whole_frame or model.detector is None:
        return OfficialPredictor(mine, detector=WHOLE_FRAME, **settings)
    finder = replace(model.detector, network=copy.deepcopy(model.detector.network))
    return OfficialPredictor(mine, detector=BoxFinder(finder, pick_device("cpu")), **settings)


def _finder(detector: ModelRef, device: str, reference: bool) -> BoxFinder:
    from napari_superanimal.inference.official.detect import BoxFinder
    from napari_superanimal.models.official.load import load_detector

    return BoxFinder(load_detector(detector), pick_device(device), reference=reference)
