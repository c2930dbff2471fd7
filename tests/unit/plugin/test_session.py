"""Editing in a viewer model: what napari does to the points reaches the store, and looks right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_superanimal.plugin import editing
from napari_superanimal.plugin import layers as L
from napari_superanimal.plugin.conventions import OURS
from napari_superanimal.plugin.layers import layer_to_poses, poses_to_layers
from napari_superanimal.plugin.session import attach, session_of, show_poses, update_poses, watch
from napari_superanimal.poses import Poses, make_poses, risk_rows

NAMES = ("nose", "left_ear", "right_ear")


def full(t: int = 50, a: int = 2) -> Poses:
    rng = np.random.default_rng(1)
    return make_poses(
        NAMES,
        rng.uniform(10, 90, (t, a, 3, 2)),
        individuals=tuple(f"m{i}" for i in range(a)),
        likelihood=rng.uniform(0.5, 0.99, (t, a, 3)),
        boxes=rng.uniform(10, 40, (t, a, 4)),
        skeleton=(("nose", "left_ear"), ("nose", "right_ear")),
    )


@pytest.fixture
def viewer() -> ViewerModel:
    model = ViewerModel()
    model.add_image(np.zeros((50, 100, 100), np.uint8))
    return model


def drag(layer, row: int, by: tuple[float, float] = (3.0, 4.0)) -> None:
    """What napari's select tool does when the button is released."""
    layer.selected_data = {row}
    layer._move([row], layer.data[row].tolist())
    target = layer.data[row].copy()
    target[1:] += by
    layer._move([row], target)
    layer._drag_start = None


def test_dragging(viewer: ViewerModel) -> None:
    layer = show_poses(viewer, full(), name="p", threshold=0.6)
    place = layer.data[0].copy()
    drag(layer, 0)
    np.testing.assert_allclose(layer.data[0], place + np.array([0, 3, 4]))
    store = layer.metadata[OURS]["store"]
    np.testing.assert_allclose(store.poses.xy[0, 0, 0], layer.data[0, [2, 1]])
    assert store.poses.human.sum() == 1
    assert layer.features["human"].sum() == 1
    assert layer.features["likelihood"].iloc[0] == 1.0
    assert str(layer.symbol[0]) == "square"
    assert str(layer.symbol[1]) == "disc"
    np.testing.assert_allclose(layer.border_color[0], [1, 1, 1, 1])


def test_deleting_and_undo(viewer: ViewerModel) -> None:
    layer = show_poses(viewer, full(), name="p")
    before = layer_to_poses(layer)
    layer.selected_data = {0, 7}
    layer.remove_selected()
    poses = layer_to_poses(layer)
    assert poses.found.sum() == before.found.sum() - 2
    editing.undo(layer)
    after = layer_to_poses(layer)
    np.testing.assert_array_equal(after.xy, before.xy)
    np.testing.assert_array_equal(after.likelihood, before.likelihood)
    assert len(layer.data) == before.found.sum()
    editing.redo(layer)
    assert layer_to_poses(layer).found.sum() == before.found.sum() - 2
    assert "nothing to redo" not in str(viewer.status)
    editing.redo(layer)
    assert viewer.status == "nothing to redo"


def test_added_points_take_what_the_frame_lacks(viewer: ViewerModel) -> None:
    poses = full()
    poses.xy[4] = np.nan
    layer = show_poses(
        viewer, replace(poses, likelihood=np.where(poses.found, poses.likelihood, np.nan)), name="p"
    )
    viewer.dims.set_current_step(0, 4)
    layer.mode = "add"
    for i in range(4):
        layer.add([[4, 10 + i, 20 + i]])
    new = layer_to_poses(layer)
    assert new.found[4].tolist() == [[True] * 3, [True, False, False]]
    np.testing.assert_array_equal(new.xy[4, 1, 0], [23, 13])
    assert new.human[4].sum() == 4
    assert layer.features["label"].iloc[-1] == "nose"
    assert layer.features["id"].iloc[-1] == "m1"
    # and the user can read what comes next
    assert viewer.status == "next point: left_ear of m1"
    assert len(layer.data) == new.found.sum()


