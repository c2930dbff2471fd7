"""Did adapting help? Figures on frames that were not learned from; `verdict` decides by them.

All figures compare the same points. *Fixed points* (frame, animal, keypoint) are those where the starting model was
sure and agreed with itself when the crop was moved, scaled and mirrored. They are chosen before anything is adapted, so
that a model that drops what it cannot place gains nothing.

- **jitter**: mean of ``|x(t+1) - 2 x(t) + x(t-1)|`` (`evaluation.jitter.accelerations`), px per frame^2, over all
  points that both models give, sure or not. The paper gives no formula; this is the mean absolute acceleration. *Fixed*
  jitter is that of triplets of fixed points.
- **dropped**: share of (frame, animal, keypoint) that is missing or below the card's threshold.
- **body size**: square root of the area of the convex hull of the fixed points of a frame; its coefficient of variation
  (standard deviation over mean) within each burst, averaged over bursts.
- **out of proportion**: share of sure points (each model's own) whose distances from the others are as on no animal
  that the model was trained on (`poses.proportions`).
- **motion**: how much the fixed points move within their boxes, trembling left out (`bodies.motion`).
- **agreement**: share of fixed points that stay within a tenth of the animal's size of where they were.
- **error**: mean distance from labels, px, where there are any.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from napari_superanimal.adaptation.bodies import OddPoints, motion, odd_points
from napari_superanimal.adaptation.heading import headings
from napari_superanimal.adaptation.pseudo import trusted
from napari_superanimal.evaluation.jitter import accelerations, hull_sizes
from napari_superanimal.poses import boxes_from_keypoints, facing
from napari_superanimal.smoothing import SmoothOptions, smooth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.adaptation.teacher import Looks
    from napari_superanimal.models.load import LoadedModel
    from napari_superanimal.poses import Poses
    from napari_superanimal.poses.proportions import Proportions

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
#: Two positions closer than this, in sizes of the animal, agree.
NEAR = 0.1
#: Smoothing that costs nothing: what adaptation has to be compared with.
BASELINES = {"median": SmoothOptions(method="median", window=7), "kalman": SmoothOptions(method="kalman")}


@dataclass(frozen=True)
class Figures:
    """One set of predictions on the held-out frames; NaN where there is nothing to measure.

    Attributes
    ----------
    jitter_px, jitter_fixed_px : float
        Of all points, and of fixed points.
    dropped : float, 0..1
    size_variation : float
    agreement : float, 0..1
    moved : float
        Median distance of fixed points from the starting model's, in sizes of the animal.
    error_px, right : float
        Mean distance from the labels, and share of labels within a tenth of the animal's size.
    labels : int
        Labelled points measured on.
    odd : OddPoints
        Sure points out of proportion.
    motion : float
        Of the fixed points within their boxes, in sizes of the animal.
    per_keypoint : dict
        Keypoint to ``jitter_fixed_px``, ``dropped``, ``error_px``.
    """

    jitter_px: float
    jitter_fixed_px: float
    dropped: float
    size_variation: float
    agreement: float
    moved: float
    error_px: float
    right: float
    labels: int
    odd: OddPoints
    motion: float
    per_keypoint: dict[str, dict[str, float]]

    def to_json(self) -> dict[str, Any]:
        """``odd`` by keypoint, and ``out_of_proportion``, its share."""
        return {**asdict(self), "out_of_proportion": self.odd.share}


@dataclass(frozen=True)
class Proof:
    """Before and after on the held-out frames of one video.

    Attributes
    ----------
    video : str
    frames, points, triplets : int
        Held-out frames, fixed points on them, and triplets of fixed points in neighbouring frames.
    arms : dict of str to Figures
        "zero-shot", "adapted", and the filters on the zero-shot, "median" and "kalman".
    """

    video: str
    frames: int
    points: int
    triplets: int
    arms: dict[str, Figures]

    @property
    def before(self) -> Figures:
        return self.arms["zero-shot"]

    @property
    def after(self) -> Figures:
        return self.arms["adapted"]

    def to_json(self) -> dict[str, Any]:
        return {
            "video": self.video,
            "frames": self.frames,
            "points": self.points,
            "triplets": self.triplets,
            "arms": {name: figures.to_json() for name, figures in self.arms.items()},
        }


def prove(
    before: Poses,
    after: Poses,
    keypoints: Sequence[str],
    threshold: float,
    *,
    fixed: Bools | None = None,
    labels: Poses | None = None,
    proportions: Proportions | None = None,
) -> Proof:
    """Compare predictions of the same frames.

    Parameters
    ----------
    before, after : Poses
        Of the starting and of the adapted model, with the same frames and keypoints; gaps between bursts allowed.
    keypoints : sequence of str
        Those that the model really gives.
    threshold : float
        Likelihood from which a keypoint counts as sure.
    fixed : (T, A, len(keypoints)) bool, optional
        The fixed points (`fixed_points`); by default those that `before` is sure of.
    labels : Poses, optional
        Rows are frames of the same video (``frames``), keypoints those of `before`; frames without labels may be
        missing.
    proportions : Proportions, optional
        What bodies should be like, for the keypoints of `before`.
    """
    after = same_columns(before, after)
    own = np.array([before.keypoints.index(k) for k in keypoints])
    sure = _sure(before, threshold)[..., own] if fixed is None else fixed & before.found[..., own]
    sizes = animal_sizes(before)
    arms = {"zero-shot": before, "adapted": after}
    arms |= {name: smooth(before, options) for name, options in BASELINES.items()}
    triplets = _triplets(sure)
    given = before.present | after.present
    both = before.found[..., own] & after.found[..., own]
    at = before.xy[:, :, own]
    truth = None if labels is None else _on_rows(labels, before)
    figures = {
        name: replace(
            _figures(poses, own, both, sure, triplets, given, at, sizes, threshold, truth),
            motion=motion(poses.xy[:, :, own], before.boxes, sure & both, before.frames),
            odd=odd_points(proportions, np.where(_sure(poses, threshold)[..., None], poses.xy, np.nan)),
        )
        for name, poses in arms.items()
    }
    count = int(np.isfinite(accelerations(np.where(sure[..., None], at, np.nan), before.frames)).sum())
    return Proof(str(before.metadata.get("path", "")), len(before), int(sure.sum()), count, figures)


def _figures(
    poses: Poses,
    own: Any,
    both: Bools,
    sure: Bools,
    triplets: Bools,
    given: Bools,
    at: Floats,
    sizes: Floats,
    threshold: float,
    truth: Poses | None,
) -> Figures:
    xy = poses.xy[:, :, own]
    names = [poses.keypoints[k] for k in own]
    bend = accelerations(np.where(both[..., None], xy, np.nan), poses.frames)
    fixed = np.where(triplets, bend, np.nan)
    dropped = ~_sure(poses, threshold)[..., own] & given[..., None]
    moved = np.linalg.norm(xy - at, axis=-1) / sizes
    # a point that is gone has moved as far as can be
    moved = np.where(sure & ~np.isfinite(moved), np.inf, moved)[sure]
    error, right, count = np.full(xy.shape[:3], np.nan), float("nan"), 0
    if truth is not None:
        error, scale = _errors(poses, truth)
        error = error[..., own]
        count = int(np.isfinite(error).sum())
        if count:
            right = float((error <= NEAR * scale)[np.isfinite(error)].mean())
    per = {
        name: {
            "jitter_fixed_px": _mean(fixed[..., i]),
            "jitter_px": _mean(bend[..., i]),
            "dropped": float(dropped[..., i].sum() / max(int(given.sum()), 1)),
            "error_px": _mean(error[..., i]),
        }
        for i, name in enumerate(names)
    }
    return Figures(
        jitter_fixed_px=_mean(fixed),
        jitter_px=_mean(bend),
        dropped=float(dropped.sum() / max(int(given.sum()) * len(own), 1)),
        size_variation=_variation(np.where(sure[..., None], xy, np.nan), poses.frames),
        agreement=float((moved <= NEAR).mean()) if len(moved) else float("nan"),
        moved=float(np.median(moved)) if len(moved) else float("nan"),
        error_px=_mean(error),
        right=right,
        labels=count,
        odd=OddPoints(),
        motion=float("nan"),
        per_keypoint=per,
    )


def same_columns(before: Poses, after: Poses) -> Poses:
    """`after` with its individuals in the columns of the nearest ones of `before`, frame by frame.

    Raises
    ------
    ValueError
        If the frames or keypoints differ.
    """
    if before.keypoints != after.keypoints or not np.array_equal(before.frames, after.frames):
        raise ValueError("predictions of the same frames and keypoints are needed")
    slots = len(before.individuals)
    if slots == 1:
        return after
    order = np.tile(np.arange(slots), (len(before), 1))
    for t in range(len(before)):
        centre = [p.boxes[t, :, :2] + p.boxes[t, :, 2:] / 2 for p in (before, after)]
        apart = np.linalg.norm(centre[0][:, None] - centre[1][None], axis=-1)
        rows, columns = linear_sum_assignment(np.nan_to_num(apart, nan=1e6))
        order[t, rows] = columns
    rows_ = np.arange(len(before))[:, None]
    return replace(
        after,
        individuals=before.individuals,
        **{
            name: getattr(after, name)[rows_, order]
            for name in ("xy", "visibility", "likelihood", "human", "boxes", "box_scores")
        },
    )


def animal_sizes(poses: Poses) -> Floats:
    """Square root of the box's area (T, A, 1), px; the median where an animal has no box."""
    size = np.sqrt(np.prod(poses.boxes[..., 2:], -1))
    usual = float(np.nanmedian(size)) if np.isfinite(size).any() else 1.0
    return np.where(np.isfinite(size), size, usual)[..., None]


