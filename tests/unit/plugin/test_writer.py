"""Saving: everything is written, nothing is lost, errors are one line."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel
from napari.layers import Points

from napari_superanimal.errors import UserError
from napari_superanimal.plugin import saving
from napari_superanimal.plugin.conventions import OURS
from napari_superanimal.plugin.layers import layer_to_poses, poses_to_layers
from napari_superanimal.plugin.saving import together
from napari_superanimal.plugin.session import show_poses
from napari_superanimal.plugin.writer import save_layer, write_points
from napari_superanimal.poses import Poses, make_poses
from napari_superanimal.poses.formats import registry
from napari_superanimal.video import VideoWriter

NAMES = ("nose", "left_ear", "tail_base")


def predictions(t: int = 20, a: int = 2) -> Poses:
    rng = np.random.default_rng(4)
    xy = rng.uniform(5, 90, (t, a, 3, 2))
    xy[3, a - 1] = np.nan
    return make_poses(
        NAMES,
        xy,
        individuals=tuple(f"animal{i}" for i in range(a)),
        likelihood=rng.uniform(0.2, 1, (t, a, 3)),
        boxes=rng.uniform(5, 40, (t, a, 4)),
        scorer="mini",
    )


def layer_of(poses: Poses, **options: object) -> Points:
    return show_poses(ViewerModel(), poses, name="p", **options)


def move(layer: Points, row: int, by: float = 4.0) -> None:
    data = layer.data.copy()
    data[row, 1:] += by
    layer.data = data


def save(layer: Points, path: Path) -> list[str]:
    """As napari does."""
    data, attrs, _ = layer.as_layer_data_tuple()
    return write_points(str(path), data, attrs)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", ["out.h5", "out.json"])
def test_edited_predictions_come_back_equal(tmp_path: Path, name: str) -> None:
    layer = layer_of(predictions())
    move(layer, 5)
    layer.remove([9])
    mine = layer_to_poses(layer)
    assert save(layer, tmp_path / name)
    back = registry.read(tmp_path / name)
    for field in ("frames", "xy", "likelihood", "human", "boxes"):
        np.testing.assert_array_equal(getattr(back, field), getattr(mine, field), err_msg=field)
    assert back.keypoints == mine.keypoints
    assert back.individuals == mine.individuals
    assert back.human.sum() == 1


@pytest.mark.parametrize("name", ["out.h5", "out.csv", "out"])
def test_h5_and_csv_are_written_together(tmp_path: Path, name: str) -> None:
    written = save(layer_of(predictions()), tmp_path / name)
    assert sorted(Path(p).name for p in written) == ["out.csv", "out.h5"]
    table = pd.read_hdf(tmp_path / "out.h5", "df_with_missing")
    assert table.columns.names == ["scorer", "individuals", "bodyparts", "coords"]
    assert np.isnan(table.loc[3, ("mini", "animal1", "nose", "x")])
    one, two = (registry.read(tmp_path / f"out.{e}") for e in ("h5", "csv"))
    np.testing.assert_array_equal(one.xy, two.xy)


def test_existing_files_stay_unless_the_user_agrees(tmp_path: Path) -> None:
    layer = layer_of(predictions())
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(UserError, match="exists already") as error:
        save(layer, tmp_path / "out.h5")
    assert "\n" not in str(error.value)
    assert content(tmp_path) == {"out.csv": b"mine"}
    asked: list[list[Path]] = []

    def agree(paths: list[Path]) -> bool:
        asked.append(paths)
        return True

    save_layer(layer, tmp_path / "out.h5", ask=agree)
    assert asked == [[tmp_path / "out.csv"]]
    # what was written from here needs no second question, unless somebody else changed it since
    move(layer, 0)
    save(layer, tmp_path / "out.h5")
    np.testing.assert_array_equal(registry.read(tmp_path / "out.h5").xy, layer_to_poses(layer).xy)
    (tmp_path / "out.csv").write_text("theirs")
    os.utime(tmp_path / "out.csv", ns=(1, 1))
    with pytest.raises(UserError, match="exists already"):
        save(layer, tmp_path / "out.h5")


def test_predictions_never_over_labels(tmp_path: Path) -> None:
    label_file(tmp_path)
    before = content(tmp_path)
    layer = layer_of(predictions())
    with pytest.raises(UserError, match="no point in this layer was placed"):
        save_layer(layer, tmp_path / "CollectedData_me.h5", ask=lambda _: True)
    # nor under another name
    for old in tmp_path.glob("CollectedData*"):
        old.rename(tmp_path / f"labels{old.suffix}")
    before = content(tmp_path)
    with pytest.raises(UserError, match="people placed"):
        save_layer(layer, tmp_path / "labels.h5", ask=lambda _: True)
    assert content(tmp_path) == before


def label_file(folder: Path, n: int = 4) -> Poses:
    """A CollectedData file of one animal in `folder`."""
    rng = np.random.default_rng(2)
    xy = rng.uniform(5, 60, (n, 1, 3, 2))
    xy[1, 0, 2] = np.nan
    poses = make_poses(
        NAMES,
        xy,
        human=True,
        images=tuple(f"labeled-data/{folder.name}/img{i:04d}.png" for i in range(n)),
        scorer="me",
        root=folder.parent.parent,
    )
    for suffix, name in ((".h5", "dlc-h5"), (".csv", "dlc-csv")):
        registry.write(poses, folder / f"CollectedData_me{suffix}", name, kind="labels")
    return registry.read(folder / "CollectedData_me.h5")


def test_labels_merge_point_by_point(tmp_path: Path) -> None:
    """Two people label the same file: what one of them did not touch stays the other's."""
    folder = tmp_path / "labeled-data" / "v"
    folder.mkdir(parents=True)
    first = label_file(folder)
    layer = layer_of(first, source=folder / "CollectedData_me.h5")
    # meanwhile a colleague adds the missing point and moves another one
    theirs = layer_of(first, source=folder / "CollectedData_me.h5")
    rows = {
        (int(f), k): i
        for i, (f, k) in enumerate(zip(theirs.data[:, 0], theirs.features["label"], strict=True))
    }
    move(theirs, rows[2, "nose"], 7)
    save(theirs, folder / "CollectedData_me.h5")
    expected = registry.read(folder / "CollectedData_me.h5")
    assert len(list((folder / "backups").iterdir())) == 2

    # mine: one moved, one deleted, one new
    move(layer, rows[0, "left_ear"], 3)
    layer.remove([rows[3, "nose"]])
    layer.feature_defaults["label"] = "tail_base"
    layer.add([[1, 11, 12]])
    save(layer, folder / "CollectedData_me.h5")
    for suffix in (".h5", ".csv"):
        back = registry.read(folder / f"CollectedData_me{suffix}")
        np.testing.assert_allclose(back.xy[0, 0, 1], first.xy[0, 0, 1] + 3)
        assert not back.found[3, 0, 0]
        np.testing.assert_array_equal(back.xy[1, 0, 2], [12, 11])
        assert back.images == expected.images
        assert back.human[back.found].all()
        np.testing.assert_array_equal(back.xy[2], expected.xy[2])
        np.testing.assert_allclose(back.xy[2, 0, 0], first.xy[2, 0, 0] + 7)
    assert back.keypoints == NAMES