def test_a_chosen_keypoint_is_kept(viewer: ViewerModel) -> None:
    poses = full()
    poses.xy[4] = np.nan
    layer = show_poses(viewer, poses, name="p")
    viewer.dims.set_current_step(0, 4)
    layer.mode = "add"
    editing.next_keypoint(layer)
    editing.next_keypoint(layer)
    assert layer.feature_defaults["label"].iloc[0] == "right_ear"
    editing.previous_keypoint(layer)
    layer.add([[4, 1, 2]])
    assert layer.features["label"].iloc[-1] == "left_ear"
    session_of(layer).choose("nose", "m1")
    layer.add([[4, 5, 6]])
    assert layer.features.iloc[-1][["label", "id"]].tolist() == ["nose", "m1"]


def test_adding_where_nothing_is_missing_moves_the_point(viewer: ViewerModel) -> None:
    layer = show_poses(viewer, full(), name="p")
    n = len(layer.data)
    session_of(layer).choose("left_ear", "m1")
    layer.add([[2, 50.0, 60.0]])
    assert len(layer.data) == n
    poses = layer_to_poses(layer)
    np.testing.assert_array_equal(poses.xy[2, 1, 1], [60, 50])
    assert poses.human.sum() == 1
    editing.undo(layer)
    assert layer_to_poses(layer).human.sum() == 0


def test_copy_to_another_frame(viewer: ViewerModel) -> None:
    poses = full()
    layer = show_poses(viewer, poses, name="p")
    layer.selected_data = {0, 1}
    editing.copy(layer)
    viewer.dims.set_current_step(0, 30)
    editing.paste(layer)
    new = layer_to_poses(layer)
    np.testing.assert_allclose(new.xy[30, 0, :2], poses.xy[0, 0, :2])
    assert new.human[30].sum() == 2
    assert new.human.sum() == 2


def test_a_label_changed_in_the_features_table(viewer: ViewerModel) -> None:
    poses = full()
    poses.xy[3, 0, 1] = np.nan
    layer = show_poses(viewer, poses, name="p")
    row = int(np.flatnonzero((layer.data[:, 0] == 3) & (layer.features["label"] == "nose"))[0])
    features = layer.features.copy()
    features.loc[row, "label"] = "left_ear"
    layer.features = features
    new = layer_to_poses(layer)
    assert new.found[3, 0].tolist() == [False, True, True]
    assert new.human[3, 0, 1]


def test_skeleton_follows_playhead_and_edits(viewer: ViewerModel) -> None:
    layer = show_poses(viewer, full(), name="p", threshold=0.0)
    skeleton = viewer.layers["p skeleton"]
    viewer.dims.set_current_step(0, 40)
    frames = np.unique(skeleton.data[:, 0, 0])
    assert 40 in frames
    assert len(frames) <= 2 * L.OVERLAY_HALF + 1
    row = int(np.flatnonzero((layer.data[:, 0] == 40) & (layer.features["label"] == "nose"))[0])
    drag(layer, row)
    starts = skeleton.data[skeleton.data[:, 0, 0] == 40][:, 0, 1:]
    assert (np.abs(starts - layer.data[row, 1:]).max(1) < 1e-9).sum() == 2
    boxes = viewer.layers["p boxes"]
    assert not boxes.visible
    viewer.dims.set_current_step(0, 5)
    assert 5 not in np.unique(boxes.data[:, 0, 0]) or boxes.data[0, 0, 0] == 0
    boxes.visible = True
    assert 5 in np.unique(boxes.data[:, 0, 0])
    # from one full window to another, what is drawn changes in place
    viewer.dims.set_current_step(0, 20)
    before = boxes.data
    viewer.dims.set_current_step(0, 33)
    assert boxes.data is before
    store = session_of(layer).store
    np.testing.assert_array_equal(before, L.boxes(store, L.overlay_frames(store, 33))[0])


def test_predictions_that_grow(viewer: ViewerModel) -> None:
    poses = full()
    layer = show_poses(viewer, poses.take(np.arange(10)), name="p")
    drag(layer, 0)
    mine = layer.data[0].copy()
    update_poses(layer, poses)
    np.testing.assert_array_equal(layer.data[0], mine)
    assert len(layer.data) == poses.found.sum()
    assert layer.features["human"].sum() == 1
    assert layer_to_poses(layer).human.sum() == 1


