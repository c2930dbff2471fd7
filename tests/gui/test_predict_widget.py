"""The Predict widget in a real viewer, with real clicks, a real video and a real model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from PIL import Image
from qtpy.QtWidgets import QComboBox, QLabel, QProgressBar, QSpinBox

from forms import click, errors
from napari_superanimal.plugin.layers import layer_to_poses
from napari_superanimal.plugin.session import session_of
from napari_superanimal.plugin.widgets import predict as module

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.layers import Points
    from pytestqt.qtbot import QtBot

    from napari_superanimal.demo.render import Clip
    from napari_superanimal.plugin.widgets.predict import PredictWidget

pytestmark = pytest.mark.gui


@pytest.fixture
def widget(make_napari_viewer: Callable[..., Any], model: str) -> PredictWidget:
    """The widget as the Plugins menu opens it."""
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-superanimal", "Predict animal poses")
    widget.models.choose(model)
    return widget


def wait_until_done(qtbot: QtBot, widget: PredictWidget) -> None:
    qtbot.waitUntil(lambda: not widget.running, timeout=60_000)


def points_layer(widget: PredictWidget) -> Points:
    found = [layer for layer in widget.viewer.layers if session_of(layer) is not None]
    assert len(found) == 1
    return found[0]


def newest(widget: PredictWidget) -> Points:
    """The predictions of the last run."""
    return [layer for layer in widget.viewer.layers if session_of(layer) is not None][-1]


def test_an_empty_viewer_says_what_to_do(widget: PredictWidget, model: str) -> None:
    assert not widget.run_button.isEnabled()
    assert "Open a video" in widget.hint.text()
    card = widget.findChild(QLabel, "predict_card").text()
    for part in ("Finds", "keypoints", "Trained on", "Licence", "Do not use for"):
        assert part in card
    assert widget.findChild(QComboBox, "predict_model").currentData() == model
    assert widget.threshold.value() == pytest.approx(widget.models.card.threshold, abs=0.006)


def test_predict_a_video(widget: PredictWidget, qtbot: QtBot, clip_file: Path, clip: Clip) -> None:
    widget.open_video(clip_file)
    assert "Predict" in widget.hint.text()
    widget.findChild(QComboBox, "predict_frames").setCurrentText(module.RANGE)
    widget.findChild(QSpinBox, "predict_start").setValue(4)
    widget.findChild(QSpinBox, "predict_stop").setValue(44)
    widget.findChild(QSpinBox, "predict_step").setValue(2)
    click(qtbot, widget, "predict_run")
    assert widget.running
    assert not widget.run_button.isEnabled()
    wait_until_done(qtbot, widget)

    poses = layer_to_poses(points_layer(widget))
    np.testing.assert_array_equal(poses.frames, np.arange(4, 44, 2))
    assert poses.found.any((1, 2)).all()
    assert not poses.human.any()
    assert "20 frames" in widget.hint.text()
    assert "Next:" in widget.hint.text()
    assert widget.run_button.isEnabled()
    assert widget.learn_button.isVisible()


def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of frames that the real detector is shown from now on, one per look."""
    from napari_superanimal.inference.predictor import Predictor

    counts: list[int] = []
    detect = Predictor.detect

    def counting(self: Predictor, frames: Any) -> Any:
        counts.append(len(frames))
        return detect(self, frames)

    monkeypatch.setattr(Predictor, "detect", counting)
    return counts


def test_the_detector_may_look_at_few_frames(widget: PredictWidget, qtbot: QtBot, clip_file: Path) -> None:
    widget.open_video(clip_file)
    widget.findChild(QComboBox, "predict_frames").setCurrentText(module.RANGE)
    widget.findChild(QSpinBox, "predict_stop").setValue(50)
    looks = widget.findChild(QComboBox, "predict_looks")
    number = widget.findChild(QSpinBox, "predict_every")
    found = {}
    for title in module.LOOKS:
        looks.setCurrentText(title)
        assert number.isVisible() == (title == "in every n-th frame")
        number.setValue(5)
        with pytest.MonkeyPatch.context() as patch:
            counts = looked_at(patch)
            click(qtbot, widget, "predict_run")
            wait_until_done(qtbot, widget)
        poses = layer_to_poses(newest(widget))
        assert poses.found.any((1, 2)).all(), title
        found[title] = (sum(counts), poses)
    every, automatic, fifth = found.values()
    assert every[0] == 50
    # at least every eighth and every fifth frame, and clearly not all: the mouse walks calmly
    assert 50 / 8 < automatic[0] < 35
    assert 50 / 5 < fifth[0] < 35
    for _, poses in (automatic, fifth):
        # boxes that are not the detector's are slightly other crops
        assert np.median(np.linalg.norm(poses.xy - every[1].xy, axis=-1)[every[1].found]) < 2


