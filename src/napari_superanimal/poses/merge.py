"""Several datasets as one, and each of them back again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.poses.poses import SINGLE, UNDEFINED, Poses, animal_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.keypoints import ConversionTable


def merge(parts: list[Poses], names: list[str]) -> Poses:
    """Several image datasets with the same keypoints as one; every row remembers its source.

    Boxes, visibility, who placed a point, splits, and the ids of the pictures in their own files are kept.
    Individuals keep their names where all datasets agree on them, else they are numbered; what each dataset
    calls them stands in ``metadata["merged"]``, from which `part_of` gets the dataset back.

    Raises
    ------
    ValueError
        If the keypoints differ, a name is used twice, or a part is a video.
    """
    keypoints = parts[0].keypoints
    if any(p.keypoints != keypoints for p in parts):
        raise ValueError("datasets must be in the same keypoint space before they are merged")
    if any(p.is_video and len(p) for p in parts):
        raise ValueError("only image datasets can be merged")
    if len(set(names)) != len(names):
        raise ValueError("every dataset needs a name of its own")
    individuals = _individuals(parts)
    animals = len(individuals)

    def pad(array: npt.NDArray, fill: float) -> npt.NDArray:
        widths = [(0, 0)] * array.ndim
        widths[1] = (0, animals - array.shape[1])
        return np.pad(array, widths, constant_values=fill)

    def texts(field: str) -> tuple[str, ...]:
        if not any(getattr(p, field) for p in parts):
            return ()
        return tuple(t for p in parts for t in (getattr(p, field) or ("",) * len(p)))

    total = sum(len(p) for p in parts)
    scorers = {p.scorer for p in parts if p.scorer}
    return Poses(
        keypoints=keypoints,
        individuals=individuals,
        frames=np.arange(total),
        xy=np.concatenate([pad(p.xy, np.nan) for p in parts]),
        visibility=np.concatenate([pad(p.visibility, UNDEFINED) for p in parts]),
        likelihood=np.concatenate([pad(p.likelihood, np.nan) for p in parts]),
        human=np.concatenate([pad(p.human, False) for p in parts]),
        boxes=np.concatenate([pad(p.boxes, np.nan) for p in parts]),
        box_scores=np.concatenate([pad(p.box_scores, np.nan) for p in parts]),
        images=tuple(p.image_path(i).as_posix() for p in parts for i in range(len(p))),
        image_sizes=np.concatenate([p.image_sizes for p in parts]),
        sources=tuple(n for p, n in zip(parts, names, strict=True) for _ in range(len(p))),
        splits=texts("splits"),
        ids=texts("ids"),
        scorer=scorers.pop() if len(scorers) == 1 else "",
        skeleton=parts[0].skeleton,
        metadata={
            "space": parts[0].metadata.get("space", ""),
            "merged": [_account(p, n) for p, n in zip(parts, names, strict=True)],
        },
    )


def _individuals(parts: Sequence[Poses]) -> tuple[str, ...]:
    """Names of the merged places: those that all agree on, else numbers."""
    longest = max((p.individuals for p in parts), key=len)
    if all(p.individuals == longest[: len(p.individuals)] for p in parts):
        return longest
    return (SINGLE,) if len(longest) == 1 else animal_names(len(longest))


def _account(part: Poses, name: str) -> dict[str, Any]:
    """What a merged dataset was before, as plain data."""
    kept = ("source_keypoints", "table", "table_rows", "unmapped", "path")
    return {
        "name": name,
        "rows": len(part),
        "individuals": list(part.individuals),
        "scorer": part.scorer,
        **{key: part.metadata[key] for key in kept if key in part.metadata},
    }


def part_of(merged: Poses, name: str) -> Poses:
    """The rows of one merged dataset with its own individuals, still in the merged keypoint space.

    Raises
    ------
    KeyError
        If no dataset of that name was merged.
    """
    accounts = {a["name"]: a for a in merged.metadata.get("merged", ()) if isinstance(a, dict)}
    if name not in accounts:
        raise KeyError(name)
    account = accounts[name]
    rows = merged.take(np.array([s == name for s in merged.sources], bool))
    animals = len(account["individuals"])
    return replace(
        rows,
        individuals=tuple(account["individuals"]),
        xy=rows.xy[:, :animals],
        visibility=rows.visibility[:, :animals],
        likelihood=rows.likelihood[:, :animals],
        human=rows.human[:, :animals],
        boxes=rows.boxes[:, :animals],
        box_scores=rows.box_scores[:, :animals],
        scorer=account.get("scorer", ""),
        sources=(),
        metadata={"space": merged.metadata.get("space", ""), **account},
    )


def unproject(poses: Poses, table: ConversionTable, keypoints: Sequence[str]) -> Poses:
    """The inverse of `project`: poses of a keypoint space under a dataset's own names.

    Parameters
    ----------
    table : ConversionTable
        The table that the dataset was projected with. A target ``left|right`` is read from whichever side is
        defined.
    keypoints : sequence of str
        The dataset's keypoints, in its order; those that the table leaves out become undefined (-1).
    """
    from napari_superanimal.keypoints.table import SIDE

    t, a, s = len(poses), len(poses.individuals), len(keypoints)
    index = {name: i for i, name in enumerate(poses.keypoints)}
    xy = np.full((t, a, s, 2), np.nan)
    visibility = np.full((t, a, s), UNDEFINED, np.int8)
    likelihood = np.full((t, a, s), np.nan)
    human = np.zeros((t, a, s), bool)
    for i, name in enumerate(keypoints):
        for target in (table.target(name) or "").split(SIDE):
            if target not in index:
                continue
            k = index[target]
            here = poses.visibility[:, :, k] != UNDEFINED
            xy[here, i] = poses.xy[here, k]
            visibility[here, i] = poses.visibility[here, k]
            likelihood[here, i] = poses.likelihood[here, k]
            human[here, i] = poses.human[here, k]
    return replace(
        poses,
        keypoints=tuple(keypoints),
        xy=xy,
        visibility=visibility,
        likelihood=likelihood,
        human=human,
        skeleton=(),
    )
