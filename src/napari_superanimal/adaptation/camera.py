"""How the camera moves, told by what is not the animal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.inference.frame_predictor import Frame

Floats = npt.NDArray[np.float64]
#: Frames are looked at with about so many pixels on their longer side, in patches of this side.
WIDTH, PATCH = 320, 48
#: Patches whose grey values vary less show nothing that could move.
TEXTURE = 5.0
#: Fewer patches than this do not tell.
FEWEST = 4


def camera_path(frames: Sequence[Frame], boxes: Sequence[npt.NDArray[np.floating]]) -> Floats:
    """How far the background has moved since the first of some neighbouring frames, (n, 2) px.

    Patches beside the animals are compared by phase correlation; the median of their shifts counts.

    Parameters
    ----------
    frames : sequence of (H, W, 3) uint8
    boxes : sequence of (M, 4)
        Animals in each frame, which are left out.

    Returns
    -------
    (n, 2); NaN from the first frame on whose background cannot be followed.
    """
    step = max(1, round(max(frames[0].shape[:2]) / WIDTH))
    small = [_grey(frame, step) for frame in frames]
    path = np.zeros((len(frames), 2))
    for i in range(1, len(frames)):
        path[i] = path[i - 1] + step * _shift(small[i - 1], small[i], boxes[i - 1], boxes[i], step)
    return path


def _grey(frame: Frame, step: int) -> Floats:
    """Means of squares of `step` pixels."""
    h, w = (n // step * step for n in frame.shape[:2])
    grey = frame[:h, :w].mean(-1)
    return np.asarray(grey.reshape(h // step, step, w // step, step).mean((1, 3)))


def _shift(
    one: Floats, two: Floats, before: npt.NDArray[np.floating], after: npt.NDArray[np.floating], step: int
) -> Floats:
    """Median shift of the patches that hold no animal, px of the small picture."""
    taken = np.concatenate([np.asarray(before).reshape(-1, 4), np.asarray(after).reshape(-1, 4)]) / step
    window = np.outer(np.hanning(PATCH), np.hanning(PATCH))
    found = []
    for y in range(0, one.shape[0] - PATCH + 1, PATCH // 2):
        for x in range(0, one.shape[1] - PATCH + 1, PATCH // 2):
            low, high = taken[:, :2], taken[:, :2] + taken[:, 2:]
            if ((low < (x + PATCH, y + PATCH)) & (high > (x, y))).all(-1).any():
                continue
            a, b = one[y : y + PATCH, x : x + PATCH], two[y : y + PATCH, x : x + PATCH]
            if a.std() >= TEXTURE and b.std() >= TEXTURE:
                found.append(_phase(a, b, window))
    return np.median(found, axis=0) if len(found) >= FEWEST else np.full(2, np.nan)


def _phase(one: Floats, two: Floats, window: Floats) -> Floats:
    """How far `two` is shifted against `one`, (x, y), by the peak of their phase correlation."""
    a, b = (np.fft.rfft2((p - p.mean()) * window) for p in (one, two))
    product = np.conj(a) * b
    surface = np.fft.irfft2(product / np.maximum(np.abs(product), 1e-9), s=one.shape)
    y, x = np.unravel_index(int(surface.argmax()), surface.shape)
    n = PATCH
    return np.array([(x + n // 2) % n - n // 2, (y + n // 2) % n - n // 2], np.float64)
