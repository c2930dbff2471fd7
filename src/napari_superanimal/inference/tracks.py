"""Who is who from frame to frame: what is remembered of individuals, and what is expected of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from napari_superanimal.inference.assignment import FAR, Integers, Seen, choose, swap_risk
from napari_superanimal.inference.likeness import (
    SHARED,
    Floats,
    areas,
    box_around,
    centres,
    covered,
    evidence,
    first_of_each,
    likeness,
    relative_gap,
    same_animal,
)
from napari_superanimal.poses import box_iou

#: Poses in boxes (N, 4) of the frame that is tracked: keypoints (N, K, 2) px and likelihood (N, K).
Look: TypeAlias = Callable[[Floats], tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]]

#: An individual that was lost keeps its column for this many frames.
MEMORY = 30
#: A detection far from everybody does not take over the memory of an individual that was lost for fewer frames.
PATIENCE = 5
#: Nor does one for which there is less evidence than this share of the others'. An individual for which there is so
#: much less than for somebody who has no column gives its own away.
CERTAIN = 0.5
#: How much of what is known about the evidence for an individual comes from its last frame.
NEWS = 0.1
#: What is left of it a frame later, once an individual is forgotten.
FADES = 0.99
#: Farthest jump between frames, in box sizes.
REACH = 1.5
#: Off the similarity with something for which there is no evidence at all.
DOUBT = 0.5
#: A match worse than this is looked at a second time.
POOR = 0.5
#: Individuals whose boxes lie in each other with this share are rivals: one may be taken for the other.
RIVALS = 0.3
#: Overlap (IoU) of a box with where it was expected that says that it stayed there, and how far keypoints must have
#: moved in it, in box sizes, to be somebody else's.
STILL, JUMP = 0.6, 0.35
#: Keypoints of a second look count from this likelihood on.
CLEAR = 0.5
#: Share of the keypoints that were sure before that a second look must find again.
WHOLE = 0.6


@dataclass(frozen=True)
class Assignment:
    """What became of one frame: individuals that were found, M.

    Attributes
    ----------
    detections : (M,) int64
        Rows that were kept, the others are second detections of the same animal; -1 for individuals that were only
        found by a second look.
    columns : (M,) int64
        The individual of each.
    boxes : (M, 4) px
    scores : (M,)
        Of a second look: how similar it is to what was expected, 0..1.
    xy : (M, K, 2) px
    likelihood : (M, K)
    swap_risk : (A,) float32, 0..1
        Per individual: 1 where it could as well be another one, 0 where there is no doubt.
    """

    detections: Integers
    columns: Integers
    boxes: Floats
    scores: Floats
    xy: Floats
    likelihood: Floats
    swap_risk: npt.NDArray[np.float32]


class Tracker:
    """Keeps individuals in their columns.

    Each individual is expected where it was, moved on with its last velocity. Detections go to individuals so that
    the sum of similarities is largest (Hungarian): object keypoint similarity (OKS) with the expected pose, overlap
    (IoU) with the expected box, nearness of the centres. Where animals touch, the detector often sees one instead of
    two, and keypoints are mixed: those that are missing, and their neighbours, are looked for in the boxes where they
    are expected. Short gaps are bridged. Detections without a near individual open a free column, or take the one
    of something for which there was never much evidence (a stain), or the one that was lost for longest.

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
        self._margin = np.full(slots, np.nan)
        self._evidence = np.zeros(slots)

    @property
    def _memory(self) -> tuple[Floats, ...]:
        return self._boxes, self._velocity, self._xy, self._missed, self._margin, self._evidence

    def state(self) -> Floats:
        """Everything that is remembered, (S,)."""
        return np.concatenate([each.ravel() for each in self._memory], dtype=np.float64)

    def restore(self, state: Floats) -> None:
        """Go on from what `state` gave.

        Raises
        ------
        ValueError
            If it is that of another number of individuals or keypoints.
        """
        arrays = self._memory
        parts = np.split(state, np.cumsum([each.size for each in arrays]))
        if len(parts[-1]) or any(part.size != each.size for part, each in zip(parts, arrays, strict=False)):
            raise ValueError(f"a state of {len(state)} numbers is not one of {self.slots} individuals")
        for each, part in zip(arrays, parts, strict=False):
            each[:] = part.reshape(each.shape)

    def assign(
        self,
        boxes: npt.ArrayLike,
        scores: npt.ArrayLike,
        xy: npt.ArrayLike,
        likelihood: npt.ArrayLike,
        look: Look | None = None,
    ) -> Assignment:
        """Take in the next frame.

        Parameters
        ----------
        boxes : (M, 4) px, x, y, width, height
            There may be more than individuals, or fewer.
        scores : (M,)
            NaN where there is no detection.
        xy : (M, K, 2) px
        likelihood : (M, K)
        look : callable, optional
            Gives the poses in boxes of this frame; without it there is no second look.
        """
        rows = np.flatnonzero(np.isfinite(np.asarray(scores, np.float64)))
        arrays = (np.asarray(each, np.float64)[rows] for each in (boxes, scores, xy, likelihood))
        seen = Seen(rows, np.full(len(rows), -1), *arrays)
        seen = seen.take(first_of_each(seen.boxes, evidence(seen.scores, seen.likelihood), seen.points))
        cost = self._cost(seen)
        contested = np.zeros(self.slots, bool)
        column = choose(cost, seen, self._missed > 0, contested)
        if look is not None:
            contested = self._contested(cost, column, seen)
            shared = self._shared(column, seen) & ~contested
            if (contested | shared).any():
                seen = seen.join(self._looks(look, np.flatnonzero(contested | shared), shared))
                cost = self._cost(seen)
                column = choose(cost, seen, self._missed > 0, contested & (self._missed <= PATIENCE))
        matched = column >= 0
        risk = swap_risk(cost, column)
        found = np.isin(np.arange(self.slots), column)
        if (contested & ~found).any():
            # nobody can say who of them it is that is seen
            risk[contested] = 1.0
        weight = evidence(seen.scores, seen.likelihood)
        new = np.flatnonzero((column < 0) & (seen.owner < 0))
        known = self._evidence.copy()
        for j in new[np.argsort(-weight[new], kind="stable")]:
            if self._repeats(int(j), column, contested, seen):
                continue
            if (slot := self._column_for(weight, int(j), column, matched, known)) is None:
                continue
            left = [s for s in range(self.slots) if s not in column and self._lost(s, weight[j])]
            column[column == slot] = -1
            column[j], known[slot] = slot, weight[j]
            # who comes back where nearness does not tell may be any of those that are missed
            risk[slot] = 1.0 if len(left) > 1 else 0.0
        self._update(seen, column, matched, contested)
        kept = column >= 0
        shown = seen.take(kept)
        return Assignment(
            shown.rows,
            column[kept],
            shown.boxes,
            shown.scores,
            shown.xy,
            shown.likelihood,
            risk.astype(np.float32),
        )

    def _expected(self) -> tuple[Floats, Floats]:
        """Boxes (A, 4) and keypoints (A, K, 2) where the individuals should be by now."""
        # those out of sight slow down
        shift = self._velocity * ((1 - 0.8 ** (self._missed + 1)) / 0.2)[:, None]
        boxes = self._boxes.copy()
        boxes[:, :2] += shift
        return boxes, self._xy + shift[:, None]

    def _cost(self, seen: Seen) -> Floats:
        """(A, M) of giving what was seen to individuals; `FAR` where it cannot be."""
        cost = np.full((self.slots, len(seen)), FAR)
        alive = np.flatnonzero(self._missed <= MEMORY)
        if not len(seen) or not len(alive):
            return cost
        boxes, points = (each[alive] for each in self._expected())
        missed = self._missed[alive]
        alike = likeness(boxes, points, seen.boxes, seen.points, missed)
        # what shows much less of an animal than was there before is something beside it
        known = np.maximum(self._evidence[alive], 1e-9)[:, None]
        less = 1 - np.minimum(evidence(seen.scores, seen.likelihood) / known, 1.0)
        # the longer an individual was out of sight, the farther it may have gone
        reach = REACH * (1 + 0.2 * missed[:, None])
        cost[alive] = np.where(relative_gap(boxes, seen.boxes) <= reach, 1 - alike + DOUBT * less, FAR)
        return cost

    def _contested(self, cost: Floats, column: Integers, seen: Seen) -> npt.NDArray[np.bool_]:
        """(A,) individuals that touch each other where one of them is missing or fits badly."""
        boxes, _ = self._expected()
        alive = self._missed <= MEMORY
        lost, here = alive.copy(), boxes.copy()
        for j in np.flatnonzero(column >= 0):
            lost[column[j]] = alive[column[j]] and cost[column[j], j] > POOR
            here[column[j]] = seen.boxes[j]
        near = np.zeros((self.slots, self.slots), bool)
        rows = np.flatnonzero(alive)
        for a in (boxes, here):
            share = covered(boxes[rows], a[rows])
            near[np.ix_(rows, rows)] |= np.maximum(share, share.T) > RIVALS
        np.fill_diagonal(near, False)
        return np.asarray((near & (lost[:, None] | lost)).any(1))

    def _shared(self, column: Integers, seen: Seen) -> npt.NDArray[np.bool_]:
        """(A,) individuals whose keypoints have all moved far within a box that stayed where it was.

        There are two in it, of which only one was known so far.
        """
        boxes, points = self._expected()
        shared = np.zeros(self.slots, bool)
        for j in np.flatnonzero(column >= 0):
            i = column[j]
            moved = np.linalg.norm(seen.points[j] - points[i], axis=-1)
            moved = moved[np.isfinite(moved)]
            if len(moved) >= SHARED and box_iou(boxes[i][None], seen.boxes[j][None])[0, 0] > STILL:
                shared[i] = np.median(moved) > JUMP * np.sqrt(areas(seen.boxes[j]))
        return shared

    def _looks(self, look: Look, slots: Integers, shared: npt.NDArray[np.bool_]) -> Seen:
        """What is seen where some individuals are expected; boxes of those in `shared` (A,) were always too large."""
        boxes, points = (each[slots] for each in self._expected())
        margins = np.where(shared, 0.0, self._margin)[slots]
        drawn = np.array([box_around(*each) for each in zip(points, margins, strict=True)])
        boxes = np.where(np.isfinite(drawn), drawn, boxes)
        xy, likelihood = (np.asarray(each, np.float64) for each in look(boxes))
        looks = Seen(np.full(len(slots), -1), slots, boxes, np.ones(len(slots)), xy, likelihood)
        enough = np.zeros(len(slots), bool)
        for row, now in enumerate(np.where((likelihood >= CLEAR)[..., None], xy, np.nan)):
            shared = np.isfinite(now - points[row]).all(-1)
            enough[row] = shared.sum() >= max(SHARED, WHOLE * np.isfinite(points[row]).all(-1).sum())
            box = box_around(now, self._margin[slots[row]])
            if np.isfinite(box).all():
                boxes[row] = box
            elif enough[row]:
                boxes[row, :2] += np.median((now - points[row])[shared], axis=0)
        looks = looks.take(enough)
        cost = self._cost(looks)
        looks.scores[:] = np.clip(1 - cost[looks.owner, np.arange(len(looks))], 0, 1)
        return looks

    def _lost(self, slot: int, weight: float) -> bool:
        """Whether somebody lives there for whom there was no less evidence than for a newcomer."""
        return bool(np.isfinite(self._boxes[slot, 0]) and self._evidence[slot] >= CERTAIN * weight)

    def _column_for(
        self, weight: Floats, j: int, column: Integers, matched: npt.NDArray[np.bool_], known: Floats
    ) -> int | None:
        """The column of a detection that is near nobody; None if it gets none.

        One that was never used, or forgotten; that of something for which there is much less evidence; that of who is
        lost for longest.
        """
        held = {int(s) for s in column if s >= 0}
        free = [int(s) for s in np.argsort(-self._missed, kind="stable") if int(s) not in held]
        forgotten = [s for s in free if self._missed[s] > MEMORY and weight[j] >= CERTAIN * known[s]]
        if forgotten:
            return forgotten[0]
        weak = [s for s in np.argsort(known, kind="stable") if known[s] < CERTAIN * weight[j]]
        if weak:
            return int(weak[0])
        sure = weight[matched]
        if not free or weight[j] < CERTAIN * max(known[free[0]], sure.mean() if len(sure) else 0.0):
            return None  # a tail or a reflection does not take over anybody's memory
        return free[0]

    def _repeats(self, j: int, column: Integers, contested: npt.NDArray[np.bool_], seen: Seen) -> bool:
        """Whether a detection that nobody took may show somebody again, or individuals that touch each other."""
        same = same_animal(seen.boxes, seen.points)[j]
        if same[column >= 0].any():
            return True
        boxes, _ = self._expected()
        inside = covered(boxes[contested], seen.boxes[j : j + 1])
        return bool((inside > 0.5).any())

    def _update(
        self,
        seen: Seen,
        column: Integers,
        matched: npt.NDArray[np.bool_],
        contested: npt.NDArray[np.bool_],
    ) -> None:
        expected = self._expected()[1]
        steps = self._missed + 1
        self._missed = np.minimum(steps, MEMORY + 1.0)
        self._evidence[steps > MEMORY] *= FADES
        weight = evidence(seen.scores, seen.likelihood)
        for j, slot in enumerate(column):
            if slot < 0:
                continue
            box, points = seen.boxes[j], seen.points[j]
            if not matched[j]:
                if steps[slot] <= PATIENCE and self._lost(slot, weight[j]):
                    continue  # shown in this column, but it may be nothing
                self._velocity[slot] = 0.0
                self._evidence[slot] = weight[j]
            else:
                moved = points - self._xy[slot]
                shared = np.isfinite(moved).all(-1)
                # keypoints are steadier than boxes, which grow and shrink where animals overlap
                by = (
                    np.median(moved[shared], axis=0)
                    if shared.sum() >= SHARED
                    else centres(box) - centres(self._boxes[slot])
                )
                self._velocity[slot] = 0.5 * self._velocity[slot] + 0.5 * by / steps[slot]
            if contested[slot]:
                # a detection may contain both; keypoints that are covered are still there
                around = box_around(points, self._margin[slot])
                box = np.where(np.isfinite(around), around, box)
                points = np.where(np.isfinite(points), points, expected[slot])
            elif seen.owner[j] < 0:
                self._learn_margin(slot, box, points)
            self._boxes[slot], self._xy[slot] = box, points
            self._missed[slot] = 0.0
            self._evidence[slot] += NEWS * (weight[j] - self._evidence[slot])

    def _learn_margin(self, slot: int, box: Floats, points: Floats) -> None:
        """Remember how far a box reaches beyond the keypoints, px."""
        sure = points[np.isfinite(points).all(-1)]
        if len(sure) < SHARED:
            return
        margin = float((box[2:] - np.ptp(sure, axis=0)).mean() / 2)
        known = self._margin[slot]
        self._margin[slot] = margin if np.isnan(known) else 0.9 * known + 0.1 * margin
