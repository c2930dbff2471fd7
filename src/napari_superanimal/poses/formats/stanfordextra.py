"""StanfordExtra: dogs, a JSON list with joints, boxes and run-length masks; read only."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.poses.formats.base import check_file, head
from napari_superanimal.poses.formats.images import ImageFinder, image_size, relative_to, slashes
from napari_superanimal.poses.poses import LABELLED, UNDEFINED, UNLABELLED, Poses, make_poses

if TYPE_CHECKING:
    from pathlib import Path

#: The JSON has no names; these are the data set's own, from its keypoint_definitions.csv.
KEYPOINTS = (
    *(
        f"{side} {end} leg: {part}"
        for side in ("Left", "Right")
        for end in ("front", "rear")
        for part in ("paw", "middle joint", "top")
    ),
    "Tail start",
    "Tail end",
    "Base of left ear",
    "Base of right ear",
    "Nose",
    "Chin",
    "Left ear tip",
    "Right ear tip",
    "Left eye",
    "Right eye",
    "Withers",
    "Throat",
)
DEFINITIONS = "keypoint_definitions.csv"


def sniff_stanfordextra(path: Path) -> bool:
    """A JSON list of records with `img_path` and `joints`."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    start = head(path, 65536).lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(b"[") and b'"img_path"' in start and b'"joints"' in start


def read_stanfordextra(path: Path) -> Poses:
    """Read StanfordExtra annotations, one dog per record.

    Keypoint names come from ``keypoint_definitions.csv`` beside the file when it is there. Joints that
    the whole file never labels (eyes, withers and throat in the public release) have visibility -1.

    Raises
    ------
    UserError
        If the file is not StanfordExtra.
    """
    check_file(path)
    try:
        records = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"not valid JSON ({error})", path=path, remedy="copy it again") from error
    names = _names(path)
    if not isinstance(records, list) or not records:
        raise UserError("not StanfordExtra: a list of records was expected", path=path)
    try:
        joints = np.array([r["joints"] for r in records], np.float64)
        recorded = [str(r["img_path"]) for r in records]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"not StanfordExtra: records need `img_path` and `joints` ({error})", path=path
        ) from error
    if joints.shape[1:] != (len(names), 3):
        raise UserError(
            f"records have joints of shape {joints.shape[1:]}, {len(names)} names are known",
            path=path,
            remedy=f"put the data set's {DEFINITIONS} beside it",
        )
    root = path.absolute().parent
    finder = ImageFinder([root, root / "sample_imgs", root / "Images", root / "images"], root)
    rows, slots, per_image = _rows(recorded)
    t, a, k = len(per_image), max(slots) + 1, len(names)
    xy = np.full((t, a, k, 2), np.nan)
    visibility = np.full((t, a, k), UNLABELLED, np.int8)
    boxes = np.full((t, a, 4), np.nan)
    sizes = np.zeros((t, 2), np.int64)
    for record, row, slot, dog in zip(records, rows, slots, joints, strict=True):
        labelled = dog[:, 2] > 0
        xy[row, slot, labelled] = dog[labelled, :2]
        visibility[row, slot, labelled] = LABELLED
        box = record.get("img_bbox")
        if isinstance(box, list) and len(box) == 4:
            boxes[row, slot] = box
        sizes[row] = record.get("img_width") or 0, record.get("img_height") or 0
    never = [i for i in range(k) if not np.isfinite(xy[:, :, i, 0]).any()]
    visibility[:, :, never] = UNDEFINED
    images, missing = [], []
    for row, name in enumerate(per_image):
        found = finder.find(name)
        if found is None:
            missing.append(slashes(name))
            images.append(slashes(name))
            continue
        images.append(relative_to(found, root))
        if not sizes[row].all():
            sizes[row] = image_size(found)
    metadata: dict[str, Any] = {
        "format": "stanfordextra",
        "path": str(path),
        "never_labelled": [names[i] for i in never],
        "missing_images": missing,
        "warnings": [],
    }
    return make_poses(
        names,
        xy,
        visibility=visibility,
        human=True,
        boxes=boxes,
        images=tuple(images),
        image_sizes=sizes,
        root=root,
        metadata=metadata,
    )


def _rows(recorded: list[str]) -> tuple[list[int], list[int], list[str]]:
    """Row and place in the row of every record: several dogs may share a picture."""
    row_of: dict[str, int] = {}
    counts: dict[str, int] = {}
    rows, slots = [], []
    for name in recorded:
        rows.append(row_of.setdefault(name, len(row_of)))
        slots.append(counts.get(name, 0))
        counts[name] = slots[-1] + 1
    return rows, slots, list(row_of)


def _names(path: Path) -> tuple[str, ...]:
    definitions = path.parent / DEFINITIONS
    if not definitions.is_file():
        return KEYPOINTS
    with open(definitions, newline="", encoding="utf-8-sig") as file:
        names = tuple(row["Name"].strip() for row in csv.DictReader(file) if row.get("Name"))
    return names if len(set(names)) == len(names) and names else KEYPOINTS
