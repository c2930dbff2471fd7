"""Frames of a video file by number: seek to a keyframe, decode forward, never guess."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

from napari_superanimal.errors import UserError
from napari_superanimal.video.index import (
    DECODE_THREADS,
    PacketIndex,
    build_index,
    decode_all,
    open_container,
    sequential_threads,
    video_stream,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

#: Undisplayed frames kept, as the decoder made them, after a jump backward: the next ones that are asked for.
_BACKFILL_FRAMES = 64
_BACKFILL_BYTES = 96 * 2**20
#: One thread converts colours: it takes less CPU in all, and takes it in the thread that reads. (Older versions
#: of PyAV have one thread only and no such argument.)
_CONVERT: dict[str, Any] = {"threads": 1} if "threads" in (VideoReformatter.reformat.__doc__ or "") else {}
#: Earlier keyframes tried when a seek lands too late.
_RUN_UPS = 2


class FileSource:
    """A video file.

    Parameters
    ----------
    path : Path

    Raises
    ------
    UserError
        As `build_index`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.index: PacketIndex = build_index(path)

    @property
    def size(self) -> tuple[int, int]:
        width, height = self.index.size
        return (height, width) if self.index.rotation in (90, 270) else (width, height)

    @cached_property
    def times(self) -> npt.NDArray[np.float64]:
        return self.index.times

    @cached_property
    def fps(self) -> float:
        return self.index.fps

    @property
    def decode_threads(self) -> int:
        return sequential_threads()

    def reader(self, *, sequential: bool = False) -> FileReader:
        return FileReader(self.index, self.decode_threads if sequential else DECODE_THREADS)


class FileReader:
    """Decodes one file for one consumer.

    Going forward within a group of pictures continues to decode; other jumps seek to the last keyframe
    before the frame. After a jump backward the frames passed on the way are kept undisplayed, because the
    next ones wanted are among them.

    Parameters
    ----------
    index : PacketIndex
    threads : int
        libav's threads; with 1 all work is done in the thread that reads.
    """

    def __init__(self, index: PacketIndex, threads: int = DECODE_THREADS) -> None:
        self._index = index
        self._threads = threads
        self._number = {int(p): i for i, p in enumerate(index.pts)}
        self._convert = VideoReformatter()
        self._opened: tuple[InputContainer, VideoStream] | None = None
        self._frames: Iterator[VideoFrame] = iter(())
        self._at = -1  # the last frame that came out of the decoder; -1 before the first
        self._ready = False  # the decoder stands somewhere and can continue
        self._reliable = 0  # frames before this one are not shown
        self._last: VideoFrame | None = None
        self._ahead: tuple[int, VideoFrame] | None = None  # decoded but not asked for yet
        self._wanted = -1
        self._passed: dict[int, VideoFrame] = {}
        self._warned = False

    def close(self) -> None:
        if self._opened is not None:
            self._opened[0].close()
        self._opened, self._ready, self._ahead, self._last = None, False, None, None
        self._frames = iter(())
        self._passed.clear()

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Frame `index` as (H, W, 3) uint8 RGB."""
        backward = index < self._wanted
        self._wanted = index
        if (frame := self._passed.pop(index, None)) is None:
            self._passed.clear()
            frame = self._decode(index, keep=backward)
        return self._picture(frame)

    def _decode(self, index: int, keep: bool) -> VideoFrame:
        """The frame `index`; one that is lost to damaged data is replaced by a neighbour."""
        if self._ahead is not None and self._ahead[0] == index:
            (_, frame), self._ahead = self._ahead, None
            self._last = frame
            return frame
        group = self._index.start_for(index)
        if not (self._ready and self._at < index and self._index.keyframes[group] <= self._at + 1):
            self._seek(group)
        previous: VideoFrame | None = None
        while (found := self._next()) is not None:
            number, frame = found
            if number == index:
                self._last = frame
                return frame
            if number > index:
                self._ahead = found
                break
            previous = frame
            if keep:
                self._keep(number, frame)
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._index.path}: frame {index} is damaged; its neighbour is shown instead", stacklevel=2
            )
        stand_in = previous or (found[1] if found else None) or self._last or self._any_before(index)
        self._last = stand_in
        return stand_in

    def _any_before(self, index: int) -> VideoFrame:
        """The nearest frame before `index` that decodes."""
        for group in range(self._index.start_for(index), -1, -1):
            self._seek(group)
            last: VideoFrame | None = None
            while (found := self._next()) is not None and found[0] < index:
                last = found[1]
            self._ready = False
            if last is not None or found is not None:
                return last or found[1]  # type: ignore[index]
        raise UserError("cannot be decoded any more", path=self._index.path, remedy="open the file again")

    def _next(self) -> tuple[int, VideoFrame] | None:
        """The next frame with its number; None at the end. Frames that cannot be relied on are skipped."""
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            return ahead
        for frame in self._frames:
            if self._index.ordinal:
                number = self._at + 1
            else:
                number = -1 if frame.pts is None else self._number.get(frame.pts, -1)
            # before the keyframe that decoding started at, pictures may lack what they refer to
            if number < self._reliable:
                continue
            self._at = number
            return number, frame
        self._ready = False
        return None

    def _seek(self, group: int) -> None:
        """Stand before keyframe number `group`.

        Some containers (MPEG-TS) land behind the place asked for, amid pictures that cannot be decoded
        properly: then seek to the keyframe before and run up, or in the end from the start of the file.
        """
        key = int(self._index.keyframes[group])
        if not self._index.ordinal:
            for earlier in range(group, max(-1, group - _RUN_UPS - 1), -1):
                container, stream = self._opened or self._reopen()
                try:
                    container.seek(int(self._index.seek_pts[earlier]), stream=stream, backward=True)
                except (av.FFmpegError, OSError):
                    break
                self._start(container, stream, key)
                first = self._next()
                if first is not None and first[0] == key:
                    self._ahead = first
                    return
        self._start(*self._reopen(prime=False), 0)  # the file's start needs no seeking

    def _start(self, container: InputContainer, stream: VideoStream, reliable: int) -> None:
        self._frames = decode_all(container, stream)
        self._reliable, self._at, self._ready, self._ahead = reliable, -1, True, None

    def _reopen(self, prime: bool = True) -> tuple[InputContainer, VideoStream]:
        if self._opened is not None:
            self._opened[0].close()
        container = open_container(self._index.path)
        stream = video_stream(container, self._index.path, self._index.stream, self._threads)
        self._opened = container, stream
        if prime:
            # x264 tells its version in the first packet only, and libav decodes the 4:4:4 pictures of old
            # versions wrongly without it: let the decoder see the start of the file before it jumps
            next(decode_all(container, stream), None)
        return self._opened

    def _keep(self, number: int, frame: VideoFrame) -> None:
        self._passed[number] = frame
        room = max(1, min(_BACKFILL_FRAMES, _BACKFILL_BYTES // max(1, 3 * frame.width * frame.height)))
        while len(self._passed) > room:
            del self._passed[next(iter(self._passed))]

    def _picture(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        width, height = self._index.size
        # one reformatter per reader: making libswscale's tables anew costs as much as the conversion
        rgb = self._convert.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=Interpolation.BILINEAR,
            **_CONVERT,
        )
        image: npt.NDArray[np.uint8] = np.asarray(rgb.to_ndarray(), np.uint8)
        return np.ascontiguousarray(np.rot90(image, self._index.rotation // 90))
