"""What a new model knows, for its card: the animals and pictures it learned from, and how it does on held-out ones.

`superanimal check` compares a user's video with it, and adaptation asks whether bodies look like those that were
labelled (`models.known` reads it). Written from the labels of the training, by training and fine-tuning, and by
benchmarks/measure_card_distributions.py for the shipped models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from napari_superanimal.inference.likelihood import likelihood, novelty
from napari_superanimal.inference.pictures import LEVELS, animal_figures, distribution
from napari_superanimal.models.known import KEY, MARGIN, PROPORTIONS, known_pictures, size_margin
from napari_superanimal.poses import Poses, with_boxes
from napari_superanimal.poses.proportions import (
    FEWEST,
    MOST,
    Proportions,
    agreeing,
    joined,
    learn_proportions,
    proportions_of,
)
from napari_superanimal.training.pose_stage import predict_samples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from napari_superanimal.inference.pose_pass import Symmetry
    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.models.card import ModelCard
    from napari_superanimal.models.networks import PoseNet
    from napari_superanimal.training.samples import FrameReader, PoseSamples

Floats = npt.NDArray[np.float64]
Levels = dict[str, float]
#: Training pictures that sizes and light are measured on.
PICTURES = 200
#: Fewer held-out keypoints than this say nothing about a model's usual error.
ENOUGH_POINTS = 30
#: A point closer than this to its label, in sizes of the animal, is right.
RIGHT_WITHIN = 0.1
#: Distributions of the animals' size, which the detector knows, and of the light.
SIZES, LIGHT = ("animal_px", "animal_share"), ("brightness", "contrast")


def animals(poses: Poses, reader: FrameReader) -> Iterator[tuple[int, npt.NDArray[np.uint8], Floats]]:
    """(row, picture, box) of every labelled animal."""
    boxes = with_boxes(poses).boxes
    for row in range(len(poses)):
        who = np.flatnonzero(poses.found[row].any(-1))
        if len(who):
            frame = reader(poses, row)
            for a in who:
                yield row, frame, boxes[row, a]


def light_and_size(poses: Poses, reader: FrameReader) -> dict[str, Levels]:
    """Distributions over labelled animals, each source dataset counting the same."""
    values: dict[str, list[float]] = {}
    rng = np.random.default_rng(0)
    sources = _by_source(poses)
    count = max(PICTURES // max(len(sources), 1), 1)
    for rows in sources:
        # pictures of small datasets count more often, and are read once
        chosen, times = np.unique(rng.choice(rows, count, replace=len(rows) < count), return_counts=True)
        for row, frame, box in animals(poses.take(chosen), reader):
            for key, value in animal_figures(frame, box).items():
                values.setdefault(key, []).extend([value] * int(times[row]))
    return {key: distribution(v) for key, v in values.items()}


def bodies(poses: Poses) -> Floats:
    """Labelled animals (N, K, 2), about as many from each source dataset; boxes are not needed."""
    sources = _by_source(poses)
    known = (poses.visibility > 0) & poses.found
    parts = [np.empty((0, len(poses.keypoints), 2))]
    for rows in sources:
        xy = np.where(known[..., None], poses.xy, np.nan)[rows]
        xy = xy[np.isfinite(xy).all(-1).sum(-1) >= FEWEST]  # (M, K, 2): rows and animals together
        parts.append(xy[np.random.default_rng(0).permutation(len(xy))[: max(MOST // len(sources), 1)]])
    return np.concatenate(parts)


def _by_source(poses: Poses) -> list[npt.NDArray[np.int64]]:
    """Rows of each source dataset, in order of their first ones."""
    if not poses.sources:
        return [np.arange(len(poses))] if len(poses) else []
    names = np.array(poses.sources)
    return [np.flatnonzero(names == name) for name in dict.fromkeys(poses.sources)]


def body_proportions(xy: Floats, space: KeypointSpace, view: str) -> Proportions | None:
    """What is usual among labelled animals (N, K, 2) in `space`, for a model of that view (as in its card)."""
    return learn_proportions(xy, space.keypoints, space.swap, mirrored="top" not in view)


def tried(far: Iterable[float], sure: Iterable[float], relative: Floats) -> dict[str, Any]:
    """How a model does on labelled animals that it was not trained on; empty with fewer than `ENOUGH_POINTS`.

    Parameters
    ----------
    far, sure : per animal
        Novelty of the picture and mean likelihood; NaN where they cannot be told.
    relative : (M,)
        Distance of every keypoint from its label, in sizes of the animal; infinite where it is missing.
    """
    relative = relative[~np.isnan(relative)]
    if len(relative) < ENOUGH_POINTS:
        return {}
    found = {
        "novelty": distribution(far),
        "likelihood": distribution(sure),
        "error_relative": distribution(relative),
    }
    right = {"share": round(float((relative <= RIGHT_WITHIN).mean()), 4), "n": len(relative)}
    return {**{k: v for k, v in found.items() if v}, "right": right}


def held_out_figures(
    network: PoseNet,
    samples: PoseSamples,
    symmetry: Symmetry,
    *,
    flip: bool = False,
    calibration: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """`tried` of one of our networks on samples that were kept aside, of its channels.

    Parameters
    ----------
    calibration : dict, optional
        As in `LoadedModel`; without it likelihood is raw and says little.
    """
    at, confidence, embedding, truth = predict_samples(network, samples, symmetry, flip)
    far = np.full(len(samples), np.nan)
    sure = far
    if calibration:
        tensors = dict(calibration)
        every = tensors["knows"].new_ones(tensors["knows"].shape)
        far = novelty(embedding, tensors["means"], tensors["deviations"], every)[:, 0].double().numpy()
        sure = likelihood(torch.from_numpy(confidence), embedding, tensors).double().mean(1).numpy()
    return tried(far, sure, relative_errors(samples, at, truth))


def relative_errors(
    samples: PoseSamples, at: npt.NDArray[np.float32], truth: npt.NDArray[np.float32]
) -> Floats:
    """Distances of predictions from labels (N, K, 2), px of the crop, in sizes of the animal: those of all labels."""
    pixels = np.linalg.norm(at - truth, axis=-1) * samples.pixel[:, None]
    relative = (pixels / samples.extent[:, None]).astype(np.float64)
    return np.asarray(relative[(samples.visibility > 0) & np.isfinite(truth).all(-1)])


def knowledge(
    labels: Poses,
    space: KeypointSpace,
    view: str,
    *,
    reader: FrameReader,
    of: Sequence[Poses] | None = None,
    aside: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a model learned from, for its card's ``calibration``.

    Parameters
    ----------
    labels : Poses
        Labelled pictures in `space`.
    view : str
        As in the card.
    of : sequence of Poses, optional
        Animals whose bodies count, by default those of `labels`: rendered ones have bodies, too, but their pictures
        are not what cameras give.
    aside : dict, optional
        From `tried`.
    """
    known = {**light_and_size(labels, reader), **(aside or {})}
    out: dict[str, Any] = {KEY: {"known": {k: v for k, v in known.items() if v}}}
    usual = body_proportions(np.concatenate([bodies(p) for p in (of or (labels,))]), space, view)
    return out if usual is None else {**out, PROPORTIONS: usual.to_json()}


