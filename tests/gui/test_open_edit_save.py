"""The main job by hand: open a video and its poses, drag a point, save, open again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.settings import get_settings
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_superanimal.demo.render import Clip, render_clip
from napari_superanimal.plugin.conventions import OURS
from napari_superanimal.plugin.layers import layer_to_poses
from napari_superanimal.plugin.session import session_of, show_poses
from napari_superanimal.poses.formats import registry
from napari_superanimal.video import VideoWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import napari
    from napari.layers import Points
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.gui
PLUGIN = "napari-superanimal"


@pytest.fixture(scope="module")
def clip() -> Clip:
    """Few frames: here nothing learns from them."""
    return render_clip(48, (320, 240), seed=3)


@pytest.fixture(scope="module")
def clip_file(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip as a video."""
    path = tmp_path_factory.mktemp("clip") / "mouse.mp4"
    with VideoWriter(path, 30.0, (320, 240)) as writer:
        for frame in clip.frames:
            writer.write(frame)
    return path


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., napari.Viewer]) -> napari.Viewer:
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1000, 700)
    QApplication.processEvents()
    return viewer


def on_canvas(viewer: napari.Viewer, frame: int, y: float, x: float) -> QPoint:
    """Where a position of the data is on the canvas widget."""
    canvas = viewer.window._qt_viewer.canvas
    transform = canvas.view.scene.transform
    at = transform.map([x, y, 0, 1])
    return QPoint(round(float(at[0])), round(float(at[1])))


def drag(viewer: napari.Viewer, start: QPoint, end: QPoint) -> None:
    """Press, move in steps, release: real mouse events through Qt."""
    widget = viewer.window._qt_viewer.canvas.native
    QTest.mouseMove(widget, start)
    QApplication.processEvents()
    QTest.mousePress(widget, Qt.MouseButton.LeftButton, pos=start)
    for i in range(1, 6):
        QTest.mouseMove(widget, start + (end - start) * i / 5)
        QApplication.processEvents()
    QTest.mouseRelease(widget, Qt.MouseButton.LeftButton, pos=end)
    QApplication.processEvents()


def answer(button: str, seen: list[str]) -> None:
    """Press a button of the question that will come up."""

    def press(tries: int = 100) -> None:
        for box in QApplication.topLevelWidgets():
            if isinstance(box, QMessageBox) and box.isVisible():
                seen.append(box.text())
                next(b for b in box.buttons() if b.text().strip("&") == button).click()
                return
        if tries:
            QTimer.singleShot(50, lambda: press(tries - 1))

    QTimer.singleShot(50, press)


def open_clip(viewer: napari.Viewer, clip: Clip, clip_file: Path) -> Points:
    viewer.open(str(clip_file), plugin=PLUGIN)
    truth = clip.truth
    # as a prediction: nothing placed by a person
    poses = truth.take(np.arange(len(truth)))
    poses.human[:] = False
    poses.likelihood[poses.found] = 0.8
    return show_poses(
        viewer, poses, name="poses", space="superanimal_topviewmouse", video=clip_file, kind="predictions"
    )


def row_of(layer: Points, frame: int, label: str) -> int:
    return int(np.flatnonzero((layer.data[:, 0] == frame) & (layer.features["label"] == label))[0])


@pytest.mark.parametrize("background", [False, True], ids=["at once", "asynchronous slicing"])
def test_open_drag_save_reopen(
    viewer: napari.Viewer, clip: Clip, clip_file: Path, tmp_path: Path, qtbot: QtBot, background: bool
) -> None:
    get_settings().experimental.async_ = background
    layer = open_clip(viewer, clip, clip_file)
    assert viewer.layers[0].data.shape[0] == len(clip.frames)
    viewer.dims.set_current_step(0, 10)
    qtbot.waitUntil(lambda: all(each.loaded for each in viewer.layers), timeout=30_000)
    viewer.layers.selection.active = layer
    layer.mode = "select"
    # zoomed in, so that points do not lie on each other
    row = row_of(layer, 10, "nose")
    before = layer.data[row].copy()
    viewer.scene.camera.center = before
    viewer.scene.camera.zoom = 8
    QApplication.processEvents()
    qtbot.waitUntil(lambda: all(each.loaded for each in viewer.layers), timeout=30_000)

    start = on_canvas(viewer, *before)
    drag(viewer, start, start + QPoint(64, -40))
    moved = layer.data[row]
    np.testing.assert_allclose(moved - before, [0, -5, 8], atol=0.6)
    store = layer.metadata[OURS]["store"]
    assert store.poses.human.sum() == 1
    assert str(layer.symbol[row]) == "square"
    assert layer.features["likelihood"].iloc[row] == 1

    written = viewer.layers.save(str(tmp_path / "corrected.h5"), selected=True, plugin=PLUGIN)
    assert sorted(p.rsplit(".", 1)[1] for p in written) == ["csv", "h5"]
    mine = layer_to_poses(layer)
    viewer.layers.clear()
    viewer.open(str(tmp_path / "corrected.h5"), plugin=PLUGIN)
    again = next(each for each in viewer.layers if each.name == "corrected")
    poses = layer_to_poses(again)
    for name in ("frames", "xy", "likelihood", "human", "boxes"):
        np.testing.assert_array_equal(getattr(poses, name), getattr(mine, name), err_msg=name)
    # the video came back with it, frame-exact
    assert viewer.layers[0].metadata[OURS]["video"] == str(clip_file)
    assert session_of(again) is not None