def test_without_a_detector_there_is_nothing_to_look_less_often(widget: PredictWidget) -> None:
    widget.findChild(QComboBox, "predict_looks").setCurrentText("automatic (faster)")
    detector = widget.findChild(QComboBox, "predict_detector")
    detector.setCurrentIndex(detector.findData("whole-frame"))
    assert not widget.findChild(QComboBox, "predict_looks").isEnabled()
    detector.setCurrentIndex(detector.findData("model"))
    assert widget.findChild(QComboBox, "predict_looks").isEnabled()


def test_points_appear_while_it_runs_and_cancel_keeps_them(
    widget: PredictWidget, qtbot: QtBot, clip_file: Path, clip: Clip, every_chunk: None
) -> None:
    widget.open_video(clip_file)
    click(qtbot, widget, "predict_run")
    qtbot.waitUntil(lambda: len(widget.viewer.layers) > 1, timeout=60_000)
    assert widget.running
    bar = widget.findChild(QProgressBar, "predict_progress")
    assert 0 < bar.value() < len(clip.frames)
    click(qtbot, widget, "predict_cancel")
    wait_until_done(qtbot, widget)

    done = len(layer_to_poses(points_layer(widget)))
    assert 0 < done < len(clip.frames)
    assert f"kept {done} frames" in widget.hint.text()


def test_an_edit_during_the_run_stays(
    widget: PredictWidget, qtbot: QtBot, clip_file: Path, clip: Clip, every_chunk: None
) -> None:
    widget.open_video(clip_file)
    click(qtbot, widget, "predict_run")
    qtbot.waitUntil(lambda: len(widget.viewer.layers) > 1, timeout=60_000)
    layer = points_layer(widget)
    moved = layer.data.copy()
    moved[0, 1:] = (11.5, 22.5)
    name = str(layer.features["label"].iloc[0])
    layer.data = moved
    layer.events.data(value=layer.data, action="changed", data_indices=(0,), vertex_indices=((),))
    assert widget.running
    wait_until_done(qtbot, widget)

    poses = layer_to_poses(points_layer(widget))
    assert len(poses) == len(clip.frames)
    k = poses.keypoints.index(name)
    row = int(np.flatnonzero(poses.frames == int(moved[0, 0]))[0])
    assert poses.human[row, 0, k]
    np.testing.assert_allclose(poses.xy[row, 0, k], (22.5, 11.5))
    assert poses.human.sum() == 1


def test_current_frame_goes_into_the_same_layer(widget: PredictWidget, qtbot: QtBot, clip_file: Path) -> None:
    widget.open_video(clip_file)
    for frame in (7, 31):
        widget.viewer.dims.set_current_step(0, frame)
        click(qtbot, widget, "predict_now")
        wait_until_done(qtbot, widget)
    np.testing.assert_array_equal(layer_to_poses(points_layer(widget)).frames, [7, 31])


def test_threshold_restyles_the_points(widget: PredictWidget, qtbot: QtBot, clip_file: Path) -> None:
    widget.open_video(clip_file)
    click(qtbot, widget, "predict_now")
    wait_until_done(qtbot, widget)
    layer = points_layer(widget)
    widget.threshold.setValue(0.0)
    qtbot.waitUntil(lambda: bool((layer.face_color[:, 3] == 1).all()), timeout=3000)
    widget.threshold.setValue(1.0)
    qtbot.waitUntil(lambda: bool((layer.face_color[:, 3] == 0).all()), timeout=3000)


def test_points_lie_on_a_scaled_gray_image(widget: PredictWidget, qtbot: QtBot, clip: Clip) -> None:
    gray = np.stack([f.mean(-1) for f in clip.frames[:3]]) * 10.0
    widget.viewer.add_image(gray, scale=(1, 0.5, 0.5), translate=(0, 100, 50), name="gray")
    assert widget.images.currentText() == "gray"
    click(qtbot, widget, "predict_run")
    wait_until_done(qtbot, widget)
    layer = points_layer(widget)
    np.testing.assert_allclose(layer.scale, (1, 0.5, 0.5))
    np.testing.assert_allclose(layer.translate, (0, 100, 50))
    assert len(layer_to_poses(layer)) == 3


