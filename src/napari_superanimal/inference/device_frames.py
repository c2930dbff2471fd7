"""Frames on a device: each is sent there once, as bytes, however many animals are cut out of it.

A graphics card resizes and normalises faster than frames get to it in float32, one by one. Within `kept_on`, whoever
asks for a frame a second time gets the one that is there.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from napari_superanimal.inference.frame_predictor import Frame

#: Frames that are on a device, by identity; threads and nested calls each have their own.
_KEPT: ContextVar[dict[tuple[int, str], Tensor] | None] = ContextVar("frames on a device", default=None)


@contextlib.contextmanager
def kept_on(frames: Sequence[Frame]) -> Iterator[None]:
    """While this lasts, none of these frames is sent to a device twice.

    Parameters
    ----------
    frames : sequence of (H, W, 3) uint8
        They are held on to, so that no other array can take the place of one in memory.
    """
    held = list(frames)
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)
        held.clear()


def on_device(frame: Frame, device: torch.device) -> Tensor:
    """The frame as (H, W, 3) uint8 on the device."""
    kept = _KEPT.get()
    key = (id(frame), str(device))
    if kept is not None and key in kept:
        return kept[key]
    sent = _sent(frame, device)
    if kept is not None:
        kept[key] = sent
    return sent


def stacked(frames: Sequence[Frame], device: torch.device) -> Tensor:
    """Frames of one size as (N, H, W, 3) uint8 on the device."""
    return torch.stack([on_device(frame, device) for frame in frames])


def _sent(frame: Frame, device: torch.device) -> Tensor:
    whole = np.ascontiguousarray(frame)
    if not whole.flags.writeable:
        whole = whole.copy()  # torch warns about memory it must not write to
    return torch.from_numpy(whole).to(device)