def test_what_only_the_file_has_stays(tmp_path: Path) -> None:
    folder = tmp_path / "labeled-data" / "v"
    folder.mkdir(parents=True)
    first = label_file(folder)
    few = make_poses(
        ("nose", "spine"),
        [[[[1.0, 2.0], [3.0, 4.0]]]],
        human=True,
        images=("labeled-data/v/img0009.png",),
        root=tmp_path,
        scorer="me",
    )
    save(layer_of(few), folder / "CollectedData_me.h5")
    back = registry.read(folder / "CollectedData_me.h5")
    assert back.keypoints == (*NAMES, "spine")
    assert len(back) == 5
    np.testing.assert_array_equal(back.xy[:4, :, :3], first.xy)
    np.testing.assert_array_equal(back.xy[4, 0, [0, 3]], [[1, 2], [3, 4]])


def test_a_deleted_label_does_not_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "labeled-data" / "v"
    folder.mkdir(parents=True)
    poses = label_file(folder)
    layer = layer_of(poses)
    layer.remove([0])
    save(layer, folder / "CollectedData_me.csv")
    assert registry.read(folder / "CollectedData_me.h5").found.sum() == poses.found.sum() - 1
    save(layer, folder / "CollectedData_me.csv")
    assert registry.read(folder / "CollectedData_me.h5").found.sum() == poses.found.sum() - 1


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "mouse.mp4"
    rng = np.random.default_rng(0)
    with VideoWriter(path, 30.0, (96, 96)) as writer:
        for _ in range(20):
            writer.write(np.repeat(rng.integers(0, 255, (12, 12, 3), np.uint8), 8, 0).repeat(8, 1))
    return path


