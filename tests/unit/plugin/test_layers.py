"""Poses to layers and back, on napari's own layers without a window."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Layer, Points

from napari_superanimal.errors import UserError
from napari_superanimal.plugin import layers as L
from napari_superanimal.plugin.conventions import OURS
from napari_superanimal.plugin.layers import layer_to_poses, poses_to_layers
from napari_superanimal.plugin.style import keypoint_colors, looks
from napari_superanimal.poses import Poses, make_poses, risk_rows, swap_risk_of

ARRAYS = ("frames", "xy", "visibility", "likelihood", "human", "boxes", "box_scores", "image_sizes")


def some(t: int = 6, a: int = 2, seed: int = 0, images: bool = False) -> Poses:
    rng = np.random.default_rng(seed)
    names = ("nose", "left_ear", "right_ear", "tail_base")
    xy = rng.uniform(0, 200, (t, a, 4, 2))
    xy[rng.random((t, a, 4)) < 0.25] = np.nan
    rest = {"images": tuple(f"labeled-data/v/img{i}.png" for i in range(t))} if images else {}
    return make_poses(
        names,
        xy,
        frames=None if images else np.arange(t) * 3 + 2,
        individuals=("",) if a == 1 else tuple(f"mouse{i}" for i in range(a)),
        likelihood=rng.uniform(0, 1, (t, a, 4)),
        human=rng.random((t, a, 4)) < 0.2,
        boxes=rng.uniform(0, 50, (t, a, 4)),
        scorer="me",
        **rest,
    )


def assert_equal(a: Poses, b: Poses) -> None:
    for field in fields(Poses):
        one, two = getattr(a, field.name), getattr(b, field.name)
        if field.name in ARRAYS:
            np.testing.assert_array_equal(one, two, err_msg=field.name)
        else:
            assert one == two, field.name


def points_layer(poses: Poses, **options: object) -> Points:
    data, attrs, kind = poses_to_layers(poses, name="p", **options)[-1]
    layer = Layer.create(data, attrs, kind)
    assert isinstance(layer, Points)
    return layer


@pytest.mark.parametrize("a", [1, 2])
@pytest.mark.parametrize("images", [False, True])
def test_there_and_back(a: int, images: bool) -> None:
    poses = some(a=a, images=images)
    poses = replace(poses, skeleton=(("nose", "tail_base"),))
    layer = points_layer(poses)
    assert_equal(layer_to_poses(layer), poses)
    # and through the tuple that napari hands to a writer
    assert_equal(layer_to_poses(layer.as_layer_data_tuple()), poses)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 8), st.integers(1, 3))
def test_there_and_back_whatever_is_missing(seed: int, t: int, a: int) -> None:
    poses = some(t=t, a=a, seed=seed)
    assert_equal(layer_to_poses(points_layer(poses)), poses)


def test_nothing_at_all() -> None:
    poses = make_poses(("nose",), np.full((3, 1, 1, 2), np.nan))
    layer = points_layer(poses)
    assert layer.ndim == 3
    assert len(layer.data) == 0
    assert_equal(layer_to_poses(layer), poses)


def test_the_result_does_not_change_with_the_layer() -> None:
    layer = points_layer(some())
    before = layer_to_poses(layer)
    copy = before.xy.copy()
    layer.data[0, 1:] += 10
    after = layer_to_poses(layer)
    np.testing.assert_array_equal(before.xy, copy)
    assert after.human.sum() == before.human.sum() + (not layer.features["human"].iloc[0])


def test_what_the_layer_tells() -> None:
    layer = points_layer(some(), space="superanimal_topviewmouse", model="mini", video=Path("a.mp4"))
    assert layer.features.columns.tolist() == ["label", "id", "likelihood", "human"]
    ours = layer.metadata[OURS]
    assert (ours["model"], ours["space"], ours["video"]) == ("mini", "superanimal_topviewmouse", "a.mp4")
    assert not layer.text.visible
    assert layer.data[:, 0].min() >= 2
    header = layer.metadata["header"]
    assert header["names"] == ["scorer", "individuals", "bodyparts", "coords"]
    assert header["columns"][0] == ("me", "mouse0", "nose", "x")
    assert len(header["columns"]) == 2 * 4 * 3


def followed(seed: int = 0) -> Poses:
    """Predictions of two individuals that were followed; each frame has a risk of its own."""
    poses = replace(some(seed=seed), human=np.zeros((6, 2, 4), bool))
    risk = np.array([[0, 0], [0, 0.25], [0.5, 0.5], [1, 0], [0, 0], [0.75, 0.75]], np.float32)
    rows = risk_rows([(poses.frames, risk)], poses.individuals)
    return replace(poses, metadata={"swap_risk": {"risk": 0.5, "frames": 3, "spans": [], "rows": rows}})


def test_the_risk_of_an_exchange_is_a_feature() -> None:
    poses = followed()
    layer = points_layer(poses)
    assert layer.features.columns.tolist() == ["label", "id", "likelihood", "human", "swap_risk"]
    whole = swap_risk_of(poses)
    for point, row in zip(layer.data, layer.features.itertuples(), strict=True):
        t, a = poses.frames.tolist().index(int(point[0])), poses.individuals.index(row.id)
        assert row.swap_risk == whole[t, a]
    # what it is there for: find the points of frames that deserve a look
    frames = np.unique(layer.data[layer.features["swap_risk"] >= 0.5, 0])
    np.testing.assert_array_equal(frames, poses.frames[[2, 3, 5]])
    assert layer.feature_defaults["swap_risk"].iloc[0] == 0
    assert_equal(layer_to_poses(layer), poses)
    assert_equal(layer_to_poses(layer.as_layer_data_tuple()), poses)


def test_one_animal_that_was_followed_by_nobody_has_no_such_feature() -> None:
    assert "swap_risk" not in points_layer(some(a=1)).features


def test_the_header_knows_nothing_of_it() -> None:
    """napari-deeplabcut's columns are x, y and likelihood, as before."""
    header = points_layer(followed(), kind="predictions").metadata["header"]
    assert {column[-1] for column in header["columns"]} == {"x", "y", "likelihood"}


