"""Which pictures a DeepLabCut project trains on and which it tests on."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.poses.formats.dlc_table import load_h5
from napari_superanimal.poses.formats.safe_pickle import load_plain

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.poses.poses import Poses

#: Where the splits of a project's training sets are, below the project.
DATASETS = "training-datasets"


def with_split(poses: Poses) -> Poses:
    """`poses` of a project with the split of its newest training set, if it has one and only one.

    Several shuffles that divide the pictures differently, or a file that cannot be read, leave the splits unsaid
    and a line in ``metadata["warnings"]``.
    """
    if poses.splits or poses.root is None:
        return poses
    splits, complaint = read_split(poses.root)
    if complaint:
        warnings = [*poses.metadata.get("warnings", ()), complaint]
        return replace(poses, metadata={**poses.metadata, "warnings": warnings})
    if not any(name in splits for name in poses.images):
        return poses
    return replace(poses, splits=tuple(splits.get(name, "") for name in poses.images))


def read_split(root: Path) -> tuple[dict[str, str], str]:
    """Split by picture (``labeled-data/video/image.png``), and why there is none if there should be."""
    iterations = sorted(
        (p for p in (root / DATASETS).glob("iteration-*") if p.is_dir()), key=lambda p: _number(p.name)
    )
    files = sorted(iterations[-1].glob("*/Documentation_data-*.pickle")) if iterations else []
    found: list[dict[str, str]] = []
    for file in files:
        try:
            found.append(_read(file))
        except (
            OSError,
            EOFError,
            ValueError,
            TypeError,
            IndexError,
            pickle.UnpicklingError,
            UserError,
        ) as error:
            return {}, f"{file.name}: the split cannot be read ({error})"
    if not found:
        return {}, ""
    if any(other != found[0] for other in found[1:]):
        return {}, f"{len(found)} shuffles divide the pictures differently: no split was taken over"
    return found[0], ""


def _read(file: Path) -> dict[str, str]:
    tables = sorted(file.parent.glob("CollectedData_*.h5"))
    if len(tables) != 1:
        raise ValueError(f"{len(tables)} tables of labels beside it")
    images = load_h5(tables[0]).images
    _, train, test, *_ = load_plain(file)
    splits: dict[str, str] = {}
    for name, rows in (("train", train), ("test", test)):
        for row in np.asarray(rows, np.int64).ravel().tolist():
            # DeepLabCut fills train indices up with -1 where shuffles of one size are asked for
            if row >= 0:
                splits[images[row]] = name
    return splits


def _number(name: str) -> int:
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else -1
