"""Figures of a model's predictions on a few sampled frames of a video."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.evaluation.jitter import accelerations
from napari_superanimal.inference.pictures import animal_figures, light, novelty_of
from napari_superanimal.poses.sides import check_sides

if TYPE_CHECKING:
    from napari_superanimal.inference.frame_predictor import Frame
    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.models.card import ModelCard
    from napari_superanimal.models.load import LoadedModel
    from napari_superanimal.poses import Poses

Floats = npt.NDArray[np.float64]
#: Second difference, in sizes, of a point whose error is new in every frame and a tenth of the size: more is wrong.
STEADY = 0.1 * float(np.sqrt(6))
#: Farthest that an animal moves from one frame to the next, in its own sizes.
REACH = 1.0


def measure(
    poses: Poses, frames: list[Frame], card: ModelCard, space: KeypointSpace, model: LoadedModel | None
) -> dict[str, Any]:
    """What can be told without labels.

    Parameters
    ----------
    poses : Poses
        Untracked predictions, the best box first; ``poses.frames`` are numbers of the video.
    frames : list of (H, W, 3) uint8
        Row by row.
    model : LoadedModel or None
        For the familiarity; None for models without calibration.

    Returns
    -------
    dict
        detection (share of frames with an animal), animals (how many), size, light, novelty, likelihood (profile),
        sides (left/right consistency), steadiness (jitter and turns on bursts).
    """
    boxed = np.asarray(np.isfinite(poses.boxes).all(-1))
    best = np.flatnonzero(boxed[:, 0])
    counts = boxed.sum(1)
    animals = [animal_figures(frames[t], poses.boxes[t, 0]) for t in best]
    novelty = np.full(0, np.nan)
    if model is not None and len(best):
        novelty = novelty_of(model, [frames[t] for t in best], poses.boxes[best, 0])
    own = [poses.keypoints.index(k) for k in card.keypoints if k in poses.keypoints]
    own = own or list(range(len(poses.keypoints)))
    whole = [light(frame) for frame in frames]
    return {
        "detection": {
            "share": float(boxed.any(1).mean()),
            "score": _middle(poses.box_scores[best, 0]),
        },
        "animals": {
            "typical": int(np.median(counts[counts > 0])) if counts.any() else 0,
            "most": int(counts.max()),
            "everywhere": bool((counts >= poses.boxes.shape[1]).mean() > 0.5 and poses.boxes.shape[1] > 2),
            "frames_by_count": {int(n): int((counts == n).sum()) for n in np.unique(counts)},
        },
        "size": {key: _middle([a[key] for a in animals]) for key in ("animal_px", "animal_share")},
        "light": {key: _middle([a[key] for a in (animals or whole)]) for key in ("brightness", "contrast")},
        "novelty": _middle(novelty),
        "likelihood": _profile(poses, best, own, card.threshold),
        "sides": _sides(poses, space, best),
        "steadiness": _steadiness(poses, space, own, card.threshold),
    }


def _middle(values: Any) -> float | None:
    """Median of what is finite; None without any."""
    v = np.asarray(values, np.float64)
    v = v[np.isfinite(v)]
    return float(np.median(v)) if len(v) else None


def _profile(poses: Poses, best: npt.NDArray[np.int64], own: list[int], threshold: float) -> dict[str, Any]:
    """Likelihood of the best animal's keypoints: mean, per keypoint, histogram, share that counts as sure."""
    sure = poses.likelihood[best, 0][:, own]
    finite = sure[np.isfinite(sure)]
    per = {}
    for i, k in enumerate(own):
        column = sure[:, i][np.isfinite(sure[:, i])]
        if len(column):
            per[poses.keypoints[k]] = round(float(column.mean()), 4)
    histogram, _ = np.histogram(np.clip(finite, 0, 1), 10, (0, 1))
    return {
        "mean": float(finite.mean()) if len(finite) else None,
        "per_animal": _middle(np.nanmean(sure, 1)) if len(finite) else None,
        "share_sure": float((finite >= threshold).mean()) if len(finite) else 0.0,
        "threshold": threshold,
        "per_keypoint": per,
        "histogram": histogram.tolist(),
        "values": [round(float(v), 4) for v in finite],
    }


