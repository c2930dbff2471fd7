"""Keeping an individual in its column from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

#: An individual that was lost keeps its column for this many frames.
MEMORY = 30
#: Farthest jump between frames, in box sizes.
REACH = 1.5


@dataclass
class SlotTracker:
    """Assigns detections to at most `slots` individuals by the distance of box centres (Hungarian).

    Detections without a near individual open a free column, or take the one that was lost for longest.
    """

    slots: int
    _boxes: npt.NDArray[np.float64] = field(init=False)
    _missed: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self._boxes = np.full((self.slots, 4), np.nan)
        self._missed = np.full(self.slots, MEMORY + 1)

    def assign(self, boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Column (M,) of each detection (M, 4); M is at most `slots`."""
        column = np.full(len(boxes), -1)
        alive = np.flatnonzero(self._missed <= MEMORY)
        if len(boxes) and len(alive):
            old, new = self._boxes[alive], boxes
            gap = np.linalg.norm(
                (old[:, None, :2] + old[:, None, 2:] / 2) - (new[None, :, :2] + new[None, :, 2:] / 2), axis=-1
            )
            size = np.sqrt(np.maximum(old[:, None, 2] * old[:, None, 3], new[None, :, 2] * new[None, :, 3]))
            relative = gap / np.maximum(size, 1.0)
            # the longer an individual was out of sight, the farther it may have gone
            limit = REACH * (1 + 0.2 * self._missed[alive][:, None])
            cost = np.where(relative <= limit, relative, 1e6)
            for i, j in zip(*linear_sum_assignment(cost), strict=True):
                if cost[i, j] < 1e6:
                    column[j] = alive[i]
        for j in np.flatnonzero(column < 0):
            free = [s for s in np.argsort(-self._missed, kind="stable") if s not in column]
            column[j] = free[0]
        self._missed += 1
        for j, slot in enumerate(column):
            self._boxes[slot] = boxes[j]
            self._missed[slot] = 0
        return column
