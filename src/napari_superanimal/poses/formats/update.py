"""Bringing new labels into a label file that exists: people's work is never lost to a machine's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_superanimal.poses.poses import UNDEFINED, UNLABELLED, Poses

if TYPE_CHECKING:
    import numpy.typing as npt


def update_labels(existing: Poses, new: Poses) -> Poses:
    """`existing` with the rows of `new` in it; rows that `new` does not have stay.

    Within a row of `new`: points that a person placed are taken; a machine's point is taken unless a
    person's point is there; a missing point deletes the existing one, except where a row without any
    human point meets a human point. Individuals and keypoints are united, by name.

    Parameters
    ----------
    existing, new : Poses
        Both pictures (rows match by path) or both frames of one video (by frame number).

    Raises
    ------
    ValueError
        If one is a video and the other is not.
    """
    if existing.is_video != new.is_video:
        raise ValueError("pictures and frames of a video cannot be united")
    keypoints = tuple(dict.fromkeys((*existing.keypoints, *new.keypoints)))
    individuals = tuple(dict.fromkeys((*existing.individuals, *new.individuals)))
    old_rows, new_rows = (p.frames.tolist() if p.is_video else list(p.images) for p in (existing, new))
    keys = list(dict.fromkeys((*old_rows, *new_rows)))
    if existing.is_video:
        keys.sort()
    before = _spread(existing, keys, old_rows, individuals, keypoints)
    after = _spread(new, keys, new_rows, individuals, keypoints)
    listed = set(new_rows)
    touched = np.array([k in listed for k in keys], bool)[:, None, None]
    person = np.asarray(after.human.any(axis=(1, 2)))[:, None, None]
    keep = before.human & ~after.human & (after.found | ~person)
    take = touched & ~keep

    def pick(a: npt.NDArray, b: npt.NDArray, where: npt.NDArray[np.bool_]) -> npt.NDArray:
        return np.where(where, b, a)

    rows = touched[:, 0]
    boxed = rows & np.isfinite(after.boxes).all(-1)
    return replace(
        after,
        xy=pick(before.xy, after.xy, take[..., None]),
        visibility=pick(before.visibility, after.visibility, take),
        likelihood=pick(before.likelihood, after.likelihood, take),
        human=pick(before.human, after.human, take),
        boxes=pick(before.boxes, after.boxes, boxed[..., None]),
        box_scores=pick(before.box_scores, after.box_scores, boxed),
        image_sizes=pick(before.image_sizes, after.image_sizes, after.image_sizes > 0),
        root=new.root or existing.root,
        scorer=new.scorer or existing.scorer,
        skeleton=new.skeleton or existing.skeleton,
        metadata={**existing.metadata, **new.metadata},
    )


def _spread(
    poses: Poses, keys: list, rows: list, individuals: tuple[str, ...], keypoints: tuple[str, ...]
) -> Poses:
    """`poses` in wider arrays, with the given rows, individuals and keypoints."""
    t, a, k = len(keys), len(individuals), len(keypoints)
    place = {key: i for i, key in enumerate(keys)}
    where = np.array([place[key] for key in rows], np.int64)
    slots = np.array([individuals.index(i) for i in poses.individuals], np.int64)
    names = np.array([keypoints.index(n) for n in poses.keypoints], np.int64)
    grid = np.ix_(where, slots, names)
    xy = np.full((t, a, k, 2), np.nan)
    visibility = np.full((t, a, k), UNDEFINED, np.int8)
    visibility[:, slots[:, None], names] = UNLABELLED
    likelihood = np.full((t, a, k), np.nan)
    human = np.zeros((t, a, k), bool)
    boxes = np.full((t, a, 4), np.nan)
    scores = np.full((t, a), np.nan)
    sizes = np.zeros((t, 2), np.int64)
    xy[grid], visibility[grid] = poses.xy, poses.visibility
    likelihood[grid], human[grid] = poses.likelihood, poses.human
    boxes[where[:, None], slots], scores[where[:, None], slots] = poses.boxes, poses.box_scores
    sizes[where] = poses.image_sizes
    video = poses.is_video
    return Poses(
        keypoints=keypoints,
        individuals=individuals,
        frames=np.array(keys, np.int64) if video else np.arange(t),
        xy=xy,
        visibility=visibility,
        likelihood=likelihood,
        human=human,
        boxes=boxes,
        box_scores=scores,
        images=() if video else tuple(keys),
        image_sizes=sizes,
    )
