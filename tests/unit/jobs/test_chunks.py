"""Predictions on disk: what a crash may cost, and what is refused."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.errors import UserError
from napari_superanimal.inference.chunk import Chunk
from napari_superanimal.jobs.chunks import ChunkFile, Header, chunks_path, read_header

if TYPE_CHECKING:
    from pathlib import Path

HEADER = Header({"model": "m", "frame_range": [0, 100, 1]}, ("nose", "tail_base"), ("animal0", "animal1"))


def chunk(start: int, n: int = 4) -> Chunk:
    rng = np.random.default_rng(start)
    xy = rng.normal(size=(n, 2, 2, 2)).astype(np.float32)
    xy[0, 1] = np.nan
    shapes = ((n, 2, 2), (n, 2, 4), (n, 2), (n, 2))
    sure, boxes, scores, risk = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return Chunk(np.arange(start, start + n), xy, sure, boxes, scores, risk, rng.normal(size=11))


def assert_same(a: Chunk, b: Chunk) -> None:
    for name in ("frames", "xy", "likelihood", "boxes", "box_scores", "swap_risk", "tracks"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return chunks_path(tmp_path / "clip_m.h5")


def write(path: Path, *starts: int) -> None:
    with ChunkFile(path, HEADER) as chunks:
        for start in starts:
            chunks.add(chunk(start), start / 10)


def test_chunks_come_back_bit_for_bit(path: Path) -> None:
    write(path, 0, 4)
    with ChunkFile(path, HEADER) as chunks:
        assert (chunks.frames, chunks.seconds) == (8, 0.4)
        np.testing.assert_array_equal(chunks.tracks, chunk(4).tracks)
        chunks.add(chunk(8), 0.8)
        for found, start in zip(chunks.read(), (0, 4, 8), strict=True):
            assert_same(found, chunk(start))
        # reading in between does not disturb writing
        chunks.add(chunk(12), 1.2)
        assert [int(c.frames[0]) for c in chunks.read()] == [0, 4, 8, 12]
    assert read_header(path) == HEADER


def test_nothing_is_written_before_the_first_chunk(path: Path) -> None:
    with ChunkFile(path, HEADER) as chunks:
        assert list(chunks.read()) == []
    assert not path.exists()


def test_wherever_a_crash_cuts_the_file_whole_chunks_survive(path: Path) -> None:
    write(path, 0)
    one = path.stat().st_size
    write(path, 4)
    data = path.read_bytes()
    for cut in [*range(one, len(data), 37), len(data) - 1]:
        path.write_bytes(data[:cut])
        with ChunkFile(path, HEADER) as chunks:
            assert chunks.frames == 4
            chunks.add(chunk(4), 0.4)
        assert path.read_bytes() == data


def test_damage_ends_what_is_believed(path: Path) -> None:
    write(path, 0, 4, 8)
    data = bytearray(path.read_bytes())
    data[-data[::-1].index(chunk(4).xy.tobytes()[::-1]) - 5] ^= 1
    path.write_bytes(data)
    with ChunkFile(path, HEADER) as chunks:
        assert chunks.frames == 4


def test_a_short_chunk_in_the_middle_is_done_again(path: Path) -> None:
    with ChunkFile(path, HEADER) as chunks:
        chunks.add(chunk(0), 0.1)
        chunks.add(chunk(4, 3), 0.2, full=False)
        # as long as nobody resumes it counts: it is in the results of a broken video
        assert chunks.frames == 7
    with ChunkFile(path, HEADER) as chunks:
        assert chunks.frames == 4


def test_other_work_and_other_files_are_refused_and_stay(path: Path) -> None:
    write(path, 0)
    before = path.read_bytes()
    with pytest.raises(UserError, match="other work"):
        ChunkFile(path, Header({**HEADER.work, "model": "n"}, HEADER.keypoints, HEADER.individuals))
    assert path.read_bytes() == before
    for damage in (b"", b"three days of work", before[:60]):
        path.write_bytes(damage)
        with pytest.raises(UserError, match="start is damaged"):
            ChunkFile(path, HEADER)
        with pytest.raises(UserError, match="start is damaged"):
            read_header(path)
        assert path.read_bytes() == damage


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_two_programs_do_not_write_one_file(path: Path) -> None:
    with ChunkFile(path, HEADER) as chunks:
        chunks.add(chunk(0), 0.1)
        with pytest.raises(UserError, match="another program"):
            ChunkFile(path, HEADER)
    with ChunkFile(path, HEADER) as chunks:
        assert chunks.frames == 4


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_a_full_disk_says_what_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ChunkFile(path, HEADER) as chunks:
        chunks.add(chunk(0), 0.1)
        size = path.stat().st_size
        real, full = chunks._file, open("/dev/full", "wb", buffering=0)  # noqa: SIM115
        chunks._file = full
        with pytest.raises(UserError, match="the 4 frames before are kept") as caught:
            chunks.add(chunk(4), 0.2)
        full.close()
        chunks._file = real
    assert "--resume" in caught.value.remedy
    assert path.stat().st_size == size


def test_memory_does_not_grow_with_the_file(path: Path) -> None:
    import tracemalloc

    with ChunkFile(path, HEADER) as chunks:
        for start in range(0, 4000, 4):
            chunks.add(chunk(start), 0.0)
        tracemalloc.start()
        assert sum(len(c.frames) for c in chunks.read()) == 4000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < path.stat().st_size / 10