def test_corrections_of_a_video_become_a_labelled_folder(tmp_path: Path, video: Path) -> None:
    layer = layer_of(predictions(), video=video)
    move(layer, 5)
    mine = layer_to_poses(layer)
    row = int(np.flatnonzero(mine.human.any((1, 2)))[0])
    folder = tmp_path / "labeled-data" / "mouse"
    written = save(layer, folder / "CollectedData_me.h5")
    assert sorted(Path(p).name for p in written) == [
        "CollectedData_me.csv",
        "CollectedData_me.h5",
        f"img{row:06d}.png",
    ]
    back = registry.read(folder / "CollectedData_me.h5")
    # only what the person placed, and on the right picture
    assert back.found.sum() == 1
    np.testing.assert_array_equal(back.xy[back.found], mine.xy[mine.human])
    assert back.image_path(0).is_file()
    from napari_superanimal.video import open_video

    np.testing.assert_array_equal(open_video(back.image_path(0)).frame(0), open_video(video).frame(row))
    # a second correction joins the first
    move(layer, 20)
    save(layer, folder / "CollectedData_me.h5")
    back = registry.read(folder / "CollectedData_me.h5")
    assert back.found.sum() == 2
    assert len(back) == 2


def test_labels_of_an_unknown_video(tmp_path: Path) -> None:
    layer = layer_of(predictions())
    move(layer, 0)
    with pytest.raises(UserError, match="video is not known"):
        save(layer, tmp_path / "CollectedData_me.h5")
    assert not content(tmp_path)


@pytest.mark.parametrize("name", ["a.h5", "a.json", "CollectedData_a.h5"])
def test_no_points(tmp_path: Path, name: str) -> None:
    poses = make_poses(NAMES, np.full((3, 1, 3, 2), np.nan))
    with pytest.raises(UserError):
        save(layer_of(poses), tmp_path / name)
    assert not content(tmp_path)


def test_other_extension(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"save as \.h5"):
        save(layer_of(predictions()), tmp_path / "a.txt")