def _sides(poses: Poses, space: KeypointSpace, best: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Does left lie on the same side of the body in all frames?"""
    # a tail makes the animal longer than its body's axis, and tells nothing about sides
    tell = {*space.front, *space.rear, *(name for pair in space.pairs for name in pair)}
    chosen = poses.take(best)
    body = np.array([name in tell for name in chosen.keypoints])
    report = check_sides(replace(chosen, xy=np.where(body[:, None], chosen.xy, np.nan)), space)
    told = [(n, share) for n, share in report.pairs.values() if n]
    total = sum(n for n, _ in told)
    agreeing = sum(n * max(share, 1 - share) for n, share in told)
    return {
        "told": total,
        "agreement": agreeing / total if total else None,
        "pairs": {
            name: {"n": n, "left_on_left": round(share, 3)} for name, (n, share) in report.pairs.items()
        },
    }


def _steadiness(poses: Poses, space: KeypointSpace, own: list[int], threshold: float) -> dict[str, Any]:
    """Jitter, exchanged sides and turns of the body from one frame to the next, on runs of neighbouring frames."""
    bends, triplets, swaps, turns, steps = [], 0, 0, 0, 0
    starts = np.flatnonzero(np.concatenate([[True], np.diff(poses.frames) != 1]))
    for rows in np.split(np.arange(len(poses)), starts[1:]):
        column = _follow(poses, rows)
        if len(rows) < 2 or column is None:
            continue
        xy = poses.xy[rows, column]
        sure = poses.likelihood[rows, column] >= threshold
        # without sure points, jitter is that of all: a model that is never sure shall not look steady
        seen = xy if sure[:, own].mean() < 0.2 else np.where(sure[..., None], xy, np.nan)
        size = np.sqrt(np.prod(poses.boxes[rows, column, 2:], -1))
        bend = accelerations(seen[:, None, own], poses.frames[rows])[:, 0] / np.median(size)
        bends.append(bend[np.isfinite(bend)])
        triplets += int(np.isfinite(bend).sum())
        swapped, turned, pairs = _changes(xy, space)
        swaps, turns, steps = swaps + swapped, turns + turned, steps + pairs
    flat = np.concatenate(bends) if bends else np.empty(0)
    return {
        "jitter_relative": float(flat.mean()) if len(flat) else None,
        "jitter_median": float(np.median(flat)) if len(flat) else None,
        "steady_share": float((flat <= STEADY).mean()) if len(flat) else None,
        "triplets": triplets,
        "steps": steps,
        "side_swaps": swaps,
        "turns": turns,
    }


def _follow(poses: Poses, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
    """Column of the same animal in each of some rows; None where it gets lost."""
    boxes = poses.boxes[rows]
    centre = boxes[..., :2] + boxes[..., 2:] / 2
    columns = [0]
    if not np.isfinite(boxes[0, 0]).all():
        return None
    for t in range(1, len(rows)):
        gap = np.linalg.norm(centre[t] - centre[t - 1, columns[-1]], axis=-1)
        size = max(float(boxes[t - 1, columns[-1], 2:].max()), 1.0)
        if not np.isfinite(gap).any() or np.nanmin(gap) > REACH * size:
            return None
        columns.append(int(np.nanargmin(gap)))
    return np.array(columns)


def _changes(xy: Floats, space: KeypointSpace) -> tuple[int, int, int]:
    """Steps (T - 1 of them) at which left and right, or head and hind end, change places."""
    swap = space.swap
    index = np.flatnonzero(swap != np.arange(len(swap)))
    front, rear = ([space.index(n) for n in names] for names in (space.front, space.rear))
    swapped = turned = 0
    for before, after in pairwise(xy):
        as_is = np.linalg.norm(after[index] - before[index], axis=-1)
        other = np.linalg.norm(after[swap[index]] - before[index], axis=-1)
        both = np.isfinite(as_is) & np.isfinite(other)
        if both.any() and other[both].sum() < 0.5 * as_is[both].sum():
            swapped += 1
        axes = [_mean(p[front]) - _mean(p[rear]) for p in (before, after)]
        if np.isfinite(axes).all() and float(np.dot(*axes)) < 0:
            turned += 1
    return swapped, turned, len(xy) - 1


def _mean(points: Floats) -> Floats:
    """Mean of the finite points, NaN without any."""
    seen = points[np.isfinite(points).all(-1)]
    return seen.mean(0) if len(seen) else np.full(2, np.nan)
