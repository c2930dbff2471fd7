"""Two mice that touch: the risk of an exchange is a feature of their points, also after saving and reopening."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_superanimal.demo.render import Style, render_clip
from napari_superanimal.plugin.session import session_of
from napari_superanimal.poses import box_iou
from napari_superanimal.video import VideoWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.layers import Points
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.gui
#: The part of the clip in which the two come near, touch, and part.
FRAMES = range(140, 220)


@pytest.fixture(scope="module")
def meeting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A video, and the overlap (IoU) of the two animals' true boxes in its frames."""
    clip = render_clip(FRAMES.stop, (480, 360), 2, 21, Style(body_length=0.25))
    path = tmp_path_factory.mktemp("pair") / "pair.mp4"
    with VideoWriter(path, 30.0, clip.size) as writer:
        for frame in FRAMES:
            writer.write(clip.frames[frame])
    return path, np.array([box_iou(b[:1], b[1:])[0, 0] for b in clip.truth.boxes[FRAMES.start : FRAMES.stop]])


def risk_by_frame(layer: Points) -> np.ndarray:
    """Largest risk of a point in each frame."""
    risk = np.zeros(len(FRAMES))
    np.maximum.at(risk, layer.data[:, 0].astype(int), layer.features["swap_risk"].to_numpy(float))
    return risk


def test_the_risk_is_a_feature_and_stays_one(
    make_napari_viewer: Callable[..., Any],
    qtbot: QtBot,
    meeting: tuple[Path, np.ndarray],
    home: Path,
    tmp_path: Path,
) -> None:
    video, overlap = meeting
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-superanimal", "Predict animal poses")
    widget.models.choose("mouse-topview-mini")
    widget.open_video(video)
    widget.animals.setValue(2)
    qtbot.mouseClick(widget.run_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not widget.running, timeout=120_000)
    [layer] = [each for each in viewer.layers if session_of(each) is not None]
    risk = risk_by_frame(layer)
    assert set(layer.features["id"].unique()) == {"animal0", "animal1"}
    assert risk.max() >= 0.5
    assert overlap[risk >= 0.5].min() > 0.1
    # what somebody who looks for them does
    layer.selected_data = set(np.flatnonzero(layer.features["swap_risk"] >= 0.5).tolist())
    chosen = np.unique(layer.data[sorted(layer.selected_data), 0])
    np.testing.assert_array_equal(chosen, np.flatnonzero(risk >= 0.5))
    layer.face_color = "swap_risk"
    colors = layer.face_color
    assert not np.allclose(
        colors[np.argmax(layer.features["swap_risk"])], colors[np.argmin(layer.features["swap_risk"])]
    )
    layer.selected_data = set()

    viewer.layers.selection = {layer}
    saved = viewer.layers.save(str(tmp_path / "pair_saved.h5"), selected=True, plugin="napari-superanimal")
    assert str(tmp_path / "pair_saved.h5") in saved
    viewer.layers.clear()
    viewer.open(str(tmp_path / "pair_saved.h5"), plugin="napari-superanimal")
    [again] = [each for each in viewer.layers if session_of(each) is not None]
    np.testing.assert_allclose(risk_by_frame(again), risk, atol=1e-3)
