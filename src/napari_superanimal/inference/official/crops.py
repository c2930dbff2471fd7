"""The reference's crops: around a box, widened to the network's shape, black outside the frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_superanimal.inference.official.resize import Image, resize_linear

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Mean and deviation of the pictures (RGB, 0..1) that the networks expect.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Crop:
    """A crop and the way back: frame = crop * scale + offset.

    Attributes
    ----------
    pixels : (height, width, 3) uint8
    offset : (2,) int64, x and y in frame px; may be negative
    scale : (2,) float64, frame px per crop px; the two differ slightly, as sides are whole numbers
    """

    pixels: Image
    offset: npt.NDArray[np.int64]
    scale: npt.NDArray[np.float64]


def top_down_crop(frame: Image, box: npt.NDArray[np.floating], size: tuple[int, int]) -> Crop | None:
    """The crop of a box.

    Parameters
    ----------
    frame : (H, W, 3) uint8
    box : (4,) x, y, width, height in px
        May reach beyond the frame. Its precision counts: the reference computes corners in float32 for detected
        boxes and in float64 for a person's.
    size : (width, height) of the crop

    Returns
    -------
    Crop or None
        None where nothing of the frame is left in it (the reference stops with an error there).
    """
    place = corners(box, size, frame.shape[:2])
    if place is None:
        return None
    x1, y1, x2, y2 = place
    height, width = frame.shape[:2]
    xa, xb, ya, yb = max(x1, 0), min(x2, width), max(y1, 0), min(y2, height)
    inner = frame[ya:yb, xa:xb]
    if (yb - ya, xb - xa) != (y2 - y1, x2 - x1):
        inner = np.pad(inner, ((ya - y1, y2 - yb), (xa - x1, x2 - xb), (0, 0)))
    scale = np.array([(x2 - x1) / size[0], (y2 - y1) / size[1]])
    return Crop(resize_linear(inner, *size), np.array([x1, y1]), scale)


def corners(
    box: npt.NDArray[np.floating], size: tuple[int, int], frame: tuple[int, ...]
) -> tuple[int, int, int, int] | None:
    """Corners x1, y1, x2, y2 (px of the frame, may lie outside of it) of the crop of a box.

    Parameters
    ----------
    size : (width, height) of the crop
    frame : (height, width)

    Returns
    -------
    tuple or None
        None where nothing of the frame is left in it.
    """
    x, y, w, h = box
    cx, cy = x + w / 2, y + h / 2
    wanted = size[0] / size[1]
    if w > h * wanted:
        h = w / wanted
    else:
        w = h * wanted
    if not np.isfinite([cx, cy, w, h]).all():
        return None
    # corners are rounded to whole pixels, halves to the even one
    x1, x2 = round(cx - w / 2), round(cx + w / 2)
    y1, y2 = round(cy - h / 2), round(cy + h / 2)
    height, width = frame
    if min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
        return None
    return x1, y1, x2, y2


def stack(crops: Sequence[Crop]) -> Image:
    """Pixels (N, height, width, 3) of crops of one size."""
    return np.stack([crop.pixels for crop in crops])


def to_frame(xy: npt.NDArray[np.floating], crops: Sequence[Crop]) -> npt.NDArray[np.float64]:
    """Crop coordinates (N, K, 2) to pixels of the frame."""
    scale = np.stack([crop.scale for crop in crops])[:, None]
    offset = np.stack([crop.offset for crop in crops])[:, None]
    return xy.astype(np.float64) * scale + offset
