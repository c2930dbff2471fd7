"""What can be wrong with a predicted track, and what all detectors share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.poses import Poses

Kind = Literal["swap", "outlier"]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong in a run of frames of one animal.

    Attributes
    ----------
    kind : {"swap", "outlier"}
        Left and right are exchanged, or keypoints lie where they cannot be.
    individual : str
    keypoints : tuple of str
        For swaps left, right, left, right...
    frames : (n,) int64
        Frame numbers, ascending.
    score : float
        How clear it is: for swaps the cost that exchanging saves per boundary of the run, in units of the
        track's own noise; for outliers the distance from where the point should be, in shares of the body.
    """

    kind: Kind
    individual: str
    keypoints: tuple[str, ...]
    frames: npt.NDArray[np.int64]
    score: float

    @property
    def text(self) -> str:
        """One line for a person."""
        first, last = int(self.frames[0]), int(self.frames[-1])
        where = f"frame {first}" if first == last else f"frames {first} to {last}"
        who = f" ({self.individual})" if self.individual else ""
        if self.kind == "swap":
            pairs = [f"{a} ↔ {b}" for a, b in zip(self.keypoints[::2], self.keypoints[1::2], strict=True)]
            return f"{where}{who}: left and right exchanged: {short(pairs)}"
        return f"{where}{who}: out of place: {short(list(self.keypoints))}"

    def to_json(self) -> dict[str, Any]:
        """Plain data for a report."""
        return {
            "kind": self.kind,
            "individual": self.individual,
            "keypoints": list(self.keypoints),
            "first_frame": int(self.frames[0]),
            "last_frame": int(self.frames[-1]),
            "frames": len(self.frames),
            "score": round(self.score, 3),
        }


def short(names: list[str], most: int = 4) -> str:
    """A list of names that does not get longer than a line."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def body_size(poses: Poses) -> Floats:
    """Typical size of each individual, (A,) px: median over frames of the diagonal around its keypoints.

    NaN where an individual never has two keypoints.
    """
    found = poses.found[..., None]
    low = np.where(found, poses.xy, np.inf).min(2)
    high = np.where(found, poses.xy, -np.inf).max(2)
    enough = poses.found.sum(-1) >= 2
    with np.errstate(invalid="ignore"):
        diagonal = np.where(enough, np.linalg.norm(high - low, axis=-1), np.nan)
    sizes = np.full(len(poses.individuals), np.nan)
    for a in range(len(sizes)):
        seen = diagonal[:, a][enough[:, a]]
        if len(seen):
            sizes[a] = max(float(np.median(seen)), 1.0)
    return sizes


def runs(mask: Bools, frames: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Rows of a (T,) mask in runs of neighbouring frames; a run ends where frames are left out."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return []
    step = spacing(frames)
    ends = (np.diff(rows) > 1) | (np.diff(frames[rows]) > 2 * step)
    return np.split(rows, np.flatnonzero(ends) + 1)


def spacing(frames: npt.NDArray[np.int64]) -> int:
    """Frames from one row to the next, as most rows have it."""
    return max(int(np.median(np.diff(frames))), 1) if len(frames) > 1 else 1


def merge_runs(
    kind: Kind, poses: Poses, a: int, parts: Sequence[tuple[npt.NDArray[np.int64], tuple[str, ...], float]]
) -> list[Finding]:
    """Runs (rows, keypoints, score) of one animal as findings; equal or nearly equal runs become one."""
    merged: list[tuple[npt.NDArray[np.int64], list[str], float]] = []
    for rows, names, score in sorted(parts, key=lambda p: (int(p[0][0]), int(p[0][-1]))):
        for i, (old, known, best) in enumerate(merged[-50:], max(len(merged) - 50, 0)):
            if abs(int(old[0]) - int(rows[0])) <= 1 and abs(int(old[-1]) - int(rows[-1])) <= 1:
                known.extend(n for n in names if n not in known)
                merged[i] = (np.union1d(old, rows), known, max(best, score))
                break
        else:
            merged.append((rows, list(names), score))
    who = poses.individuals[a]
    return [Finding(kind, who, tuple(names), poses.frames[rows], score) for rows, names, score in merged]
