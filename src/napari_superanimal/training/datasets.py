"""Labelled data for training: read, carried into the space, split, merged."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import table_for
from napari_superanimal.poses import Poses, merge, project
from napari_superanimal.poses.choose import images_matching
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.training.config import DatasetConfig, TrainConfig


def validation_rows(poses: Poses, rule: str, folder: Path) -> npt.NDArray[np.bool_]:
    """Rows that a rule keeps for validation: ``match:REGEX`` on image paths, or a file of image names.

    Raises
    ------
    UserError
        If the file is missing, the regular expression is none, or no row or every row is chosen.
    """
    if not rule:
        return np.zeros(len(poses), bool)
    chosen = images_matching(poses.images, rule, folder)
    if not chosen.any() or chosen.all():
        raise UserError(
            f"validation rule {rule!r} chooses {int(chosen.sum())} of {len(poses)} images",
            path=poses.root,
            remedy="validate on some animals or sessions and train on the others",
        )
    return chosen


def load_dataset(
    dataset: DatasetConfig, space: KeypointSpace, data: Path, folder: Path
) -> tuple[Poses, Poses]:
    """(training, validation) rows of a dataset in `space`; rows without a picture are left out."""
    source = Path(dataset.path) if Path(dataset.path).is_absolute() else data / dataset.path
    poses = registry.read(source)
    if poses.is_video:
        raise UserError("a training set needs labelled images", path=source, remedy="convert it first")
    wrong = re.compile(dataset.exclude) if dataset.exclude else None
    poses = poses.take(
        [
            i
            for i in range(len(poses))
            if poses.image_path(i).is_file() and not (wrong and wrong.search(poses.images[i]))
        ]
    )
    if not poses.found.any():
        raise UserError(
            "no labelled image of this dataset can be found",
            path=source,
            remedy="put the images where the labels say",
        )
    table = table_for(poses.keypoints, space, dataset.table, folder=folder, path=source)
    poses = project(poses, table, space)
    poses = replace(poses, sources=(dataset.name,) * len(poses))
    held = validation_rows(poses, dataset.validation, folder)
    return poses.take(~held), poses.take(held)


def load_datasets(config: TrainConfig, space: KeypointSpace, data: Path) -> tuple[Poses, Poses]:
    """All file datasets of a recipe, merged: (training, validation)."""
    parts = [load_dataset(d, space, data, config.folder) for d in config.datasets if not d.rendered]
    names = [d.name for d in config.datasets if not d.rendered]
    if not parts:
        raise UserError(
            f"recipe {config.name!r} names no labelled data set",
            remedy="rendered pictures alone teach no keypoint",
        )
    training = merge([t for t, _ in parts], names)
    held = [(v, name) for (_, v), name in zip(parts, names, strict=True) if len(v)]
    if not held:
        return training, training.take(np.zeros(len(training), bool))
    return training, merge([v for v, _ in held], [name for _, name in held])