def test_a_folder_of_images_of_different_sizes(
    widget: PredictWidget, qtbot: QtBot, clip: Clip, tmp_path: Path
) -> None:
    # the same mouse, whole, cut out and enlarged
    whole = Image.fromarray(clip.frames[5])
    nose = clip.truth.xy[5, 0, clip.truth.keypoints.index("nose")]
    left, top = (int(v) for v in np.clip(clip.truth.boxes[5, 0, :2] - 30, 0, None))
    folder = tmp_path / "photos"
    folder.mkdir()
    whole.save(folder / "1.png")
    whole.crop((left, top, 320, 240)).save(folder / "2.png")
    whole.resize((640, 480)).save(folder / "3.png")
    notification_manager.records.clear()
    widget.open_video(folder)
    assert errors() == []
    assert widget.viewer.layers["photos"].data.shape == (3, 480, 640, 3)
    click(qtbot, widget, "predict_run")
    wait_until_done(qtbot, widget)
    assert errors() == []
    poses = layer_to_poses(points_layer(widget))
    found = poses.xy[:, 0, poses.keypoints.index("nose")]
    np.testing.assert_allclose(found, [nose, nose - (left, top), 2 * nose + 0.5], atol=12)


def test_removing_the_layer_stops_the_run(
    widget: PredictWidget, qtbot: QtBot, clip_file: Path, every_chunk: None
) -> None:
    widget.open_video(clip_file)
    click(qtbot, widget, "predict_run")
    qtbot.waitUntil(lambda: len(widget.viewer.layers) > 1, timeout=60_000)
    widget.viewer.layers.remove(points_layer(widget))
    wait_until_done(qtbot, widget)
    assert [layer for layer in widget.viewer.layers if session_of(layer) is not None] == []


def test_closing_the_dock_stops_the_run(widget: PredictWidget, qtbot: QtBot, clip_file: Path) -> None:
    widget.open_video(clip_file)
    click(qtbot, widget, "predict_run")
    token = widget._token
    assert token is not None
    widget.viewer.window.remove_dock_widget(widget)
    assert token.cancelled
    wait_until_done(qtbot, widget)


def test_damaged_weights_are_one_line(
    widget: PredictWidget, qtbot: QtBot, clip_file: Path, model: str
) -> None:
    from napari_superanimal.models import zoo

    broken = zoo.models_home() / "broken"
    source = zoo.find_model(model).folder
    broken.mkdir(parents=True)
    card = (
        (source / "card.json")
        .read_text(encoding="utf-8")
        .replace(f'"name": "{model}"', '"name": "broken"', 1)
    )
    (broken / "card.json").write_text(card, encoding="utf-8")
    (broken / "pose.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    qtbot.waitUntil(lambda: widget.models.combo.findData("broken") >= 0, timeout=5000)
    widget.models.choose("broken")
    widget.open_video(clip_file)
    notification_manager.records.clear()
    click(qtbot, widget, "predict_run")
    wait_until_done(qtbot, widget)
    (message,) = errors()
    assert "pose.safetensors" in message
    assert "\n" not in message
    assert widget.run_button.isEnabled()


def test_engine_failure_is_told(
    widget: PredictWidget, qtbot: QtBot, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    # torch raises RuntimeError, which the thread pool keeps to itself unless it is handed over
    class Breaking(np.ndarray):
        def __getitem__(self, index: Any) -> Any:
            if widget.running and np.isscalar(index) and index > 1:
                raise RuntimeError("the disk went away")
            return super().__getitem__(index)

    widget.viewer.add_image(np.stack(list(clip.frames[:40])).view(Breaking), rgb=True)
    notification_manager.records.clear()
    click(qtbot, widget, "predict_run")
    wait_until_done(qtbot, widget)
    (message,) = errors()
    assert "the disk went away" in message
    assert "\n" not in message


def test_a_truncated_video_is_one_line(widget: PredictWidget, clip_file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(clip_file.read_bytes()[:2000])
    notification_manager.records.clear()
    widget.open_video(bad)
    (message,) = errors()
    assert "bad.mp4" in message
    assert "\n" not in message
    assert not widget.run_button.isEnabled()


def test_full_card_opens(widget: PredictWidget, qtbot: QtBot, model: str) -> None:
    click(qtbot, widget, "predict_full_card")
    dialog = widget.findChild(type(widget), "none") or next(
        w for w in widget.models.children() if w.objectName() == "card_dialog"
    )
    assert model in dialog.text.toPlainText()
    dialog.close()
