"""Labels of frames of a video, wherever they come from, on the video's own frame numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.labels import label_file
from napari_superanimal.keypoints import table_for
from napari_superanimal.poses import Poses, project
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_superanimal.keypoints import KeypointSpace


class Clip(Protocol):
    """A video with a path and a length."""

    path: Path

    @property
    def frames(self) -> int: ...


def read_video_labels(
    path: Path | None,
    table: str | None,
    space: KeypointSpace,
    clips: Sequence[Clip],
    say: Callable[[str], None],
) -> dict[Path, Poses]:
    """Labels by video, in `space`, rows by frame number; empty without a data set.

    Labels of a video belong to the only one there is. Labelled images belong to the video whose name their folder has
    (DeepLabCut's ``labeled-data/VIDEO/img0123.png``) and show the frame of that number. Where numbers go beyond the
    video and as many images in a row are labelled as it has frames, the first image shows frame 0.

    Raises
    ------
    UserError
        If the data set cannot be read, has no keypoint of the space, or no label fits a frame.
    """
    if path is None:
        return {}
    poses = registry.read(label_file(path))
    poses = project(poses, table_for(poses.keypoints, space, table, path=path), space)
    found: dict[Path, Poses] = {}
    for clip in clips:
        rows, frames = rows_of(poses, clip, alone=len(clips) == 1)
        inside = (frames >= 0) & (frames < clip.frames)
        inside &= poses.found[rows].any((1, 2)) if len(rows) else False
        if not inside.any():
            continue
        chosen = poses.take(rows[inside])
        order = np.argsort(frames[inside], kind="stable")
        found[clip.path] = replace(
            chosen.take(order),
            images=(),
            root=None,
            sources=(),
            splits=(),
            ids=(),
            frames=frames[inside][order],
        )
        say(f"labels of {int(inside.sum())} frames of {clip.path.name}")
    if not found:
        raise UserError(
            "none of the labels belongs to a frame of the videos",
            path=path,
            remedy="labelled images must lie in a folder with the video's name and be called by the frame's number",
        )
    return found


def rows_of(poses: Poses, clip: Clip, *, alone: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows of labels that may belong to a video, and the frames they show."""
    if poses.is_video:
        rows = np.arange(len(poses)) if alone else np.empty(0, np.int64)
        return rows, poses.frames[rows]
    numbers, rows_ = [], []
    for row, image in enumerate(poses.images):
        name = PurePosixPath(image)
        digits = re.search(r"(\d+)$", name.stem)
        if digits and (name.parent.name == clip.path.stem or (alone and name.parent.name in ("", "."))):
            rows_.append(row)
            numbers.append(int(digits[1]))
    rows, frames = np.array(rows_, np.int64), np.array(numbers, np.int64)
    if len(frames) and frames.max() >= clip.frames and np.ptp(frames) + 1 == clip.frames:
        frames = frames - frames.min()
    return rows, frames
