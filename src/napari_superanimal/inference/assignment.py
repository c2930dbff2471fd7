"""Who takes what of one frame: the best assignment of what was seen to individuals, and how doubtful it is."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from napari_superanimal.inference.likeness import Floats, same_animal

Integers = npt.NDArray[np.int64]

#: Cost of what cannot be.
FAR = 1e6
#: Keypoints below this likelihood say nothing about who it is.
SURE = 0.2
#: Off the similarity with an individual that was not seen in the last frame: where two animals are found as one, it is
#: the one that was seen all the time, and the detection does not jump between them.
LOST = 0.2
#: A second look must show something as similar as this to what was expected...
KEEP = 0.5
#: ... and be this much better than a detection.
LOOKED = 0.05
#: An exchange of two individuals that would cost this much more than what was chosen is no risk at all.
MARGIN = 0.5


@dataclass(frozen=True)
class Seen:
    """What may be given to individuals, M: detections, and what second looks show.

    `rows` are the detections' rows, -1 for looks; `owner` is the only individual that may take it, -1 for anybody.
    """

    rows: Integers
    owner: Integers
    boxes: Floats
    scores: Floats
    xy: Floats
    likelihood: Floats

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def points(self) -> Floats:
        """(M, K, 2) the keypoints that are sure."""
        return np.where((self.likelihood >= SURE)[..., None], self.xy, np.nan)

    def take(self, which: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Seen:
        return Seen(*(getattr(self, each.name)[which] for each in fields(self)))

    def join(self, other: Seen) -> Seen:
        pairs = ((getattr(self, each.name), getattr(other, each.name)) for each in fields(self))
        return Seen(*(np.concatenate(pair) for pair in pairs))


def choose(cost: Floats, seen: Seen, lost: npt.NDArray[np.bool_], strict: npt.NDArray[np.bool_]) -> Integers:
    """(M,) the individual that takes each, -1 for none.

    Parameters
    ----------
    cost : (A, M)
        Of giving what was seen to individuals; `FAR` where it cannot be.
    lost : (A,)
        Individuals that were not seen in the last frame.
    strict : (A,)
        Individuals that take nothing that fits badly.
    """
    column = np.full(len(seen), -1)
    looked = seen.owner >= 0
    chosen_by = cost + np.where(lost, LOST, 0.0)[:, None] + np.where(looked, LOOKED, 0.0)
    others = looked & (seen.owner != np.arange(len(cost))[:, None])
    chosen_by[others | ((looked | strict[:, None]) & (cost > 1 - KEEP))] = FAR
    same = same_animal(seen.boxes, seen.points) if looked.any() else np.zeros((len(seen), len(seen)), bool)
    while True:
        column[:] = -1
        for i, j in zip(*linear_sum_assignment(np.minimum(chosen_by, FAR)), strict=True):
            if chosen_by[i, j] < FAR / 2:
                column[j] = i
        taken = np.flatnonzero(column >= 0)
        twice = [(j, k) for j in taken for k in taken if j < k and same[j, k]]
        if not twice:
            return column
        # one animal was given to two: it is the one that it fits better
        worse = max(twice[0], key=lambda j: chosen_by[column[j], j])
        chosen_by[column[worse], worse] = FAR


def swap_risk(cost: Floats, column: Integers) -> Floats:
    """(A,) how little better the chosen assignment is than the best exchange that concerns an individual."""
    risk = np.zeros(len(cost))
    taken = {int(i): j for j, i in enumerate(column) if i >= 0}
    for i, j in taken.items():
        for other in range(len(cost)):
            if other == i or cost[other, j] >= FAR:
                continue
            extra = cost[other, j] - cost[i, j]
            if (at := taken.get(other)) is not None:
                if other < i or cost[i, at] >= FAR:
                    continue
                extra += cost[i, at] - cost[other, at]
            value = min(1.0, max(0.0, 1 - extra / MARGIN))
            risk[i] = max(risk[i], value)
            if at is not None:
                risk[other] = max(risk[other], value)
    return risk
