"""The Check and Clean up panels in a real viewer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtWidgets import QComboBox, QLabel, QListWidget, QTableWidget

from forms import click
from napari_superanimal.plugin.conventions import OURS
from napari_superanimal.plugin.layers import layer_to_poses
from napari_superanimal.plugin.live import store_of
from napari_superanimal.plugin.session import session_of, show_poses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from napari_superanimal.demo.render import Clip

pytestmark = pytest.mark.gui

#: Other programs may hold all cores.
BUSY_MS = 300_000


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any], home: Path) -> Any:
    return make_napari_viewer(show=True)


def test_check_then_predict(viewer: Any, qtbot: QtBot, clip_file: Path, model: str) -> None:
    """Open a video, check it, and go on to Predict with the model that the check put first."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-superanimal", "Check a video")
    assert not widget.run_button.isEnabled()
    assert "Open a video" in widget.hint.text()
    viewer.open(str(clip_file), plugin="napari-superanimal")
    click(qtbot, widget, "check_run")
    assert widget.running
    qtbot.waitUntil(lambda: not widget.running, timeout=BUSY_MS)

    table = widget.findChild(QTableWidget, "check_models")
    assert table.rowCount() >= 1
    assert table.item(0, 0).text() == model
    assert table.item(0, 1).text().endswith("%")
    text = widget.findChild(QLabel, "check_findings").text()
    assert "expected to be right" in text
    assert "→" in text
    assert len(viewer.layers) == 1  # nothing is changed
    if table.rowCount() > 1:
        table.selectRow(1)
        assert widget.chosen.model == table.item(1, 0).text()
        assert widget.findChild(QLabel, "check_findings").text() != text
        table.selectRow(0)
    click(qtbot, widget, "check_next")
    docks = viewer.window.dock_widgets
    predict = next(docks[name] for name in docks if docks[name].objectName() == "superanimal_predict")
    assert predict.findChild(QComboBox, "predict_model").currentData() == model


def test_check_can_be_cancelled(viewer: Any, qtbot: QtBot, clip_file: Path, model: str) -> None:
    _, widget = viewer.window.add_plugin_dock_widget("napari-superanimal", "Check a video")
    viewer.open(str(clip_file), plugin="napari-superanimal")
    click(qtbot, widget, "check_run")
    click(qtbot, widget, "check_cancel")
    qtbot.waitUntil(lambda: not widget.running, timeout=BUSY_MS)
    assert widget.report is None
    assert "Stopped" in widget.hint.text()
    assert widget.run_button.isEnabled()


def test_find_mend_smooth_undo(viewer: Any, qtbot: QtBot, clip: Clip) -> None:
    """Swapped ears are listed, shown, mended in a new layer; undo brings the layer before back."""
    truth = clip.truth.take(np.arange(120))
    ears = [truth.keypoints.index("left_ear"), truth.keypoints.index("right_ear")]
    rows = np.arange(60, 66)
    xy = truth.xy.copy()
    xy[rows[:, None], 0, [ears]] = xy[rows[:, None], 0, [ears[::-1]]]
    spoilt = replace(truth, xy=xy, scorer="machine")
    layer = show_poses(viewer, spoilt, name="poses", space="superanimal_topviewmouse", kind="predictions")
    # a person's point in the midst of it
    session_of(layer).place(90, [("nose", spoilt.individuals[0], 12.0, 34.0)])
    _, widget = viewer.window.add_plugin_dock_widget("napari-superanimal", "Clean up and smooth")
    click(qtbot, widget, "clean_find")
    qtbot.waitUntil(lambda: not widget.running, timeout=BUSY_MS)
    listed = widget.findChild(QListWidget, "clean_findings")
    texts = [listed.item(i).text() for i in range(listed.count())]
    assert any("left_ear ↔ right_ear" in text and "60 to 65" in text for text in texts), texts
    listed.setCurrentRow(next(i for i, text in enumerate(texts) if "left_ear" in text))
    assert viewer.dims.current_step[0] == 63

    before = layer_to_poses(layer)
    click(qtbot, widget, "clean_apply")
    qtbot.waitUntil(lambda: not widget.running and len(widget._made) == 1, timeout=BUSY_MS)
    cleaned = widget.layers.layer
    assert cleaned.name == "poses cleaned"
    assert not layer.visible
    np.testing.assert_array_equal(layer_to_poses(layer).xy, before.xy)
    mended = layer_to_poses(cleaned)
    np.testing.assert_allclose(mended.xy[rows][:, 0, ears], truth.xy[rows][:, 0, ears])
    np.testing.assert_array_equal(mended.xy[90, 0, truth.keypoints.index("nose")], (34.0, 12.0))

    click(qtbot, widget, "clean_smooth")
    qtbot.waitUntil(lambda: not widget.running and len(widget._made) == 2, timeout=BUSY_MS)
    smoothed = widget.layers.layer
    assert smoothed.metadata[OURS]["smoothing"]["method"] == "kalman"
    assert store_of(smoothed).info["made_from"] == "poses cleaned"
    np.testing.assert_array_equal(
        layer_to_poses(smoothed).xy[90, 0, truth.keypoints.index("nose")], (34.0, 12.0)
    )
    widget.before.setChecked(True)
    assert cleaned.visible
    assert not smoothed.visible
    widget.before.setChecked(False)
    click(qtbot, widget, "clean_undo")
    assert smoothed not in viewer.layers
    assert cleaned.visible
    click(qtbot, widget, "clean_undo")
    assert cleaned not in viewer.layers
    assert layer.visible
    assert layer in viewer.layers
