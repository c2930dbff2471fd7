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
from napari_superanimal.poses.proportions import Proportions, learn_proportions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.adaptation.teacher import Looks
    from napari_superanimal.models.load import LoadedModel

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
#: Frames that are averaged before motion is measured, so that trembling is none.
WINDOW = 5
#: Bodies that a keypoint must be judged on to say that it is wrong, and the share of them on which it then is odd. Of
#: right predictions, and of labels of animals that the model has never seen, at most 16 % of a keypoint are; with two
#: keypoints exchanged, 36 to 100 % of most (legs of a galloping dog less).
FEW, MOSTLY = 12, 0.3
#: A keypoint of an adapted model is worse than the starting model's where the share is larger by this.
MORE = 0.15


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
    by_keypoint : dict of str to float
        The same for every keypoint of which at least `FEW` could be judged.
    """

    share: float = float("nan")
    told: int = 0
    by_keypoint: dict[str, float] = field(default_factory=dict)

    def wrong(self, than: OddPoints | None = None) -> tuple[str, ...]:
        """Keypoints that mostly lie where they cannot be, the worst first; `than` another model's, clearly worse."""
        before = {} if than is None else than.by_keypoint
        found = {k: v for k, v in self.by_keypoint.items() if v > max(MOSTLY, before.get(k, -MORE) + MORE)}
        return tuple(sorted(found, key=lambda k: -found[k]))


def odd_points(proportions: Proportions | None, xy: Floats) -> OddPoints:
    """Judge bodies (..., K, 2)."""
    if proportions is None:
        return OddPoints()
    odd = proportions.odd(xy).reshape(-1, len(proportions.keypoints))
    told = np.isfinite(odd)
    if not told.any():
        return OddPoints()
    count = told.sum(0)
    each = np.where(told, odd, 0).sum(0) / np.maximum(count, 1)
    by = {proportions.keypoints[k]: float(each[k]) for k in np.flatnonzero(count >= FEW)}
    return OddPoints(float(odd[told].mean()), int(told.sum()), by)


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
