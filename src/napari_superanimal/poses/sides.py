"""Do left and right labels lie where an animal's left and right are?

Seen from above, an animal's left is on the left of the line from its hind end to its head. A camera that
looks slightly down on a side view shows the same more weakly: the side that the animal turns to it is lower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.poses.poses import Poses

#: The body's axis must be at least this share of the animal's extent: else it is seen from the front.
AXIS = 0.5
#: Sides that lie this far apart across the axis, in lengths of the axis, can be told on a single animal.
APART = 0.05
#: Median distance across the axis of a pair that is seen from above or below.
FROM_ABOVE = 0.1
#: Share of animals with the left on the left above (below) which a pair counts as right (exchanged).
CLEAR = 0.85
#: Animals needed for a verdict on a pair.
ENOUGH = 10
#: Chance that a fair coin gives so few animals with the left on the left, below which a pair is suspicious.
CHANCE = 1e-3


@dataclass(frozen=True)
class SidesReport:
    """What left and right look like in a dataset.

    Attributes
    ----------
    pairs : dict of str to (int, float)
        Left keypoint: animals on which it could be told, and the share with the left on the left.
    exchanged : tuple of str
        Left keypoints whose pair looks exchanged throughout.
    rows : tuple of int
        Rows with an animal whose sides differ from all the others'.
    """

    pairs: dict[str, tuple[int, float]]
    exchanged: tuple[str, ...]
    rows: tuple[int, ...]


def check_sides(poses: Poses, space: KeypointSpace) -> SidesReport:
    """Look at left and right of every animal; `poses` are in `space`."""
    xy = poses.xy
    length, across = _across(xy, space)
    pairs: dict[str, tuple[int, float]] = {}
    exchanged: list[str] = []
    against, told = np.zeros(xy.shape[:2]), np.zeros(xy.shape[:2])
    for left, right in space.pairs:
        with np.errstate(invalid="ignore"):
            gap = across(xy[:, :, space.index(left)] - xy[:, :, space.index(right)]) / length
        seen = gap[np.isfinite(gap)]
        if not len(seen):
            continue
        share = float((seen > 0).mean())
        pairs[left] = (len(seen), share)
        wide = abs(float(np.median(seen))) >= FROM_ABOVE
        if len(seen) < ENOUGH:
            continue
        if (wide and share <= 1 - CLEAR) or _by_chance(int((seen > 0).sum()), len(seen)) < CHANCE:
            exchanged.append(left)
        elif wide and share >= CLEAR:
            clear = np.nan_to_num(np.abs(gap)) > APART
            against += clear & (np.nan_to_num(gap) < 0)
            told += clear
    odd = (told > 0) & (against > 0.5 * told)
    return SidesReport(pairs, tuple(exchanged), tuple(np.flatnonzero(odd.any(1)).tolist()))


def _across(xy: npt.NDArray[np.float64], space: KeypointSpace) -> tuple[npt.NDArray[np.float64], _Across]:
    """Length of the body's axis (T, A), NaN where it is unknown or short, and how to measure across it."""
    found = np.asarray(np.isfinite(xy).all(-1))

    def middle(names: tuple[str, ...]) -> npt.NDArray[np.float64]:
        index = [space.index(n) for n in names]
        count = found[..., index].sum(-1)[..., None]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(count > 0, np.nan_to_num(xy[..., index, :]).sum(-2) / count, np.nan)

    axis = middle(space.front) - middle(space.rear)
    length = np.linalg.norm(axis, axis=-1)
    low = np.where(found[..., None], xy, np.inf).min(-2)
    high = np.where(found[..., None], xy, -np.inf).max(-2)
    with np.errstate(invalid="ignore"):
        long = length >= AXIS * (high - low).max(-1)
    length = np.where(long & (length > 0), length, np.nan)
    return length, _Across(axis / length[..., None])


@dataclass(frozen=True)
class _Across:
    """Measures vectors (..., 2) across the body's axis, positive to the animal's left; y points down."""

    axis: npt.NDArray[np.float64]

    def __call__(self, vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return vector[..., 0] * self.axis[..., 1] - vector[..., 1] * self.axis[..., 0]


def _by_chance(hits: int, total: int) -> float:
    """Chance of at most `hits` heads in `total` throws of a fair coin (normal approximation)."""
    return 0.5 * math.erfc((0.5 * total - hits - 0.5) / math.sqrt(0.5 * total))
