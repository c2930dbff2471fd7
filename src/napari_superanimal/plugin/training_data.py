"""From corrected points to a data set that a training can read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import atomic_path
from napari_superanimal.jobs.progress import Meter, Progress
from napari_superanimal.poses import LABELLED, OCCLUDED, UNDEFINED, Poses
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_superanimal.plugin.image_source import ArrayVideo
    from napari_superanimal.video import Video


@dataclass(frozen=True)
class LabelCount:
    """How much there is to learn from."""

    frames: int
    animals: int
    points: int


def training_labels(poses: Poses, *, accept_untouched: bool, threshold: float) -> Poses:
    """What a person vouches for in a table of predictions and corrections.

    Only frames with a point that a person placed or moved count. Who corrects a frame has looked at it: with
    `accept_untouched` the points left alone there count as correct too, unless they were doubtful (below
    the likelihood threshold). Points that nobody vouches for are undefined (-1), without weight in training;
    points that a person deleted stay unlabelled (0). Keypoints without a single label are left out.

    Parameters
    ----------
    poses : Poses
    accept_untouched : bool
    threshold : float
        Likelihood below which a point was shown as doubtful.

    Returns
    -------
    Poses
        Frames to train on; empty when no point is a person's.
    """
    rows = poses.take(poses.human.any((1, 2)))
    vouched = rows.human.copy()
    if accept_untouched:
        vouched |= rows.found & (np.nan_to_num(rows.likelihood) >= threshold)
    codes = np.where(rows.found, UNDEFINED, rows.visibility)
    codes = np.where(vouched, np.where(rows.visibility == OCCLUDED, OCCLUDED, LABELLED), codes)
    used = np.flatnonzero(vouched.any((0, 1)))
    names = tuple(rows.keypoints[k] for k in used)
    return replace(
        rows,
        keypoints=names,
        xy=np.where(vouched[..., None], rows.xy, np.nan)[:, :, used],
        visibility=codes.astype(np.int8)[:, :, used],
        likelihood=np.where(vouched, 1.0, np.nan)[:, :, used],
        human=vouched[:, :, used],
        boxes=np.where(vouched.any(axis=-1, keepdims=True), rows.boxes, np.nan),
        skeleton=tuple((a, b) for a, b in rows.skeleton if a in names and b in names),
    )


def count_labels(labels: Poses) -> LabelCount:
    """Frames, animals (summed over frames) and points of a training set."""
    return LabelCount(len(labels), int(labels.found.any(-1).sum()), int(labels.found.sum()))


def write_training_set(labels: Poses, video: Video | ArrayVideo | None, folder: Path) -> Iterator[Progress]:
    """Write labels as COCO keypoints (``folder/labels.json``), frames of a video as PNG files beside it.

    A generator: it reports after every image and can be given up between two.

    Raises
    ------
    UserError
        If there is nothing to learn from, a video's labels come without their video, or the disk is full.
    """
    if not labels.found.any():
        raise UserError(
            "no point in this layer was placed or moved by a person",
            remedy="correct the points of a few frames first",
        )
    if labels.is_video:
        if video is None:
            raise UserError(
                "these labels belong to a video", remedy="open the video and choose its layer too"
            )
        if labels.frames.max() >= len(video):
            raise UserError(
                f"there are labels on frame {labels.frames.max()}, but the images have {len(video)} frames",
                remedy="choose the video that was labelled",
            )
        meter = Meter(len(labels))
        names = []
        for i, frame in enumerate(labels.frames.tolist()):
            name = f"images/frame{frame:06d}.png"
            with atomic_path(folder / name) as temporary:
                Image.fromarray(video.frame(frame)).save(temporary, format="PNG")
            names.append(name)
            yield meter.at(i + 1, "Writing the labelled frames")
        height, width = video.shape[1:3]
        sizes = np.tile(np.array([[width, height]], np.int64), (len(labels), 1))
    else:
        names = [labels.image_path(row).absolute().as_posix() for row in range(len(labels))]
        sizes = labels.image_sizes
    dataset = replace(
        labels,
        frames=np.arange(len(labels)),
        images=tuple(names),
        image_sizes=sizes,
        root=folder if labels.is_video else None,
    )
    folder.mkdir(parents=True, exist_ok=True)
    registry.write(dataset, folder / "labels.json", "coco", overwrite=True)
    yield Progress(len(labels), len(labels), message="Labels are written")
