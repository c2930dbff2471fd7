"""The reference's crops, cut where the frames are: all crops of a batch together, equal to `crops` in every bit.

Whole numbers only, so that a graphics card gives what OpenCV gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from napari_superanimal.inference.device_frames import on_device
from napari_superanimal.inference.official.crops import corners
from napari_superanimal.inference.official.resize import columns, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_superanimal.inference.official.resize import Image


@dataclass(frozen=True)
class DeviceCrops:
    """Crops on a device and the way back: frame = crop * scale + offset.

    Attributes
    ----------
    rows : (M,) int64
        Numbers of the boxes that have a crop.
    pixels : (M, height, width, 3) uint8
    offset : (M, 2) int64, x and y in frame px
    scale : (M, 2) float64, frame px per crop px
    """

    rows: npt.NDArray[np.int64]
    pixels: Tensor
    offset: npt.NDArray[np.int64]
    scale: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def to_frame(self, xy: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Crop coordinates (M, K, 2) to pixels of the frame."""
        return xy.astype(np.float64) * self.scale[:, None] + self.offset[:, None]


def top_down_crops(
    frames: Sequence[Image], boxes: npt.NDArray[np.floating], size: tuple[int, int], device: torch.device
) -> DeviceCrops:
    """`crops.top_down_crop` of boxes (N, 4), one frame each; boxes with nothing of the frame in them have none."""
    found = [
        (i, corners(box, size, f.shape[:2])) for i, (f, box) in enumerate(zip(frames, boxes, strict=True))
    ]
    places = [(i, place) for i, place in found if place is not None]
    pixels = torch.empty((len(places), size[1], size[0], 3), dtype=torch.uint8, device=device)
    of_shape: dict[tuple[int, ...], list[int]] = {}
    for m, (i, _) in enumerate(places):
        of_shape.setdefault(frames[i].shape, []).append(m)
    for group in of_shape.values():
        pixels[group] = _cut(
            [frames[places[m][0]] for m in group], [places[m][1] for m in group], size, device
        )
    at = np.array([place for _, place in places], np.int64).reshape(-1, 4)
    return DeviceCrops(
        rows=np.array([i for i, _ in places], np.int64),
        pixels=pixels,
        offset=at[:, :2],
        scale=(at[:, 2:] - at[:, :2]) / np.array(size, np.float64),
    )


def _cut(
    frames: list[Image], places: list[tuple[int, int, int, int]], size: tuple[int, int], device: torch.device
) -> Tensor:
    """Pixels (M, height, width, 3) uint8, as `resize.resize_linear` of the padded parts of the frames computes them."""
    height, width = frames[0].shape[:2]
    across = np.array([_inside(columns(size[0], x2 - x1), x1, width) for x1, _, x2, _ in places])
    down = np.array([_inside(rows(size[1], y2 - y1), y1, height) for _, y1, _, y2 in places])
    # all numbers go to the device at once
    sent = torch.from_numpy(np.concatenate([across.ravel(), down.ravel()])).to(device)
    x, right_of, left, right = sent[: across.size].view(across.shape).unbind(1)
    above, below, upper, lower = sent[across.size :].view(down.shape).unbind(1)
    several = {id(frame): frame for frame in frames}
    number = {key: n for n, key in enumerate(several)}
    whole = torch.stack([on_device(frame, device) for frame in several.values()])
    owner = torch.tensor([number[id(frame)] for frame in frames], device=device)[:, None, None]
    x, right_of, above, below = (at.long() for at in (x, right_of, above, below))

    def line(y: Tensor) -> Tensor:
        one = whole[owner, y[:, :, None], x[:, None]].to(torch.int32) * left[:, None, :, None]
        other = whole[owner, y[:, :, None], right_of[:, None]].to(torch.int32) * right[:, None, :, None]
        return (one + other) >> 4

    top = (line(above) * upper[:, :, None, None]) >> 16
    bottom = (line(below) * lower[:, :, None, None]) >> 16
    return ((top + bottom + 2) >> 2).to(torch.uint8)


def _inside(
    lines: tuple[npt.NDArray[np.integer], ...], start: int, length: int
) -> tuple[npt.NDArray[np.int32], ...]:
    """Two lines of the padded part per output line, and their weights, as lines of the frame; those outside count 0."""
    both = [np.asarray(at, np.int64) + start for at in lines[:2]]
    weights = [
        np.where((at >= 0) & (at < length), weight, 0) for at, weight in zip(both, lines[2:], strict=True)
    ]
    clipped = [np.clip(at, 0, length - 1) for at in both]
    return tuple(values.astype(np.int32) for values in (*clipped, *weights))
