"""Predictions on disk while they are made: a file that only grows, so that a crash costs the last chunk at most.

The file starts with what the work is (video, model, settings). Then follow the chunks, each with its length and
checksum: a chunk that was cut short by a crash is recognised and cut off. Reading needs the memory of one chunk,
however long the video.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.inference.chunk import Chunk
from napari_superanimal.jobs.files import unwritable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt

MAGIC = b"SUPERANIMAL CHUNKS 1\n"
#: Header and chunks alike: length of what follows, its CRC-32, frames in it.
_LEAD = struct.Struct("<III")
#: First in a chunk: seconds of work until then, whether it is a full one.
_NOTE = struct.Struct("<d?7x")
#: The disk is told to keep what it was given after this many seconds; a killed program loses nothing of it anyway.
_SYNC_EVERY_S = 2.0
_ANEW = "start anew with --overwrite, or give another --out"


def chunks_path(predictions: Path) -> Path:
    """Where the chunks of a predictions file lie while it is not finished."""
    return predictions.with_name(f"{predictions.stem}.chunks")


@dataclass(frozen=True)
class Header:
    """What the chunks of a file are.

    Attributes
    ----------
    work : dict
        What makes two runs the same work, as `run_card.identity` gives it.
    keypoints, individuals : tuple of str
    """

    work: dict[str, Any]
    keypoints: tuple[str, ...]
    individuals: tuple[str, ...]


def read_header(path: Path) -> Header:
    """What is in a file of chunks.

    Raises
    ------
    UserError
        If it cannot be read or is not one.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return _header(file, path)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", path=path, remedy="check its rights") from error


def _header(file: FileIO, path: Path) -> Header:
    broken = UserError(
        "is not a file of unfinished predictions, or its start is damaged", path=path, remedy=_ANEW
    )
    if file.read(len(MAGIC)) != MAGIC:
        raise broken
    payload = _payload(file)
    if payload is None:
        raise broken
    try:
        fields = json.loads(payload[1])
        return Header(fields["work"], tuple(fields["keypoints"]), tuple(fields["individuals"]))
    except (ValueError, KeyError, TypeError) as error:
        raise broken from error


def _payload(file: FileIO) -> tuple[int, bytes] | None:
    """Frames and bytes of the next part; None where it is absent, cut short or damaged."""
    lead = file.read(_LEAD.size)
    if len(lead) < _LEAD.size:
        return None
    size, crc, frames = _LEAD.unpack(lead)
    payload = file.read(size)
    return (frames, payload) if len(payload) == size and zlib.crc32(payload) == crc else None


def _packed(frames: int, payload: bytes) -> bytes:
    return _LEAD.pack(len(payload), zlib.crc32(payload), frames) + payload


class NotKept(UserError):
    """The disk does not take the predictions any more; those before stay."""


