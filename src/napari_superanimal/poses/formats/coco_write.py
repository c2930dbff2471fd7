"""Writing COCO keypoint annotations (JSON)."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.jobs.files import write_text
from napari_superanimal.poses.boxes import boxes_from_keypoints
from napari_superanimal.poses.formats.base import refuse_existing
from napari_superanimal.poses.formats.dlc_extras import kept_metadata
from napari_superanimal.poses.poses import UNDEFINED

if TYPE_CHECKING:
    from napari_superanimal.poses.poses import Poses


def write_coco(poses: Poses, path: Path, *, overwrite: bool = False) -> list[Path]:
    """Write COCO keypoints, one annotation per individual that has keypoints or a box.

    Visibility codes are kept, -1 (not defined) included, as SuperAnimal's own files have it. Beside
    COCO's fields stand ``source``, ``source_id`` and ``split`` of a picture, ``individual``, and for
    predictions ``keypoint_scores``, ``keypoint_human`` and ``score``.
    Pictures that exist are named relative to the file, others as they were. Frames of a
    video become images with ``frame_index`` and, when known, ``video``.

    Returns
    -------
    list of Path
        The file written.

    Raises
    ------
    UserError
        If the file exists and `overwrite` is False, or it cannot be written.
    """
    refuse_existing(path, overwrite)
    names = [n for n in poses.metadata.get("categories") or () if n]
    index = {n: i + 1 for i, n in enumerate(poses.keypoints)}
    category = {
        "id": 1,
        "name": names[0] if len(names) == 1 else "animal",
        "supercategory": "animal",
        "keypoints": list(poses.keypoints),
        "skeleton": [[index[a], index[b]] for a, b in poses.skeleton if a in index and b in index],
        "individuals": list(poses.individuals),
    }
    annotations: list[dict[str, Any]] = []
    ids = image_ids(poses)
    derived = boxes_from_keypoints(poses.xy, poses.image_sizes[:, None, :])
    everything_found = poses.found
    for row, slot in np.argwhere(poses.present).tolist():
        found, around = everything_found[row, slot], derived[row, slot]
        annotation = _annotation(poses, row, slot, found, around, len(annotations) + 1)
        annotations.append({**annotation, "image_id": ids[row]})
    data = {
        "info": {
            "description": "animal poses",
            "scorer": poses.scorer,
            "metadata": kept_metadata(poses.metadata),
        },
        "licenses": [],
        "categories": [category],
        "images": [_image(poses, row, ids[row], path) for row in range(len(poses))],
        "annotations": annotations,
    }
    write_text(path, json.dumps(data, ensure_ascii=False, allow_nan=False))
    return [path]


def _annotation(
    poses: Poses, row: int, slot: int, found: np.ndarray, around: np.ndarray, identity: int
) -> dict[str, Any]:
    codes = poses.visibility[row, slot]
    triplets = np.zeros((len(poses.keypoints), 3))
    triplets[found, :2] = poses.xy[row, slot, found]
    triplets[:, 2] = np.where(found, np.where(codes > 0, codes, 2), np.minimum(codes, 0))
    triplets[codes == UNDEFINED] = np.where(found[codes == UNDEFINED, None], triplets[codes == UNDEFINED], -1)
    own = bool(np.isfinite(poses.boxes[row, slot]).all())
    box = (poses.boxes[row, slot] if own else around).tolist()
    annotation: dict[str, Any] = {
        "id": identity,
        "image_id": 0,
        "category_id": 1,
        "keypoints": [v if i % 3 < 2 else int(v) for i, v in enumerate(triplets.ravel().tolist())],
        "num_keypoints": int(found.sum()),
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
        "individual": poses.individuals[slot],
    }
    if not own:
        annotation["bbox_from_keypoints"] = True
    likelihood = poses.likelihood[row, slot]
    score = float(poses.box_scores[row, slot])
    if np.isfinite(score):
        annotation["score"] = score
    if (likelihood[found] != 1).any():
        annotation["keypoint_scores"] = [v if np.isfinite(v) else None for v in likelihood.tolist()]
    if not poses.human[row, slot, found].all() or "score" in annotation or "keypoint_scores" in annotation:
        annotation["keypoint_human"] = [int(v) for v in poses.human[row, slot]]
    return annotation


def image_ids(poses: Poses) -> list[int]:
    """Ids of the pictures in a COCO file: their own where those are unique and in order, else numbers from 1."""
    own = [int(i) if i.isdecimal() and str(int(i)) == i else -1 for i in poses.ids]
    kept = bool(own) and min(own) >= 0 and all(a < b for a, b in pairwise(own))
    return own if kept else list(range(1, len(poses) + 1))


def _image(poses: Poses, row: int, identity: int, path: Path) -> dict[str, Any]:
    image: dict[str, Any] = {"id": identity}
    if poses.is_video:
        frame = int(poses.frames[row])
        video = poses.metadata.get("video")
        stem = Path(str(video)).stem if video else "frame"
        image.update(file_name=f"{stem}_{frame:06d}.png", frame_index=frame)
        if video:
            image["video"] = str(video)
    else:
        image["file_name"] = file_name(poses, row, path.absolute().parent)
    width, height = poses.image_sizes[row].tolist()
    if width and height:
        image.update(width=width, height=height)
    if poses.sources:
        image["source"] = poses.sources[row]
    if poses.splits and poses.splits[row]:
        image["split"] = poses.splits[row]
    if poses.ids and poses.ids[row] != str(identity):
        image["source_id"] = poses.ids[row]
    return image


def file_name(poses: Poses, row: int, folder: Path) -> str:
    """A picture relative to the folder of the file that names it; unchanged when it is not there."""
    picture = poses.image_path(row)
    if not picture.is_file():
        return poses.images[row]
    try:
        return Path(os.path.relpath(picture, folder)).as_posix()
    except ValueError:  # another drive
        return picture.as_posix()
