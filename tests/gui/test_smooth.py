"""The question about smooth scrubbing: asked once, remembered, and what it switches on works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.settings import get_settings
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton

from napari_superanimal.plugin.session import show_poses
from napari_superanimal.plugin.settings import setting
from napari_superanimal.plugin.widgets.smooth import LONG
from napari_superanimal.poses import make_poses
from napari_superanimal.video import VideoWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from napari_superanimal.plugin.widgets.predict import PredictWidget

pytestmark = pytest.mark.gui

WIDGET = "Predict animal poses"


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each frame has a grey of its own, as far as 256 values go."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    with VideoWriter(path, 30.0, (64, 48)) as writer:
        for i in range(LONG):
            writer.write(np.full((48, 64, 3), i % 200 + 20, np.uint8))
    return path


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The plugin's settings in a file of this test alone."""
    from napari import settings

    monkeypatch.setattr(settings, "_CFG_PATH", str(tmp_path / "settings.yaml"))
    settings._clear_plugin_settings_cache()
    yield tmp_path / "napari-superanimal.yaml"
    settings._clear_plugin_settings_cache()


@pytest.fixture
def viewer(make_napari_viewer: Callable[..., Any], home: Path, own_settings: Path) -> Any:
    return make_napari_viewer(show=True)


def open_widget(viewer: Any) -> PredictWidget:
    _, widget = viewer.window.add_plugin_dock_widget("napari-superanimal", WIDGET)
    return widget


def add_poses(viewer: Any, count: int) -> Any:
    xy = np.random.default_rng(0).uniform(5, 40, (count, 1, 3, 2))
    return show_poses(viewer, make_poses(("nose", "left_ear", "tail_base"), xy), name="poses")


def press(qtbot: QtBot, widget: PredictWidget, name: str) -> None:
    qtbot.mouseClick(widget.findChild(QPushButton, name), Qt.MouseButton.LeftButton)


def test_no_is_remembered(viewer: Any, qtbot: QtBot, long_video: Path, own_settings: Path) -> None:
    widget = open_widget(viewer)
    widget.open_video(long_video)
    assert not widget.smooth.isVisible()
    add_poses(viewer, LONG)
    assert widget.smooth.isVisible()
    press(qtbot, widget, "smooth_no")
    assert not widget.smooth.isVisible()
    assert not get_settings().experimental.async_
    # neither for the next poses, nor in a new widget, nor when napari starts again
    add_poses(viewer, LONG)
    assert not widget.smooth.isVisible()
    assert "asked_smooth: true" in own_settings.read_text(encoding="utf-8")
    from napari import settings

    settings._clear_plugin_settings_cache()
    assert setting("display", "asked_smooth", None) is True
    viewer.window.remove_dock_widget(widget)
    assert not open_widget(viewer).smooth.isVisible()


def test_yes_loads_frames_in_the_background(
    viewer: Any, qtbot: QtBot, long_video: Path, own_settings: Path
) -> None:
    viewer.open(str(long_video), plugin="napari-superanimal")
    points = add_poses(viewer, LONG)
    widget = open_widget(viewer)
    qtbot.waitUntil(widget.smooth.isVisible, timeout=5000)
    press(qtbot, widget, "smooth_yes")
    assert get_settings().experimental.async_
    assert "Preferences" in widget.smooth.text.text()
    assert not widget.smooth.yes.isVisible()
    assert "asked_smooth: true" in own_settings.read_text(encoding="utf-8")

    points.visible = False
    for frame in (430, 17, 260):
        viewer.dims.set_current_step(0, frame)
        qtbot.waitUntil(lambda: all(layer.loaded for layer in viewer.layers), timeout=30_000)
        picture = viewer.screenshot(canvas_only=True, flash=False)
        height, width = picture.shape[:2]
        assert abs(int(picture[height // 2, width // 2, 0]) - (frame % 200 + 20)) <= 4


def test_short_videos_and_those_who_have_it_are_not_asked(
    viewer: Any, long_video: Path, tmp_path: Path
) -> None:
    with VideoWriter(tmp_path / "short.mp4", 30.0, (64, 48)) as writer:
        for _ in range(20):
            writer.write(np.zeros((48, 64, 3), np.uint8))
    widget = open_widget(viewer)
    widget.open_video(tmp_path / "short.mp4")
    add_poses(viewer, 20)
    assert not widget.smooth.isVisible()
    get_settings().experimental.async_ = True
    widget.open_video(long_video)
    add_poses(viewer, LONG)
    assert not widget.smooth.isVisible()