class ChunkFile:
    """Chunks of one source, kept as they come.

    Nothing is written before the first chunk. A file that exists is continued: a chunk at its end that was cut short
    is removed. So is one with fewer frames than the others: networks round differently in batches of another size,
    and the result shall be that of an uninterrupted run.

    Parameters
    ----------
    path : Path
    header : Header
        Must be that of an existing file.

    Attributes
    ----------
    frames : int
        Frames in the file.
    seconds : float
        Time that they took.
    tracks : (S,) float64
        Tracking's memory after the last of them.

    Raises
    ------
    UserError
        If the file is damaged, holds something else, is in use by another program, or cannot be written.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.header = header
        self.frames = 0
        self.seconds = 0.0
        self.tracks: npt.NDArray[np.float64] = np.empty(0)
        self._file: FileIO | None = None
        self._start = self._end = 0
        self._synced = time.monotonic()
        if path.exists():
            self._continue()

    def _continue(self) -> None:
        try:
            file = open(self.path, "r+b", buffering=0)  # noqa: SIM115 - stays open as long as the object
        except OSError as error:
            raise unwritable(self.path, error) from error
        try:
            _lock(file, self.path)
            if _header(file, self.path) != self.header:
                raise UserError("holds predictions of other work", path=self.path, remedy=_ANEW)
            self._start = self._end = file.tell()
            while (part := _payload(file)) is not None:
                frames, payload = part
                seconds, full = _NOTE.unpack_from(payload)
                if not full:
                    break
                self.frames, self.seconds = self.frames + frames, seconds
                self.tracks = self._chunk(frames, payload).tracks
                self._end = file.tell()
            file.truncate(self._end)
            file.seek(self._end)
        except OSError as error:
            file.close()
            raise unwritable(self.path, error) from error
        except BaseException:
            file.close()
            raise
        self._file = file

    def add(self, chunk: Chunk, seconds: float, *, full: bool = True) -> None:
        """Put a chunk on the disk.

        Parameters
        ----------
        seconds : float
            Time that all chunks until here took.
        full : bool
            False for one that is short although the recording goes on.

        Raises
        ------
        NotKept
            If the disk is full or gone; the chunks before it stay.
        """
        floats = (chunk.xy, chunk.likelihood, chunk.boxes, chunk.box_scores, chunk.swap_risk)
        arrays = (
            np.asarray(chunk.frames, "<i8"),
            *(np.asarray(each, "<f4") for each in floats),
            np.asarray(chunk.tracks, "<f8"),
        )
        note = _NOTE.pack(seconds, full)
        data = _packed(len(chunk.frames), note + b"".join(array.tobytes() for array in arrays))
        try:
            file = self._file or self._create()
            _write_all(file, data)
            if time.monotonic() - self._synced > _SYNC_EVERY_S:
                os.fsync(file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            self._cut()
            kept = f"the {self.frames} frames before are kept" if self.frames else "nothing was changed"
            raise NotKept(
                f"cannot write ({error.strerror or error}), {kept}",
                path=self.path,
                remedy="free space and go on with --resume",
            ) from error
        self._end += len(data)
        self.frames += len(chunk.frames)
        self.seconds, self.tracks = seconds, chunk.tracks

    def _create(self) -> FileIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self._file = open(self.path, "xb+", buffering=0)  # noqa: SIM115 - stays open as long as the object
        _lock(file, self.path)
        _write_all(file, MAGIC + _packed(0, json.dumps(asdict(self.header), ensure_ascii=False).encode()))
        self._start = self._end = file.tell()
        return file

    def _cut(self) -> None:
        """Take back what was written of a chunk; reading would skip it anyway."""
        if self._file is None:
            return
        if not self.frames:
            self.delete()
            return
        with contextlib.suppress(OSError):
            self._file.truncate(self._end)
            self._file.seek(self._end)

    def read(self) -> Iterator[Chunk]:
        """The chunks in order, one in memory at a time."""
        if self._file is None:
            return
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self._start)
            while file.tell() < self._end:
                part = _payload(file)
                if part is None:
                    raise UserError("was damaged while in use", path=self.path, remedy=_ANEW)
                yield self._chunk(*part)

    def _chunk(self, n: int, payload: bytes) -> Chunk:
        a, k = len(self.header.individuals), len(self.header.keypoints)
        at = _NOTE.size

        def take(shape: tuple[int, ...], dtype: str) -> Any:
            nonlocal at
            count = int(np.prod(shape))
            array = np.frombuffer(payload, dtype, count, at).reshape(shape)
            at += array.nbytes
            return array

        frames = take((n,), "<i8")
        xy, sure, boxes, scores, risk = (
            take(shape, "<f4") for shape in ((n, a, k, 2), (n, a, k), (n, a, 4), (n, a), (n, a))
        )
        return Chunk(frames, xy, sure, boxes, scores, risk, take(((len(payload) - at) // 8,), "<f8"))

    def delete(self) -> None:
        """Remove the file: its content is in the results now."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file, which stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> ChunkFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write_all(file: FileIO, data: bytes) -> None:
    """All of `data`: on a disk that is nearly full a single write may take a part only."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _lock(file: FileIO, path: Path) -> None:
    """See that no other program writes the same file; the lock ends with the program."""
    try:
        import fcntl
    except ImportError:  # Windows: nobody can delete the file at least while it is open
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            "another program is writing these predictions", path=path, remedy="wait for it or cancel it"
        ) from error
    except OSError:  # some network drives know no locks
        return
