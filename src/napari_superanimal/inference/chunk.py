"""What inference gives out piece by piece."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

#: Frames per unit of work of a small network: small enough that cancelling is quick, large enough to fill a batch.
CHUNK = 16


def _nothing() -> npt.NDArray[np.float64]:
    return np.empty(0, np.float64)


@dataclass(frozen=True)
class Chunk:
    """Predictions of consecutive frames.

    Attributes
    ----------
    frames : (n,) int64
        Frame numbers.
    xy : (n, A, K, 2) float32, px
    likelihood : (n, A, K) float32
    boxes : (n, A, 4) float32, px
    box_scores : (n, A) float32
    swap_risk : (n, A) float32, 0..1
        How easily the individual may have been taken for another one in this frame; 0 without tracks.
    tracks : (S,) float64
        What tracking knows after the last frame, to go on from here; empty without tracks.
    """

    frames: npt.NDArray[np.int64]
    xy: npt.NDArray[np.float32]
    likelihood: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    box_scores: npt.NDArray[np.float32]
    swap_risk: npt.NDArray[np.float32]
    tracks: npt.NDArray[np.float64] = field(default_factory=_nothing)
