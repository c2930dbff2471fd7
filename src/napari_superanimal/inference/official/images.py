"""Pixels as SuperAnimal's networks want them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from napari_superanimal.inference.official.crops import MEAN, STD

Pixels = npt.NDArray[np.uint8] | torch.Tensor


def normalise(pixels: Pixels, device: torch.device) -> torch.Tensor:
    """Pictures (N, H, W, 3) uint8 as (N, 3, H, W) float32, channels last in memory: (px / 255 - mean) / deviation.

    They may be on the device already.
    """
    images = _moved(pixels, device)
    # in this order and with these factors, so that the last bits are the reference's too
    mean = torch.tensor(MEAN, device=device).mul_(255.0)
    factor = torch.tensor(STD, device=device).mul_(255.0).reciprocal_()
    return images.sub_(mean).mul_(factor).permute(0, 3, 1, 2)


def unit_range(pixels: Pixels, device: torch.device) -> torch.Tensor:
    """Pictures (N, H, W, 3) uint8 as (N, 3, H, W) float32 in 0..1, channels last in memory."""
    return _moved(pixels, device).div_(255.0).permute(0, 3, 1, 2)


def _moved(pixels: Pixels, device: torch.device) -> torch.Tensor:
    if isinstance(pixels, torch.Tensor):
        return pixels.to(device).to(torch.float32, copy=True)
    whole = np.ascontiguousarray(pixels)
    if not whole.flags.writeable:
        whole = whole.copy()  # torch warns about memory it must not write to
    return torch.from_numpy(whole).to(device).to(torch.float32, copy=True)
