"""Do animals walk the way they look? A model that takes the tail for the head makes them walk backwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.adaptation.teacher import Looks
    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.models.card import ModelCard

Floats = npt.NDArray[np.float64]
#: Frames on either side that an animal's way is fitted to.
REACH = 24
#: Fewest frames for that.
FEWEST = 7
#: An animal that goes less than this share of its size in the frames looked at stands. From above, a box's centre moves
#: as far when the animal stretches or turns on the spot.
STANDS = {"side": 0.2, "top": 0.4}
#: A camera that never moves further than this share of the animal within a burst stands.
STILL = 0.05
#: The axis from hind end to head must be this long, in sizes of the animal, to tell a heading.
AXIS = 0.25
#: Cosine between heading and way below which an animal goes backwards, above whose negative it goes forwards.
BACKWARDS = -0.7


def headings(
    looks: Looks, card: ModelCard, space: KeypointSpace, beside: Looks | None = None
) -> npt.NDArray[np.int8]:
    """Which way each animal goes, (N,): 1 forwards, -1 backwards, 0 stands or cannot be told.

    Parameters
    ----------
    beside : Looks, optional
        Other frames of the same video, which tell where the animal came from and where it goes.
    """
    channels, stands = card.keypoints, STANDS["top" if "top" in card.view else "side"]
    axis, way = body_axis(looks, channels, space), ways(looks, beside)
    length, gone = np.linalg.norm(axis, axis=-1), np.linalg.norm(way, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (axis * way).sum(-1) / (length * gone)
        told = (length >= AXIS * looks.size) & (gone >= stands * looks.size)
    out = np.zeros(len(looks), np.int8)
    out[told & (cosine >= -BACKWARDS)] = 1
    out[told & (cosine <= BACKWARDS)] = -1
    return out


def body_axis(looks: Looks, channels: Sequence[str], space: KeypointSpace) -> Floats:
    """From the hind end to the head, (N, 2) px, keypoints counted by their likelihood; NaN where unknown."""
    order = {name: i for i, name in enumerate(channels)}
    xy, sure = np.median(looks.xy, axis=1), looks.likelihood.mean(1)

    def middle(names: tuple[str, ...]) -> Floats:
        at = [order[n] for n in names if n in order]
        weight = sure[:, at, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            return (xy[:, at] * weight).sum(1) / weight.sum(1)

    return middle(space.front) - middle(space.rear)


def ways(looks: Looks, beside: Looks | None = None) -> Floats:
    """How far animals go over the ground in the frames around, (N, 2) px, by a line through the boxes' centres.

    NaN with too few frames. The camera's own motion is taken off; where it moves, and where there are several animals,
    frames of other bursts say nothing.
    """
    out = np.full((len(looks), 2), np.nan)
    if not len(looks):
        return out
    every = [looks] if beside is None else [looks, beside]
    camera = np.concatenate([each.camera for each in every])
    still = np.nanmax(np.linalg.norm(camera, axis=-1), initial=0.0) <= STILL * float(np.median(looks.size))
    alone = not any(each.individual.any() for each in every)
    if not (still and alone):
        every = [looks]
    boxes = np.concatenate([each.boxes for each in every])
    frames = np.concatenate([each.frames for each in every])
    centre = boxes[:, :2] + boxes[:, 2:] / 2 - camera[: len(boxes)]
    known = np.isfinite(centre).all(-1)
    for n in np.flatnonzero(known[: len(looks)]):
        near = known & (np.abs(frames - looks.frames[n]) <= REACH)
        if not (still and alone):
            near &= (looks.burst == looks.burst[n]) & (looks.individual == looks.individual[n])
        rows = np.flatnonzero(near)
        away = np.linalg.norm(centre[rows] - np.median(centre[rows], axis=0), axis=-1)
        rows = rows[away <= 1.5 * looks.size[n]]  # a box elsewhere is another thing
        t = frames[rows].astype(np.float64)
        if len(rows) < FEWEST or np.ptp(t) == 0:
            continue
        t -= t.mean()
        slope = (t[:, None] * (centre[rows] - centre[rows].mean(0))).sum(0) / np.square(t).sum()
        out[n] = slope * np.ptp(t)
    return out
