"""The detector of a fine-tuned model: taken over as it is where it finds the labelled animals, trained where not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.poses import Poses, animal_names, box_iou, with_boxes
from napari_superanimal.training.detector_stage import detector_validator, train_further
from napari_superanimal.training.samples import FrameReader, gather_image_samples, read_image
from napari_superanimal.training.train import DETECTOR_CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_superanimal.inference.frame_predictor import Boxes, Frame
    from napari_superanimal.jobs.progress import CancelToken, Progress, ProgressCallback
    from napari_superanimal.models.load import LoadedModel
    from napari_superanimal.models.networks import DetectorNet

#: Share of the labelled animals that the detector must find (IoU above 0.5) to be taken over as it is.
GOOD_ENOUGH = 0.9
#: A box that touches labelled animals more than this is taken to show one of them.
APART = 0.1
#: Peak.
LEARNING_RATE = 5e-4


def update_detector(
    model: LoadedModel,
    labels: Poses,
    out: Path,
    *,
    steps: int,
    seed: int = 0,
    turning: float = 180.0,
    resume: bool = False,
    reader: FrameReader = read_image,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> tuple[DetectorNet | None, dict[str, Any]]:
    """The detector for a model fine-tuned on `labels`, and how much of them the old one found.

    Parameters
    ----------
    labels : Poses
        Labelled animals; boxes are derived from keypoints where none are given.
    turning : float
        Degrees to either side that pictures are turned by in training.

    Returns
    -------
    detector, {"recall_before", "trained"}: None and {} for a model without one
    """
    old = model.detector
    if old is None:
        return None, {}
    size = old.config.input_size
    boxed = with_boxes(labels)
    threshold = model.card.detector_threshold
    found = detector_validator(gather_image_samples(boxed, input_size=size, reader=reader), threshold)(old)
    figures: dict[str, Any] = {"recall_before": round(found["recall"], 4), "trained": False}
    if found["recall"] >= GOOD_ENOUGH:
        return old, figures

    finder = Predictor(model, max_individuals=2 * len(boxed.individuals) + 2, device="cpu")
    sure = max(0.5, threshold)
    everybody = with_other_animals(boxed, lambda frame: finder.detect([frame])[0], sure, reader)
    images = gather_image_samples(everybody, input_size=size, reader=reader)
    trained = train_further(
        old,
        images,
        turning=turning,
        steps=steps,
        learning_rate=LEARNING_RATE,
        seed=seed,
        checkpoint=out / DETECTOR_CHECKPOINT,
        resume=resume,
        on_progress=apart_from_poses(on_progress),
        token=token,
        message="training the detector",
    )
    return trained, {**figures, "trained": True}


def apart_from_poses(on_progress: ProgressCallback | None) -> ProgressCallback | None:
    """Progress whose figures say that they are the detector's: a fine-tuning plots the pose network's curves only."""
    if on_progress is None:
        return None

    def tell(progress: Progress) -> None:
        on_progress(replace(progress, values={f"detector_{k}": v for k, v in progress.values.items()}))

    return tell


def with_other_animals(
    labels: Poses, detect: Callable[[Frame], Boxes], threshold: float, reader: FrameReader
) -> Poses:
    """`labels` and, as boxes without keypoints, animals that the old detector sees beside the labelled ones.

    Who labels one animal of several does not say that the others are background.

    Parameters
    ----------
    detect : callable
        The old detector: boxes and scores of a frame.
    threshold : float
        Lowest score of a box that is believed.
    """
    extra: list[npt.NDArray[Any]] = []
    for row in range(len(labels)):
        seen, scores = detect(reader(labels, row))
        known = labels.boxes[row][np.isfinite(labels.boxes[row]).all(-1)]
        sure = scores >= threshold
        alone = box_iou(np.asarray(seen, np.float64), known).max(-1, initial=0.0) <= APART
        middle = (seen[:, :2] + seen[:, 2:] / 2)[:, None]
        inside = ((middle > known[:, :2]) & (middle < known[:, :2] + known[:, 2:])).all(-1).any(-1)
        extra.append(seen[sure & alone & ~inside])
    more = max((len(b) for b in extra), default=0)
    if not more:
        return labels

    def pad(array: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        widths = [(0, 0), (0, more)] + [(0, 0)] * (array.ndim - 2)
        return np.pad(array, widths, constant_values=fill)

    boxes = pad(labels.boxes, np.nan)
    for row, found in enumerate(extra):
        boxes[row, len(labels.individuals) : len(labels.individuals) + len(found)] = found
    return replace(
        labels,
        individuals=animal_names(boxes.shape[1]),
        xy=pad(labels.xy, np.nan),
        visibility=pad(labels.visibility, -1),
        likelihood=pad(labels.likelihood, np.nan),
        human=pad(labels.human, False),
        boxes=boxes,
        box_scores=pad(labels.box_scores, np.nan),
    )
