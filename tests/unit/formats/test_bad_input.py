"""Damaged, foreign and hostile files: one line that helps, and nothing lost."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import tables

from napari_superanimal.errors import UserError
from napari_superanimal.poses import Poses, make_poses
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from pathlib import Path

EXTENSIONS = {"dlc-h5": ".h5", "dlc-csv": ".csv", "coco": ".json"}
HEADER = "scorer,s,s\nbodyparts,a,a\ncoords,x,y\n"
COCO = {
    "images": [{"id": 1, "file_name": "a.png"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1, 2, 2]}],
    "categories": [{"id": 1, "name": "mouse", "keypoints": ["nose"]}],
}


def refused(path: Path, format_: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        registry.read(path, format_)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


@pytest.mark.parametrize("name", ["CollectedData_x.h5", "clip.h5", "CollectedData_x.csv", "labels.json"])
def test_git_lfs_pointer(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    assert "git lfs pull" in refused(path)


@pytest.mark.parametrize("name", ["CollectedData_x.h5", "a.csv", "a.json"])
def test_empty_and_absent(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert "no such file" in refused(path)
    path.touch()
    assert "empty" in refused(path)
    assert registry.sniff(path) is None


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_truncated_h5(predicted_video: Poses, tmp_path: Path, share: float) -> None:
    whole = tmp_path / "whole.h5"
    registry.write(predicted_video, whole, "dlc-h5")
    path = tmp_path / "cut.h5"
    data = whole.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "cut short or damaged" in refused(path)


def test_damaged_h5_never_shows_a_traceback(predicted_video: Poses, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    registry.write(predicted_video, path, "dlc-h5")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(25):
        data = bytearray(whole)
        start = int(rng.integers(8, len(data) - 64))
        data[start : start + 64] = rng.integers(0, 256, 64, dtype=np.uint8).tobytes()
        path.write_bytes(data)
        # anything but a UserError is a bug and fails the test
        with suppress(UserError):
            registry.read(path)


def test_h5_that_is_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(b"PK\x03\x04 no table")
    assert "not an HDF5 file" in refused(path)
    with tables.open_file(str(path), "w") as file:
        file.create_array("/", "tracks", np.zeros(3))
    assert registry.sniff(path) is None
    assert "no pandas table" in refused(path)
    pd.DataFrame({"speed": [1.0]}).to_hdf(path, key="df", mode="w")
    assert "not a DeepLabCut table" in refused(path)


class _Bomb:
    def __reduce__(self) -> tuple:
        return os.system, (f"touch {os.environ['BOMB']}",)


@pytest.mark.parametrize("where", ["attribute", "array"])
def test_h5_with_code_inside_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    mark = tmp_path / "ran"
    monkeypatch.setenv("BOMB", str(mark))
    columns = pd.MultiIndex.from_product([["s"], ["a"], ["x", "y"]], names=["scorer", "bodyparts", "coords"])
    path = tmp_path / "evil.h5"
    layout = "table" if where == "attribute" else "fixed"
    pd.DataFrame([[1.0, 2.0]], columns=columns).to_hdf(path, key="df_with_missing", format=layout)
    with tables.open_file(str(path), "a") as file:
        group = file.get_node("/df_with_missing")
        if where == "attribute":
            group._v_attrs["non_index_axes"] = np.bytes_(pickle.dumps(_Bomb(), 0))
        else:
            file.remove_node("/df_with_missing/axis1")
            array = file.create_vlarray(group, "axis1", tables.ObjectAtom())
            array.append(_Bomb())
            array._v_attrs.kind = "object"
    message = refused(path)
    assert not mark.exists()
    assert "run code" in message
    # the trap works: plain pandas springs it
    with suppress(Exception):
        pd.read_hdf(path)
    assert mark.exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("bodyparts,a,a\ncoords,x,y\nv/1.png,1,2\n", "`scorer` is missing"),
        ("scorer,s,s\ncoords,x,y\nv/1.png,1,2\n", "`bodyparts` is missing"),
        ("scorer,s,s\nbodyparts,a,a\nv/1.png,1,2\n", "`coords` is missing"),
        ("v/1.png,1,2\nv/2.png,3,4\n", "`scorer` is missing"),
        ("scorer,s,s\nindividuals,m,m\ncoords,x,y\n0,1,2\n", "`bodyparts` is missing"),
        (HEADER + "v/1.png,1,two\n", "do not fit the header"),
        (HEADER + "v/1.png,1,2,3\n", "do not fit the header"),
        (HEADER + "v/1.png,1,2\nv/2.png,1", "cut short"),
        ("scorer,s\nbodyparts,a,a\ncoords,x,y\n0,1,2\n", "different lengths"),
        ("scorer,s,s\nbodyparts,a,a\ncoords,u,v\n0,1,2\n", "instead of x, y"),
        ("scorer,s,s\nbodyparts,a,b\ncoords,x,y\n0,1,2\n", "has no x or no y"),
    ],
)
def test_csv(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "CollectedData_x.csv"
    path.write_text(text)
    assert problem in refused(path)


def test_binary_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"scorer,\xff\xfe\x00\x81")
    refused(path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"categories": [{"id": 1, "name": "mouse"}]}, "without keypoint names"),
        ({"categories": []}, "without keypoint names"),
        ({"annotations": None}, "not a COCO keypoint file"),
        ({"images": [3]}, "not a COCO keypoint file"),
        ({"images": [{"id": 1}]}, "file_name"),
        ({"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}, "two images with id 1"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "keypoints": [1, 2]}]}, "not triplets"),
        ({"annotations": [{"image_id": 1, "category_id": 1, "keypoints": [1] * 6}]}, "has 2 keypoints"),
        ({"categories": [{"id": 1, "keypoints": ["a", "a"]}]}, "twice"),
    ],
)
def test_coco(tmp_path: Path, change: dict, problem: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({**COCO, **change}))
    assert problem in refused(path)


@pytest.mark.parametrize("text", ['{"images": [', '{"version": 1}', "[1, 2]", "3", '{"images": 1}', '"x"'])
def test_json_that_is_not_coco(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(text)
    refused(path)


def test_config_that_is_not_yaml(tmp_path: Path) -> None:
    (tmp_path / "labeled-data").mkdir()
    (tmp_path / "config.yaml").write_text("bodyparts: [a, b\nscorer: x")
    with pytest.raises(UserError, match="not a readable config"):
        registry.read(tmp_path)


def test_folder_without_labels(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a DeepLabCut project"):
        registry.read(tmp_path)
    (tmp_path / "config.yaml").write_text("bodyparts: [a, b]\nscorer: x")
    with pytest.raises(UserError, match="no folder labeled-data"):
        registry.read(tmp_path)
    (tmp_path / "labeled-data" / "v").mkdir(parents=True)
    with pytest.raises(UserError, match="nothing is labelled"):
        registry.read(tmp_path)


@pytest.mark.parametrize("format_", EXTENSIONS)
def test_a_file_is_never_replaced_unasked(predicted_video: Poses, tmp_path: Path, format_: str) -> None:
    path = tmp_path / f"a{EXTENSIONS[format_]}"
    path.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        registry.write(predicted_video, path, format_)
    assert path.read_text() == "mine"
    registry.write(predicted_video, path, format_, overwrite=True)
    assert len(registry.read(path)) == len(predicted_video)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("format_", EXTENSIONS)
def test_unwritable_folder(predicted_video: Poses, tmp_path: Path, format_: str) -> None:
    blocked = tmp_path / "not a folder"
    blocked.write_text("mine")
    with pytest.raises(UserError, match="cannot write"):
        registry.write(predicted_video, blocked / f"a{EXTENSIONS[format_]}", format_)
    assert blocked.read_text() == "mine"


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from napari_superanimal.errors import UserError
from napari_superanimal.poses import make_poses
from napari_superanimal.poses.formats import registry
folder = Path(sys.argv[1])
images = tuple(f"labeled-data/v/{i}.png" for i in range(500))
xy = np.random.default_rng(0).uniform(0, 9, (500, 1, 8, 2))
poses = make_poses("abcdefgh", xy, images=images, human=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
for name, format_ in (("a.h5", "dlc-h5"), ("a.csv", "dlc-csv"), ("a.json", "coco"), ("new", "dlc-project")):
    try:
        registry.write(poses, folder / name, format_, overwrite=True)
    except UserError as error:
        assert "cannot write" in str(error) and str(folder / name) in str(error), error
    else:
        raise SystemExit(f"{format_} was written on a full disk")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits file sizes with POSIX resource limits")
def test_disk_full_leaves_everything_as_it_was(tmp_path: Path) -> None:
    for name in ("a.h5", "a.csv", "a.json"):
        (tmp_path / name).write_text("mine")
    run = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.h5", "a.json"]
    assert {p.read_text() for p in tmp_path.iterdir()} == {"mine"}


def test_formats_by_name(tmp_path: Path) -> None:
    poses = make_poses("a", np.zeros((1, 1, 1, 2)))
    with pytest.raises(UserError, match="unknown format"):
        registry.write(poses, tmp_path / "a", "sleap")
    with pytest.raises(UserError, match="read only"):
        registry.write(poses, tmp_path / "a.json", "stanfordextra")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UserError, match="neither"):
        registry.read(tmp_path / "a.txt")
