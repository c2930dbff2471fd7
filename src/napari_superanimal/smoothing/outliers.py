"""Keypoints that cannot be where they are: they jump out of their track, or their bones do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from napari_superanimal.smoothing.findings import Bools, Finding, Floats, body_size, merge_runs, runs

if TYPE_CHECKING:
    from napari_superanimal.poses import Poses

#: Rows on each side whose median tells where a keypoint should be: runs of up to three are seen.
HALF = 3
#: The same for positions relative to the rest of the body, which change more slowly: runs of up to eight.
WIDE = 8
#: An outlier is off by this many times the track's usual deviation, and by this share of the body.
TIMES, REACH = 6.0, 0.15
#: Partners whose distance to a keypoint varies least are its bones.
BONES = 3
#: A bone is off when its length differs by this many usual deviations and this share of the body.
BONE_TIMES, BONE_REACH = 5.0, 0.2
#: Frames with both ends needed to learn a bone's length.
ENOUGH = 20


def find_outliers(poses: Poses) -> list[Finding]:
    """Runs of frames in which keypoints lie where they cannot be; never those a person placed.

    Parameters
    ----------
    poses : Poses
        Of a video, rows in the order of their frames.
    """
    sizes = body_size(poses)
    found = []
    for a in range(len(poses.individuals)):
        if not np.isfinite(sizes[a]):
            continue
        jumps, by_jump = _jumps(poses, a, sizes[a])
        bones, by_bone = _bones(poses, a, sizes[a], jumps)
        mask = (jumps | bones) & ~poses.human[:, a]
        # a point that a person placed in the frame is right: its fellows are judged by the bones as well
        score = np.maximum(by_jump, by_bone)
        parts = [
            (rows, (poses.keypoints[k],), float(score[rows, k].max()))
            for k in range(len(poses.keypoints))
            for rows in runs(mask[:, k], poses.frames)
        ]
        found += merge_runs("outlier", poses, a, parts)
    return sorted(found, key=lambda f: int(f.frames[0]))


def _jumps(poses: Poses, a: int, size: float) -> tuple[Bools, Floats]:
    """Keypoints (T, K) away from the median of their neighbours in time, and how far, in body sizes."""
    mask = np.zeros(poses.likelihood[:, a].shape, bool)
    score = np.zeros(mask.shape)
    centre = _rest_of_body(poses.xy[:, a], poses.found[:, a])
    for k in range(len(poses.keypoints)):
        for xy, half in ((poses.xy[:, a, k], HALF), (poses.xy[:, a, k] - centre, WIDE)):
            rows = np.flatnonzero(np.isfinite(xy).all(-1))
            if len(rows) < 2 * half + 1:
                continue
            off = deviation(xy[rows], half)
            limit = max(TIMES * 1.4826 * float(np.median(off)), REACH * size)
            mask[rows, k] |= off > limit
            score[rows, k] = np.maximum(score[rows, k], off / size)
    return mask, score


def _rest_of_body(xy: Floats, found: Bools) -> Floats:
    """Median position (T, 2) of the keypoints (T, K, 2): one stray point hardly moves it; NaN below three."""
    centre = np.full((len(xy), 2), np.nan)
    enough = found.sum(-1) >= 3
    centre[enough] = np.nanmedian(xy[enough], axis=1)
    return centre


def deviation(xy: Floats, half: int = HALF) -> Floats:
    """Distance (n,) of each position (n, 2) from the median of the `half` neighbours on each side in time.

    Towards the ends of the track both sides get shorter alike: a window on one side only would lag behind.
    """
    n = len(xy)
    middle = xy.copy()
    if n > 2 * half:
        windows = sliding_window_view(xy, 2 * half + 1, axis=0)  # (n - 2 half, 2, window)
        middle[half : n - half] = np.median(windows, axis=-1)
    for i in range(1, min(half, (n + 1) // 2)):
        middle[i] = np.median(xy[: 2 * i + 1], axis=0)
        middle[n - 1 - i] = np.median(xy[n - 1 - 2 * i :], axis=0)
    return np.linalg.norm(xy - middle, axis=-1)


def _bones(poses: Poses, a: int, size: float, known: Bools) -> tuple[Bools, Floats]:
    """Keypoints (T, K) most of whose bones have lengths they never have, and by how much, in body sizes."""
    xy, found = poses.xy[:, a], poses.found[:, a]
    ends = _partners(xy, found, size)
    mask, score = np.zeros(found.shape, bool), np.zeros(found.shape)
    if not len(ends):
        return mask, score
    length = np.linalg.norm(xy[:, ends[:, 0]] - xy[:, ends[:, 1]], axis=-1)  # (T, B)
    usual = np.nanmedian(length, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(length - usual), axis=0)
    excess = np.abs(length - usual)
    off = np.nan_to_num(excess, nan=0.0) > np.maximum(BONE_TIMES * spread, BONE_REACH * size)
    # (B, K): which bones end at a keypoint
    at = np.zeros((len(ends), found.shape[1]))
    at[np.arange(len(ends)), ends[:, 0]] = at[np.arange(len(ends)), ends[:, 1]] = 1.0
    usable = np.isfinite(length) & ~((known @ at.T) > 0)
    # blame the worst keypoint of a frame, take its bones out, and look again
    for _ in range(3):
        bad, all_ = (off & usable) @ at, usable @ at
        share = np.where(all_ >= 2, bad / np.maximum(all_, 1), 0.0)
        worst = share.argmax(1)
        rows = np.flatnonzero(share.max(1) > 0.6)
        rows = rows[bad[rows, worst[rows]] >= 2]
        if not len(rows):
            break
        mask[rows, worst[rows]] = True
        own = at[:, worst[rows]].T > 0
        amount = np.where(own & usable[rows], np.nan_to_num(excess[rows]), 0.0).max(1)
        score[rows, worst[rows]] = amount / size
        usable[rows] &= ~own
    return mask, score


def _partners(xy: Floats, found: Bools, size: float) -> npt.NDArray[np.int64]:
    """Bones (B, 2): every keypoint with those whose distance from it varies least."""
    k = found.shape[1]
    vary = np.full((k, k), np.inf)
    for i in range(k):
        distance = np.linalg.norm(xy[:, i : i + 1] - xy, axis=-1)
        enough = np.isfinite(distance).sum(0) >= ENOUGH
        if enough.any():
            some = distance[:, enough]
            middle = np.nanmedian(some, axis=0)
            vary[i, enough] = np.nanmedian(np.abs(some - middle), axis=0) / size
    np.fill_diagonal(vary, np.inf)
    bones = set()
    for i in range(k):
        for j in np.argsort(vary[i], kind="stable")[:BONES]:
            if np.isfinite(vary[i, j]):
                bones.add((min(i, int(j)), max(i, int(j))))
    return np.array(sorted(bones), np.int64).reshape(-1, 2)