def _sure(poses: Poses, threshold: float) -> Bools:
    with np.errstate(invalid="ignore"):
        return poses.found & (poses.likelihood >= threshold)


def _triplets(sure: Bools) -> Bools:
    """(T - 2, A, K) where a point is sure in three neighbouring frames."""
    if len(sure) < 3:
        return np.zeros((0, *sure.shape[1:]), bool)
    return sure[2:] & sure[1:-1] & sure[:-2]


def _variation(xy: Floats, frames: npt.NDArray[np.int64]) -> float:
    """Coefficient of variation of the hull's size within each burst, averaged."""
    sizes = hull_sizes(xy)
    found = []
    for rows in np.split(np.arange(len(frames)), np.flatnonzero(np.diff(frames) != 1) + 1):
        for a in range(sizes.shape[1]):
            own = sizes[rows, a][np.isfinite(sizes[rows, a])]
            if len(own) >= 5 and own.mean() > 0:
                found.append(float(own.std() / own.mean()))
    return float(np.mean(found)) if found else float("nan")


def _on_rows(labels: Poses, like: Poses) -> Poses:
    """Labels on the rows of `like`; rows without labels are NaN."""
    place = {int(f): i for i, f in enumerate(labels.frames)}
    index = np.array([place.get(int(f), -1) for f in like.frames])
    there = index >= 0
    chosen = labels.take(np.where(there, index, 0))
    return replace(
        chosen,
        frames=like.frames,
        xy=np.where(there[:, None, None, None], chosen.xy, np.nan),
        boxes=np.where(there[:, None, None], chosen.boxes, np.nan),
    )


