"""A video as an array: frames by number, exact, lazy, from any thread."""

from __future__ import annotations

import threading
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.errors import UserError
from napari_superanimal.video.cache import DEFAULT_BYTES, FrameCache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_superanimal.video.source import Reader, Source

#: Bytes above which one indexing operation refuses to load frames into memory.
MAX_LOAD_BYTES = 2**30

Frame = npt.NDArray[np.uint8]
_Key = int | slice | EllipsisType | npt.ArrayLike


class Video:
    """Frames of a file or of images as an array (T, H, W, 3), uint8 RGB, that loads what is looked at.

    Indexing, `frame` and `iter_frames` may be used from several threads at once. napari shows it with
    ``viewer.add_image(video, rgb=True)``.

    Parameters
    ----------
    source : Source
        Use `open_video` to make one.
    cache_bytes : int
        Memory for frames that were read by number.

    Attributes
    ----------
    path : Path
    shape : (int, int, int, int)
        T, H, W, 3.
    dtype : uint8
    fps : float
        Mean frames per second.
    times : (T,) float64
        Seconds since the first frame; exact for variable rates.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, source: Source, cache_bytes: int = DEFAULT_BYTES) -> None:
        self._source = source
        self._cache = FrameCache(cache_bytes)
        self._lock = threading.Lock()
        self._reader: Reader | None = None
        width, height = source.size
        self.shape = (len(source.times), height, width, 3)

    def __repr__(self) -> str:
        t, h, w, _ = self.shape
        return f"<Video {self.path.name}: {t} frames of {w}x{h} at {self.fps:.6g} fps>"

    @property
    def path(self) -> Path:
        return self._source.path

    @property
    def source(self) -> Source:
        """Where the frames come from."""
        return self._source

    @property
    def times(self) -> npt.NDArray[np.float64]:
        return self._source.times

    @property
    def fps(self) -> float:
        return self._source.fps

    @property
    def decode_threads(self) -> int:
        """Threads that `iter_frames` decodes with; with 1 all its work is done in the thread that iterates."""
        return self._source.decode_threads

    @property
    def size(self) -> int:
        """Number of array elements, as numpy has it."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes of the whole video as an array."""
        return self.size

    def __len__(self) -> int:
        return self.shape[0]

    def frame(self, index: int) -> Frame:
        """One frame.

        Parameters
        ----------
        index : int
            Negative numbers count from the end.

        Returns
        -------
        (H, W, 3) uint8
            RGB; read-only, because it is shared with the cache.

        Raises
        ------
        IndexError
            If there is no such frame.
        UserError
            If an image file has become unreadable.
        """
        number = self._number(index)
        if (frame := self._cache.get(number)) is not None:
            return frame
        with self._lock:
            # another thread may have read it while this one waited
            if (frame := self._cache.get(number)) is not None:
                return frame
            if self._reader is None:
                self._reader = self._source.reader()
            frame = self._reader.read(number)
            frame.flags.writeable = False
            self._cache.put(number, frame)
            return frame

    def iter_frames(
        self, start: int = 0, stop: int | None = None, step: int = 1
    ) -> Iterator[tuple[int, Frame]]:
        """Frames in order, from a decoder of their own and past the cache.

        Parameters
        ----------
        start, stop, step : int
            As in ``range(T)[start:stop:step]``.

        Yields
        ------
        (int, (H, W, 3) uint8)
            Frame number and a new, writable array.

        Raises
        ------
        ValueError
            If `step` is 0.
        """
        numbers = range(len(self))[start:stop:step]
        return self._iterate(numbers)

    def _iterate(self, numbers: range) -> Iterator[tuple[int, Frame]]:
        reader = self._source.reader(sequential=True)
        try:
            for number in numbers:
                yield number, reader.read(number)
        finally:
            reader.close()

    def fork(self) -> Video:
        """The same video with its own decoder and cache."""
        return Video(self._source, self._cache.max_bytes)

    def close(self) -> None:
        """Close the file and forget cached frames; reading again reopens it."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            self._cache.clear()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, key: _Key | tuple[_Key, ...]) -> npt.NDArray[np.uint8]:
        """As numpy's indexing: integers, slices, ellipsis, and a list or mask for the frames."""
        if isinstance(key, int):  # the usual case, without detours
            return self.frame(key)
        first, rest = self._split(key)
        if np.ndim(first) == 0 and np.asarray(first).dtype.kind in "iu":
            frame = self.frame(int(first))
            return frame[rest] if rest else frame
        return self._stack(self._numbers(first), rest)

    def __iter__(self) -> Iterator[Frame]:
        for number in range(len(self)):
            yield self.frame(number)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """The whole video in memory, if it is small enough.

        Raises
        ------
        UserError
            Above 1 GB.
        """
        if copy is False:
            raise ValueError("a video cannot become an array without a copy")
        array = self._stack(range(len(self)), ())
        return array if dtype is None else array.astype(dtype, copy=False)

    def _number(self, index: int) -> int:
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"frame {index} is out of range for {count} frames of {self.path.name}")
        return index + count if index < 0 else index

    def _split(self, key: _Key | tuple[_Key, ...]) -> tuple[Any, tuple[Any, ...]]:
        """The index of the frame axis, and those of the axes within a frame."""
        parts = list(key) if isinstance(key, tuple) else [key]
        if any(p is None for p in parts):
            raise IndexError("a video cannot get new axes")
        dots = [i for i, p in enumerate(parts) if p is Ellipsis]
        if len(dots) > 1:
            raise IndexError("an index can only have a single ellipsis ('...')")
        if dots:
            fill = self.ndim - (len(parts) - 1)
            parts[dots[0] : dots[0] + 1] = [slice(None)] * max(0, fill)
        if len(parts) > self.ndim:
            raise IndexError(f"too many indices: a video has {self.ndim} axes, {len(parts)} were given")
        first = parts[0] if parts else slice(None)
        rest = tuple(parts[1:])
        while rest and isinstance(rest[-1], slice) and rest[-1] == slice(None):
            rest = rest[:-1]
        return first, rest

    def _numbers(self, first: Any) -> range | list[int]:
        if isinstance(first, slice):
            return range(len(self))[first]
        index = np.asarray(first)
        if index.dtype == bool:
            if index.shape != (len(self),):
                raise IndexError(f"a mask for {len(self)} frames has shape {index.shape}")
            index = np.flatnonzero(index)
        if index.size == 0:
            return []
        if index.dtype.kind not in "iu" or index.ndim != 1:
            raise IndexError("frames are chosen by integers, slices, a list of integers or a mask")
        return [self._number(int(i)) for i in index]

    def _stack(self, numbers: range | list[int], rest: tuple[Any, ...]) -> npt.NDArray[np.uint8]:
        # an array without memory behind it tells the shape of the part of each frame
        part = np.broadcast_to(np.uint8(0), self.shape[1:])[rest].shape
        shape = (len(numbers), *part)
        wanted = int(np.prod(shape, dtype=np.int64))
        if wanted > MAX_LOAD_BYTES:
            raise UserError(
                f"loading {len(numbers)} frames at once would take {wanted / 2**30:.1f} GB of memory",
                path=self.path,
                remedy="read fewer frames, or one after the other with iter_frames",
            )
        out = np.empty(shape, np.uint8)
        for row, number in enumerate(numbers):
            out[row] = self.frame(number)[rest]
        return out
