"""The detector, adapted to where the pose network believes animals to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_superanimal.adaptation.pseudo import tracks_of
from napari_superanimal.poses import Poses, animal_names, make_poses
from napari_superanimal.smoothing.filters import median
from napari_superanimal.training.augment import turning
from napari_superanimal.training.detector_stage import train_further
from napari_superanimal.training.samples import ImageSamples, gather_image_samples

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_superanimal.adaptation.adapt import AdaptSettings, Lesson
    from napari_superanimal.jobs.progress import CancelToken, ProgressCallback
    from napari_superanimal.models.load import LoadedModel
    from napari_superanimal.models.networks import DetectorNet
    from napari_superanimal.video import Video

#: Frames whose median steadies a box.
WINDOW = 5
#: Share of the pose network's steps, and its peak learning rate.
SHARE, LEARNING_RATE = 0.3, 2e-4


def train_detector(
    model: LoadedModel,
    lessons: Sequence[tuple[Lesson, Video]],
    settings: AdaptSettings,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> DetectorNet | None:
    """Train a copy of the model's detector on frames in which the pose network believes all it was shown.

    Its own boxes, steadied over time, are the target; frames with a box in which nothing was believed are left out.

    Returns
    -------
    DetectorNet, or None for a model without one

    Raises
    ------
    Cancelled
        When stopped; the checkpoint is kept and `resume` continues.
    """
    if model.detector is None:
        return None
    size = model.detector.config.input_size
    samples = [_pictures(lesson, video, size) for lesson, video in lessons]
    joined = ImageSamples(
        torch.cat([s.images for s in samples]),
        tuple(b for s in samples for b in s.boxes),
        tuple(h for s in samples for h in s.hulls),
        np.concatenate([s.given for s in samples]),
        np.concatenate([s.weight for s in samples]),
    )
    return train_further(
        model.detector,
        joined,
        turning=turning(model.card.view),
        steps=max(1, round(SHARE * settings.steps)),
        learning_rate=LEARNING_RATE,
        seed=settings.seed,
        frozen_statistics=True,
        checkpoint=checkpoint,
        resume=resume,
        on_progress=on_progress,
        token=token,
        message="adapting the detector",
    )


def _pictures(lesson: Lesson, video: Video, size: int) -> ImageSamples:
    boxes = believed_boxes(lesson)
    return gather_image_samples(
        boxes, input_size=size, reader=lambda poses, row: video.frame(int(poses.frames[row]))
    )


def believed_boxes(lesson: Lesson) -> Poses:
    """Boxes of the frames in which every animal seen has a pseudo-label, steadied over neighbouring frames."""
    looks = lesson.looks
    steady = looks.boxes.copy()
    for rows in tracks_of(looks):
        steady[rows] = median(looks.boxes[rows], WINDOW)
    taught = np.asarray((lesson.labels.visibility > 0).any(-1))
    frames = np.array([f for f in np.unique(looks.frames) if taught[looks.frames == f].all()], np.int64)
    slots = int(looks.individual.max(initial=0)) + 1
    boxes = np.full((len(frames), slots, 4), np.nan)
    row = {int(f): i for i, f in enumerate(frames)}
    for n in range(len(looks)):
        if int(looks.frames[n]) in row:
            boxes[row[int(looks.frames[n])], looks.individual[n]] = steady[n]
    nowhere = np.full((len(frames), slots, 1, 2), np.nan)
    return make_poses(["animal"], nowhere, frames=frames, individuals=animal_names(slots), boxes=boxes)