def _errors(poses: Poses, truth: Poses) -> tuple[Floats, Floats]:
    """Distance (T, A, K) of predictions from the labels of the nearest labelled animal, and its size (T, A, 1)."""
    error = np.full(poses.xy.shape[:3], np.nan)
    scale = np.full((*poses.xy.shape[:2], 1), np.nan)
    boxes = np.where(np.isfinite(truth.boxes), truth.boxes, boxes_from_keypoints(truth.xy))
    for t in range(len(poses)):
        labelled = np.flatnonzero(np.isfinite(truth.xy[t]).all(-1).any(-1))
        if not len(labelled):
            continue
        apart = np.linalg.norm(poses.xy[t][:, None] - truth.xy[t, labelled][None], axis=-1)
        cost = np.array([[_mean(apart[a, g], 1e6) for g in range(len(labelled))] for a in range(len(apart))])
        for a, g in zip(*linear_sum_assignment(cost), strict=True):
            error[t, a] = apart[a, g]
            scale[t, a] = np.sqrt(np.prod(boxes[t, labelled[g], 2:]))
    return error, scale


def _mean(values: Floats, otherwise: float = float("nan")) -> float:
    seen = values[np.isfinite(values)]
    return float(seen.mean()) if len(seen) else otherwise


def fixed_points(
    before: Poses, looks: Looks, model: LoadedModel, threshold: float, beside: Looks | None = None
) -> Bools:
    """The fixed points (T, A, channels) among predictions of the starting model.

    Parameters
    ----------
    before : Poses
        Its predictions on the held-out frames, in its keypoint space.
    looks : Looks
        The same frames, looked at several times.
    beside : Looks, optional
        Other frames of the same video, for the way that animals go.
    """
    card, space = model.card, model.space
    back = headings(looks, card, space, beside) < 0
    _, believed, _ = trusted(looks, threshold, back)
    whole = np.zeros((len(looks), len(space)), bool)
    whole[:, [space.index(k) for k in card.keypoints]] = believed
    out = np.zeros((len(before), len(before.individuals), len(space)), bool)
    row = {int(f): i for i, f in enumerate(before.frames)}
    side = facing(before.xy, space, before.likelihood)
    centre = before.boxes[..., :2] + before.boxes[..., 2:] / 2
    for n in range(len(looks)):
        t = row.get(int(looks.frames[n]))
        if t is None:
            continue
        apart = np.linalg.norm(centre[t] - looks.boxes[n, :2] - looks.boxes[n, 2:] / 2, axis=-1)
        if not np.isfinite(apart).any() or np.nanmin(apart) > 0.1 * looks.size[n]:
            continue
        a = int(np.nanargmin(apart))
        # channels mean near and far, predictions left and right: an animal that faces right shows its right side
        swapped = card.side_canonical and side[t, a] > 0
        out[t, a] = whole[n][space.swap] if swapped else whole[n]
    return out[..., [before.keypoints.index(k) for k in card.keypoints]]
