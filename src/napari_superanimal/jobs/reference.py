"""What `--reference` writes: SuperAnimal's tables as the reference leaves them, faults included, for comparison."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.jobs.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.poses import Poses

#: Stands for an animal that is not there.
PAD = -1.0
#: The reference's default for the most animals per frame.
MAX_INDIVIDUALS = 10


def shorten(poses: Poses) -> Poses:
    """Without the frames after the last one with an animal, which the reference loses.

    Where no frame has one, everything is kept: the reference stops with an error there.
    """
    filled = np.flatnonzero(poses.present.any(1) | np.isfinite(poses.box_scores).any(1))
    return poses.take(np.arange(filled[-1] + 1)) if len(filled) else poses


def boxes_path(table: Path) -> Path:
    """The reference's name for its JSON; it says "before_adapt" whether anything is adapted or not."""
    return table.with_name(f"{table.stem}_before_adapt.json")


def write_boxes(poses: Poses, table: Path) -> Path:
    """Write the JSON that the reference puts beside its table.

    A list with one entry per frame: ``bodyparts`` (N, K, 3) x, y, likelihood; ``bboxes`` (N, 4) x, y, width, height;
    ``bbox_scores`` (N,), all padded with -1.
    """
    points = np.concatenate([poses.xy, poses.likelihood[..., None]], -1)
    rows: list[dict[str, Any]] = [
        {"bodyparts": padded(one), "bboxes": padded(boxes), "bbox_scores": padded(scores)}
        for one, boxes, scores in zip(points, poses.boxes, poses.box_scores, strict=True)
    ]
    path = boxes_path(table)
    write_text(path, json.dumps(rows))
    return path


def padded(values: np.ndarray) -> list[Any]:
    """Nested lists with -1 for what is missing."""
    return list(np.where(np.isnan(values), PAD, values).tolist())
