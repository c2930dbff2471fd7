"""Square crops around boxes, letterboxed images, and the way back to pixels of the frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Sides of a letterboxed picture are multiples of this: the networks halve it five times.
MULTIPLE = 32


def as_tensor(frame: npt.NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) pixels as a (3, H, W) tensor; frames of a viewer's cache are read-only and are copied."""
    whole = np.ascontiguousarray(frame)
    return torch.from_numpy(whole if whole.flags.writeable else whole.copy()).permute(2, 0, 1)


def square_crop(box: npt.ArrayLike, context: float) -> tuple[float, float, float]:
    """Left edge, top edge and side (px) of the square around a box (x, y, width, height).

    The side is `context` times the longer side of the box, at least 8 px.
    """
    x, y, w, h = (float(v) for v in np.asarray(box, np.float64))
    side = max(context * max(w, h), 8.0)
    return x + w / 2 - side / 2, y + h / 2 - side / 2, side


def cut(
    frame: npt.NDArray[np.uint8], left: float, top: float, side: float, size: int
) -> tuple[Tensor, float, float, float]:
    """A square of the frame, resampled to (3, size, size) uint8; outside the frame is black.

    Returns the crop and the exact (left, top, side) that were cut: corners are whole pixels, so that no
    resampling shifts the picture. Crop pixel c lies at ``left + (c + 0.5) * side / size - 0.5``.
    """
    x0, y0, n = round(left), round(top), max(round(side), 2)
    height, width = frame.shape[:2]
    xa, ya, xb, yb = max(x0, 0), max(y0, 0), min(x0 + n, width), min(y0 + n, height)
    if xb <= xa or yb <= ya:
        return torch.zeros((3, size, size), dtype=torch.uint8), float(x0), float(y0), float(n)
    inner = as_tensor(frame[ya:yb, xa:xb])
    if (yb - ya, xb - xa) != (n, n):
        inner = F.pad(inner, (xa - x0, x0 + n - xb, ya - y0, y0 + n - yb))
    if n != size:
        inner = F.interpolate(
            inner[None], size=(size, size), mode="bilinear", antialias=True, align_corners=False
        )[0]
    return inner, float(x0), float(y0), float(n)


def cut_batch(
    frames: list[npt.NDArray[np.uint8]], boxes: npt.NDArray[np.float64], context: float, size: int
) -> tuple[Tensor, npt.NDArray[np.float64]]:
    """Crops (N, 3, size, size) uint8 of N boxes (N, 4), one frame each, and their squares (N, 3)."""
    crops = torch.empty((len(frames), 3, size, size), dtype=torch.uint8, memory_format=torch.channels_last)
    squares = np.empty((len(frames), 3))
    for i, (frame, box) in enumerate(zip(frames, boxes, strict=True)):
        crops[i], *square = cut(frame, *square_crop(box, context), size)
        squares[i] = square
    return crops, squares


def to_frame(xy: npt.NDArray, squares: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Crop coordinates (N, K, 2) to pixels of the frame, given the squares (N, 3) from `cut_batch`."""
    scale = squares[:, None, 2:3] / size
    return squares[:, None, :2] + (np.asarray(xy, np.float64) + 0.5) * scale - 0.5


def to_crop(xy: npt.NDArray, squares: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Inverse of `to_frame`."""
    scale = squares[:, None, 2:3] / size
    return (np.asarray(xy, np.float64) - squares[:, None, :2] + 0.5) / scale - 0.5


def letterbox(frame: npt.NDArray[np.uint8], longest: int, multiple: int = MULTIPLE) -> tuple[Tensor, float]:
    """The frame scaled so that its longest side is `longest`, padded at the right and bottom.

    Returns
    -------
    image : (3, H, W) uint8
        H and W are multiples of `multiple`.
    scale : float
        Image pixels per frame pixel; frame = (image + 0.5) / scale - 0.5.
    """
    height, width = frame.shape[:2]
    scale = longest / max(height, width)
    h, w = max(round(height * scale), 1), max(round(width * scale), 1)
    image = as_tensor(frame)
    if (h, w) != (height, width):
        image = F.interpolate(image[None], size=(h, w), mode="bilinear", antialias=True, align_corners=False)[
            0
        ]
    right, bottom = -w % multiple, -h % multiple
    return (F.pad(image, (0, right, 0, bottom)) if right or bottom else image), scale


def letterbox_batches(
    frames: Sequence[npt.NDArray[np.uint8]], longest: int
) -> list[tuple[list[int], Tensor, list[float]]]:
    """`letterbox` of frames, as batches of one shape each; frames of one video make a single batch.

    Frames of other shapes are not padded to the largest: what is found in a picture must not depend on which
    pictures come with it.

    Returns
    -------
    list of (rows, images, scales)
        Which frames these are, images (N, 3, H, W) uint8, channels last in memory, and image pixels per frame
        pixel.
    """
    found = [letterbox(frame, longest) for frame in frames]
    of_shape: dict[tuple[int, ...], list[int]] = {}
    for row, (image, _) in enumerate(found):
        of_shape.setdefault(tuple(image.shape), []).append(row)
    batches = []
    for shape, rows in of_shape.items():
        # torch.stack would turn the memory order around
        images = torch.empty((len(rows), *shape), dtype=torch.uint8, memory_format=torch.channels_last)
        for i, row in enumerate(rows):
            images[i] = found[row][0]
        batches.append((rows, images, [found[row][1] for row in rows]))
    return batches