def test_threshold(viewer: ViewerModel) -> None:
    layer = show_poses(viewer, full(), name="p", threshold=0.0)
    assert (layer.face_color[:, 3] == 1).all()
    session = session_of(layer)
    session.set_threshold(0.8)
    doubtful = layer.features["likelihood"].to_numpy() < 0.8
    np.testing.assert_array_equal(layer.face_color[:, 3] == 0, doubtful)
    assert layer.shown.all()
    session.set_threshold(0.8, hide=True)
    np.testing.assert_array_equal(layer.shown, ~doubtful)
    assert layer_to_poses(layer).found.all()


def test_a_duplicate_has_a_store_of_its_own(viewer: ViewerModel) -> None:
    layer = show_poses(viewer, full(), name="p")
    data, attrs, kind = layer.as_layer_data_tuple()
    viewer._add_layer_from_data(data.copy(), attrs, kind)
    copy = viewer.layers[-1]
    assert session_of(copy) is not None
    drag(copy, 0)
    assert layer_to_poses(copy).human.sum() == 1
    assert layer_to_poses(layer).human.sum() == 0


def test_layers_from_a_reader_are_followed(viewer: ViewerModel) -> None:
    watch(viewer)
    for data, attrs, kind in poses_to_layers(full(), name="p"):
        viewer._add_layer_from_data(data, attrs, kind)
    layer = viewer.layers["p"]
    drag(layer, 3)
    assert layer.metadata[OURS]["store"].poses.human.sum() == 1
    assert attach(viewer, viewer.layers["p skeleton"]) is None


def test_a_removed_layer_is_let_go(viewer: ViewerModel) -> None:
    layer = show_poses(viewer, full(), name="p")
    viewer.layers.remove(layer)
    assert session_of(layer) is None
    viewer.dims.set_current_step(0, 20)
    # its points are still there to save
    assert layer_to_poses(layer).found.all()


