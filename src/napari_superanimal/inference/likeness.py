"""How alike two sightings of animals are: keypoints, boxes, places."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_superanimal.poses import box_iou

Floats = npt.NDArray[np.float64]

#: Fewest keypoints that two poses must share to be compared.
SHARED = 3
#: Two poses whose keypoints lie closer than this (median, in box sizes) are the same animal.
SAME = 0.1
#: How far a keypoint moves between frames, in box sizes: the width of the OKS.
SPREAD = 0.15
#: Of a similarity: share of the keypoints, of the boxes' overlap, of the distance between the boxes' centres.
POSE, OVERLAP, NEARNESS = 0.75, 0.125, 0.125


def centres(boxes: Floats) -> Floats:
    """Centres (..., 2) of boxes (..., 4)."""
    return boxes[..., :2] + boxes[..., 2:] / 2


def areas(boxes: Floats) -> Floats:
    """Areas (...) of boxes (..., 4)."""
    return np.asarray(boxes[..., 2] * boxes[..., 3])


def covered(a: Floats, b: Floats) -> Floats:
    """(N, M) share of each box (N, 4) that lies in each box (M, 4)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    return np.asarray(np.prod(np.clip(high - low, 0, None), axis=-1) / np.maximum(areas(a)[:, None], 1e-9))


def oks(expected: Floats, found: Floats, size: Floats, spread: Floats) -> Floats:
    """(N, M) similarity of poses (N, K, 2) and (M, K, 2) over shared keypoints; NaN where they share too few."""
    square = ((expected[:, None] - found[None]) ** 2).sum(-1)
    shared = np.isfinite(square)
    alike = np.where(shared, np.exp(-np.where(shared, square, 0) / (2 * (spread * size) ** 2)[..., None]), 0)
    count = shared.sum(-1)
    return np.where(count >= SHARED, alike.sum(-1) / np.maximum(count, 1), np.nan)


def relative_gap(a: Floats, b: Floats) -> Floats:
    """(N, M) distance of the boxes' centres in sizes of the larger box."""
    gap = np.linalg.norm(centres(a)[:, None] - centres(b)[None], axis=-1)
    return np.asarray(gap / np.maximum(np.sqrt(np.maximum(areas(a)[:, None], areas(b)[None])), 1.0))


def likeness(boxes: Floats, points: Floats, new: Floats, poses: Floats, missed: Floats) -> Floats:
    """(N, M) similarity, 0..1, of expected animals and found ones.

    Parameters
    ----------
    boxes, new : (N, 4), (M, 4) px
    points, poses : (N, K, 2), (M, K, 2) px, NaN where a keypoint is not sure
    missed : (N,)
        For how many frames each was not seen: what is expected of it is less certain then.
    """
    relative = relative_gap(boxes, new)
    size = np.sqrt(np.maximum(areas(boxes)[:, None], areas(new)[None]))
    overlap = box_iou(boxes, new)
    pose = oks(points, poses, size, SPREAD * (1 + 0.25 * missed[:, None]))
    # without enough keypoints the boxes alone decide
    pose = np.where(np.isnan(pose), (overlap + np.exp(-2 * relative)) / 2, pose)
    return np.asarray(POSE * pose + OVERLAP * overlap + NEARNESS * np.exp(-2 * relative))


def evidence(scores: Floats, likelihood: Floats) -> Floats:
    """(M,) how sure it is that there is an animal: the detector's score (M,) and how sure the keypoints (M, K) are.

    A stain that looks like an animal from afar has no nose and no tail. Where there are no keypoints, the score alone
    says it.
    """
    known = np.isfinite(likelihood)
    mean = np.where(known, likelihood, 0.0).sum(-1) / np.maximum(known.sum(-1), 1)
    return np.asarray(scores * np.where(known.any(-1), mean, 1.0))


def same_animal(boxes: Floats, points: Floats) -> npt.NDArray[np.bool_]:
    """(N, N) whether two sightings show one animal: their keypoints lie on each other."""
    n = len(boxes)
    same = np.zeros((n, n), bool)
    for i in range(n):
        for j in range(i):
            apart = np.linalg.norm(points[i] - points[j], axis=-1)
            apart = apart[np.isfinite(apart)]
            size = np.sqrt(min(areas(boxes[i]), areas(boxes[j])))
            same[i, j] = same[j, i] = len(apart) >= SHARED and np.median(apart) < SAME * size
    return same


def first_of_each(boxes: Floats, weight: Floats, points: Floats) -> npt.NDArray[np.int64]:
    """Rows of detections, ascending, without those that show an animal again.

    Of two boxes with the same animal in them, the one that lies around its keypoints is kept: the other one belongs
    to a neighbour, whose own keypoints were not found. Evidence (`weight`) counts as much.
    """
    fit = np.zeros(len(boxes))
    for row in range(len(boxes)):
        sure = points[row][np.isfinite(points[row]).all(-1)]
        if len(sure) < SHARED:
            continue
        low, high = sure.min(0), sure.max(0)
        fit[row] = box_iou(boxes[row][None], np.concatenate([low, high - low])[None])[0, 0]
    same = same_animal(boxes, points)
    kept: list[int] = []
    for row in np.lexsort((-weight, -weight * fit)):
        if not same[row, kept].any():
            kept.append(int(row))
    return np.array(sorted(kept), np.int64)


def box_around(points: Floats, margin: float) -> Floats:
    """Box (4,) with a margin around keypoints (K, 2); NaN without enough of them."""
    sure = points[np.isfinite(points).all(-1)]
    if len(sure) < SHARED or not np.isfinite(margin):
        return np.full(4, np.nan)
    low = sure.min(0) - margin
    return np.concatenate([low, np.maximum(sure.max(0) + margin - low, 1.0)])
