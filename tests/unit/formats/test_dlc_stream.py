"""Predictions written part by part are those written at once."""

from __future__ import annotations

import tracemalloc
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from napari_superanimal.errors import UserError
from napari_superanimal.poses import Poses, make_poses
from napari_superanimal.poses.formats import dlc_write, registry
from napari_superanimal.poses.formats.dlc_stream import write_dlc_csv_parts, write_dlc_h5_parts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def recording(frames: int = 50, animals: int = 2, keypoints: int = 5, start: int = 7, step: int = 3) -> Poses:
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 600, (frames, animals, keypoints, 2)).astype(np.float32)
    xy[rng.random((frames, animals, keypoints)) < 0.2] = np.nan
    boxes = rng.uniform(0, 200, (frames, animals, 4)).astype(np.float32)
    boxes[5, 1] = np.nan
    return make_poses(
        [f"point {k}" for k in range(keypoints)],
        xy,
        frames=start + step * np.arange(frames),
        individuals=[f"animal{a}" for a in range(animals)],
        likelihood=rng.uniform(0, 1, (frames, animals, keypoints)),
        boxes=boxes,
        box_scores=boxes[..., 0] / 200,
        scorer="m",
        skeleton=(("point 0", "point 1"),),
        metadata={"model": "m", "swap_risk": {"frames": 3}},
    )


def parts_of(poses: Poses, size: int) -> Iterator[Poses]:
    for start in range(0, len(poses), size):
        yield poses.take(np.arange(start, min(start + size, len(poses))))


def assert_same(a: Poses, b: Poses) -> None:
    for field in fields(Poses):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other, err_msg=field.name)
        elif field.name == "metadata":
            assert {k: v for k, v in one.items() if k != "path"} == {
                k: v for k, v in other.items() if k != "path"
            }
        else:
            assert one == other, field.name


@pytest.mark.parametrize("layout", ["table", "fixed"])
@pytest.mark.parametrize("size", [16, 50])
def test_parts_are_read_as_the_whole(
    layout: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poses = recording()
    if layout == "fixed":
        # as for tables that are too wide for the other layout
        store = dlc_write._store
        monkeypatch.setattr(dlc_write, "_store", lambda f, p, how: how == "fixed" and store(f, p, how))
    dlc_write.write_dlc_h5(poses, tmp_path / "whole.h5")
    assert write_dlc_h5_parts(lambda: parts_of(poses, size), tmp_path / "parts.h5") == [tmp_path / "parts.h5"]
    whole, parts = (registry.read(tmp_path / name) for name in ("whole.h5", "parts.h5"))
    assert_same(parts, whole)
    assert "warnings" not in parts.metadata or parts.metadata["warnings"] == whole.metadata["warnings"]
    np.testing.assert_array_equal(parts.boxes, poses.boxes)
    assert parts.metadata["swap_risk"] == {"frames": 3}
    # DeepLabCut reads it with pandas
    pd.testing.assert_frame_equal(
        pd.read_hdf(tmp_path / "parts.h5", "df_with_missing"),
        pd.read_hdf(tmp_path / "whole.h5", "df_with_missing"),
    )
    with pd.HDFStore(tmp_path / "parts.h5", "r") as store:
        assert (store.get_storer("df_with_missing").is_table) == (layout == "table")


def test_a_csv_of_parts_is_the_csv_of_the_whole(tmp_path: Path) -> None:
    poses = recording()
    dlc_write.write_dlc_csv(poses, tmp_path / "whole.csv")
    write_dlc_csv_parts(lambda: parts_of(poses, 16), tmp_path / "parts.csv")
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_an_existing_file_stays(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"mine")
    for write in (write_dlc_h5_parts, write_dlc_csv_parts):
        with pytest.raises(UserError, match="exists already"):
            write(lambda: parts_of(recording(), 16), tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    part = recording(256, 2, 27)

    def many(n: int) -> Iterator[Poses]:
        return (make_part(part, i) for i in range(n))

    peaks = []
    for n in (2, 24):
        tracemalloc.start()
        write_dlc_h5_parts(lambda n=n: many(n), tmp_path / f"{n}.h5")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    whole = 24 * part.xy.nbytes
    # the whole would be 24 parts: what is held more is far less than that
    assert peaks[1] - peaks[0] < whole / 6
    assert len(pd.read_hdf(tmp_path / "24.h5", "df_with_missing")) == 24 * 256


def make_part(part: Poses, i: int) -> Poses:
    from dataclasses import replace

    return replace(part, frames=np.arange(256) + 256 * i)