def test_a_window_of_many_points(viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(L, "ORDINARY_LIMIT", 100)
    monkeypatch.setattr(L, "WINDOW_POINTS", 60)
    poses = full()
    layer = show_poses(viewer, poses, name="p")
    assert len(layer.data) < poses.found.sum()
    drag(layer, 0)
    first = layer.data[0].copy()
    viewer.dims.set_current_step(0, 30)
    assert {28, 29, 30, 31, 32} <= set(layer.data[:, 0].astype(int))
    row = int(np.flatnonzero(layer.data[:, 0] == 30)[0])
    layer.selected_data = {row}
    layer.remove_selected()
    viewer.dims.set_current_step(0, 12)
    assert 30 not in layer.data[:, 0]
    new = layer_to_poses(layer)
    assert new.found.sum() == poses.found.sum() - 1
    np.testing.assert_allclose(new.xy[0, 0, 0], first[[2, 1]])
    assert new.human.sum() == 1
    # the slider's range is the video's all the time
    assert viewer.dims.range[0].stop == 49
    editing.undo(layer)
    np.testing.assert_array_equal(layer_to_poses(layer).found, poses.found)


def test_scaled_image(viewer: ViewerModel) -> None:
    layer = show_poses(viewer, full(), name="p")
    for each in viewer.layers:
        each.scale = (1, 0.5, 0.5)[-each.ndim :]
    viewer.dims.set_current_step(0, 33)
    assert session_of(layer).frame == 33


def followed() -> Poses:
    """Both individuals are at risk in frames 20 to 29."""
    poses = full()
    risk = np.zeros((50, 2), np.float32)
    risk[20:30] = 0.8
    rows = risk_rows([(poses.frames, risk)], poses.individuals)
    return replace(poses, metadata={"swap_risk": {"risk": 0.5, "frames": 10, "spans": [], "rows": rows}})


def risky(layer) -> list[int]:
    return np.unique(layer.data[layer.features["swap_risk"] > 0.5, 0]).astype(int).tolist()


def test_what_a_person_placed_has_no_risk(viewer: ViewerModel) -> None:
    layer = show_poses(viewer, followed(), name="p")
    assert risky(layer) == list(range(20, 30))
    row = int(np.flatnonzero(layer.data[:, 0] == 25)[0])
    drag(layer, row)
    assert layer.features["swap_risk"].iloc[row] == 0
    assert (layer.features["swap_risk"] > 0.5).sum() == 10 * 2 * 3 - 1
    editing.undo(layer)
    assert (layer.features["swap_risk"] > 0.5).sum() == 10 * 2 * 3


def test_a_point_can_be_added_where_there_is_a_risk(viewer: ViewerModel) -> None:
    poses = followed()
    poses.xy[25, 0, 1] = np.nan
    layer = show_poses(viewer, replace(poses, likelihood=poses.likelihood), name="p")
    viewer.dims.set_point(0, 25)
    layer.mode = "add"
    layer.add([25, 40, 50])
    assert layer.features["label"].iloc[-1] == "left_ear"
    assert layer.features["swap_risk"].iloc[-1] == 0
    assert bool(layer.features["human"].iloc[-1])


def test_newer_predictions_bring_their_risk(viewer: ViewerModel) -> None:
    layer = show_poses(viewer, full(), name="p")
    assert "swap_risk" not in layer.features
    update_poses(layer, followed())
    assert risky(layer) == list(range(20, 30))
    session_of(layer).choose("nose", "m1")
    assert layer.feature_defaults["swap_risk"].iloc[0] == 0


def test_the_window_of_a_long_recording_has_it_too(
    viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(L, "ORDINARY_LIMIT", 100)
    monkeypatch.setattr(L, "WINDOW_POINTS", 60)
    layer = show_poses(viewer, followed(), name="p")
    assert risky(layer) == []
    viewer.dims.set_point(0, 25)
    assert risky(layer) == list(range(20, 30))


def test_a_growing_layer_holds_what_is_near_the_playhead() -> None:
    whole = full(1000, 1)
    viewer = ViewerModel()
    viewer.add_image(np.zeros((1000, 10, 10), np.uint8))
    viewer.dims.set_point(0, 0)
    layer = show_poses(viewer, whole.take(np.arange(300)), name="p", threshold=0.6)
    store = layer.metadata[OURS]["store"]
    changes: list[int] = []
    layer.events.data.connect(lambda: changes.append(len(layer.data)))

    update_poses(layer, whole.take(np.arange(400)), growing=True)
    assert len(np.unique(layer.data[:, 0])) == 202  # what is near the first frame, and the last one
    drag(layer, 0)
    changes.clear()
    update_poses(layer, whole.take(np.arange(600)), growing=True)
    assert not changes  # nothing near the playhead is new
    assert layer_to_poses(layer).found.sum() == 600 * 3  # what is saved
    assert store.poses.human.sum() == 1

    viewer.dims.set_point(0, 500)
    np.testing.assert_allclose(np.unique(layer.data[:, 0]), [0, *range(300, 600)])
    update_poses(layer, whole.take(np.arange(800)), growing=True)
    np.testing.assert_allclose(np.unique(layer.data[:, 0]), [0, *range(300, 701), 799])

    session = session_of(layer)
    assert session is not None
    session.settle()
    assert len(layer.data) == 800 * 3
    assert store.view is None
    update_poses(layer, whole)
    assert len(layer.data) == 1000 * 3
    assert store.poses.human.sum() == 1
    drawn = whole.xy.copy()
    drawn[0, 0, 0] += (4, 3)
    np.testing.assert_allclose(layer_to_poses(layer).xy, drawn)


def test_predictions_that_are_revised_while_they_grow(viewer: ViewerModel) -> None:
    first = full()
    layer = show_poses(viewer, first, name="p", threshold=0.6)
    update_poses(layer, first, growing=True)
    update_poses(layer, replace(first, xy=first.xy + 1), growing=True)
    np.testing.assert_allclose(layer.data[0, [2, 1]], first.xy[0, 0, 0] + 1)
    session = session_of(layer)
    assert session is not None
    assert session.flush() == 0
