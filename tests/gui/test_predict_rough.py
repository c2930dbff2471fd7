"""The Predict widget when things go away under it, and with every kind of layer."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QPushButton

from forms import errors
from napari_superanimal.plugin.layers import layer_to_poses
from napari_superanimal.plugin.session import session_of
from napari_superanimal.plugin.widgets import predict as module
from napari_superanimal.video import VideoWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.layers import Points
    from pytestqt.qtbot import QtBot

    from napari_superanimal.demo.render import Clip
    from napari_superanimal.plugin.widgets.predict import PredictWidget

pytestmark = pytest.mark.gui


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any], model: str, every_chunk: None) -> Any:
    notification_manager.records.clear()
    return make_napari_viewer(show=True)


@pytest.fixture
def widget(viewer: Any, model: str) -> PredictWidget:
    _, widget = viewer.window.add_plugin_dock_widget("napari-superanimal", "Predict animal poses")
    widget.models.choose(model)
    return widget


@pytest.fixture
def own_file(clip_file: Path, tmp_path: Path) -> Path:
    """A copy of the clip that may be spoiled."""
    path = tmp_path / "mine.mp4"
    path.write_bytes(clip_file.read_bytes())
    return path


def start(qtbot: QtBot, widget: PredictWidget) -> None:
    qtbot.mouseClick(widget.findChild(QPushButton, "predict_run"), Qt.MouseButton.LeftButton)
    assert widget.running


def poses_layers(viewer: Any) -> list[Points]:
    return [layer for layer in viewer.layers if session_of(layer) is not None]


def wait_for_points(qtbot: QtBot, viewer: Any) -> None:
    qtbot.waitUntil(lambda: bool(poses_layers(viewer)), timeout=60_000)


def wait_until_done(qtbot: QtBot, widget: PredictWidget) -> None:
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)


def test_a_range_can_be_read_and_is_where_one_looks(
    viewer: Any, widget: PredictWidget, qtbot: QtBot, clip_file: Path
) -> None:
    viewer.window.resize(1280, 800)
    widget.open_video(clip_file)
    widget.frames.setCurrentText(module.RANGE)
    QApplication.processEvents()
    widget.start.setValue(4)
    widget.stop.setValue(10)
    for box in (widget.start, widget.stop, widget.step):
        edit = box.lineEdit()
        # the longest number that can stand there
        longest = f"{box.prefix()}{box.maximum()}"
        assert edit.fontMetrics().horizontalAdvance(longest) < edit.contentsRect().width(), longest
    # the row is wider than the form was: nothing is cut off at the window's edge
    area = widget._area
    qtbot.waitUntil(lambda: area.widget().width() <= area.viewport().width(), timeout=5_000)
    viewer.dims.set_current_step(0, 300)
    start(qtbot, widget)
    wait_until_done(qtbot, widget)
    assert viewer.dims.current_step[0] == 4
    # a frame that is predicted stays where it is
    viewer.dims.set_current_step(0, 7)
    start(qtbot, widget)
    wait_until_done(qtbot, widget)
    assert viewer.dims.current_step[0] == 7
    assert viewer.dims.axis_labels[0] == "frame"


def test_removing_the_video_stops_the_run_and_keeps_the_points(
    viewer: Any, widget: PredictWidget, qtbot: QtBot, clip_file: Path, clip: Clip
) -> None:
    widget.open_video(clip_file)
    start(qtbot, widget)
    wait_for_points(qtbot, viewer)
    viewer.layers.remove(viewer.layers["mouse"])
    wait_until_done(qtbot, widget)
    (layer,) = poses_layers(viewer)
    assert 0 < len(layer_to_poses(layer)) < len(clip.frames)
    assert errors() == []
    assert "kept" in widget.hint.text()
    assert not widget.run_button.isEnabled()


def test_removing_the_video_at_once_leaves_nothing_behind(
    viewer: Any, widget: PredictWidget, qtbot: QtBot, clip_file: Path
) -> None:
    widget.open_video(clip_file)
    start(qtbot, widget)
    viewer.layers.clear()
    wait_until_done(qtbot, widget)
    assert len(viewer.layers) == 0
    assert errors() == []


def test_a_video_file_that_is_deleted_while_it_is_open(
    viewer: Any, widget: PredictWidget, qtbot: QtBot, own_file: Path, clip: Clip
) -> None:
    widget.open_video(own_file)
    start(qtbot, widget)
    wait_for_points(qtbot, viewer)
    own_file.unlink()
    wait_until_done(qtbot, widget)
    (layer,) = poses_layers(viewer)
    kept = len(layer_to_poses(layer))
    # where the system keeps an open file alive everything is done, elsewhere what came before is kept
    assert kept == len(clip.frames) or (kept and len(errors()) == 1)
    notification_manager.records.clear()
    qtbot.mouseClick(widget.findChild(QPushButton, "predict_run"), Qt.MouseButton.LeftButton)
    wait_until_done(qtbot, widget)
    (message,) = errors()
    assert "mine.mp4" in message
    assert "\n" not in message
    assert "Traceback" not in message
    assert len(layer_to_poses(poses_layers(viewer)[0])) == kept


CLOSING = """
import sys
import napari
from qtpy.QtCore import QTimer

