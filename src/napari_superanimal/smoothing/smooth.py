"""Smoothed poses: a new table that says how it came about."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.errors import UserError
from napari_superanimal.smoothing.clean import fill_gaps, require_video
from napari_superanimal.smoothing.filters import median, one_euro, savgol
from napari_superanimal.smoothing.findings import Floats, body_size, spacing
from napari_superanimal.smoothing.kalman import rts

if TYPE_CHECKING:
    from napari_superanimal.poses import Poses

#: What each method is called by people.
METHODS = {
    "median": "Median",
    "savgol": "Savitzky-Golay",
    "one-euro": "One-Euro",
    "kalman": "Kalman (RTS)",
}


@dataclass(frozen=True)
class SmoothOptions:
    """How to smooth.

    Attributes
    ----------
    method : {"median", "savgol", "one-euro", "kalman"}
    window : int
        Frames of the median (odd) and of Savitzky-Golay.
    order : int
        Degree of Savitzky-Golay's polynomial, below `window`.
    min_cutoff, beta : float
        One-Euro: Hz when the animal stands still, and more Hz per body per second.
    fps : float
        Frames per second of the video, for One-Euro.
    noise_ratio : float
        Kalman: noise of the motion (px per frame^2) over noise of the keypoints (px); 0 estimates it for
        every keypoint.
    fill : int
        First bridge gaps of up to so many frames; 0 leaves missing keypoints missing.
    """

    method: str = "kalman"
    window: int = 7
    order: int = 2
    min_cutoff: float = 2.0
    beta: float = 2.0
    fps: float = 30.0
    noise_ratio: float = 0.0
    fill: int = 0

    def check(self) -> None:
        """See that the numbers make sense.

        Raises
        ------
        UserError
            If one does not.
        """
        if self.method not in METHODS:
            raise UserError(
                f"unknown smoothing method {self.method!r}", remedy=f"use one of {', '.join(METHODS)}"
            )
        if self.window < 3 or self.window % 2 == 0:
            raise UserError(
                f"the window of {self.window} frames does not work", remedy="give an odd number from 3 on"
            )
        if self.method == "savgol" and not 1 <= self.order < self.window - 1:
            raise UserError(
                f"a polynomial of degree {self.order} does not fit {self.window} frames",
                remedy="lower the degree, or widen the window",
            )
        if min(self.min_cutoff, self.fps) <= 0 or min(self.beta, self.noise_ratio, self.fill) < 0:
            raise UserError("a smoothing parameter is negative or zero", remedy="give positive numbers")

    def used(self) -> dict[str, Any]:
        """The parameters that this method has."""
        names = {
            "median": ("window",),
            "savgol": ("window", "order"),
            "one-euro": ("min_cutoff", "beta", "fps"),
            "kalman": ("noise_ratio",),
        }[self.method]
        every = asdict(self)
        return {"method": self.method, **{name: every[name] for name in names}, "fill": self.fill}


def smooth(poses: Poses, options: SmoothOptions) -> Poses:
    """Smoothed poses; keypoints that a person placed or moved stay where they are.

    Boxes, likelihoods and missing keypoints stay (unless `fill` bridges them); ``metadata["smoothing"]`` has
    the method and its parameters.

    Raises
    ------
    UserError
        If the poses are not those of a video, or the options do not work.
    """
    options.check()
    require_video(poses)
    source = fill_gaps(poses, options.fill) if options.fill else poses
    step = spacing(source.frames)
    sizes = body_size(source)
    xy = source.xy.copy()
    for rows in np.split(np.arange(len(source)), np.flatnonzero(np.diff(source.frames) != step) + 1):
        if len(rows) > 2:
            for a in range(len(source.individuals)):
                xy[rows, a] = _filtered(
                    source.xy[rows, a], source.likelihood[rows, a], sizes[a], step, options
                )
    xy[source.human] = source.xy[source.human]
    metadata = {**poses.metadata, "smoothing": options.used()}
    return replace(source, xy=xy, metadata=metadata)


def _filtered(xy: Floats, sure: Floats, size: float, step: int, options: SmoothOptions) -> Floats:
    """One stretch of one individual, (T, K, 2)."""
    shape: tuple[int, ...] = xy.shape
    there: npt.NDArray[np.int64] = np.flatnonzero(np.isfinite(xy).all(-1).any(0))
    out = xy.copy()
    if not len(there):
        return out
    part = xy[:, there]
    flat = part.reshape(shape[0], -1)
    if options.method == "median":
        out[:, there] = median(flat, options.window).reshape(part.shape)
    elif options.method == "savgol":
        out[:, there] = savgol(flat, options.window, options.order).reshape(part.shape)
    elif options.method == "one-euro":
        scale = float(size) if np.isfinite(size) else 100.0
        fps = options.fps / step
        out[:, there] = one_euro(part, fps, scale, options.min_cutoff, options.beta)
    else:
        ratio = np.full(len(there), options.noise_ratio) if options.noise_ratio > 0 else None
        out[:, there] = rts(part, sure[:, there], ratio)[0]
    return out
