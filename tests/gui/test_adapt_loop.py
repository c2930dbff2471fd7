"""Check, predict, adapt, compare, revert: the whole loop in a real viewer, with real clicks and a real model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QSlider

from forms import click
from napari_superanimal.models import zoo
from napari_superanimal.plugin import adaptations
from napari_superanimal.plugin.live import layers_of
from napari_superanimal.plugin.session import session_of
from napari_superanimal.plugin.widgets import adapt as module
from napari_superanimal.plugin.widgets.adapt_outcome import FIGURES, MEANING
from napari_superanimal.video import VideoWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Points
    from pytestqt.qtbot import QtBot

    from napari_superanimal.demo.render import Clip

pytestmark = pytest.mark.gui

FRAMES = 130
STEPS = 4
#: The process that adapts makes way for others: on a busy machine it takes its time.
SLOW_MS = 600_000


@pytest.fixture
def short_clip(clip: Clip, tmp_path: Path) -> Path:
    """The first frames of the rendered clip as a video."""
    path = tmp_path / "short.mp4"
    with VideoWriter(path, 30.0, clip.size) as writer:
        for i in range(FRAMES):
            writer.write(clip.frames[i])
    return path


@pytest.fixture
def viewer(
    make_napari_viewer: Callable[..., Any], model: str, short_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A viewer with the clip; a quick try is very quick."""
    monkeypatch.setitem(module.LENGTHS, "Quick try", (STEPS, 72))
    viewer = make_napari_viewer(show=True)
    viewer.open(str(short_clip), plugin="napari-superanimal")
    return viewer


def dock(viewer: Any, title: str) -> Any:
    return viewer.window.add_plugin_dock_widget("napari-superanimal", title, tabify=True)[1]


def adapt(viewer: Any, qtbot: QtBot, model: str) -> Any:
    """The Adapt widget after a quick run."""
    widget = dock(viewer, "Adapt to a video")
    widget.models.choose(model)
    widget.length.setCurrentIndex(widget.length.findData("Quick try"))
    click(qtbot, widget, "adapt_start")
    assert widget.running
    qtbot.waitUntil(lambda: not widget.running, timeout=SLOW_MS)
    return widget


def poses_of(layer: Points) -> np.ndarray:
    session = session_of(layer)
    assert session is not None
    return session.store.poses.xy.copy()


