"""Going on with a cancelled prediction: what is left, and joining the parts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.run_card import card_path, identity, read_card

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_superanimal.poses import Poses


def unfinished(predictions: Path, card: Mapping[str, Any]) -> str | None:
    """State of the earlier run that wrote `predictions`: "complete", "cancelled", or None if there was none.

    Parameters
    ----------
    card : mapping
        The run card of the work that is wanted now.

    Raises
    ------
    UserError
        If the earlier run had other settings, so that its results cannot be part of this one.
    """
    path = card_path(predictions)
    if not path.exists():
        if predictions.exists():
            raise UserError(
                "has no run card, so it cannot be resumed",
                path=predictions,
                remedy="start anew with --overwrite, or give another --out",
            )
        return None
    earlier = read_card(path)
    was, wanted = identity(earlier), identity(card)
    differing = [name for name in wanted if was[name] != wanted[name]]
    if differing:
        raise UserError(
            f"was made with other settings ({', '.join(differing)}), so it cannot be resumed",
            path=predictions,
            remedy="repeat the settings of the run card, or start anew with --overwrite",
        )
    if not predictions.exists():
        return None
    return str(earlier["status"])


def read_done(predictions: Path, keypoints: tuple[str, ...], individuals: tuple[str, ...]) -> Poses:
    """The finished rows of a cancelled run, in the order of keypoints and individuals of the model.

    Raises
    ------
    UserError
        If the file cannot be read or names other keypoints or individuals.
    """
    from napari_superanimal.poses.formats.registry import read

    poses = read(predictions, "dlc-h5")
    if set(poses.keypoints) != set(keypoints) or set(poses.individuals) != set(individuals):
        raise UserError(
            "holds other keypoints or individuals than the model predicts",
            path=predictions,
            remedy="start anew with --overwrite, or give another --out",
        )
    k = np.array([poses.keypoints.index(name) for name in keypoints])
    a = np.array([poses.individuals.index(name) for name in individuals])
    points = np.ix_(np.arange(len(poses)), a, k)
    return replace(
        poses,
        keypoints=keypoints,
        individuals=individuals,
        xy=poses.xy[points],
        visibility=poses.visibility[points],
        likelihood=poses.likelihood[points],
        human=poses.human[points],
        boxes=poses.boxes[:, a],
        box_scores=poses.box_scores[:, a],
    )


def same_animals(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Which individual of `after` is which of `before`, both (A, K, 2) px of the same frame.

    Returns the order (A,) that brings `after` into the order of `before`: pairs with the smallest mean
    distance over shared keypoints; individuals without keypoints fill the places left.
    """
    from scipy.optimize import linear_sum_assignment

    distance = np.linalg.norm(before[:, None] - after[None], axis=-1)
    shared = np.isfinite(distance)
    count = shared.sum(-1)
    mean = np.where(shared, distance, 0.0).sum(-1) / np.maximum(count, 1)
    cost = np.where(count > 0, mean, 1e6)
    _, order = linear_sum_assignment(cost)
    return np.asarray(order, dtype=np.int64)


def reorder(poses: Poses, order: npt.NDArray[np.int64]) -> Poses:
    """`poses` with its individuals taken in `order`; their names stay in place."""
    return replace(
        poses,
        xy=poses.xy[:, order],
        visibility=poses.visibility[:, order],
        likelihood=poses.likelihood[:, order],
        human=poses.human[:, order],
        boxes=poses.boxes[:, order],
        box_scores=poses.box_scores[:, order],
    )


def join(done: Poses, new: Poses) -> Poses:
    """The rows of `done`, then those of `new` that `done` lacks.

    Where `new` starts with frames that `done` has too, identities are carried over from them.
    """
    shared = np.flatnonzero(np.isin(new.frames, done.frames))
    if len(shared):
        row = int(shared[-1])
        earlier = int(np.flatnonzero(done.frames == new.frames[row])[0])
        new = reorder(new, same_animals(done.xy[earlier], new.xy[row]))
        new = new.take(~np.isin(new.frames, done.frames))
    return replace(
        new,
        frames=np.concatenate([done.frames, new.frames]),
        images=done.images + new.images if new.images or done.images else (),
        xy=np.concatenate([done.xy, new.xy]),
        visibility=np.concatenate([done.visibility, new.visibility]),
        likelihood=np.concatenate([done.likelihood, new.likelihood]),
        human=np.concatenate([done.human, new.human]),
        boxes=np.concatenate([done.boxes, new.boxes]),
        box_scores=np.concatenate([done.box_scores, new.box_scores]),
        image_sizes=np.concatenate([done.image_sizes, new.image_sizes]),
        sources=(),
    )
