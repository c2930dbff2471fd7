"""What `crops` does on the CPU, on the device where the frames are: crops and letterboxed pictures.

Pixels are not those of `crops` to the last bit: there, torch resamples bytes in fixed point, first along rows and
rounded in between. Here both directions are computed in float32 and rounded once; no pixel differs by more than one
grey level (tested).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from napari_superanimal.inference.crops import MULTIPLE, square_crop
from napari_superanimal.inference.device_frames import on_device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_superanimal.inference.frame_predictor import Frame


def cut_on_device(
    frames: Sequence[Frame], boxes: npt.NDArray[np.float64], context: float, size: int, device: torch.device
) -> tuple[Tensor, npt.NDArray[np.float64]]:
    """As `crops.cut_batch`: crops (N, 3, size, size) float32 of whole grey levels, and their squares (N, 3)."""
    crops = torch.zeros((len(frames), 3, size, size), device=device).contiguous(
        memory_format=torch.channels_last
    )
    squares = np.empty((len(frames), 3))
    for i, (frame, box) in enumerate(zip(frames, boxes, strict=True)):
        left, top, side = square_crop(box, context)
        x0, y0, n = round(left), round(top), max(round(side), 2)
        squares[i] = x0, y0, n
        height, width = frame.shape[:2]
        xa, ya, xb, yb = max(x0, 0), max(y0, 0), min(x0 + n, width), min(y0 + n, height)
        if xb > xa and yb > ya:
            inner = on_device(frame, device)[ya:yb, xa:xb]
            weights = resampling(n, size, device)
            # outside the frame is black: those rows and columns add nothing
            crops[i] = resample(inner, weights[:, ya - y0 : yb - y0], weights[:, xa - x0 : xb - x0])
    return crops, squares


def letterbox_batches_on_device(
    frames: Sequence[Frame], longest: int, device: torch.device
) -> list[tuple[list[int], Tensor, list[float]]]:
    """As `crops.letterbox_batches`, pictures (N, 3, H, W) float32 of whole grey levels."""
    of_shape: dict[tuple[int, ...], list[int]] = {}
    for row, frame in enumerate(frames):
        of_shape.setdefault(frame.shape, []).append(row)
    batches: dict[tuple[int, ...], tuple[list[int], list[Tensor], list[float]]] = {}
    for (height, width, _), rows in of_shape.items():
        scale = longest / max(height, width)
        h, w = max(round(height * scale), 1), max(round(width * scale), 1)
        down, across = resampling(height, h, device), resampling(width, w, device)
        # one after the other: a large frame in float32 takes four times its bytes
        images = torch.stack([resample(on_device(frames[row], device), down, across) for row in rows])
        padded = F.pad(images, (0, -w % MULTIPLE, 0, -h % MULTIPLE))
        of_rows, pictures, scales = batches.setdefault(tuple(padded.shape[1:]), ([], [], []))
        of_rows += rows
        pictures.append(padded)
        scales += [scale] * len(rows)
    return [
        (rows, torch.cat(images).contiguous(memory_format=torch.channels_last), scales)
        for rows, images, scales in batches.values()
    ]


def resampling(inputs: int, outputs: int, device: torch.device) -> Tensor:
    """Weights (outputs, inputs) of torch's antialiased bilinear resampling: a triangle as wide as an output pixel."""
    scale = inputs / outputs
    centre = (torch.arange(outputs, dtype=torch.float32, device=device) + 0.5) * scale
    pixel = torch.arange(inputs, dtype=torch.float32, device=device) + 0.5
    weight = (1 - (pixel - centre[:, None]).abs() / max(scale, 1.0)).clamp_min(0)
    return weight / weight.sum(1, keepdim=True)


def resample(pixels: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Pictures (..., H, W, 3) uint8 as (..., 3, h, w) float32, by weights (h, H) and (w, W); whole grey levels."""
    planes = pixels.movedim(-1, -3).to(torch.float32)
    return (down @ planes @ across.T).round_().clamp_(0, 255)