def test_check_predict_adapt_compare_revert(viewer: Any, qtbot: QtBot, model: str) -> None:
    check = dock(viewer, "Check a video")
    check.run(models=(model,))
    qtbot.waitUntil(lambda: not check.running, timeout=SLOW_MS)
    assert check.report.best.model == model
    click(qtbot, check, "check_next")

    predict = dock(viewer, "Predict animal poses")
    assert predict.models.card.name == model
    click(qtbot, predict, "predict_run")
    qtbot.waitUntil(lambda: not predict.running, timeout=SLOW_MS)
    zero_shot = next(layer for layer in viewer.layers if session_of(layer) is not None)
    untouched = poses_of(zero_shot)
    assert len(untouched) == FRAMES

    widget = adapt(viewer, qtbot, model)
    found = widget.finished
    assert found is not None, widget.hint.text()
    proof = json.loads((found.request.out / "proof.json").read_text(encoding="utf-8"))
    assert proof["settings"]["steps"] == STEPS
    assert {"zero-shot", "adapted", "median", "kalman"} <= proof["proofs"][0]["arms"].keys()
    assert all(reason.split(":")[0] in widget.verdict.text() for reason in proof["reasons"])
    assert "Kalman smoother" in widget.table.text()
    assert all(meaning in widget.table.toolTip() for meaning in MEANING.values())
    assert MEANING.keys() == FIGURES.keys()
    assert len(widget.plot.rows) >= 3
    assert widget.plot.sizeHint().height() > 50

    # before and after are layers of their own, on the held-out frames; the zero-shot is as it was
    before, after = widget.compare.layers
    assert zero_shot in viewer.layers
    np.testing.assert_array_equal(poses_of(zero_shot), untouched)
    held = session_of(before).store.poses.frames
    assert 0 < len(held) < FRAMES
    assert viewer.dims.current_step[0] in held
    rows = [0, len(held) // 2]
    np.testing.assert_allclose(poses_of(before)[rows], untouched[held[rows]], atol=0.6)
    assert np.nanmax(np.abs(poses_of(before) - poses_of(after))) > 0

    slider = widget.findChild(QSlider, "adapt_compare")
    for value, opacities in ((0, (1.0, 0.0)), (50, (1.0, 1.0)), (100, (0.0, 1.0))):
        slider.setValue(value)
        for points, opacity in zip((before, after), opacities, strict=True):
            assert points.opacity == pytest.approx(opacity)
            assert points.visible == (opacity > 0)
            assert len(layers_of(viewer, points)) >= 2
    first = viewer.dims.current_step[0]
    click(qtbot, widget, "adapt_next")
    assert viewer.dims.current_step[0] == held[list(held).index(first) + 1]
    click(qtbot, widget, "adapt_previous")
    assert viewer.dims.current_step[0] == first

    # whatever the proof decided: keep it by hand, then revert it by hand
    if not found.kept:
        assert "reverted" in widget.verdict.text()
        click(qtbot, widget, "adapt_keep")
    assert found.request.name in {ref.card.name for ref in zoo.list_models()}
    card = zoo.find_model(found.request.name).card
    assert card.parent == model
    assert card.recipe["mode"] == "adapt"
    click(qtbot, widget, "adapt_revert")
    assert "Reverted by you" in widget.verdict.text()
    assert found.request.name not in {ref.card.name for ref in zoo.list_models()}
    assert not widget.revert_button.isEnabled()
    assert slider.value() == 0
    assert (found.request.out / "REVERTED.txt").is_file()
    np.testing.assert_array_equal(poses_of(zero_shot), untouched)


def test_a_stopped_adaptation_goes_on(
    viewer: Any, qtbot: QtBot, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.LENGTHS, "Quick try", (4000, 24))
    widget = dock(viewer, "Adapt to a video")
    widget.models.choose(model)
    widget.length.setCurrentIndex(widget.length.findData("Quick try"))
    click(qtbot, widget, "adapt_start")
    qtbot.waitUntil(lambda: "frames" in widget.training.bar.text.text(), timeout=SLOW_MS)
    click(qtbot, widget, "adapt_cancel")
    qtbot.waitUntil(lambda: not widget.running, timeout=SLOW_MS)
    assert "Resume" in widget.hint.text()
    (request,) = adaptations.unfinished()
    assert request.model == model
    assert widget.training.unfinished_box.isVisible()
    click(qtbot, widget, "adapt_resume")
    assert widget.running
    qtbot.waitUntil(lambda: "frames" in widget.training.bar.text.text(), timeout=SLOW_MS)
    click(qtbot, widget, "adapt_cancel")
    qtbot.waitUntil(lambda: not widget.running, timeout=SLOW_MS)
    click(qtbot, widget, "adapt_discard")
    assert not adaptations.unfinished()
    assert not Path(request.folder).exists()


def test_what_is_no_file_cannot_be_adapted_to(
    make_napari_viewer: Callable[..., Any], clip: Clip, model: str
) -> None:
    viewer = make_napari_viewer(show=True)
    widget = dock(viewer, "Adapt to a video")
    assert "Open a video" in widget.hint.text()
    viewer.add_image(np.stack(list(clip.frames[:3])), rgb=True, name="array")
    assert "save it as a video" in widget.hint.text()
    assert not widget.start_button.isEnabled()


def test_a_video_that_is_too_short_is_one_line(
    make_napari_viewer: Callable[..., Any], clip: Clip, tmp_path: Path, model: str, qtbot: QtBot
) -> None:
    path = tmp_path / "few.mp4"
    with VideoWriter(path, 30.0, clip.size) as writer:
        for i in range(10):
            writer.write(clip.frames[i])
    viewer = make_napari_viewer(show=True)
    viewer.open(str(path), plugin="napari-superanimal")
    widget = dock(viewer, "Adapt to a video")
    click(qtbot, widget, "adapt_start")
    qtbot.waitUntil(lambda: not widget.running, timeout=SLOW_MS)
    assert "frames" in widget.hint.text()
    assert "Traceback" not in widget.hint.text()
    assert widget.finished is None
    assert any("frames" in n.message for n in notification_manager.records)
    assert not widget.outcome_box.isVisible()


def test_where_nothing_can_be_learned_it_says_so(
    make_napari_viewer: Callable[..., Any], clip: Clip, tmp_path: Path, model: str, qtbot: QtBot
) -> None:
    path = tmp_path / "empty.mp4"
    floor = np.full_like(clip.frames[0], 190)
    with VideoWriter(path, 30.0, clip.size) as writer:
        for _ in range(60):
            writer.write(floor)
    viewer = make_napari_viewer(show=True)
    viewer.open(str(path), plugin="napari-superanimal")
    widget = adapt(viewer, qtbot, model)
    found = widget.finished
    assert found is not None
    assert not found.trained
    assert "Nothing was learned" in widget.verdict.text()
    assert all(reason[:20] in widget.verdict.text() for reason in found.outcome["reasons"])
    assert found.outcome["reasons"]
    assert not widget.choice.isVisible()
    assert not widget.compare.isVisible()
    assert "adapted" not in widget.table.text()
    assert found.request.name not in {ref.card.name for ref in zoo.list_models()}