def inherited(
    own: Mapping[str, Any],
    parent: ModelCard,
    names: Mapping[str, str],
    xy: Floats,
    space: KeypointSpace,
    *,
    features: bool = True,
) -> dict[str, Any]:
    """What a fine-tuned model knows: its user's animals and, where its weights come from there, its parent's.

    Parameters
    ----------
    own : dict
        The user's, from `knowledge`.
    names : dict
        The new model's keypoint -> the parent's.
    xy : (N, K, 2)
        The user's labelled animals in `space`: what the parent's proportions say against them does not count.
    features : bool
        False for a network that was trained from scratch: then only the detector, which knows sizes, is the parent's.
    """
    mine, old = dict(own[KEY]["known"]), known_pictures(parent)
    for key in (*SIZES, *LIGHT):
        if key in LIGHT and not features:
            continue
        if key in mine and key in old:
            mine[key] = joined_levels(mine[key], old[key])
        else:
            # the weights come from a model that knows more than these pictures, but not told what
            mine.pop(key, None)
    if features and "error_relative" not in mine and "error_relative" in old:
        mine["error_relative"] = old["error_relative"]
    out: dict[str, Any] = {KEY: {"known": mine}}
    if SIZES[1] in mine:
        out[KEY][MARGIN] = size_margin(parent)
    usual = proportions_of(own.get(PROPORTIONS, {}), space.keypoints)
    told = parent.calibration.get(PROPORTIONS, {}) if features else {}
    before = proportions_of(told, [names.get(k, "") for k in space.keypoints])
    if before is not None:
        before = before.renamed(space.keypoints)
        usual = agreeing(before if usual is None else joined(before, usual), xy)
    return out if usual is None else {**out, PROPORTIONS: usual.to_json()}


def joined_levels(one: Mapping[str, float], other: Mapping[str, float]) -> Levels:
    """Distribution of an even mixture of two, each given by its quantiles (`inference.pictures.LEVELS`)."""
    at = np.linspace(LEVELS[0], LEVELS[-1], 193)
    parts = []
    for levels in (one, other):
        known = sorted((float(level), float(value)) for level, value in levels.items())
        parts.append(np.interp(at, *np.array(known).T))
    # the outer quantiles of both stay inside: what either knows is known
    both = distribution(np.concatenate(parts))
    ends = {f"{LEVELS[0]:g}": min(p[0] for p in parts), f"{LEVELS[-1]:g}": max(p[-1] for p in parts)}
    return {**both, **{level: round(float(v), 5) for level, v in ends.items()}}