def test_add_delete_undo_with_the_mouse_and_keys(viewer: napari.Viewer, clip: Clip, clip_file: Path) -> None:
    layer = open_clip(viewer, clip, clip_file)
    viewer.dims.set_current_step(0, 5)
    viewer.layers.selection.active = layer
    widget = viewer.window._qt_viewer.canvas.native
    n = len(layer.data)
    row = row_of(layer, 5, "nose")
    place = layer.data[row].copy()
    layer.mode = "select"
    layer.selected_data = {row}
    QTest.keyClick(widget, Qt.Key.Key_Delete)
    QApplication.processEvents()
    assert len(layer.data) == n - 1
    assert not layer_to_poses(layer).found[5, 0, 0]

    layer.mode = "add"
    viewer.scene.camera.center = place
    viewer.scene.camera.zoom = 6
    QApplication.processEvents()
    target = on_canvas(viewer, *place)
    QTest.mouseMove(widget, target)
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton, pos=target)
    QApplication.processEvents()
    poses = layer_to_poses(layer)
    assert layer.features["label"].iloc[-1] == "nose"
    np.testing.assert_allclose(poses.xy[5, 0, 0], place[[2, 1]], atol=0.6)
    assert poses.human.sum() == 1
    assert len(layer.data) == n

    for _ in range(2):
        QTest.keyClick(widget, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        QApplication.processEvents()
    poses = layer_to_poses(layer)
    assert not poses.human.any()
    np.testing.assert_array_equal(poses.xy[5, 0, 0], place[[2, 1]])


def test_question_before_replacing(
    viewer: napari.Viewer, clip: Clip, clip_file: Path, tmp_path: Path
) -> None:
    layer = open_clip(viewer, clip, clip_file)
    viewer.layers.selection.active = layer
    (tmp_path / "out.h5").write_bytes(b"precious")
    seen: list[str] = []
    answer("Keep", seen)
    notification_manager.records.clear()
    viewer.layers.save(str(tmp_path / "out.h5"), selected=True, plugin=PLUGIN)
    assert "out.h5 exists already" in seen[0]
    assert (tmp_path / "out.h5").read_bytes() == b"precious"
    assert any("was not changed" in str(r.message) for r in notification_manager.records)

    answer("Replace", seen)
    assert viewer.layers.save(str(tmp_path / "out.h5"), selected=True, plugin=PLUGIN)
    assert len(seen) == 2
    np.testing.assert_array_equal(registry.read(tmp_path / "out.h5").xy, layer_to_poses(layer).xy)
    # what was just saved is saved again without a question
    layer.data = layer.data + np.array([0, 1, 1])
    assert viewer.layers.save(str(tmp_path / "out.h5"), selected=True, plugin=PLUGIN)
    assert len(seen) == 2


def test_errors_are_one_line_notifications(
    viewer: napari.Viewer, clip: Clip, clip_file: Path, tmp_path: Path
) -> None:
    layer = open_clip(viewer, clip, clip_file)
    viewer.layers.selection.active = layer
    before = layer_to_poses(layer)
    (tmp_path / "file").write_text("not a folder")
    notification_manager.records.clear()
    viewer.layers.save(str(tmp_path / "file" / "out.h5"), selected=True, plugin=PLUGIN)
    errors = [str(r.message) for r in notification_manager.records if str(r.severity) == "error"]
    assert len(errors) == 1
    assert "cannot write" in errors[0]
    assert "\n" not in errors[0]
    assert "Traceback" not in errors[0]
    np.testing.assert_array_equal(layer_to_poses(layer).xy, before.xy)

    bad = tmp_path / "bad.mp4"
    bad.write_bytes(clip_file.read_bytes()[:2000])
    notification_manager.records.clear()
    n = len(viewer.layers)
    viewer.open(str(bad), plugin=PLUGIN)
    assert len(viewer.layers) == n
    (error,) = [str(r.message) for r in notification_manager.records if str(r.severity) == "error"]
    assert "bad.mp4" in error
    assert "\n" not in error


def test_sample_data_opens(viewer: napari.Viewer) -> None:
    viewer.open_sample(PLUGIN, "open_field_truth")
    layer = viewer.layers["true keypoints"]
    assert session_of(layer) is not None
    viewer.dims.set_current_step(0, 123)
    QApplication.processEvents()
    assert viewer.layers["true keypoints skeleton"].data[0, 0, 0] <= 123
    assert viewer.screenshot().std() > 5


def test_showing_poses_costs_little(viewer: napari.Viewer) -> None:
    """A thousand frames of 27 keypoints: what a step of the slider costs with and without the points."""
    import time

    from napari_superanimal.keypoints import load_space
    from napari_superanimal.poses import make_poses

    space = load_space("superanimal_topviewmouse")
    rng = np.random.default_rng(0)
    t = 2330
    frames = rng.integers(0, 255, (8, 120, 160), np.uint8)
    viewer.add_image(np.broadcast_to(frames[None], (t // 8 + 1, 8, 120, 160)).reshape(-1, 120, 160)[:t])
    poses = make_poses(
        space.keypoints, rng.uniform(10, 110, (t, 1, 27, 2)), likelihood=rng.uniform(0, 1, (t, 1, 27))
    )
    show_poses(viewer, poses, name="p", space=space.name)
    added = [layer for layer in viewer.layers if layer.name.startswith("p")]

    def step(frame: int) -> float:
        start = time.process_time()
        viewer.dims.set_current_step(0, frame)
        QApplication.processEvents()
        return time.process_time() - start

    def median(visible: bool, first: int) -> float:
        for layer in added:
            layer.visible = visible and layer.name != "p boxes"
        QApplication.processEvents()
        step(first - 1)
        return float(np.median([step(first + i) for i in range(12)]))

    costs = [median(True, 200 + 100 * i) - median(False, 200 + 100 * i) for i in range(3)]
    # 25 ms is the aim for the whole step in wall time (benchmarks/scrub.py); CPU time of all threads here,
    # because other work on the machine must not fail a test
    assert np.median(costs) < 0.1, costs
