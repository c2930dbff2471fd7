"""Write docs/images/*.png: real screenshots of napari with the plugin, on a rendered clip.

Needs a display; without one: `xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py`.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari import Viewer
    from napari.layers import Points

    from napari_superanimal.poses import Poses

IMAGES = Path(__file__).parent / "images"
SIZE = (1440, 900)
MODEL = "mouse-topview-mini"
N_FRAMES = 60
N_CORRECTED = 10
N_STEPS = 300

# the pictures show a fresh napari, and the models of whoever makes them stay untouched
HOME = Path(tempfile.mkdtemp(prefix="superanimal-screenshots-"))
os.environ["NAPARI_CONFIG"] = str(HOME / "settings.yaml")
os.environ["SUPERANIMAL_HOME"] = str(HOME / "superanimal")


def wait(condition: Callable[[], bool], seconds: float) -> None:
    """Let the window work until `condition` holds.

    Raises
    ------
    TimeoutError
        If it does not within `seconds`.
    """
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the window never got there")
        QApplication.processEvents()
        time.sleep(0.02)


def settle(seconds: float = 1.5) -> None:
    """Let drawing catch up."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end, seconds + 5)


def make_clip() -> tuple[Path, Poses]:
    """A rendered video of a mouse, and its true poses."""
    from napari_superanimal.demo.render import render_clip
    from napari_superanimal.video.write import VideoWriter

    clip = render_clip(N_FRAMES, seed=3)
    path = HOME / "mouse.mp4"
    height, width = clip.frames[0].shape[:2]
    with VideoWriter(path, 30.0, (width, height)) as writer:
        for frame in clip.frames:
            writer.write(frame)
    return path, clip.truth


def look_at(viewer: Viewer, layer: Points, zoom: float) -> None:
    """Centre the picture on the animal."""
    here = layer.data[layer.data[:, 0] == viewer.dims.current_step[0], 1:]
    viewer.camera.center = tuple(here.mean(0))
    viewer.camera.zoom = zoom


def shoot(viewer: Viewer, name: str) -> None:
    """Save the whole window, without notifications."""
    from PIL import Image
    from qtpy.QtWidgets import QApplication

    settle()
    for note in QApplication.allWidgets():
        if type(note).__name__ == "NapariQtNotification":
            note.close()
    settle()
    pixels = viewer.screenshot(canvas_only=False, flash=False)
    IMAGES.mkdir(exist_ok=True)
    Image.fromarray(pixels[..., :3]).save(IMAGES / f"{name}.png", optimize=True)
    print(f"wrote {IMAGES / name}.png")


def dock(viewer: Viewer, title: str) -> Any:
    """Open one of the plugin's widgets; the one that was open goes."""
    viewer.window.remove_dock_widget("all")
    return viewer.window.add_plugin_dock_widget("napari-superanimal", title)[1]


def predict(viewer: Viewer, video: Path) -> Points:
    """The Predict widget after its run."""
    form = dock(viewer, "Predict animal poses")
    form.models.choose(MODEL)
    form.open_video(video)
    form.run()
    wait(lambda: not form.running, 600)
    layer = next(layer for layer in viewer.layers if type(layer).__name__ == "Points")
    viewer.dims.set_current_step(0, N_FRAMES // 2)
    look_at(viewer, layer, 2.5)
    shoot(viewer, "predict")
    return layer


def correct(viewer: Viewer, layer: Points, truth: Poses) -> None:
    """Points of some frames put to their true places; close up, the last one, where only the nose was."""
    from napari_superanimal.models.zoo import find_model
    from napari_superanimal.plugin.session import session_of

    session = session_of(layer)
    assert session is not None
    known = find_model(MODEL).card.keypoints
    (individual,) = session.store.poses.individuals
    viewer.layers.selection.active = layer
    frames = np.linspace(0, N_FRAMES - 1, N_CORRECTED).astype(int).tolist()
    for frame in frames:
        viewer.dims.set_current_step(0, frame)
        points = [
            (name, individual, float(y), float(x))
            for name, (x, y) in zip(truth.keypoints, truth.xy[frame, 0], strict=True)
            if np.isfinite(x) and name in (known if frame != frames[-1] else ("nose",))
        ]
        session.place(frame, points)
    layer.mode = "select"
    here = np.flatnonzero(layer.data[:, 0] == viewer.dims.current_step[0])
    labels = list(layer.features["label"].to_numpy()[here])
    layer.selected_data = {int(here[labels.index("nose")])}
    look_at(viewer, layer, 6.0)
    shoot(viewer, "edit")


def finetune(viewer: Viewer, layer: Points) -> None:
    """The Fine-tune widget while a model learns from the corrections."""
    form = dock(viewer, "Fine-tune a model")
    form.source.points.choose(layer)
    form.steps.setValue(N_STEPS)
    form.start()
    wait(lambda: not form.running or len(form.plot.curves["val_error_px"].x) >= 4, 1800)
    if not form.running:
        raise RuntimeError(form.hint.text())
    look_at(viewer, layer, 2.5)
    shoot(viewer, "finetune")
    form.cancel()
    wait(lambda: not form.running, 120)


def adapt(viewer: Viewer) -> None:
    """The Adapt widget after its run, half way from before to adapted."""
    form = dock(viewer, "Adapt to a video")
    form.models.choose(MODEL)
    form.images.choose(next(layer for layer in viewer.layers if type(layer).__name__ == "Image"))
    form.length.setCurrentIndex(form.length.findData("Quick try"))
    form.start()
    wait(lambda: not form.running, 1800)
    if form.compare.layers is None:
        raise RuntimeError(form.hint.text() or form.verdict.text())
    form.compare.slider.setValue(50)
    look_at(viewer, form.compare.layers[0], 2.5)
    shoot(viewer, "adapt")


def main() -> int:
    import napari

    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    video, truth = make_clip()
    points = predict(viewer, video)
    correct(viewer, points, truth)
    finetune(viewer, points)
    adapt(viewer)
    viewer.close()
    shutil.rmtree(HOME, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
