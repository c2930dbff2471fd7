"""Which frame is where in a video file, found from its packets without decoding them."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import numpy.typing as npt

from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

#: Frames that are decoded when a file is opened, to see that packets and frames agree.
_PROBE = 4
#: libav's threads per decoder: enough to hide latency, few enough to leave the cores to the network.
DECODE_THREADS = 2
#: On machines with up to this many cores, frames that are read in order are decoded by one thread: the networks
#: beside it need the cores, and one thread takes less CPU in all (1.9 ms per 640x480 frame, two 2.3).
FEW_CORES = 4
#: What a file says about itself in an unknown encoding does not matter; PyAV 19 never stumbles over it.
_OPEN: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}
_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class PacketIndex:
    """Frame i is the i-th presentation time of the stream, so variable rates and B-frames are exact.

    Attributes
    ----------
    path : Path
    stream : int
        Index of the video stream in its container.
    pts : (T,) int64
        Presentation times in units of `time_base`, ascending. In an `ordinal` index only the order counts.
    keyframes : (N,) int64
        Frame numbers at which decoding can start, ascending, the first one 0.
    seek_pts : (N,) int64
        Time to seek to for each of them.
    ordinal : bool
        The file has no usable times: frames are counted from the start, which is the only place to seek to.
    time_base : Fraction
        Seconds per unit.
    rate : float
        Frames per second that the container states; 0 if none.
    size : (int, int)
        Width, height of the stored picture.
    rotation : int
        Degrees counter-clockwise by which to turn it for display: 0, 90, 180 or 270.
    """

    path: Path
    stream: int
    pts: npt.NDArray[np.int64]
    keyframes: npt.NDArray[np.int64]
    seek_pts: npt.NDArray[np.int64]
    ordinal: bool
    time_base: Fraction
    rate: float
    size: tuple[int, int]
    rotation: int

    def __len__(self) -> int:
        return len(self.pts)

    def start_for(self, frame: int) -> int:
        """Position in `keyframes` of the last one at or before `frame`."""
        return int(np.searchsorted(self.keyframes, frame, side="right")) - 1

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """(T,) seconds since the first frame."""
        if self.ordinal:
            return np.arange(len(self)) / (self.rate or 30.0)
        return (self.pts - self.pts[0]) * float(self.time_base)

    @property
    def fps(self) -> float:
        """Mean rate; the container's own figure where it agrees with the times."""
        times = self.times
        if len(times) < 2 or times[-1] <= 0:
            return self.rate or 30.0
        measured = (len(times) - 1) / float(times[-1])
        return self.rate if self.rate and abs(self.rate / measured - 1) < 0.005 else measured


def build_index(path: Path) -> PacketIndex:
    """Index the first real video stream of a file.

    Packets are read but not decoded (some 10 ms per thousand frames). A few frames at the start are
    decoded to see that the packets tell the truth; where they do not, and at the end of files that look
    cut off, frames are decoded instead of trusted.

    Raises
    ------
    UserError
        If the file is missing, empty, no video, or so damaged that no frame can be read.
    """
    container = open_container(path)
    try:
        stream = video_stream(container, path)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        pts, keys, seen, complete = _packets(container, stream)
        # other containers estimate, or count repeated frames that are not stored
        announced = stream.frames if "mp4" in container.format.name else 0
        number, time_base = stream.index, stream.time_base or Fraction(1, 1000)
    finally:
        container.close()
    cut = not complete or seen < announced or _shorter_than_riff(path)
    first = _decoded_pts(path, number, _PROBE)
    if not first.pts:
        raise UserError(
            "holds no picture that can be decoded",
            path=path,
            remedy="the file is damaged or of an unknown codec: convert it to H.264 mp4 or record it again",
        )
    ordinal = False
    probe = sorted(p for p in first.pts if p is not None)
    trusted = pts is not None and keys and len(probe) == len(first.pts) and probe == pts[: len(probe)]
    if not trusted:
        everything = _decoded_pts(path, number, None)
        ordinal = None in everything.pts or len(set(everything.pts)) < len(everything.pts)
        if ordinal:
            pts, keys = list(range(len(everything.pts))), [0]
        else:
            pts = sorted(p for p in everything.pts if p is not None)
            keys = [p for p in everything.keys if p is not None]
    assert pts is not None
    times = np.array(pts, np.int64)
    seeks = np.array(sorted({k for k in keys if k >= times[0]} | {int(times[0])}), np.int64)
    index = PacketIndex(
        path,
        number,
        times,
        np.searchsorted(times, seeks).astype(np.int64),
        seeks,
        ordinal,
        time_base,
        rate,
        first.size,
        first.rotation,
    )
    if trusted and cut:
        index = _without_lost_tail(index)
    if cut:
        expected = f" of {announced}" if announced > len(index) else ""
        warnings.warn(
            f"{path}: the file looks cut off; its {len(index)}{expected} readable frames are used",
            stacklevel=3,
        )
    return index


