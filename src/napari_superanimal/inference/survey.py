"""Which scales some frames of a recording need: the fastest whose keypoints are those of all scales.

Likelihoods hardly tell: a box that is a little off costs more accuracy than belief. Keypoints do: those of other scales
are as good as those of all if they lie no farther from them than looks at other crops of the very same boxes do.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from napari_superanimal.inference.pyramid import (
    DOUBTFUL,
    MARGINS,
    SCALES,
    PyramidPredictor,
    check_scales,
    mean_likelihood,
    views_of,
)
from napari_superanimal.inference.remembering import Remembering

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_superanimal.inference.frame_predictor import Frame, FramePredictor, Predictions

    Floats = npt.NDArray[np.float64]

#: A keypoint that lies farther away than this (animal sizes) is another one, however far.
FAR = 0.25
#: Of several animals in a frame, those are believed in that are believed in this much as much as the best.
PEERS = 0.8
#: The plain detector, in the record of what was tried.
SINGLE = "single"


@dataclass(frozen=True)
class Survey:
    """Which scales suit some frames.

    Attributes
    ----------
    frames : int
        Frames looked at.
    single : float
        Mean likelihood of the keypoints of the best animal with the plain detector; a frame without one counts 0.
    together : float
        The same in the boxes of all scales.
    limit : float
        How far keypoints lie from those of all scales where only the crop is another, in animal sizes (root mean
        square).
    tried : dict
        The same for the keypoints of the plain detector ("single") and of scales, the fastest first, up to those that
        are chosen; at least so much where not all frames were needed to see that it is too far.
    animal_share : float or None
        Longer side of the animal relative to that of the picture, with all scales; None where none is found.
    scales : tuple of float
        What to predict with; empty where the plain detector does.
    """

    frames: int
    single: float
    together: float
    limit: float
    tried: dict[str, float]
    animal_share: float | None
    scales: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "frames": self.frames,
            "single": round(self.single, 4),
            "together": round(self.together, 4),
            "limit": round(self.limit, 4),
            "tried": {name: round(v, 4) for name, v in self.tried.items()},
            "animal_share": None if self.animal_share is None else round(self.animal_share, 4),
            "scales": list(self.scales),
        }


def survey(
    predictor: FramePredictor,
    frames: Sequence[Frame],
    scales: Sequence[float] = SCALES,
    seconds: float = 30.0,
) -> Survey:
    """Predict a few frames at all scales, and choose the fastest scales whose keypoints are the same.

    The plain detector is the fastest, then come sets of scales in the order of their cost, the whole frame always
    among them: it costs a single view, and keeps frames in which the animal is larger. Keypoints are the same if they
    lie no farther from those of all scales (root mean square: a few that are lost count more than all a little off)
    than those of each single margin do, in the same boxes. Views that several sets share are looked at once.

    Parameters
    ----------
    predictor : FramePredictor
        With a detector.
    frames : sequence of (H, W, 3) uint8
    seconds : float
        Once so much time is spent, no further frame is begun.
    """
    every = check_scales(scales)
    once = Remembering(predictor, frames)
    whole = PyramidPredictor(once, every)
    began = time.perf_counter()
    best: list[Predictions] = []
    for frame in frames:
        if best and time.perf_counter() - began > seconds:
            break
        best.append(whole([frame]))
    if not best:
        return Survey(0, 0.0, 0.0, 0.0, {}, None, ())
    weights = what_counts(best)
    total = float(sum(each.sum() for each in weights))
    telling = [i for i, each in enumerate(weights) if each.any()]

    def apart(way: FramePredictor, enough: float = np.inf) -> float:
        """How far all these frames' keypoints lie from those of all scales; more than `enough` is far enough."""
        far = 0.0
        for i in telling:
            far += distance(best[i], way([frames[i]]), weights[i]) / total
            if far > enough**2:
                break
        return float(np.sqrt(far))

    one_margin = {margin: PyramidPredictor(once, every, margins=(margin,)) for margin in MARGINS}
    limit = float(np.mean([apart(way) for way in one_margin.values()]))
    chosen: tuple[float, ...] = every
    tried: dict[str, float] = {}
    for some in candidates(every):
        name = ",".join(f"{s:g}" for s in some) or SINGLE
        tried[name] = apart(PyramidPredictor(once, some) if some else once, limit)
        if tried[name] <= limit:
            chosen = some
            break
    rows = [int(believed_in(found).argmax()) for found in best]
    sizes = [best[i].boxes[0, rows[i], 2:].max() / max(frames[i].shape[:2]) for i in telling]
    # averaging looks lowers likelihoods: the usual crop can be compared
    single, together = (
        float(np.mean([believed_in(way([frame])).max() for frame in frames[: len(best)]]))
        for way in (once, one_margin[1.0])
    )
    return Survey(
        frames=len(best),
        single=single,
        together=together,
        limit=limit,
        tried=tried,
        animal_share=float(np.median(sizes)) if sizes else None,
        scales=chosen,
    )


def candidates(every: tuple[float, ...]) -> list[tuple[float, ...]]:
    """None, then sets of scales, the fastest first, without that of all."""
    always = {1.0} & set(every)
    sets = {
        tuple(sorted({*some, *always}))
        for count in range(1, len(every) + 1)
        for some in itertools.combinations(every, count)
    } - {every}
    return [(), *sorted(sets, key=lambda s: (sum(map(views_of, s)), len(s), sum(abs(np.log(s)))))]


def distance(best: Predictions, other: Predictions, weights: Floats) -> float:
    """How far the animals of one frame lie from those predicted otherwise.

    The sum, over keypoints, of the squared distance in animal sizes, `FAR` at most, which is also what a missing one
    costs, times its weight; animals are those that fit best.

    Parameters
    ----------
    best, other : Predictions
        Of one frame.
    weights : (A, K)
        What the keypoints of `best` count.
    """
    size = np.sqrt(np.prod(best.boxes[0, :, 2:].astype(np.float64), axis=-1))
    gap = np.linalg.norm(best.xy[0, :, None].astype(np.float64) - other.xy[0, None], axis=-1)
    relative = gap / np.maximum(size, 1e-6)[:, None, None]
    far = np.where(np.isfinite(relative), np.minimum(relative, FAR), FAR)
    cost = (far**2 * weights[:, None]).sum(-1)
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].sum())


def what_counts(best: Sequence[Predictions]) -> list[Floats]:
    """(A, K) per frame: the likelihoods of the animals by which scales are judged, 0 for others.

    They are those that are believed in, and of them, in each frame, as many as half of the frames show: where more are
    looked for than there are, windows show another here and there. A frame without a believable animal tells nothing.
    """
    believed = [believed_in(found) for found in best]
    sure = np.array([each.max() for each in believed])
    least = np.maximum(np.maximum(PEERS * sure, DOUBTFUL * sure.max()), 1e-9)
    counts = np.array([(each >= enough).sum() for each, enough in zip(believed, least, strict=True)])
    most = int(np.median(counts[counts > 0])) if counts.any() else 0
    weights = []
    for found, each, enough in zip(best, believed, least, strict=True):
        rank = np.argsort(np.argsort(-each, kind="stable"), kind="stable")
        counted = (each >= enough) & (rank < most)
        weights.append(np.nan_to_num(found.likelihood[0].astype(np.float64)) * counted[:, None])
    return weights


def believed_in(found: Predictions) -> Floats:
    """(A,) mean likelihood of the keypoints of each animal in one frame; 0 without any."""
    return mean_likelihood(found.likelihood[0])
