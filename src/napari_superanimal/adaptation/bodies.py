"""Do sure points make a body? Their distances are compared with those of the animals that the model was trained on.

A model that is steady, sure and wrong in the same way from every side (it calls the elbow "knee", say, or puts two legs
on one) gives bodies that no animal has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from napari_superanimal.adaptation.pseudo import trusted
from napari_superanimal.models.known import known_proportions
from napari_superanimal.poses.proportions import ROOM, Proportions, learn_proportions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.adaptation.teacher import Looks
    from napari_superanimal.models.load import LoadedModel

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
#: Frames that are averaged before motion is measured, so that trembling is none.
WINDOW = 5
#: Bodies that a pair of keypoints must be seen on to say that it is wrong. It is where the median exceeds `ROOM`: on
#: labels of animals that the models have never seen, and on clips that they are right on, the worst pair has 1.05.
FEW = 12
#: A pair of an adapted model is worse than the starting model's where the median is larger by this.
MORE = 0.25


def believed_bodies(model: LoadedModel, looks: Looks, threshold: float) -> Floats:
    """What the starting model is sure of from every side, (N, K, 2) px in its keypoint space, NaN elsewhere.

    Near and far keypoints stand under the names of their channels.
    """
    xy, believed, _ = trusted(looks, threshold)
    out = np.full((len(looks), len(model.space), 2), np.nan)
    channels = [model.space.index(k) for k in model.card.keypoints]
    out[:, channels] = np.where(believed[..., None], xy, np.nan)
    return out


def proportions_for(
    model: LoadedModel, looks: Sequence[Looks], threshold: float
) -> tuple[Proportions | None, bool]:
    """What bodies should be like, and whether that comes from labels.

    From the labelled animals that the model was trained on, where its card has them. Else from what it is sure of in
    these looks: that says nothing about the starting model, but shows whether an adapted one gives other bodies.
    """
    known = known_proportions(model.card, model.space.keypoints)
    if known is not None:
        return known, True
    bodies = [believed_bodies(model, each, threshold) for each in looks]
    every = np.concatenate(bodies) if bodies else np.empty((0, len(model.space), 2))
    view = model.card.view
    return learn_proportions(
        every, model.space.keypoints, model.space.swap, mirrored="top" not in view
    ), False


@dataclass(frozen=True)
class OddPoints:
    """Keypoints that do not fit the rest of their body.

    Attributes
    ----------
    share : float, 0..1
        Of all that could be judged; NaN without any.
    told : int
        How many could be judged.
    by_pair : dict of str to float
        For pairs of keypoints seen on at least `FEW` bodies, how far off they are to each other: the median over
        bodies, where 1 is what nearly all animals of the training data keep to.
    """

    share: float = float("nan")
    told: int = 0
    by_pair: dict[str, float] = field(default_factory=dict)

    def wrong(self, than: OddPoints | None = None) -> tuple[str, ...]:
        """Pairs that mostly lie to each other as on no animal, the worst first; clearly more so `than` another's."""
        before = {} if than is None else than.by_pair
        found = {k: v for k, v in self.by_pair.items() if v > max(ROOM, before.get(k, 0.0) + MORE)}
        return tuple(sorted(found, key=lambda k: -found[k]))


def odd_points(proportions: Proportions | None, xy: Floats) -> OddPoints:
    """Judge bodies (..., K, 2)."""
    if proportions is None:
        return OddPoints()
    odd = proportions.odd(xy)
    told = np.isfinite(odd)
    if not told.any():
        return OddPoints()
    names = proportions.keypoints
    off = proportions.distances(xy).reshape(-1, len(proportions.pairs))
    by_pair = {}
    for (i, j), column in zip(proportions.pairs, off.T, strict=True):
        seen = column[np.isfinite(column)]
        if len(seen) >= FEW:
            by_pair[f"{names[i]} and {names[j]}"] = float(np.median(seen))
    return OddPoints(float(odd[told].mean()), int(told.sum()), by_pair)


def motion(xy: Floats, boxes: Floats, given: Bools, frames: npt.NDArray[np.int64]) -> float:
    """How much keypoints move within their box, in its sizes: standard deviation, root mean square over keypoints.

    Of averages over `WINDOW` neighbouring frames in which a point is given: what trembles does not move. NaN without
    any. A model that answers with the same pose whatever it is shown has none, and is very steady.

    Parameters
    ----------
    xy : (T, A, K, 2) px; boxes : (T, A, 4) px; given : (T, A, K); frames : (T,)
    """
    size = np.sqrt(np.prod(boxes[..., 2:], -1))[..., None, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        place = (xy - (boxes[..., :2] + boxes[..., 2:] / 2)[:, :, None]) / size
    place = np.where(given[..., None], place, np.nan)
    if len(place) < WINDOW:
        return float("nan")
    runs = frames[WINDOW - 1 :] - frames[: 1 - WINDOW] == WINDOW - 1
    steady = sliding_window_view(place, WINDOW, axis=0)[runs].mean(-1)  # (T', A, K, 2)
    spread = []
    for a, k in np.ndindex(*steady.shape[1:3]):
        own = steady[:, a, k][np.isfinite(steady[:, a, k]).all(-1)]
        if len(own) >= 2 * WINDOW:
            spread.append((float(own.var(0).sum()), len(own)))
    if not spread:
        return float("nan")
    variance, weight = np.array(spread).T
    return float(np.sqrt((variance * weight).sum() / weight.sum()))
