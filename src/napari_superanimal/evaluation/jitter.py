"""How steady predictions of a video are: jitter, dropped keypoints, and the body's size over time.

The three figures that the SuperAnimal paper judges video adaptation by. Its code gives no formulas for the
first two; here they are:

- **jitter** of a keypoint at frame t: ``|x(t+1) - 2 x(t) + x(t-1)|``, the length of the second difference,
  pixels per frame^2 (mean over frames, keypoints and animals). This is the mean absolute acceleration; motion at
  constant velocity has none.
- **dropping**: how many of the keypoints that the model gives at all are missing or below the likelihood
  threshold, per animal and frame.
- **body size**: square root of the area of the keypoints' convex hull, px; its stability is the mean absolute
  change from frame to frame divided by the mean size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, QhullError

if TYPE_CHECKING:
    from napari_superanimal.poses import Poses

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Steadiness:
    """Figures of one table of predictions.

    Attributes
    ----------
    jitter_px : float
    jitter_relative : float
        `jitter_px` divided by the mean body size.
    per_keypoint : dict of str to float
        Jitter, px.
    triplets : int
        Second differences that went into it.
    dropped : float
        Keypoints per animal and frame; `dropped_share` of those that the model gives.
    body_size_px : float
        Mean; `body_size_change` is the mean absolute change per frame divided by it.
    """

    jitter_px: float
    jitter_relative: float
    per_keypoint: dict[str, float]
    triplets: int
    dropped: float
    dropped_share: float
    body_size_px: float
    body_size_change: float

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def steadiness(poses: Poses, threshold: float = 0.0) -> Steadiness:
    """Jitter, dropping and body size of predictions on a video.

    Parameters
    ----------
    poses : Poses
        Rows in the order of their frames. Only neighbouring frames count.
    threshold : float
        Keypoints with less likelihood are dropped, and do not count for jitter and size.
    """
    sure = poses.found & ~(poses.likelihood < threshold)
    xy = np.where(sure[..., None], poses.xy, np.nan)
    bend = accelerations(xy, poses.frames)
    every = bend[np.isfinite(bend)]
    size = hull_sizes(xy)
    mean_size = float(np.nanmean(size)) if np.isfinite(size).any() else float("nan")
    neighbours = (np.diff(poses.frames) == 1)[:, None]
    change = np.where(neighbours, np.abs(np.diff(size, axis=0)), np.nan)
    change = change[np.isfinite(change)]
    given = poses.found.any((0, 1))
    there = poses.present
    missing = (~sure[..., given]).sum(-1)[there]
    jitter = float(every.mean()) if len(every) else float("nan")
    per = {}
    for k in np.flatnonzero(given):
        own = bend[..., k][np.isfinite(bend[..., k])]
        if len(own):
            per[poses.keypoints[k]] = float(own.mean())
    return Steadiness(
        jitter_px=jitter,
        jitter_relative=jitter / mean_size,
        per_keypoint=per,
        triplets=len(every),
        dropped=float(missing.mean()) if len(missing) else float("nan"),
        dropped_share=float(missing.mean() / max(given.sum(), 1)) if len(missing) else float("nan"),
        body_size_px=mean_size,
        body_size_change=float(change.mean()) / mean_size if len(change) else float("nan"),
    )


def accelerations(xy: Floats, frames: npt.NDArray[np.int64]) -> Floats:
    """Length of the second difference (T - 2, A, K), px per frame^2, of positions (T, A, K, 2).

    NaN where one of the three is missing or the frames do not follow each other.
    """
    if len(xy) < 3:
        return np.empty((0, *xy.shape[1:3]))
    bend = np.linalg.norm(xy[2:] - 2 * xy[1:-1] + xy[:-2], axis=-1)
    steps = np.diff(frames)
    bend[(steps[1:] != 1) | (steps[:-1] != 1)] = np.nan
    return bend


def hull_sizes(xy: Floats) -> Floats:
    """Square root of the convex hull's area (T, A), px, of keypoints (T, A, K, 2); NaN with less than three."""
    sizes = np.full(xy.shape[:2], np.nan)
    found = np.asarray(np.isfinite(xy).all(-1))
    for t, a in np.argwhere(found.sum(-1) >= 3):
        try:
            # in two dimensions Qhull's "volume" is the area
            sizes[t, a] = np.sqrt(ConvexHull(xy[t, a, found[t, a]]).volume)
        except QhullError:
            sizes[t, a] = 0.0  # all on one line
    return sizes
