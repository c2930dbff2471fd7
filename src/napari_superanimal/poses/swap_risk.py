"""Where individuals may have been exchanged, frame by frame: a small table in the metadata of predictions.

Formats carry metadata as they are, and a table of the few frames that have a risk stays true when frames or
individuals are put in another order, taken out or added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_superanimal.poses.poses import Poses

#: The key in the metadata, and of the table in what stands there.
KEY, ROWS = "swap_risk", "rows"
#: Smaller risks are not kept.
LEAST = 0.001


def risk_rows(
    parts: Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]]], individuals: Sequence[str]
) -> dict[str, list[Any]]:
    """The table of some parts: frame numbers (n,) and the risk (n, A), 0..1, of `individuals` in them.

    Returns
    -------
    dict of str to list
        ``frame``, ``individual`` and ``swap_risk``, one entry for each frame and individual with a risk.
    """
    frames: list[int] = []
    names: list[str] = []
    values: list[float] = []
    for numbers, risk in parts:
        rows, columns = np.nonzero(risk >= LEAST)
        frames += numbers[rows].tolist()
        names += [individuals[column] for column in columns.tolist()]
        values += [round(float(value), 3) for value in risk[rows, columns]]
    return {"frame": frames, "individual": names, "swap_risk": values}


def swap_risk_of(poses: Poses) -> npt.NDArray[np.float32] | None:
    """(T, A) risk, 0..1, that an individual of a frame is another one; None where nobody looked for it."""
    note = poses.metadata.get(KEY)
    if not isinstance(note, Mapping):
        return None
    risk = np.zeros((len(poses), len(poses.individuals)), np.float32)
    table = note.get(ROWS)
    if not isinstance(table, Mapping) or not len(poses):
        return risk
    try:
        frames = np.asarray(table["frame"], np.int64)
        values = np.asarray(table["swap_risk"], np.float32)
        names, which = np.unique(np.asarray(table["individual"], str), return_inverse=True)
    except (KeyError, ValueError, TypeError):
        return risk
    if not len(frames) == len(values) == len(which):
        return risk
    known = {name: column for column, name in enumerate(poses.individuals)}
    columns = np.array([known.get(name, -1) for name in names.tolist()], np.int64)[which.ravel()]
    order = np.argsort(poses.frames, kind="stable")
    at = np.searchsorted(poses.frames, frames, sorter=order).clip(0, len(poses) - 1)
    rows = order[at]
    there = (poses.frames[rows] == frames) & (columns >= 0)
    risk[rows[there], columns[there]] = values[there]
    return risk


def joined_risk(old: Poses, new: Poses) -> dict[str, Any]:
    """The entry of the metadata for `old` with the frames of `new` in place of its own; empty where neither has one."""
    before, after = old.metadata.get(KEY), new.metadata.get(KEY)
    if not isinstance(after, Mapping):
        return {KEY: before} if isinstance(before, Mapping) else {}
    if not isinstance(before, Mapping):
        return {KEY: after}
    fresh = set(new.frames.tolist())
    table = before.get(ROWS) or {}
    kept = [
        entry
        for entry in zip(*(table.get(name, ()) for name in ("frame", "individual", "swap_risk")), strict=True)
        if entry[0] not in fresh
    ]
    added = after.get(ROWS) or {}
    rows = {
        name: [entry[i] for entry in kept] + list(added.get(name, ()))
        for i, name in enumerate(("frame", "individual", "swap_risk"))
    }
    return {KEY: {**after, ROWS: rows}}
