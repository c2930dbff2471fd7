"""COCO keypoint annotations (JSON)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.poses.formats.base import check_file, head
from napari_superanimal.poses.formats.images import ImageFinder, image_size, relative_to, slashes
from napari_superanimal.poses.poses import (
    LABELLED,
    OCCLUDED,
    SINGLE,
    UNDEFINED,
    UNLABELLED,
    Poses,
    animal_names,
    make_poses,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Pictures whose real size is compared with the size that the file states.
CHECKED_SIZES = 50
#: Folders that annotation files live in, beside the pictures rather than above them.
ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "json")


def sniff_coco(path: Path) -> bool:
    """A JSON object with the keys of a COCO file (or of nothing else we know)."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    start = head(path, 65536).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start.startswith(b"{"):
        return False
    return any(key in start for key in (b'"images"', b'"annotations"', b'"categories"'))


def read_coco(path: Path, keypoints: Sequence[str] | None = None) -> Poses:
    """Read COCO keypoints; pictures are looked for beside the file and in its neighbourhood.

    Parameters
    ----------
    path : Path
    keypoints : sequence of str, optional
        Names for a file that has none. A text file ``<stem>.keypoints.txt`` beside it, one name per
        line, does the same.

    Returns
    -------
    Poses
        One row per image, those without annotations included. Visibility codes are those of the file
        (-1, "not defined", as SuperAnimal writes it, included); a fraction is taken for a likelihood.
        With several categories the keypoints are the union of their names; what a category does not
        define has visibility -1.

    Raises
    ------
    UserError
        If the file is not COCO, has no keypoint names, or does not agree with itself.
    """
    data = _load(path)
    categories = _categories(data, path, keypoints)
    names = tuple(dict.fromkeys(n for c in categories.values() for n in c))
    skeleton = _skeleton(data["categories"], categories)
    warnings: list[str] = []

    images = sorted(data["images"], key=lambda image: _sort_key(image.get("id")))
    row_of: dict[Any, int] = {}
    for row, image in enumerate(images):
        if "id" not in image or "file_name" not in image:
            raise UserError("an image without `id` or `file_name`", path=path, remedy="export it again")
        if image["id"] in row_of:
            raise UserError(f"two images with id {image['id']!r}", path=path, remedy="export it again")
        row_of[image["id"]] = row

    animals: list[list[dict]] = [[] for _ in images]
    orphans = crowds = 0
    for annotation in data["annotations"]:
        row_found = row_of.get(annotation.get("image_id"))
        if row_found is None:
            orphans += 1
        elif annotation.get("iscrowd"):
            crowds += 1
        else:
            animals[row_found].append(annotation)
    if orphans:
        warnings.append(f"{orphans} annotations belong to no image and were left out")
    if crowds:
        warnings.append(f"{crowds} crowd annotations were left out")

    slots, individuals = _individuals(animals, data["categories"])
    t, a, k = len(images), len(individuals), len(names)
    xy = np.full((t, a, k, 2), np.nan)
    visibility = np.full((t, a, k), UNLABELLED, np.int8)
    likelihood = np.full((t, a, k), np.nan)
    human = np.zeros((t, a, k), bool)
    boxes = np.full((t, a, 4), np.nan)
    scores = np.full((t, a), np.nan)
    index = {n: i for i, n in enumerate(names)}
    short = 0
    for row, found in enumerate(animals):
        for slot, annotation in zip(slots[row], found, strict=True):
            defined = categories.get(annotation.get("category_id"))
            visibility[row, slot] = UNDEFINED
            box = annotation.get("bbox")
            # our writer marks boxes that it only drew around the keypoints
            given = not annotation.get("bbox_from_keypoints")
            if given and isinstance(box, list) and len(box) == 4 and (box[2] > 0 or box[3] > 0):
                boxes[row, slot] = box
            if annotation.get("score") is not None:
                scores[row, slot] = annotation["score"]
            if defined is None:
                continue
            where = np.array([index[n] for n in defined], np.int64)
            values = _triplets(annotation, len(defined), path)
            short += np.isnan(values[:, 2]).any()
            xy[row, slot, where], visibility[row, slot, where], likelihood[row, slot, where] = _decode(values)
            _own_fields(annotation, where, likelihood[row, slot], human[row, slot], visibility[row, slot])
    if short:
        warnings.append(
            f"{short} annotations list fewer keypoints than their category; the rest is unlabelled"
        )

    never = [n for i, n in enumerate(names) if not np.isfinite(xy[:, :, i, 0]).any()]
    sources = [image.get("source") for image in images]
    ids = [image.get("source_id", image["id"]) for image in images]
    splits = [image.get("split") for image in images]
    info = data.get("info")
    info = info if isinstance(info, dict) else {}
    common: dict[str, Any] = {
        "sources": tuple(map(str, sources)) if sources and None not in sources else (),
        "splits": tuple(s if isinstance(s, str) else "" for s in splits) if any(splits) else (),
        "individuals": individuals,
        "likelihood": likelihood,
        "visibility": visibility,
        "human": human,
        "boxes": boxes,
        "box_scores": scores,
        "skeleton": skeleton,
        "scorer": str(info.get("scorer", "")),
    }
    metadata: dict[str, Any] = {
        **(info["metadata"] if isinstance(info.get("metadata"), dict) else {}),
        "format": "coco",
        "path": str(path),
        "categories": _category_names(data["categories"], categories),
        "never_labelled": never,
        "warnings": warnings,
        "missing_images": [],
    }
    if images and all(isinstance(i.get("frame_index"), int) for i in images):
        order = np.argsort([i["frame_index"] for i in images], kind="stable")
        if isinstance(images[0].get("video"), str):
            metadata["video"] = images[0]["video"]
        frames = np.array([i["frame_index"] for i in images], np.int64)
        sizes = np.array([_stated_size(i) for i in images], np.int64)
        poses = make_poses(names, xy, frames=frames, image_sizes=sizes, metadata=metadata, **common)
        return poses.take(order)
    paths, sizes, root = _pictures(path, images, metadata)
    return make_poses(
        names,
        xy,
        images=paths,
        image_sizes=sizes,
        root=root,
        ids=tuple(map(str, ids)),
        metadata=metadata,
        **common,
    )


def _load(path: Path) -> dict[str, Any]:
    check_file(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"not valid JSON ({error})", path=path, remedy="copy or export it again") from error
    missing = [
        key
        for key in ("images", "annotations", "categories")
        if not isinstance(data, dict) or not isinstance(data.get(key), list)
    ]
    if missing:
        raise UserError(
            f"not a COCO keypoint file: no list {', '.join(missing)}",
            path=path,
            remedy="export it as COCO keypoints",
        )
    for key in ("images", "annotations", "categories"):
        if not all(isinstance(entry, dict) for entry in data[key]):
            raise UserError(f"not a COCO keypoint file: {key} holds something else", path=path)
    return data


def _categories(data: dict[str, Any], path: Path, given: Sequence[str] | None) -> dict[Any, tuple[str, ...]]:
    """Keypoint names per category id; categories without are left out."""
    found = {}
    for category in data["categories"]:
        names = category.get("keypoints")
        if isinstance(names, list) and names:
            texts = tuple(str(n) for n in names)
            if len(set(texts)) != len(texts):
                raise UserError(f"category {category.get('name')!r} names a keypoint twice", path=path)
            found[category.get("id")] = texts
    used = {a.get("category_id") for a in data["annotations"] if a.get("keypoints")}
    nameless = used - found.keys()
    if found and not nameless:
        kept = {key: names for key, names in found.items() if key in used}
        return kept or found
    sidecar = path.with_name(f"{path.stem}.keypoints.txt")
    if given is None and sidecar.is_file():
        given = [
            line.strip() for line in sidecar.read_text(encoding="utf-8-sig").splitlines() if line.strip()
        ]
    if given is None and len(set(found.values())) == 1 and nameless:
        # one list of names in the file: it is meant for the others too, if their lengths agree
        (only,) = set(found.values())
        lengths = {len(a["keypoints"]) for a in data["annotations"] if a.get("category_id") in nameless}
        if lengths == {3 * len(only)}:
            given = only
    if not given:
        who = f"category {sorted(map(str, nameless))[0]}" if nameless else "its categories"
        raise UserError(
            f"COCO file without keypoint names ({who})",
            path=path,
            remedy=f"add `keypoints` to the category, or put {sidecar.name} beside it, one name per line",
        )
    return {
        **{k: n for k, n in found.items() if k in used},
        **{key: tuple(given) for key in nameless or {None}},
    }


def _category_names(entries: list[dict], used: dict[Any, tuple[str, ...]]) -> list[str]:
    return [str(c.get("name", "")) for c in entries if c.get("id") in used]


def _skeleton(entries: list[dict], categories: dict[Any, tuple[str, ...]]) -> tuple[tuple[str, str], ...]:
    """Edges as name pairs; COCO counts keypoints from 1."""
    edges: dict[tuple[str, str], None] = {}
    for entry in entries:
        names = categories.get(entry.get("id"), ())
        for edge in entry.get("skeleton") or ():
            if len(edge) == 2 and all(isinstance(e, int) and 1 <= e <= len(names) for e in edge):
                edges[names[edge[0] - 1], names[edge[1] - 1]] = None
    return tuple(edges)


def _sort_key(identity: Any) -> tuple[int, Any]:
    return (0, identity) if isinstance(identity, int) else (1, str(identity))


def _individuals(
    animals: list[list[dict]], categories: list[dict]
) -> tuple[list[list[int]], tuple[str, ...]]:
    """Which place each annotation takes in its row, and what the places are called."""
    everything = [a for row in animals for a in row]
    listed = [n for c in categories for n in c.get("individuals") or () if isinstance(n, str)]
    if (everything or listed) and all(isinstance(a.get("individual"), str) for a in everything):
        names = tuple(dict.fromkeys((*listed, *(a["individual"] for a in everything))))
        slots = [[names.index(a["individual"]) for a in row] for row in animals]
        if all(len(set(s)) == len(s) for s in slots):
            return slots, names
    most = max((len(row) for row in animals), default=0)
    named = (SINGLE,) if most <= 1 else animal_names(most)
    return [list(range(len(row))) for row in animals], named


def _triplets(annotation: dict, count: int, path: Path) -> np.ndarray:
    """(count, 3) x, y, v; NaN where the annotation stops early."""
    flat = annotation.get("keypoints") or []
    try:
        if not isinstance(flat, list):
            raise TypeError
        values = np.array([np.nan if v is None else v for v in flat], np.float64).reshape(-1, 3)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"annotation {annotation.get('id')}: keypoints are not triplets of numbers",
            path=path,
            remedy="export it again, or correct that entry",
        ) from error
    if len(values) > count:
        raise UserError(
            f"annotation {annotation.get('id')} has {len(values)} keypoints, its category {count}",
            path=path,
            remedy="complete the category's list of names",
        )
    return np.concatenate([values, np.full((count - len(values), 3), np.nan)])


