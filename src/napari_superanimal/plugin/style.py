"""How points, skeletons and boxes look: apart from the layers, so that it can be changed in one place.

A point's colour tells the keypoint, its form how far to trust it: a filled disc is a prediction above the
threshold, a hollow ring one below it, a white-rimmed square was placed or moved by a person.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import load_space
from napari_superanimal.plugin import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.poses import Poses

Colors = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PointStyle:
    """Numbers of the points' look; widths are shares of the point's size."""

    predicted_symbol: str = "disc"
    human_symbol: str = "square"
    human_border: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    predicted_border: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.75)
    predicted_width: float = 0.1
    doubtful_width: float = 0.25
    human_width: float = 0.2
    doubtful_alpha: float = 0.9


@dataclass(frozen=True)
class Looks:
    """Per-point attributes of a Points layer.

    Attributes
    ----------
    face, border : (N, 4) float64
        RGBA, 0..1.
    symbol : (N,) str
    width : (N,) float64
    """

    face: Colors
    border: Colors
    symbol: npt.NDArray[np.object_]
    width: npt.NDArray[np.float64]


STYLE = PointStyle()


def looks(
    colors: Colors,
    likelihood: npt.NDArray[np.float64],
    human: npt.NDArray[np.bool_],
    threshold: float,
) -> Looks:
    """What every point looks like.

    Parameters
    ----------
    colors : (N, 4) float64
        Each point's keypoint colour.
    likelihood : (N,) float64
    human : (N,) bool
    threshold : float
        Points with less likelihood are doubtful; NaN counts as certain, a person's points always are.
    """
    doubtful = (likelihood < threshold) & ~human
    face = colors.copy()
    face[doubtful, 3] = 0.0
    border = np.tile(np.array(STYLE.predicted_border), (len(colors), 1))
    border[doubtful] = colors[doubtful]
    border[doubtful, 3] = STYLE.doubtful_alpha
    border[human] = STYLE.human_border
    symbol = np.where(human, STYLE.human_symbol, STYLE.predicted_symbol).astype(object)
    width = np.select([human, doubtful], [STYLE.human_width, STYLE.doubtful_width], STYLE.predicted_width)
    return Looks(face, border, symbol, width)


def keypoint_colors(keypoints: Sequence[str], space: str = "") -> Colors:
    """One RGBA colour per keypoint, (K, 4): the space's own, hues around the circle for names it lacks."""
    known: dict[str, tuple[int, int, int]] = {}
    if space:
        try:
            loaded = load_space(space)
            known = dict(zip(loaded.keypoints, loaded.colors, strict=False))
        except UserError:
            known = {}
    out = np.ones((len(keypoints), 4))
    for i, name in enumerate(keypoints):
        if name in known:
            out[i, :3] = np.array(known[name]) / 255
        else:
            out[i, :3] = colorsys.hsv_to_rgb(0.83 * i / max(len(keypoints) - 1, 1), 0.85, 1.0)
    return out


def individual_colors(n: int) -> Colors:
    """RGBA (A, 4) for skeletons and boxes: light grey for one animal, distinct hues for several."""
    if n <= 1:
        return np.array([[0.92, 0.92, 0.92, 0.8]] * n).reshape(-1, 4)
    # golden-ratio steps keep neighbours apart however many animals there are
    hues = [(0.12 + 0.618 * i) % 1 for i in range(n)]
    return np.array([(*colorsys.hsv_to_rgb(h, 0.55, 1.0), 0.85) for h in hues])


def point_size(poses: Poses) -> float:
    """Diameter in pixels that suits the animals' size: 5 % of their median extent, 3 to 40 px.

    What the user set in the preferences goes first.
    """
    if chosen := settings.point_size():
        return chosen
    rows = np.flatnonzero(poses.found.any((1, 2)))
    rows = rows[:: max(1, len(rows) // 200)]
    xy = poses.xy[rows].reshape(-1, *poses.xy.shape[2:])
    xy = xy[np.isfinite(xy).all(-1).sum(-1) >= 2]
    if not len(xy):
        return 8.0
    extent = np.nanmax(xy, axis=1) - np.nanmin(xy, axis=1)
    return float(np.clip(0.05 * np.median(np.hypot(extent[:, 0], extent[:, 1])), 3.0, 40.0))


def text_style(several: bool) -> dict[str, Any]:
    """Names beside the points, off by default because they hide the animal."""
    return {
        "string": "{id} {label}" if several else "{label}",
        "visible": False,
        "size": 8,
        "color": "white",
        "anchor": "upper_left",
        # one entry per dimension of a (frame, y, x) layer
        "translation": [0, -2, 4],
    }
