"""Writing videos."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
import numpy.typing as npt

from napari_superanimal.jobs.files import atomic_path, unwritable

if TYPE_CHECKING:
    from types import TracebackType

    from av.container import OutputContainer
    from av.video.stream import VideoStream

#: Encoders in the order of preference; which ones exist depends on how FFmpeg was built.
_ENCODERS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("libx264", "yuv420p", {"crf": "18", "preset": "veryfast"}),
    ("libopenh264", "yuv420p", {}),
    ("mpeg4", "yuv420p", {"qscale": "3"}),
)


class VideoWriter:
    """Writes an mp4 frame by frame; the file appears under its name only when all went well.

    Use as a context manager. An odd width or height is extended by repeating the last column or row,
    because players need even ones.

    Parameters
    ----------
    path : Path
        An existing file is replaced at the end: ask before.
    fps : float
    size : (int, int)
        Width, height of the frames.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self.path, self.size = Path(path), size
        self._rate = Fraction(fps if fps > 0 else 30.0).limit_denominator(1001)
        self._stack = ExitStack()
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self.frames_written = 0

    def __enter__(self) -> VideoWriter:
        temporary = self._stack.enter_context(atomic_path(self.path))
        try:
            self._container = av.open(str(temporary), "w", format=_container_format(self.path))
            self._stream = _add_stream(self._container, self._rate, self.size)
        except BaseException:
            self._stack.close()
            raise
        return self

    def write(self, frame: npt.NDArray[np.uint8]) -> None:
        """Append one frame (H, W, 3) uint8 RGB.

        Raises
        ------
        ValueError
            If it has another size than the writer.
        UserError
            If the disk is full.
        """
        if self._container is None or self._stream is None:
            raise ValueError("use VideoWriter in a with block")
        width, height = self.size
        if frame.shape != (height, width, 3):
            raise ValueError(f"frame has shape {frame.shape}, expected {(height, width, 3)}")
        if width % 2 or height % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame, np.uint8), format="rgb24")
        picture.pts = self.frames_written
        picture.time_base = 1 / self._rate
        self._mux(picture)
        self.frames_written += 1

    def _mux(self, picture: av.VideoFrame | None) -> None:
        assert self._container is not None
        assert self._stream is not None
        try:
            for packet in self._stream.encode(picture):
                self._container.mux(packet)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._mux(None)
            if self._container is not None:
                self._container.close()
        except OSError as problem:
            if kind is None:
                kind, error = type(problem), unwritable(self.path, problem)
                self._stack.__exit__(kind, error, trace)
                raise error from problem
        finally:
            self._container = self._stream = None
        self._stack.__exit__(kind, error, trace)


def _container_format(path: Path) -> str:
    return {".avi": "avi", ".mkv": "matroska", ".mov": "mov"}.get(path.suffix.lower(), "mp4")


def _add_stream(container: OutputContainer, rate: Fraction, size: tuple[int, int]) -> VideoStream:
    """A stream of the best encoder that this FFmpeg has."""
    width, height = size
    for name, pixels, options in _ENCODERS:
        try:
            av.Codec(name, "w")
        except (av.FFmpegError, ValueError):
            continue
        stream = cast("VideoStream", container.add_stream(name, rate=rate, options=options))
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = pixels
        if name == "mpeg4":
            stream.bit_rate = 4 * width * height
        return stream
    raise RuntimeError("this FFmpeg has no encoder for H.264 or MPEG-4")