def _decode(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates (K, 2), visibility (K,), likelihood (K,) of triplets (K, 3)."""
    flags = np.nan_to_num(values[:, 2], nan=0.0)
    codes = np.full(len(values), UNLABELLED, np.int8)
    codes[flags < 0] = UNDEFINED
    codes[flags > 0] = LABELLED
    codes[flags == OCCLUDED] = OCCLUDED
    fraction = (flags > 0) & (flags < 1)
    here = (codes > 0) & np.isfinite(values[:, :2]).all(-1)
    codes[(codes > 0) & ~here] = UNLABELLED
    xy = np.where(here[:, None], values[:, :2], np.nan)
    return xy, codes, np.where(here, np.where(fraction, flags, 1.0), np.nan)


def _own_fields(
    annotation: dict, where: np.ndarray, likelihood: np.ndarray, human: np.ndarray, codes: np.ndarray
) -> None:
    """What our writer adds for predictions; foreign files are labels, placed by people."""
    given = annotation.get("keypoint_scores")
    if isinstance(given, list) and len(given) == len(where):
        likelihood[where] = [np.nan if v is None else v for v in given]
    placed = annotation.get("keypoint_human")
    if isinstance(placed, list) and len(placed) == len(where):
        human[where] = np.array(placed, bool)
    elif annotation.get("score") is None and given is None:
        human[where] = codes[where] > 0


def _stated_size(image: dict) -> tuple[int, int]:
    width, height = image.get("width"), image.get("height")
    if isinstance(width, int | float) and isinstance(height, int | float) and width > 0 and height > 0:
        return int(width), int(height)
    return 0, 0


def _pictures(
    path: Path, images: list[dict], metadata: dict[str, Any]
) -> tuple[tuple[str, ...], np.ndarray, Path]:
    """Files of the images, their sizes, and the folder they are relative to."""
    parent = path.absolute().parent
    root = parent.parent if parent.name.lower() in ANNOTATION_FOLDERS else parent
    folders = [parent, root, root / "images", parent / "images"]
    finder = ImageFinder(list(dict.fromkeys(folders)), root)
    paths, sizes, wrong = [], np.zeros((len(images), 2), np.int64), 0
    stride = max(1, len(images) // CHECKED_SIZES)
    for row, image in enumerate(images):
        found = finder.find(str(image["file_name"]))
        stated = _stated_size(image)
        if found is None:
            metadata["missing_images"].append(slashes(str(image["file_name"])))
            paths.append(slashes(str(image["file_name"])))
            sizes[row] = stated
            continue
        paths.append(relative_to(found, root))
        real = image_size(found) if stated == (0, 0) or row % stride == 0 else stated
        wrong += stated not in ((0, 0), real) and real != (0, 0)
        sizes[row] = real if real != (0, 0) else stated
    if wrong:
        metadata["warnings"].append(
            f"{wrong} pictures do not have the size that the file states; coordinates may not fit them"
        )
    return tuple(paths), sizes, root