def test_frame_y_x() -> None:
    poses = make_poses(("nose",), [[[[30.0, 4.0]]]], frames=[17])
    np.testing.assert_array_equal(points_layer(poses).data, [[17, 4, 30]])


def test_skeleton_and_boxes_come_as_layers_of_their_own() -> None:
    poses = replace(some(), skeleton=(("nose", "tail_base"),))
    tuples = poses_to_layers(poses, name="p", threshold=0.0)
    assert [(t[1]["name"], t[2]) for t in tuples] == [
        ("p boxes", "vectors"),
        ("p skeleton", "vectors"),
        ("p", "points"),
    ]
    for data, attrs, kind in tuples:
        Layer.create(data, attrs, kind)
    both = poses.found[:, :, 0] & poses.found[:, :, 3]
    near = poses.frames <= poses.frames[0] + L.OVERLAY_HALF
    assert len(tuples[1][0]) == both[near].sum()
    # the four sides of a box close it
    sides = tuples[0][0][:4]
    np.testing.assert_allclose(sides[:, 0] + sides[:, 1] * [1, 1, 1], np.roll(sides[:, 0], -1, axis=0))
    x, y, w, h = poses.boxes[0, 0]
    np.testing.assert_allclose(sides[0, 0, 1:], [y, x])
    np.testing.assert_allclose(sides[2, 0, 1:], [y + h, x + w])


def test_a_doubtful_edge_is_not_drawn() -> None:
    poses = make_poses(
        ("nose", "tail_base"),
        [[[[0.0, 0.0], [5.0, 5.0]]]],
        likelihood=[[[0.9, 0.2]]],
        skeleton=(("nose", "tail_base"),),
    )
    assert len(poses_to_layers(poses, name="p", threshold=0.5)[0][0]) == 0
    assert len(poses_to_layers(poses, name="p", threshold=0.1)[0][0]) == 1


def test_the_space_gives_the_skeleton() -> None:
    kinds = [t[1]["name"] for t in poses_to_layers(some(), name="p", space="superanimal_topviewmouse")]
    assert "p skeleton" in kinds


