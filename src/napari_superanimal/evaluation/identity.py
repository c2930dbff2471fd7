"""How well individuals keep their identity: IDF1, switches and misses against known tracks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    from napari_superanimal.poses import Poses

#: A predicted animal is a true one's if their keypoints lie closer than this (median, in box sizes).
GATE = 0.25


@dataclass(frozen=True)
class IdentityScores:
    """What tracking got right.

    Attributes
    ----------
    frames, animals, predicted : int
        Frames compared; animals in all of them together, true and predicted ones.
    idf1, idp, idr : float
        Share of animals with the right identity (Ristani et al. 2016): of both, of the predicted, of the true ones;
        NaN where there are none.
    switches : int
        How often a true animal goes on under another identity (CLEAR MOT).
    misses, false_positives : int
    mota : float
        1 - (misses + false positives + switches) / true animals.
    switch_frames : tuple of int
        Where the switches are.
    """

    frames: int
    animals: int
    predicted: int
    idf1: float
    idp: float
    idr: float
    switches: int
    misses: int
    false_positives: int
    mota: float
    switch_frames: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def distances(truth: Poses, predicted: Poses) -> npt.NDArray[np.float64]:
    """Median distance of shared keypoints in true box sizes, (T, true, predicted); NaN where there is none.

    Raises
    ------
    UserError
        If the two have no frame or no keypoint in common.
    """
    frames, rows, others = np.intersect1d(truth.frames, predicted.frames, return_indices=True)
    names = [name for name in truth.keypoints if name in predicted.keypoints]
    if not len(frames) or not names:
        raise UserError(
            "there is no frame or no keypoint that both know", remedy="compare files of one video"
        )
    a = truth.xy[rows][:, :, [truth.keypoints.index(n) for n in names]]
    b = predicted.xy[others][:, :, [predicted.keypoints.index(n) for n in names]]
    size = np.sqrt(truth.boxes[rows, :, 2] * truth.boxes[rows, :, 3])
    result = np.full((len(frames), a.shape[1], b.shape[1]), np.nan)
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            apart = np.linalg.norm(a[:, i] - b[:, j], axis=-1)
            known = np.isfinite(apart).any(-1)
            result[known, i, j] = np.nanmedian(apart[known], axis=-1) / size[known, i]
    return result


def identity_scores(truth: Poses, predicted: Poses, gate: float = GATE) -> IdentityScores:
    """Compare predicted tracks with true ones; frames that only one of them has are left out.

    Parameters
    ----------
    truth, predicted : Poses
        Columns are individuals. True animals need boxes.
    gate : float
        Largest distance of a match, in box sizes.

    Raises
    ------
    UserError
        If the two have no frame or no keypoint in common.
    """
    apart = distances(truth, predicted)
    frames = np.intersect1d(truth.frames, predicted.frames)
    there = np.asarray(truth.found.any(-1))[np.isin(truth.frames, frames)]
    given = np.asarray(predicted.found.any(-1))[np.isin(predicted.frames, frames)]
    close = np.asarray(apart <= gate)
    animals, shown = int(there.sum()), int(given.sum())

    # one predicted individual for each true one over the whole recording, as many matches as possible
    together = close.sum(0)
    right = int(together[linear_sum_assignment(-together)].sum())

    last: dict[int, int] = {}
    misses = false_positives = 0
    switch_frames: list[int] = []
    for t, number in enumerate(frames):
        pairs: dict[int, int] = {}
        for i, j in last.items():
            if close[t, i, j] and j not in pairs.values():
                pairs[i] = j
        rows = [i for i in np.flatnonzero(there[t]) if i not in pairs]
        columns = [j for j in np.flatnonzero(given[t]) if j not in pairs.values()]
        cost = np.where(close[t], apart[t], 1e6)[np.ix_(rows, columns)]
        for r, c in zip(*linear_sum_assignment(cost), strict=True):
            if cost[r, c] < 1e6:
                i, j = int(rows[r]), int(columns[c])
                if last.get(i, j) != j:
                    switch_frames.append(int(number))
                pairs[i] = j
        last |= pairs
        misses += int(there[t].sum()) - len(pairs)
        false_positives += int(given[t].sum()) - len(pairs)
    return IdentityScores(
        frames=len(frames),
        animals=animals,
        predicted=shown,
        idf1=2 * right / (animals + shown) if animals + shown else float("nan"),
        idp=right / shown if shown else float("nan"),
        idr=right / animals if animals else float("nan"),
        switches=len(switch_frames),
        misses=misses,
        false_positives=false_positives,
        mota=1 - (misses + false_positives + len(switch_frames)) / animals if animals else float("nan"),
        switch_frames=tuple(switch_frames),
    )
