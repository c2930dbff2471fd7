"""Frames that are made when they are looked at: image files of different sizes, rendered clips."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Frame = npt.NDArray[np.uint8]

#: Bytes above which the whole stack is not turned into one array.
MAX_LOAD_BYTES = 2**30
#: Frames kept in memory.
KEPT = 64


class LazyFrames:
    """An array (T, H, W, 3) uint8 whose frames come from a function.

    Parameters
    ----------
    count : int
    size : (int, int)
        Width, height.
    load : callable
        Gives frame i as (H, W, 3) uint8.
    title : str
        For messages.
    sizes : (T, 2) int64, optional
        Width, height of the part of each frame that is picture; the rest, right and below, is padding. Zeros
        where unknown.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        count: int,
        size: tuple[int, int],
        load: Callable[[int], Frame],
        title: str,
        sizes: npt.NDArray[np.int64] | None = None,
    ) -> None:
        width, height = size
        self.shape = (count, height, width, 3)
        self.title = title
        self.sizes = sizes
        self._load = lru_cache(maxsize=KEPT)(load)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<LazyFrames {self.title}: {self.shape}>"

    @property
    def size(self) -> int:
        """Number of array elements."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes of the whole stack."""
        return self.size

    def frame(self, index: int) -> Frame:
        """One frame, (H, W, 3)."""
        return self._load(range(len(self))[index])

    def picture(self, index: int) -> Frame:
        """One frame without its padding."""
        frame = self.frame(index)
        width, height = (0, 0) if self.sizes is None else self.sizes[index].tolist()
        return frame[: height or None, : width or None]

    def __getitem__(self, key: Any) -> Frame:
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            first, rest = slice(None), [Ellipsis, *rest]
        if isinstance(first, int | np.integer):
            return self.frame(int(first))[tuple(rest)]
        numbers = np.arange(len(self))[first]
        if np.ndim(numbers) == 0:
            return self.frame(int(numbers))[tuple(rest)]
        if len(numbers) * int(np.prod(self.shape[1:])) > MAX_LOAD_BYTES:
            raise UserError(
                f"{self.title}: {len(numbers)} frames do not fit into memory", remedy="take fewer at once"
            )
        frames = [self.frame(int(i))[tuple(rest)] for i in numbers]
        return np.stack(frames) if frames else np.zeros((0, *self.shape[1:]), np.uint8)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


def image_stack(paths: Sequence[Path], sizes: npt.NDArray[np.int64], title: str) -> LazyFrames:
    """Images of any sizes as one stack: smaller ones are padded with black right and below.

    The top-left corner stays where it is, so keypoints need no shift. A missing or broken image is black.

    Parameters
    ----------
    sizes : (T, 2) int64
        Width, height; zeros where unknown.
    """
    from napari_superanimal.video import open_video

    width, height = (int(v) for v in sizes.max(0)) if len(sizes) else (0, 0)
    width, height = width or 640, height or 480

    def load(index: int) -> Frame:
        frame = np.zeros((height, width, 3), np.uint8)
        try:
            with open_video(paths[index]) as image:
                pixels = image.frame(0)[:height, :width]
        except UserError:
            return frame
        frame[: pixels.shape[0], : pixels.shape[1]] = pixels
        return frame

    return LazyFrames(len(paths), (width, height), load, title, sizes)
