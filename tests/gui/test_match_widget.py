"""The Match widget in a real viewer: propose, look at a pair, change and reject by clicking, save."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QLabel, QLineEdit, QSpinBox

from forms import click, errors
from napari_superanimal.jobs.merge import merge_files, parse_input
from napari_superanimal.keypoints import read_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from napari_superanimal.plugin.widgets.match import MatchWidget

pytestmark = pytest.mark.gui

#: Long, because other programs may hold all cores.
BUSY_MS = 300_000


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any], model: str) -> Any:
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1300, 800)
    QApplication.processEvents()
    return viewer


@pytest.fixture
def widget(viewer: Any, model: str) -> MatchWidget:
    """The widget as the Plugins menu opens it."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-superanimal", "Match keypoints")
    widget.models.choose(model)
    return widget


def click_canvas(viewer: Any, y: float, x: float, shift: bool = False) -> None:
    """A real click on a position of the data."""
    QApplication.processEvents()
    canvas = viewer.window._qt_viewer.canvas
    at = canvas.view.scene.transform.map([x, y, 0, 1])
    spot = QPoint(round(float(at[0])), round(float(at[1])))
    QTest.mouseMove(canvas.native, spot)
    QApplication.processEvents()
    keys = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
    QTest.mousePress(canvas.native, Qt.MouseButton.LeftButton, keys, spot)
    QTest.mouseRelease(canvas.native, Qt.MouseButton.LeftButton, keys, spot)
    QApplication.processEvents()


def on_this_frame(viewer: Any, layer: str, keypoint: str) -> np.ndarray:
    points = viewer.layers[layer]
    here = (points.data[:, 0] == viewer.dims.current_step[0]) & (points.features["keypoint"] == keypoint)
    return points.data[np.flatnonzero(here)[0], 1:]


def test_from_pictures_to_a_saved_table(
    viewer: Any, widget: MatchWidget, qtbot: QtBot, dataset: Path, hidden_names: dict[str, str]
) -> None:
    notification_manager.records.clear()
    widget.findChild(QLineEdit, "match_path").setText(str(dataset))
    assert not widget.save_button.isEnabled()
    click(qtbot, widget, "match_start")
    assert widget.running
    qtbot.waitUntil(lambda: not widget.running, timeout=BUSY_MS)
    assert errors() == []
    expected = {hidden: name for name, hidden in hidden_names.items()} | {"p5": ""}
    assert widget.choices == expected, "a tip of the tail that the model does not know has no match"
    assert "4 of 5 keypoints matched" in widget.findChild(QLabel, "match_hint").text()
    assert {"matched images", "pairs", "what the model sees", "your labels"} <= {
        y.name for y in viewer.layers
    }
    assert len(viewer.layers["pairs"].data) == 4 * 8

    # a click on a label chooses its row, and shows that pair alone
    viewer.dims.set_current_step(0, 2)
    click_canvas(viewer, *on_this_frame(viewer, "your labels", "p4"))
    assert widget.looked_at == "p4"
    assert viewer.dims.current_step[0] == 2
    assert len(viewer.layers["pairs"].data) == 8
    # another label on the way: a plain click means the label, with Shift the ring under it
    nose = on_this_frame(viewer, "what the model sees", "nose")
    click_canvas(viewer, *nose)
    assert widget.looked_at == "p1"
    assert widget.choices == expected
    widget.table.selectRow(3)
    viewer.dims.set_current_step(0, 2)
    click_canvas(viewer, *nose, shift=True)
    assert widget.choices["p4"] == "nose"
    assert widget.choices["p1"] == ""
    # back, by the list in the row
    box = widget.table.cellWidget(3, 1)
    assert isinstance(box, QComboBox)
    box.setFocus()
    box.setCurrentIndex(box.findData("tail_base"))
    box.activated.emit(box.currentIndex())
    widget.table.selectRow(0)
    click(qtbot, widget, "match_accept")
    assert widget.choices == expected
    # reject and save
    widget.table.selectRow(1)
    click(qtbot, widget, "match_reject")
    assert widget.choices["p2"] == ""
    with qtbot.waitSignal(widget.saved, timeout=5000) as signal:
        click(qtbot, widget, "match_save")
    (path,) = signal.args
    assert path == str(dataset.with_name("lab.superanimal_topviewmouse.table.csv"))
    assert dict(read_table(dataset.with_name(path.rpartition("/")[2])).rows) == {
        "p1": "nose",
        "p3": "right_ear",
        "p4": "tail_base",
    }
    assert errors() == []

    # merging finds the table with the data set
    report, _ = merge_files([parse_input(str(dataset))], None, "superanimal_topviewmouse")
    assert report.labelled["nose"] == 8
    assert set(report.sources[0].unmapped) == {"p2", "p5"}


def test_cancel_and_bad_input_are_one_line(widget: MatchWidget, qtbot: QtBot, dataset: Path) -> None:
    notification_manager.records.clear()
    click(qtbot, widget, "match_start")
    widget.path.setText(str(dataset.with_name("nothing.json")))
    click(qtbot, widget, "match_start")
    assert len(errors()) == 2
    assert not widget.running
    broken = dataset.with_name("broken.json")
    broken.write_text('{"images": [', encoding="utf-8")
    widget.path.setText(str(broken))
    click(qtbot, widget, "match_start")
    qtbot.waitUntil(lambda: not widget.running, timeout=BUSY_MS)
    message = errors()[-1]
    assert "broken.json" in message
    assert "\n" not in message

    widget.path.setText(str(dataset))
    widget.findChild(QSpinBox, "match_images").setValue(8)
    click(qtbot, widget, "match_start")
    click(qtbot, widget, "match_cancel")
    qtbot.waitUntil(lambda: not widget.running, timeout=BUSY_MS)
    assert "Stopped" in widget.findChild(QLabel, "match_hint").text()
    assert widget.matching is None
    assert not widget.save_button.isEnabled()