class FileSizeLimit:
    """A disk that is full after so many bytes, for this process."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)
        signal.signal(signal.SIGXFSZ, self.handler)


@pytest.mark.parametrize("limit", [100, 20_000])
@pytest.mark.parametrize("name", ["out.h5", "out.csv", "out.json"])
def test_full_disk_loses_nothing(tmp_path: Path, name: str, limit: int) -> None:
    layer = layer_of(predictions(t=400))
    save(layer, tmp_path / name)
    before = content(tmp_path)
    move(layer, 0)
    with FileSizeLimit(limit), pytest.raises(UserError) as error:
        save(layer, tmp_path / name)
    assert "\n" not in str(error.value)
    assert "free space" in str(error.value)
    # neither half a file nor a pair of two ages
    assert content(tmp_path) == before
    save(layer, tmp_path / name)
    assert content(tmp_path) != before


def test_full_disk_while_merging_labels(tmp_path: Path) -> None:
    folder = tmp_path / "labeled-data" / "v"
    folder.mkdir(parents=True)
    layer = layer_of(label_file(folder, n=300))
    before = content(tmp_path)
    move(layer, 0)
    with FileSizeLimit(30_000), pytest.raises(UserError):
        save(layer, folder / "CollectedData_me.h5")
    after = content(tmp_path)
    assert {k: v for k, v in after.items() if "backups" not in k} == before


def test_a_real_full_disk(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full")
    target = tmp_path / "out.json"
    target.symlink_to(full)
    with pytest.raises(UserError):
        save(layer_of(predictions()), target)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    # a file where a folder should be: nobody can write below it, root neither
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(UserError, match="cannot write") as error:
        save(layer_of(predictions()), tmp_path / "folder" / "out.h5")
    assert "\n" not in str(error.value)


def test_together_restores_every_file(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("old")

    def fail() -> None:
        with together([a, b]):
            a.unlink()
            a.write_text("new")
            b.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert content(tmp_path) == {"a": b"old"}


def test_the_whole_store_is_saved_not_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_superanimal.plugin import layers

    monkeypatch.setattr(layers, "ORDINARY_LIMIT", 10)
    monkeypatch.setattr(layers, "WINDOW_POINTS", 12)
    poses = predictions(t=60)
    layer = layer_of(poses)
    assert len(layer.data) < poses.found.sum()
    move(layer, 0)
    save(layer, tmp_path / "out.h5")
    back = registry.read(tmp_path / "out.h5")
    assert back.found.sum() == poses.found.sum()
    assert back.human.sum() == 1


def test_a_plain_points_layer_is_saved(tmp_path: Path) -> None:
    layer = Points(np.array([[0, 1, 2], [4, 3, 5]]))
    save(layer, tmp_path / "plain.h5")
    back = registry.read(tmp_path / "plain.h5")
    np.testing.assert_array_equal(back.xy[back.found], [[2, 1], [5, 3]])


def test_labels_are_named_after_the_labeller(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "scorer", lambda: "Ada")
    layer = layer_of(predictions(), video=video)
    move(layer, 0)
    save(layer, tmp_path / "labels" / "CollectedData_Ada.h5")
    assert registry.read(tmp_path / "labels" / "CollectedData_Ada.h5").scorer == "Ada"


@pytest.mark.realdata
def test_a_real_project_comes_back_equal(tmp_path: Path, shared_data: Path) -> None:
    source = next((shared_data / "mouse_openfield_dlc").rglob("CollectedData*.h5"))
    folder = tmp_path / "labeled-data" / source.parent.name
    shutil.copytree(source.parent, folder)
    path = folder / source.name
    for file in folder.iterdir():
        file.chmod(0o644)
    before = registry.read(path)
    layer = layer_of(before, source=path)
    # nothing edited: the same numbers
    save(layer, path)
    after = registry.read(path)
    np.testing.assert_array_equal(after.xy, before.xy)
    assert after.images == before.images
    assert after.scorer == before.scorer
    layer = layer_of(after)
    move(layer, 0)
    save(layer, path)
    again = registry.read(path)
    assert (again.xy[again.found] != before.xy[before.found]).any(-1).sum() == 1
    frame = pd.read_hdf(path, "df_with_missing")
    original = pd.read_hdf(source)
    assert frame.columns.tolist() == original.columns.tolist()
    assert frame.index.tolist() == original.index.tolist()


def test_metadata_tells_where_it_comes_from(tmp_path: Path) -> None:
    layer = layer_of(predictions(), model="mini", space="superanimal_topviewmouse")
    save(layer, tmp_path / "a.h5")
    back = registry.read(tmp_path / "a.h5")
    assert back.metadata["model"] == "mini"
    assert back.metadata["space"] == "superanimal_topviewmouse"
    again = poses_to_layers(back, name="again")[-1]
    assert again[1]["metadata"][OURS]["model"] == "mini"
