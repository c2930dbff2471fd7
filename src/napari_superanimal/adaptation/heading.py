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


def headings(looks: Looks, card: ModelCard, space: KeypointSpace) -> npt.NDArray[np.int8]:
    """Which way each animal goes, (N,): 1 forwards, -1 backwards, 0 stands or cannot be told."""
    channels, stands = card.keypoints, STANDS["top" if "top" in card.view else "side"]
    axis, way = body_axis(looks, channels, space), ways(looks)
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


def ways(looks: Looks) -> Floats:
    """How far animals go over the ground in the frames around, (N, 2) px, by a line through the boxes' centres.

    NaN with too few frames. The camera's own motion is taken off; where it moves, frames of other bursts say nothing.
    """
    out = np.full((len(looks), 2), np.nan)
    if not len(looks):
        return out
    centre = looks.boxes[:, :2] + looks.boxes[:, 2:] / 2 - looks.camera
    still = np.nanmax(np.linalg.norm(looks.camera, axis=-1), initial=0.0) <= STILL * float(
        np.median(looks.size)
    )
    for individual in np.unique(looks.individual):
        rows = np.flatnonzero((looks.individual == individual) & np.isfinite(centre).all(-1))
        for n in rows:
            near = rows[np.abs(looks.frames[rows] - looks.frames[n]) <= REACH]
            # individuals have no identity from burst to burst where there are several
            if looks.individual.max() > 0 or not still:
                near = near[looks.burst[near] == looks.burst[n]]
            if len(near) < FEWEST:
                continue
            t = (looks.frames[near] - looks.frames[n]).astype(np.float64)
            t -= t.mean()
            away = np.linalg.norm(centre[near] - np.median(centre[near], axis=0), axis=-1)
            keep = away <= 1.5 * looks.size[n]  # a box elsewhere is another thing
            if keep.sum() < FEWEST or not np.square(t[keep]).sum() > 0:
                continue
            s = t[keep] - t[keep].mean()
            slope = (s[:, None] * (centre[near][keep] - centre[near][keep].mean(0))).sum(0) / np.square(
                s
            ).sum()
            out[n] = slope * (s.max() - s.min())
    return out
