"""Pseudo-labels: what the starting model is sure of, steadied over looks and over time; all else has no weight."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from napari_superanimal.inference.crops import to_crop
from napari_superanimal.poses import UNDEFINED
from napari_superanimal.smoothing.filters import savgol
from napari_superanimal.smoothing.outliers import deviation
from napari_superanimal.training.samples import PoseSamples, octagons

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.adaptation.teacher import Looks

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
#: Looks agree that lie this close to each other, in sizes of the animal ...
AGREE = 0.06
#: ... and so many of them must, mirrored or not, wherever the crop's edges lie: all.
MAJORITY = 0.99
#: Of an animal with fewer believed keypoints than this share of all, none is: it may be a tree.
PART = 0.15
#: A point further from the median of its neighbours in time than this jumps ...
JUMP = 0.08
#: ... unless it is no more than so many times what is usual for the keypoint.
USUAL = 4.0
#: Frames and degree of the polynomial that steadies a track within its burst.
WINDOW, ORDER = 5, 2


@dataclass(frozen=True)
class PseudoCounts:
    """What became of the predictions: each belongs to one of these.

    labels, unsure, disagreed, lone, backwards, jumped : int
        Pseudo-labels; below the threshold; the looks disagree; too few on the animal; of animals that walk
        backwards; out of the track.
    """

    labels: int
    unsure: int
    disagreed: int
    lone: int
    backwards: int
    jumped: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class PseudoLabels:
    """Targets of the animals seen.

    Attributes
    ----------
    xy : (N, K, 2) float64, px of the frame
        NaN where there is no pseudo-label.
    visibility : (N, K) int8
        2, or -1 (no weight).
    counts : PseudoCounts
    """

    xy: Floats
    visibility: npt.NDArray[np.int8]
    counts: PseudoCounts


def trusted(
    looks: Looks, threshold: float, backwards: Bools | None = None
) -> tuple[Floats, Bools, PseudoCounts]:
    """Where the looks agree: positions (N, K, 2) px of the frame, which of them to believe (N, K), and why not.

    A keypoint is believed where the mean likelihood of its looks reaches `threshold` and the looks agree. Of animals
    with few such keypoints, and of those that walk `backwards` (N,), nothing is.
    """
    xy, share = consensus(looks.xy, AGREE * looks.size)
    sure = looks.likelihood.mean(1) >= threshold
    agreed = share >= MAJORITY
    back = np.zeros(len(looks), bool) if backwards is None else backwards
    whole = (sure & agreed).mean(-1) >= PART
    believed = sure & agreed & (whole & ~back)[:, None]
    counts = PseudoCounts(
        labels=int(believed.sum()),
        unsure=int((~sure).sum()),
        disagreed=int((sure & ~agreed).sum()),
        lone=int((sure & agreed & ~whole[:, None]).sum()),
        backwards=int((sure & agreed & (whole & back)[:, None]).sum()),
        jumped=0,
    )
    return xy, believed, counts


def pseudo_labels(
    looks: Looks, threshold: float, *, backwards: Bools | None = None, temporal: bool = True
) -> PseudoLabels:
    """Targets from what was seen: what `trusted` believes and does not jump out of its track.

    With `temporal`, positions are those of a quadratic fitted to the frames around.
    """
    middle, good, counts = trusted(looks, threshold, backwards)
    xy = np.where(good[..., None], middle, np.nan)
    stays = ~jumps(looks, xy)
    xy[~stays] = np.nan
    if temporal:
        for rows in tracks_of(looks):
            whole = _filled(looks.frames[rows], xy[rows])
            steady = savgol(whole.reshape(len(whole), -1), WINDOW, ORDER).reshape(whole.shape)
            xy[rows] = steady[looks.frames[rows] - looks.frames[rows[0]]]
    label = good & stays
    counts = replace(counts, labels=int(label.sum()), jumped=int((good & ~stays).sum()))
    return PseudoLabels(xy, np.where(label, 2, UNDEFINED).astype(np.int8), counts)


def consensus(xy: Floats, reach: Floats) -> tuple[Floats, Floats]:
    """Mean (N, K, 2) of the looks (N, V, K, 2) around the most central one, and the share (N, K) that these are.

    Parameters
    ----------
    reach : (N,) px
        Looks further from the central one do not count.
    """
    apart = np.linalg.norm(xy[:, :, None] - xy[:, None], axis=-1)  # (N, V, V, K)
    near = apart <= reach[:, None, None, None]
    centre = np.argmax(near.sum(2) - apart.mean(2) / (apart.max((1, 2)) + 1e-9)[:, None], axis=1)  # (N, K)
    count = np.take_along_axis(near, centre[:, None, None], axis=1)[:, 0]  # (N, V, K)
    mean = (xy * count[..., None]).sum(1) / count.sum(1)[..., None]
    return mean, count.mean(1)


def tracks_of(looks: Looks) -> list[npt.NDArray[np.int64]]:
    """Rows of each individual in each burst, in order of their frames."""
    keys = looks.burst * (looks.individual.max(initial=0) + 1) + looks.individual
    order = np.lexsort((looks.frames, keys))
    ends = np.flatnonzero(np.diff(keys[order])) + 1
    return [rows for rows in np.split(order, ends) if len(rows)]


def jumps(looks: Looks, xy: Floats) -> Bools:
    """Which of the keypoints (N, K, 2) lie away from the median of their neighbours in time, (N, K)."""
    off = np.full(xy.shape[:2], np.nan)
    for rows in tracks_of(looks):
        for k in range(xy.shape[1]):
            seen = rows[np.isfinite(xy[rows, k, 0])]
            if len(seen) >= 3:
                off[seen, k] = deviation(xy[seen, k], 2) / looks.size[seen]
    out = np.zeros(off.shape, bool)
    for k in range(xy.shape[1]):
        own = off[:, k][np.isfinite(off[:, k])]
        if len(own):
            limit = max(JUMP, USUAL * 1.4826 * float(np.median(own)))
            out[:, k] = np.nan_to_num(off[:, k]) > limit
    return out


def _filled(frames: npt.NDArray[np.int64], xy: Floats) -> Floats:
    """A track (n, K, 2) with a row per frame; NaN where the animal was not seen."""
    whole = np.full((int(frames[-1] - frames[0]) + 1, *xy.shape[1:]), np.nan)
    whole[frames - frames[0]] = xy
    return whole


def to_samples(looks: Looks, labels: PseudoLabels, source: str) -> PoseSamples:
    """Training samples of the animals that have a pseudo-label."""
    rows = np.flatnonzero((labels.visibility > 0).any(-1))
    size = looks.crops.shape[-1]
    squares = looks.squares[rows]
    hulls = to_crop(octagons(looks.boxes[rows]), squares, size)
    return PoseSamples(
        crops=looks.crops[rows],
        xy=to_crop(labels.xy[rows], squares, size).astype(np.float32),
        visibility=labels.visibility[rows],
        weight=np.ones(len(rows), np.float32),
        source=(source,) * len(rows),
        rows=np.stack([looks.frames[rows], looks.individual[rows]], -1),
        pixel=(squares[:, 2] / size).astype(np.float32),
        extent=looks.size[rows].astype(np.float32),
        hulls=tuple(h.astype(np.float32) for h in hulls),
        given=np.ones(len(rows), bool),
    )


def join_samples(parts: Sequence[PoseSamples]) -> PoseSamples:
    """The samples of several videos as one; at least one."""
    return PoseSamples(
        crops=torch.cat([p.crops for p in parts]),
        xy=np.concatenate([p.xy for p in parts]),
        visibility=np.concatenate([p.visibility for p in parts]),
        weight=np.concatenate([p.weight for p in parts]),
        source=tuple(s for p in parts for s in p.source),
        rows=np.concatenate([p.rows for p in parts]),
        pixel=np.concatenate([p.pixel for p in parts]),
        extent=np.concatenate([p.extent for p in parts]),
        hulls=tuple(h for p in parts for h in p.hulls),
        given=np.concatenate([p.given for p in parts]),
    )