def test_a_biologist_sees_what_is_doubtful_and_what_is_hers() -> None:
    colors = keypoint_colors(("nose", "left_ear", "tail_base"), "superanimal_topviewmouse")
    assert len(np.unique(colors, axis=0)) == 3
    look = looks(colors, np.array([0.9, 0.1, 0.1]), np.array([False, False, True]), 0.5)
    assert look.face[:, 3].tolist() == [1, 0, 1]  # the doubtful one is hollow
    np.testing.assert_array_equal(look.border[1, :3], colors[1, :3])
    assert look.symbol.tolist() == ["disc", "disc", "square"]
    assert look.border[2].tolist() == [1, 1, 1, 1]


def test_a_layer_of_napari_deeplabcut() -> None:
    """Its conventions, written out by hand: see its Points metadata."""
    features = pd.DataFrame(
        {"label": ["snout", "leftear"], "id": ["", ""], "likelihood": [1.0, 1.0], "valid": [True, True]}
    )
    columns = [("Pranav", k, c) for k in ("snout", "leftear", "tailbase") for c in ("x", "y")]
    metadata = {
        "header": {"columns": columns, "names": ["scorer", "bodyparts", "coords"]},
        "paths": ["labeled-data/m4/img0001.png", "labeled-data/m4/img0002.png"],
        "root": "/data/project/labeled-data/m4",
        "io": {"schema_version": 1, "kind": "gt", "dataset_key": "df_with_missing"},
    }
    layer = Points(np.array([[0, 5, 6], [1, 7, 8]]), features=features, metadata=metadata)
    poses = layer_to_poses(layer)
    assert poses.keypoints == ("snout", "leftear", "tailbase")
    assert poses.individuals == ("",)
    assert poses.scorer == "Pranav"
    assert poses.images == tuple(metadata["paths"])
    assert poses.human.sum() == 2
    np.testing.assert_array_equal(poses.xy[1, 0, 1], [8, 7])


def test_machine_labels_of_napari_deeplabcut_are_not_a_persons() -> None:
    features = pd.DataFrame({"label": ["snout"], "id": ["m1"], "likelihood": [0.7]})
    layer = Points([[3, 5, 6]], features=features, metadata={"io": {"kind": "machine"}})
    poses = layer_to_poses(layer)
    assert poses.likelihood[0, 0, 0] == 0.7
    assert not poses.human.any()
    assert poses.frames.tolist() == [3]


def test_a_plain_points_layer() -> None:
    poses = layer_to_poses(Points([[2, 10, 20], [2, 30, 40], [5, 1, 2]]))
    assert poses.frames.tolist() == [2, 5]
    assert poses.keypoints == ("point1", "point2")
    assert poses.human.sum() == 3
    np.testing.assert_array_equal(poses.xy[0, 0, 1], [40, 30])


def test_points_of_a_single_image() -> None:
    poses = layer_to_poses(Points([[10, 20]]))
    np.testing.assert_array_equal(poses.xy, [[[[20, 10]]]])


def test_four_dimensions_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="4 coordinates"):
        layer_to_poses(Points(np.zeros((2, 4))))


def test_a_point_that_is_not_finite_is_no_point() -> None:
    layer = points_layer(some())
    n = layer_to_poses(layer).found.sum()
    layer.data[2, 1] = np.nan
    assert layer_to_poses(layer).found.sum() == n - 1


def test_very_many_points_show_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(L, "ORDINARY_LIMIT", 100)
    monkeypatch.setattr(L, "WINDOW_POINTS", 60)
    poses = some(t=100)
    layer = points_layer(poses)
    shown = np.unique(layer.data[:, 0])
    assert len(layer.data) < 100
    # the slider keeps its whole range
    assert (shown[0], shown[-1]) == (poses.frames[0], poses.frames[-1])
    assert_equal(layer_to_poses(layer), poses)


def test_point_size_of_the_preferences(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_superanimal.plugin import settings as preferences

    assert 3 <= points_layer(some()).size[0] <= 40
    monkeypatch.setattr(preferences, "point_size", lambda: 13.0)
    assert points_layer(some()).size[0] == 13
