"""DeepLabCut tables of every version and layout, as pandas or DeepLabCut itself write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from napari_superanimal.errors import UserError
from napari_superanimal.poses import UNDEFINED, UNLABELLED
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from pathlib import Path

BODYPARTS = ("snout", "lefthanbdtop", "tail base")


def table(
    index: pd.Index | list,
    individuals: tuple[str, ...] = (),
    coords: tuple[str, ...] = ("x", "y"),
    bodyparts: tuple[str, ...] = BODYPARTS,
) -> pd.DataFrame:
    """A frame with different numbers everywhere."""
    levels = [["Ann"], *([list(individuals)] if individuals else []), list(bodyparts), list(coords)]
    names = ["scorer", *(["individuals"] if individuals else []), "bodyparts", "coords"]
    columns = pd.MultiIndex.from_product(levels, names=names)
    values = np.random.default_rng(0).uniform(1, 300, (len(index), len(columns)))
    if coords[-1] == "likelihood":
        values[:, len(coords) - 1 :: len(coords)] /= 300
    return pd.DataFrame(values, index=index, columns=columns)


def both(frame: pd.DataFrame, folder: Path, stem: str, key: str = "df_with_missing") -> list[Path]:
    h5, text = folder / f"{stem}.h5", folder / f"{stem}.csv"
    frame.to_hdf(h5, key=key, mode="w")
    frame.to_csv(text)
    return [h5, text]


IMAGES = [("labeled-data", "vid 1.a", f"img{i:02d}.png") for i in range(3)]
INDICES = {
    "three levels": pd.MultiIndex.from_tuples(IMAGES),
    "slashes": pd.Index(["/".join(i) for i in IMAGES]),
    "backslashes": pd.Index(["\\".join(i) for i in IMAGES]),
    "another disk": pd.Index(["C:\\Users\\x\\proj\\" + "\\".join(i) for i in IMAGES]),
}


@pytest.mark.parametrize("layout", INDICES)
def test_label_indices(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "labeled-data" / "vid 1.a"
    folder.mkdir(parents=True)
    Image.new("RGB", (32, 20)).save(folder / "img01.png")
    frame = table(INDICES[layout])
    for path in both(frame, folder, "CollectedData_Ann"):
        poses = registry.read(path)
        assert poses.images == tuple("/".join(i) for i in IMAGES)
        assert poses.root == tmp_path
        assert poses.image_sizes.tolist() == [[0, 0], [32, 20], [0, 0]]
        assert poses.metadata["missing_images"] == ["/".join(IMAGES[0]), "/".join(IMAGES[2])]
        assert poses.keypoints == BODYPARTS
        assert poses.individuals == ("",)
        assert poses.human.all()
        assert poses.scorer == "Ann"
        np.testing.assert_array_equal(poses.xy[:, 0].reshape(3, -1), frame.to_numpy())


@pytest.mark.parametrize("layout", ["three levels", "slashes", "backslashes"])
@pytest.mark.parametrize("individuals", [(), ("mouse A", "mouse B")])
def test_label_tables_are_written_as_they_were(
    tmp_path: Path, layout: str, individuals: tuple[str, ...]
) -> None:
    frame = table(INDICES[layout], individuals)
    frame.iloc[0, :2] = np.nan
    for path in both(frame, tmp_path, "CollectedData_Ann"):
        poses = registry.read(path)
        copy = tmp_path / "copy" / path.name
        registry.write(poses, copy, registry.sniff(path) or "")
        if path.suffix == ".csv":
            assert copy.read_text() == path.read_text()
        else:
            pd.testing.assert_frame_equal(pd.read_hdf(copy), frame)


@pytest.mark.parametrize("individuals", [(), ("animal0",), ("mouse1", "mouse2")])
@pytest.mark.parametrize("frames", ["numbers", "frame0001", "gaps"])
def test_prediction_tables(tmp_path: Path, individuals: tuple[str, ...], frames: str) -> None:
    numbers = [5, 6, 9] if frames == "gaps" else [0, 1, 2]
    index = [f"frame{n:04d}" for n in numbers] if frames == "frame0001" else numbers
    frame = table(pd.Index(index), individuals, ("x", "y", "likelihood"))
    for path in both(frame, tmp_path, "clipDLC_HrnetW32_x"):
        poses = registry.read(path)
        assert poses.is_video
        assert poses.frames.tolist() == numbers
        assert poses.individuals == (individuals or ("",))
        assert not poses.human.any()
        values = np.concatenate([poses.xy, poses.likelihood[..., None]], -1)
        np.testing.assert_array_equal(values.reshape(3, -1), frame.to_numpy())
        assert poses.metadata["dlc"]["kind"] == "predictions"
        # the single-animal table keeps its three levels when it is written again
        copy = registry.write(poses, tmp_path / "copy" / path.name, "dlc-h5", overwrite=True)[0]
        assert pd.read_hdf(copy).columns.equals(frame.columns)


def test_minus_one_is_missing(tmp_path: Path) -> None:
    frame = table(pd.RangeIndex(3), ("animal0", "animal1"), ("x", "y", "likelihood"))
    frame.loc[1, ("Ann", "animal1")] = -1
    frame.iloc[2, 0] = -1  # one coordinate of -1 is a place
    for path in both(frame, tmp_path, "clip_scorer"):
        poses = registry.read(path)
        assert np.isnan(poses.xy[1, 1]).all()
        assert np.isnan(poses.likelihood[1, 1]).all()
        assert (poses.visibility[1, 1] == UNLABELLED).all()
        assert poses.xy[2, 0, 0, 0] == -1


def test_minus_one_in_labels_means_not_defined(tmp_path: Path) -> None:
    frame = table(INDICES["slashes"])
    frame.iloc[1, :2] = -1
    poses = registry.read(both(frame, tmp_path, "CollectedData_x")[0])
    assert poses.visibility[1, 0, 0] == UNDEFINED
    assert np.isnan(poses.xy[1, 0, 0]).all()


@pytest.mark.parametrize("key", ["keypoints", "df", "anything"])
def test_any_key(tmp_path: Path, key: str) -> None:
    frame = table(INDICES["three levels"])
    path = both(frame, tmp_path, "CollectedData_x", key)[0]
    assert registry.sniff(path) == "dlc-h5"
    assert registry.read(path).metadata["dlc"]["key"] == key


def test_of_several_keys_deeplabcuts_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "CollectedData_x.h5"
    frame = table(INDICES["three levels"])
    (frame + 1).to_hdf(path, key="backup", mode="w")
    frame.to_hdf(path, key="df_with_missing", mode="a")
    poses = registry.read(path)
    np.testing.assert_array_equal(poses.xy.reshape(3, -1), frame.to_numpy())
    assert "backup" in poses.metadata["warnings"][0]


@pytest.mark.parametrize("layout", ["table", "fixed"])
def test_both_pandas_layouts(tmp_path: Path, layout: str) -> None:
    frame = table(INDICES["slashes"])
    frame.to_hdf(tmp_path / "a.h5", key="df_with_missing", format=layout)
    assert registry.sniff(tmp_path / "a.h5") == "dlc-h5"
    np.testing.assert_array_equal(registry.read(tmp_path / "a.h5").xy.reshape(3, -1), frame.to_numpy())


def test_unique_bodyparts(tmp_path: Path) -> None:
    animals = table(INDICES["three levels"], ("m1", "m2"))
    unique = table(INDICES["three levels"], ("single",), bodyparts=("corner",))
    frame = pd.concat([animals, unique], axis=1)
    for path in both(frame, tmp_path, "CollectedData_Ann"):
        poses = registry.read(path)
        assert poses.individuals == ("m1", "m2", "single")
        assert poses.keypoints == (*BODYPARTS, "corner")
        assert poses.found[0].tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
        assert (poses.visibility[:, :2, 3] == UNDEFINED).all()
        assert (poses.visibility[:, 2, :3] == UNDEFINED).all()
        copy = registry.write(poses, tmp_path / "copy" / "CollectedData_Ann.h5", "dlc-h5", overwrite=True)
        pd.testing.assert_frame_equal(pd.read_hdf(copy[0]), frame)


def test_machinelabels_are_not_human(tmp_path: Path) -> None:
    for path in both(table(INDICES["three levels"]), tmp_path, "machinelabels-iter0"):
        assert not registry.read(path).human.any()
    scored = table(INDICES["three levels"], coords=("x", "y", "likelihood"))
    for path in both(scored, tmp_path, "CollectedData_x"):
        assert registry.read(path).human.all()


def test_levels_in_another_order(tmp_path: Path) -> None:
    frame = table(INDICES["slashes"], ("a", "b"))
    path = tmp_path / "CollectedData_x.h5"
    frame.reorder_levels(["bodyparts", "scorer", "coords", "individuals"], axis=1).to_hdf(path, key="k")
    poses = registry.read(path)
    assert poses.individuals == ("a", "b")
    np.testing.assert_array_equal(poses.xy.reshape(3, -1), frame.to_numpy())


def test_csv_with_named_index(tmp_path: Path) -> None:
    frame = table(pd.RangeIndex(3, name="frame"), coords=("x", "y", "likelihood"))
    frame.to_csv(tmp_path / "a.csv")
    assert registry.read(tmp_path / "a.csv").frames.tolist() == [0, 1, 2]


def test_csv_of_windows(tmp_path: Path) -> None:
    frame = table(INDICES["three levels"])
    frame.iloc[1] = np.nan
    text = frame.to_csv(lineterminator="\r\n")
    (tmp_path / "CollectedData_x.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    poses = registry.read(tmp_path / "CollectedData_x.csv")
    np.testing.assert_array_equal(poses.xy.reshape(3, -1), frame.to_numpy())


def test_a_bodypart_never_labelled_is_undefined_and_said(tmp_path: Path) -> None:
    frame = table(INDICES["three levels"])
    frame.iloc[:, 2:4] = np.nan
    poses = registry.read(both(frame, tmp_path, "CollectedData_x")[0])
    assert poses.metadata["never_labelled"] == ["lefthanbdtop"]
    assert (poses.visibility[:, 0, 1] == UNDEFINED).all()


def test_doubled_rows_are_kept_and_said(tmp_path: Path) -> None:
    frame = table(INDICES["slashes"])
    poses = registry.read(both(pd.concat([frame, frame]), tmp_path, "CollectedData_x")[1])
    assert len(poses) == 6
    assert "same picture" in poses.metadata["warnings"][0]


def test_predictions_are_never_called_collected_data(tmp_path: Path) -> None:
    frame = table(INDICES["three levels"], coords=("x", "y", "likelihood"))
    poses = registry.read(both(frame, tmp_path, "machinelabels")[0])
    for format_, extension in (("dlc-h5", "h5"), ("dlc-csv", "csv")):
        target = tmp_path / f"CollectedData_Ann.{extension}"
        with pytest.raises(UserError, match="labels that people placed"):
            registry.write(poses, target, format_, overwrite=True)
        assert not target.exists()
