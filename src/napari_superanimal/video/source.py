"""What every kind of video offers: a description, and readers that own their state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pathlib import Path

Image = npt.NDArray[np.uint8]


class Reader(Protocol):
    """Reads frames for one consumer; not thread-safe."""

    def read(self, index: int) -> Image:
        """Frame `index` (0 <= index < number of frames) as (H, W, 3) uint8 RGB, a new array."""

    def close(self) -> None:
        """Let go of files and buffers."""


class Source(Protocol):
    """A closed, immutable description of a video from which readers are made."""

    @property
    def path(self) -> Path:
        """The file, or the folder of images."""

    @property
    def size(self) -> tuple[int, int]:
        """Width, height in pixels, as shown (after rotation)."""

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """(T,) seconds since the first frame."""

    @property
    def fps(self) -> float:
        """Mean frames per second."""

    @property
    def decode_threads(self) -> int:
        """Threads of a sequential reader, the reading one included."""

    def reader(self, *, sequential: bool = False) -> Reader:
        """A new, independent reader; `sequential` when frames will be read in order."""
