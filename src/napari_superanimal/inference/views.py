"""Parts of a frame, and the frame made smaller, so that an animal has the size that a detector knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F

from napari_superanimal.inference.crops import as_tensor

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_superanimal.inference.frame_predictor import Frame

#: Overlap of neighbouring windows, as a share of their side: an animal up to this size is whole in one of them.
OVERLAP = 0.35
#: Windows smaller than this (px) hold too little to find an animal in.
SMALLEST = 48
#: A box this near the border of its view, as a share of the view's longer side, is probably cut off there.
BORDER = 0.02


@dataclass(frozen=True)
class View:
    """What the detector is shown of a frame.

    Attributes
    ----------
    picture : (H, W, 3) uint8
    left, top : float
        Frame coordinates of the picture's corner: frame = (picture + 0.5) / zoom - 0.5 + (left, top).
    zoom : float
        Picture pixels per frame pixel.
    inner : (left, top, right, bottom) bool
        Which borders lie inside the frame, so that an animal may go on beyond them.
    """

    picture: Frame
    left: float
    top: float
    zoom: float
    inner: tuple[bool, bool, bool, bool]

    @property
    def longer(self) -> int:
        return max(self.picture.shape[:2])

    def to_frame(self, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Boxes (M, 4) of the picture in pixels of the frame."""
        out = np.array(boxes, np.float64).reshape(-1, 4)
        out[:, :2] = (out[:, :2] + 0.5) / self.zoom - 0.5 + (self.left, self.top)
        out[:, 2:] /= self.zoom
        return out

    def cut_off(self, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """(M,) which boxes of the picture touch a border behind which the frame goes on."""
        height, width = self.picture.shape[:2]
        gap = BORDER * self.longer
        low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        touching = np.column_stack(
            [
                low[:, 0] <= gap,
                low[:, 1] <= gap,
                high[:, 0] >= width - 1 - gap,
                high[:, 1] >= height - 1 - gap,
            ]
        )
        return np.asarray((touching & np.array(self.inner)).any(1))


def views_at(frame: Frame, scale: float) -> list[View]:
    """The frame at one scale.

    Parameters
    ----------
    frame : (H, W, 3) uint8
    scale : float
        1 is the whole frame; above, overlapping square windows of the longer side divided by `scale`; below, the
        frame made smaller by it in the middle of a black picture.

    Returns
    -------
    list of View
        Empty where windows would be too small to show anything.
    """
    height, width = frame.shape[:2]
    if scale == 1:
        return [View(frame, 0.0, 0.0, 1.0, (False,) * 4)]
    if scale < 1:
        return [_shrunk(frame, scale)]
    side = max(height, width) / scale
    if side < SMALLEST:
        return []
    h, w = min(round(side), height), min(round(side), width)
    found = []
    for top in _starts(height, h):
        for left in _starts(width, w):
            inner = (left > 0, top > 0, left + w < width, top + h < height)
            found.append(View(frame[top : top + h, left : left + w], left, top, 1.0, inner))
    return found


def view_around(frame: Frame, box: npt.NDArray[np.floating], share: float) -> View:
    """A view in which the longer side of a box takes up `share` of the longer side.

    Where that is more than the frame, it is the frame made smaller.
    """
    height, width = frame.shape[:2]
    side = float(max(box[2], box[3])) / share
    if side >= max(height, width):
        return _shrunk(frame, max(max(height, width) / side, 1 / 16))
    side = max(side, min(SMALLEST, height, width))
    h, w = min(round(side), height), min(round(side), width)
    left = int(np.clip(round(box[0] + box[2] / 2 - w / 2), 0, width - w))
    top = int(np.clip(round(box[1] + box[3] / 2 - h / 2), 0, height - h))
    inner = (left > 0, top > 0, left + w < width, top + h < height)
    return View(frame[top : top + h, left : left + w], left, top, 1.0, inner)


def _starts(length: int, window: int) -> list[int]:
    """Where windows begin so that they cover a length, evenly."""
    if window >= length:
        return [0]
    count = 1 + math.ceil((length - window) / max(window * (1 - OVERLAP), 1.0))
    return [round(v) for v in np.linspace(0, length - window, count)]


def _shrunk(frame: Frame, scale: float) -> View:
    """The frame made smaller, in the middle of a black picture of its own size."""
    height, width = frame.shape[:2]
    h, w = max(round(height * scale), 1), max(round(width * scale), 1)
    # one factor for both axes: what rounding takes from a side is far less than a pixel of the box
    small = F.interpolate(
        as_tensor(frame)[None], size=(h, w), mode="bilinear", antialias=True, align_corners=False
    )[0]
    top, left = (height - h) // 2, (width - w) // 2
    picture = np.zeros_like(frame)
    picture[top : top + h, left : left + w] = small.permute(1, 2, 0).numpy()
    return View(picture, -left / scale, -top / scale, scale, (False,) * 4)
