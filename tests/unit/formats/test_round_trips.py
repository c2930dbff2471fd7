"""What is written is read back: coordinates to the last bit, names, who placed what."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_superanimal.poses import LABELLED, OCCLUDED, UNDEFINED, UNLABELLED, Poses, make_poses
from napari_superanimal.poses.formats import registry

EXTENSION = {"dlc-h5": ".h5", "dlc-csv": ".csv", "coco": ".json"}
ARRAYS = ("xy", "visibility", "likelihood", "human", "boxes", "box_scores", "frames", "image_sizes")

text = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\u2028\u2029\x85"),
    min_size=1,
    max_size=9,
)
# pandas reads the texts below as missing in an index of its own HDF5 files
names = text.filter(lambda n: n.lower() not in ("nan", "none") and n == n.strip())
numbers = st.floats(-50, 5000, allow_nan=False).filter(lambda v: v != -1)


@st.composite
def any_poses(draw: Any, video: bool | None = None) -> Poses:
    keypoints = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    individuals = draw(st.one_of(st.just([""]), st.lists(names, min_size=2, max_size=3, unique=True)))
    t, a, k = draw(st.integers(0, 3)), len(individuals), len(keypoints)
    flat = draw(
        st.lists(st.one_of(st.none(), st.tuples(numbers, numbers)), min_size=t * a * k, max_size=t * a * k)
    )
    xy = np.array([p or (np.nan, np.nan) for p in flat], np.float64).reshape(t, a, k, 2)
    found = np.isfinite(xy).all(-1)
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    absent = ~found.any(-1, keepdims=True)
    codes = np.where(
        found,
        rng.choice([LABELLED, OCCLUDED], found.shape),
        np.where(absent, UNLABELLED, rng.choice([UNLABELLED, UNDEFINED], found.shape)),
    )
    boxes = rng.uniform(1, 99, (t, a, 4))
    boxes[absent[..., 0] | (rng.uniform(size=(t, a)) < 0.5)] = np.nan
    is_video = draw(st.booleans()) if video is None else video
    rest: dict[str, Any] = {}
    if is_video:
        rest["frames"] = np.sort(rng.choice(100, t, replace=False))
    else:
        folder = draw(names.filter(lambda n: "/" not in n and "\\" not in n and n not in (".", "..")))
        rest["images"] = tuple(f"labeled-data/{folder}/img{i}.png" for i in range(t))
    return make_poses(
        keypoints,
        xy,
        individuals=individuals,
        likelihood=rng.uniform(0, 1, found.shape),
        visibility=codes,
        human=rng.uniform(size=found.shape) < 0.6,
        boxes=boxes,
        scorer=draw(names),
        **rest,
    )


def assert_same(a: Poses, b: Poses, arrays: tuple[str, ...] = ARRAYS) -> None:
    assert a.keypoints == b.keypoints
    assert a.individuals == b.individuals
    assert a.images == b.images
    assert a.scorer == b.scorer
    for name in arrays:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def round_trip(poses: Poses, format_: str, folder: Path, **options: Any) -> Poses:
    path = folder / f"table{EXTENSION[format_]}"
    assert registry.write(poses, path, format_, overwrite=True, **options) == [path]
    return registry.read(path, format_)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_poses())
def test_h5_keeps_everything(poses: Poses) -> None:
    with tempfile.TemporaryDirectory() as folder:
        back = round_trip(poses, "dlc-h5", Path(folder))
    if len(poses):
        assert_same(poses, back)
    else:
        assert back.keypoints == poses.keypoints


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_poses())
def test_coco_keeps_everything(poses: Poses) -> None:
    with tempfile.TemporaryDirectory() as folder:
        back = round_trip(poses, "coco", Path(folder))
    assert_same(poses, back, tuple(n for n in ARRAYS if len(poses) or n != "frames"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_poses(video=True))
def test_csv_keeps_predictions_to_the_last_bit(poses: Poses) -> None:
    with tempfile.TemporaryDirectory() as folder:
        back = round_trip(poses, "dlc-csv", Path(folder))
    assert back.keypoints == poses.keypoints
    assert back.individuals == (poses.individuals if poses.individuals != ("",) else ("animal0",))
    for name in ("xy", "likelihood", "frames"):
        np.testing.assert_array_equal(getattr(back, name), getattr(poses, name), err_msg=name)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_poses(video=False).filter(lambda p: len(p) > 0))
def test_csv_keeps_labels_to_the_last_bit(poses: Poses) -> None:
    with tempfile.TemporaryDirectory() as folder:
        back = round_trip(poses, "dlc-csv", Path(folder), kind="labels")
    assert_same(poses, back, ("xy", "frames"))
    np.testing.assert_array_equal(back.found, poses.found)
    assert back.human[back.found].all()


@pytest.mark.parametrize("format_", ["dlc-h5", "coco"])
def test_corrected_predictions_come_back_whole(predicted_video: Poses, tmp_path: Path, format_: str) -> None:
    back = round_trip(predicted_video, format_, tmp_path)
    assert_same(predicted_video, back)
    assert back.is_video
    assert back.metadata["video"] == "clip.mp4"
    assert back.metadata["space"] == "superanimal_topviewmouse"
    # and a second time, from what was read
    assert_same(back, round_trip(back, format_, tmp_path))


@pytest.mark.parametrize("format_", ["dlc-h5", "coco"])
def test_pictures_are_found_again_from_elsewhere(odd_project: Poses, tmp_path: Path, format_: str) -> None:
    elsewhere = tmp_path / "other" / "place"
    elsewhere.mkdir(parents=True)
    back = round_trip(odd_project, format_, elsewhere)
    for row in range(3):
        assert back.image_path(row).samefile(odd_project.image_path(row))
    assert len(back.metadata["missing_images"]) == 1
    assert back.keypoints == odd_project.keypoints
    assert back.individuals == odd_project.individuals
    assert back.skeleton == odd_project.skeleton
    np.testing.assert_array_equal(back.xy, odd_project.xy)
    np.testing.assert_array_equal(back.image_sizes, odd_project.image_sizes)


def test_predictions_have_the_layout_of_the_reference(predicted_video: Poses, tmp_path: Path) -> None:
    path = tmp_path / "clip_scorer.h5"
    one = make_poses(("nose", "tail_base"), predicted_video.xy[:, :1, :2], scorer="mini")
    registry.write(one, path, "dlc-h5")
    # DeepLabCut reads without naming a key: there must be one pandas table only
    frame = pd.read_hdf(path)
    assert frame.columns.names == ["scorer", "individuals", "bodyparts", "coords"]
    assert list(frame.columns[:3]) == [("mini", "animal0", "nose", c) for c in ("x", "y", "likelihood")]
    assert frame.index.tolist() == list(range(6))
    assert np.isnan(frame.loc[2, ("mini", "animal0", "tail_base", "x")])
    with pd.HDFStore(path, mode="r") as store:
        assert store.keys() == ["/df_with_missing"]
        assert store.get_storer("df_with_missing").is_table
        # without it, the pandas of today's DeepLabCut cannot read the table
        assert str(store.root.df_with_missing._v_attrs.pandas_version) == "0.15.2"


def test_padding_with_minus_one_is_an_option(predicted_video: Poses, tmp_path: Path) -> None:
    path = tmp_path / "padded.h5"
    registry.write(predicted_video, path, "dlc-h5", missing=-1)
    frame = pd.read_hdf(path)
    assert not frame.isna().any(axis=None)
    assert (frame.loc[6].xs("animal1", level="individuals") == -1).all()
    assert_same(predicted_video, registry.read(path))


def test_wide_tables_are_written_though_pandas_cannot_append_to_them(tmp_path: Path) -> None:
    keypoints = [f"a rather long name of keypoint {i}" for i in range(60)]
    poses = make_poses(keypoints, np.random.default_rng(0).uniform(0, 9, (3, 12, 60, 2)), scorer="wide")
    assert_same(poses, round_trip(poses, "dlc-h5", tmp_path))
    assert pd.read_hdf(tmp_path / "table.h5").shape == (3, 12 * 60 * 3)


def test_marks_are_ignored_when_another_program_changed_the_table(
    predicted_video: Poses, tmp_path: Path
) -> None:
    path = tmp_path / "table.h5"
    registry.write(predicted_video, path, "dlc-h5")
    frame = pd.read_hdf(path)
    frame.iloc[0, 0] += 1
    with pd.HDFStore(path, mode="a") as store:
        store.put("df_with_missing", frame, format="table", track_times=False)
    back = registry.read(path)
    assert back.xy[0, 0, 0, 0] == predicted_video.xy[0, 0, 0, 0] + 1
    assert not back.human.any()
    assert any("changed elsewhere" in w for w in back.metadata["warnings"])


def test_keypoints_that_the_data_does_not_define_stay_undefined(tmp_path: Path) -> None:
    xy = np.random.default_rng(1).uniform(0, 9, (3, 1, 3, 2))
    xy[:, :, 1] = np.nan
    codes = np.full((3, 1, 3), LABELLED)
    codes[:, :, 1] = UNDEFINED
    poses = make_poses(
        "abc", xy, visibility=codes, human=True, images=("v/1.png", "v/2.png", "v/3.png"), scorer="s"
    )
    for format_ in ("dlc-h5", "coco", "dlc-csv"):
        back = round_trip(poses, format_, tmp_path)
        assert (back.visibility[:, :, 1] == UNDEFINED).all(), format_
        assert back.metadata["never_labelled"] == ["b"]