viewer = napari.Viewer()
_, widget = viewer.window.add_plugin_dock_widget("napari-superanimal", "Predict animal poses")
widget.models.choose(sys.argv[2])
widget.open_video(sys.argv[1])
widget.run()
token = widget._token


def close_when_it_works():
    if widget.bar.bar.value() > 0:
        timer.stop()
        viewer.close()


timer = QTimer()
timer.timeout.connect(close_when_it_works)
timer.start(20)
napari.run()
print("cancelled" if token.cancelled else "went on")
"""


def test_closing_napari_while_it_predicts(clip_file: Path, model: str, home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLOSING, str(clip_file), model],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "cancelled"
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr, done.stderr


def test_two_videos_of_different_sizes(
    viewer: Any, widget: PredictWidget, qtbot: QtBot, clip_file: Path, clip: Clip, tmp_path: Path
) -> None:
    left, top = (int(v) // 2 * 2 for v in np.clip(clip.truth.boxes[0, 0, :2] - 40, 0, None))
    small = [frame[top:, left:] for frame in clip.frames[:4]]
    height, width = small[0].shape[:2]
    with VideoWriter(tmp_path / "small.mp4", 30.0, (width // 2 * 2, height // 2 * 2)) as writer:
        for frame in small:
            writer.write(np.ascontiguousarray(frame[: height // 2 * 2, : width // 2 * 2]))
    widget.open_video(clip_file)
    widget.open_video(tmp_path / "small.mp4")
    assert widget.images.currentText() == "small"
    found = {}
    for name in ("small", "mouse"):
        widget.images.choose(viewer.layers[name])
        viewer.dims.set_current_step(0, 2)
        qtbot.mouseClick(widget.findChild(QPushButton, "predict_now"), Qt.MouseButton.LeftButton)
        wait_until_done(qtbot, widget)
        layer = next(each for each in poses_layers(viewer) if each.name.startswith(name))
        poses = layer_to_poses(layer)
        assert poses.frames.tolist() == [2]
        found[name] = poses.xy[0, 0, poses.keypoints.index("nose")]
    assert errors() == []
    assert len(poses_layers(viewer)) == 2
    np.testing.assert_allclose(found["small"] + (left, top), found["mouse"], atol=6)


@pytest.mark.parametrize("kind", ["grey dask", "colour dask", "multiscale", "one picture"])
def test_layers_without_a_file(
    kind: str, viewer: Any, widget: PredictWidget, qtbot: QtBot, clip: Clip
) -> None:
    frames = np.stack([clip.frames[i] for i in range(3)])
    grey = frames.mean(-1).astype(np.uint8)
    if kind == "grey dask":
        viewer.add_image(da.from_array(grey, chunks=(1, -1, -1)), name="stack")
    elif kind == "colour dask":
        viewer.add_image(da.from_array(frames, chunks=(1, -1, -1, -1)), rgb=True, name="stack")
    elif kind == "multiscale":
        viewer.add_image([grey, grey[:, ::2, ::2]], multiscale=True, name="stack")
    else:
        viewer.add_image(frames[0], rgb=True, name="stack")
    assert widget.images.currentText() == "stack"
    start(qtbot, widget)
    wait_until_done(qtbot, widget)
    assert errors() == []
    (layer,) = poses_layers(viewer)
    poses = layer_to_poses(layer)
    assert len(poses) == (1 if kind == "one picture" else 3)
    nose = poses.keypoints.index("nose")
    truth = clip.truth.xy[: len(poses), 0, clip.truth.keypoints.index("nose")]
    np.testing.assert_allclose(poses.xy[:, 0, nose], truth, atol=12)
