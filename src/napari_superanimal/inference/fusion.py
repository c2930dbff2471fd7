"""Boxes and keypoints seen several times, made one. Distances count relative to the animal's size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = npt.NDArray[np.float64]

#: Of two boxes that overlap by more (IoU), one goes.
SAME = 0.5
#: Of two boxes of which one covers this share of the other, one goes: a window sees half an animal.
PART = 0.65
#: Two candidates of a keypoint that are farther apart than this share of the animal's size (square root of the box's
#: area) are not the same point.
AGREE = 0.08


def covered(a: Floats, b: Floats) -> Floats:
    """Intersection of boxes (N, 4) with boxes (M, 4) relative to the smaller of each two, (N, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=-1)
    smaller = np.minimum(np.prod(a[:, None, 2:], axis=-1), np.prod(b[None, :, 2:], axis=-1))
    return np.asarray(both / np.maximum(smaller, 1e-9))


def merge_boxes(boxes: Floats, weights: Floats, most: int, part: float = PART) -> npt.NDArray[np.int64]:
    """Which boxes to keep, the weightiest first, at most `most`; the rest see the same animals or parts of them.

    Parameters
    ----------
    boxes : (M, 4) x, y, width, height
    weights : (M,)
    part : float
        Of two boxes of which one covers more than this share of the other, one goes; infinity lets both stay.
    """
    from napari_superanimal.poses import box_iou

    kept: list[int] = []
    for i in np.argsort(-weights, kind="stable"):
        if len(kept) == most:
            break
        mine, others = boxes[i : i + 1], boxes[kept]
        if kept and ((box_iou(mine, others) > SAME).any() or (covered(mine, others) > part).any()):
            continue
        kept.append(int(i))
    return np.array(kept, np.int64)


def fuse_keypoints(
    xy: Floats, sure: Floats, size: Floats, weights: Sequence[float] | None = None
) -> tuple[Floats, Floats]:
    """One set of keypoints from several looks at the same animals.

    Per keypoint, the candidate nearest to all others (weighted by likelihood) is the consensus; those within `AGREE`
    of the animal's size of it are averaged, weighted by likelihood and `weights`, and the others dropped. The
    likelihood is the mean over all looks in which a dropped one counts 0: looks that contradict each other make a
    point doubtful.

    Parameters
    ----------
    xy : (S, N, K, 2) px
        Looks; NaN where a look has no point.
    sure : (S, N, K) 0..1
    size : (N,) px
        Square root of the area of each animal's box.
    weights : (S,), optional
        How exact each look is, relative to the others; by default all are the same.

    Returns
    -------
    xy : (N, K, 2); likelihood : (N, K); NaN where no look has a point
    """
    there = np.isfinite(xy).all(-1) & np.isfinite(sure)
    weight = np.where(there, np.maximum(sure, 1e-3), 0.0)
    points = np.where(there[..., None], xy, 0.0)
    gap = (
        np.linalg.norm(points[:, None] - points[None], axis=-1) / np.maximum(size, 1e-6)[None, None, :, None]
    )
    # far is far: one wild candidate must not pull the consensus towards it
    cost = (np.minimum(gap, 4 * AGREE) * weight[None]).sum(1)
    # of candidates equally near to the others, the likelier one
    medoid = np.where(there, cost - 1e-6 * weight, np.inf).argmin(0)
    near = np.take_along_axis(gap, medoid[None, None], 0)[0] <= AGREE
    exact = np.ones(len(xy)) if weights is None else np.asarray(weights, np.float64)
    share = weight * (near & there) * exact[:, None, None]
    total = share.sum(0)
    nothing = total == 0
    mean = (points * share[..., None]).sum(0) / np.where(nothing, 1.0, total)[..., None]
    looks = np.maximum(there.sum(0), 1)
    likelihood = np.where(near & there, sure, 0.0).sum(0) / looks
    mean[nothing], likelihood[nothing] = np.nan, np.nan
    return mean, likelihood