def open_container(path: Path) -> InputContainer:
    """Open a file with libav.

    Raises
    ------
    UserError
        If it cannot be opened, with the likely reason.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except FileNotFoundError as error:
        raise UserError("does not exist", path=path, remedy="check the path") from error
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", path=path, remedy="check its permissions"
        ) from error
    if not head:
        raise UserError("is empty (0 bytes)", path=path, remedy="copy or download the file again")
    if head.startswith(_LFS):
        raise UserError(
            "is a Git LFS pointer, not the video", path=path, remedy="run 'git lfs pull' to fetch the file"
        )
    try:
        container = av.open(str(path), mode="r", **_OPEN)
    except (av.FFmpegError, OSError, ValueError) as error:
        if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free") and not _has_box(path, b"moov"):
            raise UserError(
                "is an incomplete mp4/mov: its index (the moov box) is missing",
                path=path,
                remedy="the recording or copy was cut off: copy it again or repair it with untrunc",
            ) from error
        raise UserError(
            "is not a video that can be read",
            path=path,
            remedy="open an mp4, avi, mov or mkv, or convert it with ffmpeg",
        ) from error
    kind = container.format.name
    # libav reads single pictures too, and draws text files as pictures of a terminal
    if kind.endswith("_pipe") or kind in ("tty", "image2"):
        container.close()
        raise UserError(
            f"is {'a text' if kind == 'tty' else 'a picture'}, not a video",
            path=path,
            remedy="give a picture its real ending (.png, .jpg), or open an mp4, avi, mov or mkv",
        )
    return container


def sequential_threads() -> int:
    """libav's threads for reading frames in order; 1 means all decoding happens in the reading thread."""
    return 1 if (os.cpu_count() or 1) <= FEW_CORES else DECODE_THREADS


def video_stream(
    container: InputContainer, path: Path, number: int | None = None, threads: int = DECODE_THREADS
) -> VideoStream:
    """The video stream `number`, or the first that is not a cover picture, set up for decoding.

    Raises
    ------
    UserError
        If there is none.
    """
    streams = [s for s in container.streams.video if number is None or s.index == number]
    real = [s for s in streams if "attached_pic" not in (s.disposition.name or "").lower()] or streams
    if not real:
        raise UserError(
            "has no video track", path=path, remedy="choose a file with pictures, not sound alone"
        )
    stream = real[0]
    if stream.codec_context is None:
        raise UserError(
            "uses a codec that cannot be decoded here",
            path=path,
            remedy="convert it to H.264 mp4, for example with ffmpeg",
        )
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = threads
    return stream


def _has_box(path: Path, name: bytes) -> bool:
    """Whether an mp4 file has a top-level box of that name."""
    size = path.stat().st_size
    at = 0
    with open(path, "rb") as file:
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            if head[4:8] == name:
                return True
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if length < 8:
                return False
            at += length
    return False


def _shorter_than_riff(path: Path) -> bool:
    """Whether an AVI file ends before its first RIFF chunk does."""
    with open(path, "rb") as file:
        head = file.read(12)
    whole = 8 + int.from_bytes(head[4:8], "little")
    return head[:4] == b"RIFF" and head[8:12] == b"AVI " and path.stat().st_size < whole


def _packets(container: InputContainer, stream: VideoStream) -> tuple[list[int] | None, list[int], int, bool]:
    """What the packets say, without decoding.

    Returns
    -------
    pts : list of int or None
        Presentation times, ascending; None if some are missing or doubled.
    keys : list of int
        Those of keyframes.
    seen : int
        Number of packets, those that an edit list hides included.
    complete : bool
        The file could be read to its end.
    """
    seen = 0
    pts: list[int | None] = []
    keys: list[int] = []
    complete = True
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            seen += 1
            if packet.is_discard:
                continue
            complete = not packet.is_corrupt
            pts.append(packet.pts)
            if packet.is_keyframe and packet.pts is not None:
                keys.append(packet.pts)
    except (av.FFmpegError, OSError):
        complete = False
    known = [p for p in pts if p is not None]
    if len(known) < len(pts) or len(set(known)) < len(known) or not known:
        return None, keys, seen, complete
    return sorted(known), keys, seen, complete


@dataclass
class _Decoded:
    """What decoding in order gave."""

    pts: list[int | None]
    keys: list[int | None]
    size: tuple[int, int] = (0, 0)
    rotation: int = 0


def _decoded_pts(path: Path, number: int, limit: int | None, seek: int | None = None) -> _Decoded:
    """Decode from the start (or the keyframe at `seek`), without converting pictures."""
    found = _Decoded([], [])
    container = open_container(path)
    try:
        stream = video_stream(container, path, number)
        if seek is not None:
            container.seek(seek, stream=stream, backward=True)
        for frame in decode_all(container, stream):
            if not found.pts:
                found.size = (frame.width, frame.height)
                found.rotation = round(frame.rotation / 90) * 90 % 360
            found.pts.append(frame.pts)
            if frame.key_frame:
                found.keys.append(frame.pts)
            if limit is not None and len(found.pts) >= limit:
                break
    finally:
        container.close()
    return found


def decode_all(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames in presentation order; damaged packets are skipped, damage in the container ends the stream."""
    context = stream.codec_context
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.FFmpegError, OSError):
            packet = None
        try:
            frames = context.decode(packet)
        except (av.FFmpegError, OSError):
            frames = []
        yield from frames
        if packet is None:
            return


def _without_lost_tail(index: PacketIndex) -> PacketIndex:
    """The index without the frames of the last two keyframe intervals that do not decode."""
    start = int(index.seek_pts[max(0, len(index.seek_pts) - 2)])
    decoded = {p for p in _decoded_pts(index.path, index.stream, None, start).pts if p is not None}
    kept = index.pts[(index.pts < start) | np.isin(index.pts, np.array(sorted(decoded), np.int64))]
    if not len(kept):
        kept = index.pts
    seeks = index.seek_pts[index.seek_pts <= kept[-1]]
    return PacketIndex(
        index.path,
        index.stream,
        kept,
        np.searchsorted(kept, seeks).astype(np.int64),
        seeks,
        index.ordinal,
        index.time_base,
        index.rate,
        index.size,
        index.rotation,
    )
