"""SuperAnimal's own models in the Predict widget: licence, download at the first use, prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QLabel, QPushButton, QSpinBox

from napari_superanimal.plugin.session import session_of
from napari_superanimal.plugin.widgets import predict as module

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from napari_superanimal.demo.render import Clip
    from napari_superanimal.plugin.widgets.predict import PredictWidget

pytestmark = pytest.mark.gui

POSE = "superanimal_quadruped_rtmpose_s"


@pytest.fixture
def widget(make_napari_viewer: Callable[..., Any], home: Path, clip_file: Path) -> PredictWidget:
    """The widget with a video open and SuperAnimal's smallest model chosen, two frames asked for."""
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-superanimal", "Predict animal poses")
    widget.open_video(clip_file)
    widget.models.choose(POSE)
    widget.findChild(QComboBox, "predict_frames").setCurrentText(module.RANGE)
    widget.findChild(QSpinBox, "predict_stop").setValue(2)
    return widget


def run(qtbot: QtBot, widget: PredictWidget) -> None:
    qtbot.mouseClick(widget.findChild(QPushButton, "predict_run"), Qt.MouseButton.LeftButton)
    assert widget.running
    qtbot.waitUntil(lambda: not widget.running, timeout=120_000)


def test_without_a_network_one_line_says_what_to_do(
    widget: PredictWidget, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    card = widget.findChild(QLabel, "predict_card").text()
    assert "for research only" in card
    assert "Not on this computer yet" in card
    notification_manager.records.clear()
    run(qtbot, widget)
    told = " ".join([widget.hint.text(), *(record.message for record in notification_manager.records)])
    assert f"models import {POSE}:FILE" in told
    assert "Traceback" not in told
    assert widget.run_button.isEnabled()


def test_an_imported_model_predicts(widget: PredictWidget, qtbot: QtBot, tmp_path: Path) -> None:
    import torch

    from napari_superanimal.jobs.model_files import import_any
    from napari_superanimal.models.official.build import build
    from napari_superanimal.models.official.catalogue import find_release

    torch.manual_seed(0)
    release = find_release(POSE)
    assert release is not None
    torch.save({"model": build(release).state_dict()}, tmp_path / f"{POSE}.pt")
    import_any(tmp_path / f"{POSE}.pt")
    widget.models.refresh()
    assert widget.models.card.name == POSE
    assert "Not on this computer yet" not in widget.findChild(QLabel, "predict_card").text()
    box = widget.findChild(QComboBox, "predict_detector")
    box.setCurrentIndex(box.findData("whole-frame"))
    run(qtbot, widget)
    layers = [layer for layer in widget.viewer.layers if session_of(layer) is not None]
    assert len(layers) == 1, widget.hint.text()
    store = session_of(layers[0]).store
    assert len(store.poses) == 2
    assert store.poses.keypoints == release.keypoints


def test_adapting_does_not_offer_what_it_cannot_use(
    make_napari_viewer: Callable[..., Any], home: Path
) -> None:
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-superanimal", "Adapt to a video")
    combo = widget.findChild(QComboBox, "adapt_model")
    names = {combo.itemData(i) for i in range(combo.count())}
    assert names
    assert not {name for name in names if name.startswith("superanimal_")}


def test_fine_tuning_offers_them_and_says_how_long_it_takes(
    make_napari_viewer: Callable[..., Any], home: Path
) -> None:
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-superanimal", "Fine-tune a model")
    steps = widget.findChild(QSpinBox, "finetune_steps")
    steps.setValue(1000)
    told = widget.findChild(QLabel, "finetune_estimate")
    assert "Not on this computer" not in told.text()
    small = told.text()
    widget.models.choose("superanimal_quadruped_hrnet_w32")
    assert widget.models.card.name == "superanimal_quadruped_hrnet_w32"
    assert "Perhaps" in told.text()
    assert "h" in told.text().split(";")[0].removeprefix("Perhaps"), "a thousand steps take hours"
    assert told.text() != small
    assert "Not on this computer yet" in told.text()
    assert "research only" in told.text()
    assert widget.start_button.isEnabled()


def test_a_fine_tuned_official_model_is_in_the_list(
    make_napari_viewer: Callable[..., Any], home: Path, clip_file: Path, qtbot: QtBot, tmp_path: Path
) -> None:
    """From labels on disk, through a process of its own, to a prediction with the result."""
    import torch

    from napari_superanimal.demo.render import render_clip
    from napari_superanimal.jobs.model_files import import_any
    from napari_superanimal.models.official.build import build
    from napari_superanimal.models.official.catalogue import find_release
    from napari_superanimal.models.zoo import find_model

    torch.manual_seed(0)
    release = find_release(POSE)
    assert release is not None
    torch.save({"model": build(release).state_dict()}, tmp_path / f"{POSE}.pt")
    import_any(tmp_path / f"{POSE}.pt")
    folder = write_labels(render_clip(20, (96, 80), seed=3), tmp_path / "labels")
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-superanimal", "Fine-tune a model")
    widget.source.from_disk.setChecked(True)
    widget.source.path.setText(str(folder))
    widget.models.choose(POSE)
    widget.findChild(QSpinBox, "finetune_steps").setValue(1)
    widget.name.setText("mine")
    notification_manager.records.clear()
    qtbot.mouseClick(widget.start_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not widget.running, timeout=300_000)
    assert [n.message for n in notification_manager.records if n.severity.value == "error"] == []
    assert "is ready" in widget.hint.text()
    assert widget.models.combo.findData("mine") >= 0
    card = find_model("mine").card
    assert (card.parent, card.official) == (POSE, POSE)
    assert "research only" in card.licence


def write_labels(clip: Clip, folder: Path) -> Path:
    """Four pictures of a rendered mouse as a COCO file."""
    from dataclasses import replace

    import numpy as np
    from PIL import Image

    from napari_superanimal.poses.formats import registry

    folder.mkdir()
    rows = np.arange(0, 20, 5)
    names = tuple(f"{row:02d}.png" for row in rows)
    for name, row in zip(names, rows, strict=True):
        Image.fromarray(clip.frames[int(row)]).save(folder / name)
    truth = clip.truth.take(rows)
    registry.write(
        replace(truth, images=names, root=folder, human=truth.found), folder / "labels.json", "coco"
    )
    return folder / "labels.json"
