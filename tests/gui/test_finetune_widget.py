"""The Fine-tune widget in a real viewer: from corrected points to a model in the list."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QLineEdit, QSpinBox

from forms import click, errors
from napari_superanimal.models import zoo
from napari_superanimal.plugin import runs
from napari_superanimal.plugin.image_source import ArrayVideo
from napari_superanimal.plugin.layers import layer_to_poses
from napari_superanimal.plugin.live import LivePredictions
from napari_superanimal.plugin.session import session_of
from napari_superanimal.plugin.training_data import training_labels, write_training_set
from napari_superanimal.poses import make_poses
from napari_superanimal.poses.formats.registry import read
from napari_superanimal.training.modes import MODES
from napari_superanimal.video import open_video

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.layers import Points
    from pytestqt.qtbot import QtBot

    from napari_superanimal.demo.render import Clip
    from napari_superanimal.plugin.widgets.finetune import FinetuneWidget

pytestmark = pytest.mark.gui

#: Frames in which the tests correct points.
EDITED = (0, 20, 40, 60)
#: A training begins within seconds, or within minutes where other programs hold all cores.
BUSY_MS = 300_000


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any], model: str) -> Any:
    return make_napari_viewer(show=True)


@pytest.fixture
def widget(viewer: Any) -> FinetuneWidget:
    """The widget as the Plugins menu opens it."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-superanimal", "Fine-tune a model")
    return widget


def show_predictions(viewer: Any, clip_file: Path, clip: Clip, model: str) -> Points:
    """The video with predictions: the truth, shifted by 5 px, each point with a likelihood of 0.9."""
    image = viewer.add_image(open_video(clip_file), rgb=True, name="mouse", contrast_limits=(0, 255))
    truth = clip.truth.take(np.arange(0, 80))
    poses = make_poses(
        truth.keypoints,
        truth.xy + 5.0,
        frames=truth.frames,
        individuals=("animal0",),
        likelihood=np.full(truth.likelihood.shape, 0.9),
        skeleton=truth.skeleton,
        scorer=model,
    )
    live = LivePredictions(viewer, image, zoo.find_model(model).card, 0.5)
    assert live.show(poses)
    assert live.layer is not None
    return live.layer


def correct(layer: Points, clip: Clip, frames: tuple[int, ...], keypoint: str = "nose") -> None:
    """Move one keypoint of some frames to where it belongs, as a drag does."""
    k = clip.truth.keypoints.index(keypoint)
    for frame in frames:
        at = (layer.data[:, 0] == frame) & (layer.features["label"] == keypoint).to_numpy()
        (row,) = np.flatnonzero(at)
        data = layer.data.copy()
        data[row, 1:] = clip.truth.xy[frame, 0, k, ::-1]
        layer.data = data
        layer.events.data(value=data, action="changed", data_indices=(int(row),), vertex_indices=((),))


def label(widget: FinetuneWidget, name: str) -> str:
    return str(widget.findChild(QLabel, name).text())


def test_an_empty_viewer_says_what_to_do(widget: FinetuneWidget, qtbot: QtBot) -> None:
    assert "Nothing to learn from yet" in label(widget, "finetune_labels")
    notification_manager.records.clear()
    click(qtbot, widget, "finetune_start")
    assert len(errors()) == 1
    assert not widget.running
    assert not widget.training.unfinished_box.isVisible()


