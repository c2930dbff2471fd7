"""From labels under another laboratory's names to predictions under them, all by clicking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QDockWidget, QLabel, QLineEdit, QRadioButton, QSpinBox

from forms import click, errors
from napari_superanimal.plugin.layers import layer_to_poses
from napari_superanimal.plugin.session import session_of
from napari_superanimal.plugin.widgets import predict as predict_form

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from napari_superanimal.demo.render import Clip

pytestmark = pytest.mark.gui

BUSY_MS = 300_000


def form(viewer: Any, name: str) -> Any:
    """A form that a click has opened."""
    (found,) = [
        w for w in viewer.window._qt_window.findChildren(QDockWidget) if w.widget().objectName() == name
    ]
    return found.widget()


def test_open_match_fine_tune_and_predict(
    make_napari_viewer: Callable[..., Any],
    model: str,
    qtbot: QtBot,
    dataset: Path,
    clip_file: Path,
    clip: Clip,
) -> None:
    notification_manager.records.clear()
    viewer = make_napari_viewer(show=True)
    _, learn = viewer.window.add_plugin_dock_widget("napari-superanimal", "Fine-tune a model")
    learn.models.choose(model)

    # open: names that say nothing to the model
    disk = learn.findChild(QRadioButton, "finetune_from_disk")
    assert not learn.match_button.isVisible()
    qtbot.mouseClick(disk, Qt.MouseButton.LeftButton)
    learn.findChild(QLineEdit, "finetune_path").setText(str(dataset))
    matches = learn.findChild(QLabel, "finetune_matches")
    assert "New to the model" in matches.text()
    assert "p1, p2, p3, p4, p5" in matches.text()
    assert "match them" in matches.text()

    # match: the form opens filled in, and its table comes back
    click(qtbot, learn, "finetune_match")
    match = form(viewer, "superanimal_match")
    assert match.path.text() == str(dataset)
    assert match.models.card.name == model
    click(qtbot, match, "match_start")
    qtbot.waitUntil(lambda: not match.running, timeout=BUSY_MS)
    click(qtbot, match, "match_save")
    assert learn.table.table() == str(dataset.with_name("lab.superanimal_topviewmouse.table.csv"))
    assert "p1 is nose, p2 is left ear, p3 is right ear, p4 is tail base" in matches.text()
    assert "New to the model:</b> p5" in matches.text()

    # fine-tune with replay
    assert learn.findChild(QComboBox, "finetune_mode").currentData() == "replay"
    learn.findChild(QSpinBox, "finetune_steps").setValue(6)
    name = learn.findChild(QLineEdit, "finetune_name")
    name.clear()
    qtbot.keyClicks(name, "both-labs")
    click(qtbot, learn, "finetune_start")
    qtbot.waitUntil(lambda: not learn.running, timeout=BUSY_MS)
    assert errors() == []
    outcome = learn.findChild(QLabel, "finetune_hint").text()
    assert "is ready" in outcome
    assert "others" in outcome or "other keypoints" in outcome

    # predict with the result: the model's keypoints, and the one that it has learned
    _, predict = viewer.window.add_plugin_dock_widget("napari-superanimal", "Predict animal poses")
    predict.models.choose("both-labs")
    predict.open_video(clip_file)
    predict.findChild(QComboBox, "predict_frames").setCurrentText(predict_form.RANGE)
    predict.findChild(QSpinBox, "predict_stop").setValue(10)
    click(qtbot, predict, "predict_run")
    qtbot.waitUntil(lambda: not predict.running, timeout=BUSY_MS)
    assert errors() == []
    (layer,) = [y for y in viewer.layers if session_of(y) is not None]
    poses = layer_to_poses(layer)
    assert {"nose", "left_ear", "tail_base", "p5"} <= set(poses.keypoints)
    nose = poses.xy[:, 0, poses.keypoints.index("nose")]
    truth = clip.truth.xy[poses.frames, 0, clip.truth.keypoints.index("nose")]
    assert np.nanmedian(np.linalg.norm(nose - truth, axis=-1)) < 8
