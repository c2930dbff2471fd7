"""Who is who from frame to frame, told by boxes and keypoints together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from napari_superanimal.poses import box_iou

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = npt.NDArray[np.float64]

#: An individual that was lost keeps its column for this many frames.
MEMORY = 30
#: A detection far from everybody does not take over the memory of an individual that was lost for fewer frames.
PATIENCE = 5
#: Farthest jump between frames, in box sizes.
REACH = 1.5
#: Keypoints below this likelihood say nothing about who it is.
SURE = 0.2
#: Fewest keypoints that two poses must share to be compared.
SHARED = 3
#: Two detections whose keypoints lie closer than this (median, in box sizes) are the same animal.
SAME = 0.1
#: How far a keypoint moves between frames, in box sizes: the width of the OKS.
SPREAD = 0.15
#: Of a similarity: share of the keypoints, of the boxes' overlap, of the distance between the boxes' centres.
POSE, OVERLAP, NEARNESS = 0.75, 0.125, 0.125
#: Off the similarity with an individual that was not seen in the last frame: where two animals are found as one, it is
#: the one that was seen all the time, and the detection does not jump between them.
LOST = 0.2
#: An exchange of two individuals that would cost this much more than what was chosen is no risk at all.
MARGIN = 0.5
#: From this risk on, a frame is worth a look.
RISKY = 0.5
_FAR = 1e6


@dataclass(frozen=True)
class Assignment:
    """What became of the detections of one frame.

    Attributes
    ----------
    detections : (M,) int64
        Rows that were kept; the others are second detections of the same animal.
    columns : (M,) int64
        The individual of each.
    swap_risk : (A,) float32, 0..1
        Per individual: 1 where it could as well be another one, 0 where there is no doubt.
    """

    detections: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    swap_risk: npt.NDArray[np.float32]


class RiskLog:
    """Where individuals may have been exchanged: frames with a swap risk of `RISKY` or more, as spans."""

    def __init__(self, individuals: Sequence[str]) -> None:
        self._individuals = tuple(individuals)
        self._spans: list[dict[str, Any]] = []
        self._open = False
        self.frames = 0

    def add(self, frames: npt.NDArray[np.int64], risk: npt.NDArray[np.float32]) -> None:
        """Take in the risk (n, A) of frames (n,) that follow those before."""
        for number, row in zip(frames, risk, strict=True):
            concerned = np.flatnonzero(row >= RISKY)
            if len(concerned):
                self.frames += 1
                if not self._open:
                    self._spans.append({"first": int(number), "last": int(number), "individuals": []})
                span = self._spans[-1]
                names = {*span["individuals"], *(self._individuals[i] for i in concerned)}
                span |= {"last": int(number), "individuals": sorted(names)}
            self._open = bool(len(concerned))

    def to_json(self) -> dict[str, Any]:
        """The number of frames, and the spans: first and last frame number, individuals that are concerned."""
        return {"risk": RISKY, "frames": self.frames, "spans": [dict(span) for span in self._spans]}


class Tracker:
    """Keeps individuals in their columns.

    Each individual is expected where it was, moved on with its last velocity. Detections go to individuals so that
    the sum of similarities is largest (Hungarian): object keypoint similarity (OKS) with the expected pose, overlap
    (IoU) with the expected box, nearness of the centres. Short gaps are bridged. Detections without a near individual
    open a free column, or take the one that was lost for longest.

    Parameters
    ----------
    slots : int
        Individuals, A.
    keypoints : int
        K.
    """

    def __init__(self, slots: int, keypoints: int) -> None:
        self.slots = slots
        self.keypoints = keypoints
        self._boxes = np.full((slots, 4), np.nan)
        self._velocity = np.zeros((slots, 2))
        self._xy = np.full((slots, keypoints, 2), np.nan)
        self._missed = np.full(slots, MEMORY + 1.0)

    def state(self) -> Floats:
        """Everything that is remembered, (S,)."""
        return np.concatenate(
            [each.ravel() for each in (self._boxes, self._velocity, self._xy, self._missed)], dtype=np.float64
        )

    def restore(self, state: Floats) -> None:
        """Go on from what `state` gave.

        Raises
        ------
        ValueError
            If it is that of another number of individuals or keypoints.
        """
        arrays = (self._boxes, self._velocity, self._xy, self._missed)
        parts = np.split(state, np.cumsum([each.size for each in arrays]))
        if len(parts[-1]) or any(part.size != each.size for part, each in zip(parts, arrays, strict=False)):
            raise ValueError(f"a state of {len(state)} numbers is not one of {self.slots} individuals")
        for each, part in zip(arrays, parts, strict=False):
            each[:] = part.reshape(each.shape)

    def assign(
        self, boxes: npt.ArrayLike, scores: npt.ArrayLike, xy: npt.ArrayLike, likelihood: npt.ArrayLike
    ) -> Assignment:
        """Take in the next frame.

        Parameters
        ----------
        boxes : (A, 4) px, x, y, width, height
        scores : (A,)
            NaN where there is no detection.
        xy : (A, K, 2) px
        likelihood : (A, K)
        """
        every = np.asarray(scores, np.float64)
        rows = np.flatnonzero(np.isfinite(every))
        points = np.array(xy, np.float64)
        sure = np.asarray(likelihood, np.float64)
        points[~(sure >= SURE)] = np.nan
        all_boxes = np.asarray(boxes, np.float64)
        rows = rows[_first_of_each(all_boxes[rows], every[rows], points[rows])]
        new, poses = all_boxes[rows], points[rows]

        cost = self._cost(new, poses)
        column = np.full(len(rows), -1)
        chosen_by = cost + np.where(self._missed > 0, LOST, 0.0)[:, None]
        for i, j in zip(*linear_sum_assignment(chosen_by), strict=True):
            if cost[i, j] < _FAR:
                column[j] = i
        risk = self._risk(cost, column)
        matched = column >= 0
        for j in np.flatnonzero(column < 0):
            free = [s for s in np.argsort(-self._missed, kind="stable") if s not in column]
            column[j] = free[0]
            known = [s for s in free if np.isfinite(self._boxes[s, 0])]
            # who comes back where nearness does not tell may be any of those that are missed
            risk[free[0]] = 1.0 if len(known) > 1 else 0.0
        self._update(new, poses, column, matched)
        return Assignment(rows, column, risk.astype(np.float32))

    def _expected(self) -> tuple[Floats, Floats]:
        """Boxes (A, 4) and keypoints (A, K, 2) where the individuals should be by now."""
        # those out of sight slow down
        shift = self._velocity * ((1 - 0.8 ** (self._missed + 1)) / 0.2)[:, None]
        boxes = self._boxes.copy()
        boxes[:, :2] += shift
        return boxes, self._xy + shift[:, None]

    def _cost(self, new: Floats, poses: Floats) -> Floats:
        """(A, M) of giving detections to individuals; `_FAR` where it cannot be."""
        cost = np.full((self.slots, len(new)), _FAR)
        alive = np.flatnonzero(self._missed <= MEMORY)
        if not len(new) or not len(alive):
            return cost
        boxes, points = (each[alive] for each in self._expected())
        gap = np.linalg.norm(_centres(boxes)[:, None] - _centres(new)[None], axis=-1)
        size = np.sqrt(np.maximum(_areas(boxes)[:, None], _areas(new)[None]))
        relative = gap / np.maximum(size, 1.0)
        missed = self._missed[alive][:, None]
        overlap = box_iou(boxes, new)
        oks = _oks(points, poses, size, SPREAD * (1 + 0.25 * missed))
        # without enough keypoints the boxes alone decide
        oks = np.where(np.isnan(oks), (overlap + np.exp(-2 * relative)) / 2, oks)
        alike = POSE * oks + OVERLAP * overlap + NEARNESS * np.exp(-2 * relative)
        # the longer an individual was out of sight, the farther it may have gone
        cost[alive] = np.where(relative <= REACH * (1 + 0.2 * missed), 1 - alike, _FAR)
        return cost

    def _risk(self, cost: Floats, column: npt.NDArray[np.int64]) -> Floats:
        """(A,) how little better the chosen assignment is than the best exchange that concerns an individual."""
        risk = np.zeros(self.slots)
        taken = {int(i): j for j, i in enumerate(column) if i >= 0}
        for i, j in taken.items():
            for other in range(self.slots):
                if other == i or cost[other, j] >= _FAR:
                    continue
                extra = cost[other, j] - cost[i, j]
                if (at := taken.get(other)) is not None:
                    if other < i or cost[i, at] >= _FAR:
                        continue
                    extra += cost[i, at] - cost[other, at]
                value = min(1.0, max(0.0, 1 - extra / MARGIN))
                risk[i] = max(risk[i], value)
                if at is not None:
                    risk[other] = max(risk[other], value)
        return risk

    def _update(
        self, new: Floats, poses: Floats, column: npt.NDArray[np.int64], matched: npt.NDArray[np.bool_]
    ) -> None:
        steps = self._missed + 1
        self._missed = np.minimum(steps, MEMORY + 1.0)
        for j, slot in enumerate(column):
            if not matched[j]:
                if steps[slot] <= PATIENCE:
                    continue  # shown in this column, but it may be nothing
                self._velocity[slot] = 0.0
            else:
                moved = poses[j] - self._xy[slot]
                shared = np.isfinite(moved).all(-1)
                # keypoints are steadier than boxes, which grow and shrink where animals overlap
                by = (
                    np.median(moved[shared], axis=0)
                    if shared.sum() >= SHARED
                    else _centres(new[j]) - _centres(self._boxes[slot])
                )
                self._velocity[slot] = 0.5 * self._velocity[slot] + 0.5 * by / steps[slot]
            self._boxes[slot], self._xy[slot] = new[j], poses[j]
            self._missed[slot] = 0.0


def _first_of_each(boxes: Floats, scores: Floats, poses: Floats) -> npt.NDArray[np.int64]:
    """Rows of detections, ascending, without those whose keypoints repeat another one's.

    Of two boxes with the same animal in them, the one that lies around its keypoints is kept: the other one belongs
    to a neighbour, whose own keypoints were not found.
    """
    fit = np.zeros(len(boxes))
    for row in range(len(boxes)):
        points = poses[row][np.isfinite(poses[row]).all(-1)]
        if len(points) < SHARED:
            continue
        low, high = points.min(0), points.max(0)
        fit[row] = box_iou(boxes[row][None], np.concatenate([low, high - low])[None])[0, 0]
    kept: list[int] = []
    for row in np.lexsort((-scores, -fit)):
        for other in kept:
            apart = np.linalg.norm(poses[row] - poses[other], axis=-1)
            apart = apart[np.isfinite(apart)]
            size = np.sqrt(min(_areas(boxes[row]), _areas(boxes[other])))
            if len(apart) >= SHARED and np.median(apart) < SAME * size:
                break
        else:
            kept.append(int(row))
    return np.array(sorted(kept), np.int64)


def _centres(boxes: Floats) -> Floats:
    return boxes[..., :2] + boxes[..., 2:] / 2


def _areas(boxes: Floats) -> Floats:
    return np.asarray(boxes[..., 2] * boxes[..., 3])


def _oks(expected: Floats, found: Floats, size: Floats, spread: Floats) -> Floats:
    """(N, M) similarity of poses (N, K, 2) and (M, K, 2) over shared keypoints; NaN where they share too few."""
    square = ((expected[:, None] - found[None]) ** 2).sum(-1)
    shared = np.isfinite(square)
    alike = np.where(shared, np.exp(-np.where(shared, square, 0) / (2 * (spread * size) ** 2)[..., None]), 0)
    count = shared.sum(-1)
    return np.where(count >= SHARED, alike.sum(-1) / np.maximum(count, 1), np.nan)