def test_labels_are_counted(
    viewer: Any, widget: FinetuneWidget, qtbot: QtBot, clip_file: Path, clip: Clip, model: str
) -> None:
    layer = show_predictions(viewer, clip_file, clip, model)
    assert "No point of this layer" in label(widget, "finetune_labels")
    assert widget.source.images.currentText() == "mouse"
    assert widget.models.card is not None
    assert widget.models.card.name == model
    correct(layer, clip, EDITED)
    each = int(clip.truth.found[0, 0].sum())
    qtbot.waitUntil(lambda: "4 labelled frames" in label(widget, "finetune_labels"), timeout=3000)
    assert f"{4 * each} points" in label(widget, "finetune_labels")
    box = widget.findChild(QCheckBox, "finetune_accept_untouched")
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(10, box.height() // 2))
    assert "4 points of 1 keypoints" in label(widget, "finetune_labels")


def test_fine_tune_from_corrections(
    viewer: Any, widget: FinetuneWidget, qtbot: QtBot, clip_file: Path, clip: Clip, model: str
) -> None:
    _, predict = viewer.window.add_plugin_dock_widget("napari-superanimal", "Predict animal poses")
    layer = show_predictions(viewer, clip_file, clip, model)
    correct(layer, clip, EDITED)
    widget.findChild(QSpinBox, "finetune_steps").setValue(6)
    assert widget.findChild(QComboBox, "finetune_length").currentText() == "Other"
    name = widget.findChild(QLineEdit, "finetune_name")
    name.clear()
    qtbot.keyClicks(name, "my-mouse")
    notification_manager.records.clear()
    click(qtbot, widget, "finetune_start")
    assert widget.running
    qtbot.waitUntil(lambda: not widget.running, timeout=BUSY_MS)

    assert errors() == []
    assert "is ready" in label(widget, "finetune_hint")
    assert len(widget.plot.curves["loss"].y) == 6
    assert len(widget.plot.curves["val_error_px"].y) >= 1
    # what it learned from is what the layer says
    labels = read(runs.runs_folder() / "my-mouse" / "data" / "labels.json")
    assert len(labels) == len(EDITED)
    k = clip.truth.keypoints.index("nose")
    np.testing.assert_allclose(
        labels.xy[:, 0, labels.keypoints.index("nose")], clip.truth.xy[list(EDITED), 0, k], atol=1e-3
    )
    # the model is in both lists, with its card, and works
    card = zoo.find_model("my-mouse").card
    assert card.parent == model
    assert card.recipe["mode"] == "replay", "the first choice"
    assert set(card.keypoints) >= {*labels.keypoints, *zoo.find_model(model).card.keypoints}
    assert card.recipe["replay"]["human"] == int(labels.found.sum())
    assert "px from your labels" in label(widget, "finetune_hint")
    qtbot.waitUntil(lambda: predict.models.combo.findData("my-mouse") >= 0, timeout=5000)
    predict.models.choose("my-mouse")
    assert "my-mouse" in predict.models.text.text()
    predict.images.choose(viewer.layers["mouse"])
    viewer.dims.set_current_step(0, 10)
    qtbot.mouseClick(predict.now_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not predict.running, timeout=BUSY_MS)
    assert errors() == []
    assert runs.unfinished_runs() == []
    # the same name again is refused
    widget.findChild(QLineEdit, "finetune_name").setText("my-mouse")
    click(qtbot, widget, "finetune_start")
    assert "exists already" in errors()[-1]


def test_the_form_says_what_will_be_forgotten(
    viewer: Any, widget: FinetuneWidget, qtbot: QtBot, clip_file: Path, clip: Clip, model: str, tmp_path: Path
) -> None:
    layer = show_predictions(viewer, clip_file, clip, model)
    correct(layer, clip, EDITED)
    mode = widget.findChild(QComboBox, "finetune_mode")
    box = widget.findChild(QCheckBox, "finetune_accept_untouched")
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(10, box.height() // 2))
    others = [k for k in zoo.find_model(model).card.keypoints if k != "nose"]
    mode.setCurrentIndex(mode.findData("replay"))
    assert f"Kept besides yours: {others[0].replace('_', ' ')}" in label(widget, "finetune_mode_text")
    mode.setCurrentIndex(mode.findData("naive"))
    assert f"Will be forgotten:</b> {others[0].replace('_', ' ')}" in label(widget, "finetune_mode_text")
    # a table may say that it is another keypoint
    table = tmp_path / "mine.csv"
    table.write_text(f"source,keypoint\nnose,{others[0]}\n", encoding="utf-8")
    widget.findChild(QLineEdit, "finetune_table").setText(str(table))
    assert "Will be forgotten:</b> nose" in label(widget, "finetune_mode_text")
    notification_manager.records.clear()
    widget.findChild(QLineEdit, "finetune_table").setText(str(tmp_path / "absent.csv"))
    click(qtbot, widget, "finetune_start")
    (message,) = errors()
    assert "absent.csv" in message
    assert not widget.running


def test_compare_all_ways(
    viewer: Any, widget: FinetuneWidget, qtbot: QtBot, clip_file: Path, clip: Clip, model: str
) -> None:
    layer = show_predictions(viewer, clip_file, clip, model)
    correct(layer, clip, EDITED)
    widget.findChild(QSpinBox, "finetune_steps").setValue(2)
    name = widget.findChild(QLineEdit, "finetune_name")
    name.setText("ways")
    before = {ref.card.name for ref in zoo.list_models()}
    notification_manager.records.clear()
    click(qtbot, widget, "finetune_compare")
    assert widget.running
    qtbot.waitUntil(lambda: not widget.running, timeout=BUSY_MS)
    assert errors() == []
    told = label(widget, "finetune_hint")
    assert "The ways compared" in told
    assert all(mode.title in told for mode in MODES.values())
    folder = runs.runs_folder() / "ways"
    assert (folder / "compare.json").is_file()
    assert (folder / "compare_learned.svg").is_file()
    assert not (folder / "ways").exists(), "the models of a comparison are not kept"
    assert {ref.card.name for ref in zoo.list_models()} == before
    assert runs.unfinished_runs() == []


def test_cancel_resume_discard(
    viewer: Any, widget: FinetuneWidget, qtbot: QtBot, clip_file: Path, clip: Clip, model: str
) -> None:
    layer = show_predictions(viewer, clip_file, clip, model)
    correct(layer, clip, EDITED)
    widget.findChild(QSpinBox, "finetune_steps").setValue(100_000)
    steps = widget.plot.curves["loss"].x
    click(qtbot, widget, "finetune_start")
    qtbot.waitUntil(lambda: len(steps) >= 2, timeout=BUSY_MS)
    click(qtbot, widget, "finetune_cancel")
    qtbot.waitUntil(lambda: not widget.running, timeout=BUSY_MS)
    assert "Resume" in label(widget, "finetune_hint")
    reached = steps[-1]
    assert widget.training.unfinished_box.isVisible()
    assert widget.findChild(QComboBox, "finetune_unfinished").count() == 1

    click(qtbot, widget, "finetune_resume")
    qtbot.waitUntil(lambda: len(steps) >= 1, timeout=BUSY_MS)
    assert steps[0] == pytest.approx(reached + 1, abs=1)
    # the process dies: the checkpoint is still there, and the user is told
    notification_manager.records.clear()
    assert widget.training.process is not None
    os.kill(widget.training.process.pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: not widget.running, timeout=BUSY_MS)
    (message,) = errors()
    assert "Training failed" in message
    assert "\n" not in message
    assert widget.training.resume_button.isVisible()

    click(qtbot, widget, "finetune_discard")
    assert not widget.training.unfinished_box.isVisible()
    assert runs.unfinished_runs() == []


def test_a_bad_data_set_is_one_line(widget: FinetuneWidget, qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}", encoding="utf-8")
    widget.source.from_disk.setChecked(True)
    for path in (tmp_path / "nothing-there", tmp_path / "notes.json"):
        widget.findChild(QLineEdit, "finetune_path").setText(str(path))
        notification_manager.records.clear()
        click(qtbot, widget, "finetune_start")
        (message,) = errors()
        assert path.name in message
        assert "\n" not in message
        assert not widget.running


def test_the_form_offers_the_modes_that_the_engine_has() -> None:
    from napari_superanimal.training import finetune, modes

    assert set(modes.MODES) == set(finetune.MODES)


def test_torch_can_be_imported_after_the_window() -> None:
    # Mesa's LLVM is in the process by then; see plugin/safe_import.py
    program = """
import napari, numpy, os
viewer = napari.Viewer()
viewer.add_image(numpy.zeros((8, 8)))
viewer.screenshot(flash=False)
from napari_superanimal.plugin.safe_import import import_torch
import_torch()
import timm
os._exit(7)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr


def test_labels_that_nobody_vouches_for_are_undefined(clip: Clip) -> None:
    truth = clip.truth.take([0, 1, 2])
    human = np.zeros(truth.found.shape, bool)
    human[1, 0, 0] = True
    sure = np.where(np.arange(len(truth.keypoints)) < 3, 0.9, 0.1)
    poses = make_poses(
        truth.keypoints,
        truth.xy,
        likelihood=np.broadcast_to(sure, truth.found.shape),
        human=human,
    )
    accepted = training_labels(poses, accept_untouched=True, threshold=0.5)
    assert len(accepted) == 1
    assert accepted.keypoints == truth.keypoints[:3]
    only = training_labels(poses, accept_untouched=False, threshold=0.5)
    assert only.keypoints == truth.keypoints[:1]


def test_training_set_on_disk_is_what_was_labelled(clip: Clip, tmp_path: Path) -> None:
    truth = clip.truth.take([3, 9])
    human = truth.found.copy()
    human[0, 0, :5] = False
    poses = make_poses(
        truth.keypoints, truth.xy, frames=[3, 9], human=human, likelihood=np.zeros(human.shape)
    )
    labels = training_labels(poses, accept_untouched=True, threshold=0.5)
    video = ArrayVideo(np.stack([clip.frames[i] for i in range(10)]), rgb=True, single=False)
    for _ in write_training_set(labels, video, tmp_path):
        pass
    back = read(tmp_path / "labels.json")
    assert back.keypoints == labels.keypoints
    np.testing.assert_allclose(back.xy, labels.xy, atol=1e-3)
    np.testing.assert_array_equal(back.visibility, labels.visibility)
    assert (back.visibility[0, 0, :5] == -1).all()
    frame = open_video(back.image_path(1)).frame(0)
    np.testing.assert_array_equal(frame, clip.frames[9])


def test_poses_of_the_layer_are_not_changed_by_training_labels(
    viewer: Any, widget: FinetuneWidget, clip_file: Path, clip: Clip, model: str
) -> None:
    layer = show_predictions(viewer, clip_file, clip, model)
    correct(layer, clip, EDITED)
    before = layer_to_poses(layer)
    widget.source.labels()
    after = layer_to_poses(layer)
    np.testing.assert_array_equal(before.xy, after.xy)
    np.testing.assert_array_equal(before.human, after.human)
    assert session_of(layer) is not None
