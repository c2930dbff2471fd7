"""Reading a data set of labels for training or evaluation, with the images it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.poses import Poses


def read_labels(path: Path, *, need_images: bool = True) -> Poses:
    """Labels of images, without the rows whose image is not there.

    Raises
    ------
    UserError
        If the file cannot be read, holds no labels, or (where needed) none of its images can be found.
    """
    poses = registry.read(label_file(path))
    if not poses.found.any():
        raise UserError("the data set has no labelled keypoint", path=path, remedy="label some images first")
    if not need_images:
        return poses
    refuse_video(poses, path)
    there = np.array([poses.image_path(row).is_file() for row in range(len(poses))], bool)
    if not there.any():
        raise UserError(
            f"none of the {len(poses)} images can be found",
            path=path,
            remedy=f"put them where the labels say, for instance {poses.image_path(0)}",
        )
    return poses if there.all() else poses.take(there)


def refuse_video(poses: Poses, path: Path) -> None:
    """Make sure that poses belong to images.

    Raises
    ------
    UserError
        If they belong to frames of a video.
    """
    if poses.is_video:
        raise UserError(
            "these are poses of a video; images with labels are needed",
            path=path,
            remedy="give a DeepLabCut project, a CollectedData table or a COCO file",
        )


def label_file(path: Path) -> Path:
    """`path`, or the only file of labels in it where it is a folder that is no project.

    Raises
    ------
    UserError
        If the folder holds several.
    """
    if not path.is_dir() or registry.sniff(path) is not None:
        return path
    files = [file for file in sorted(path.iterdir()) if file.is_file() and registry.sniff(file) is not None]
    if len(files) > 1:
        raise UserError(
            f"the folder holds {len(files)} files of labels ({', '.join(file.name for file in files[:4])})",
            path=path,
            remedy="name one of them",
        )
    return files[0] if files else path
