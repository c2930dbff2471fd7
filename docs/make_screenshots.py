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

IMAGES = Path(__file__).parent / "images"
SIZE = (1440, 900)
MODEL = "mouse-topview-mini"
N_FRAMES = 60

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


def make_clip() -> Path:
    """A rendered video of a mouse."""
    from napari_superanimal.demo.render import render_clip
    from napari_superanimal.video.write import VideoWriter

    clip = render_clip(N_FRAMES, seed=3)
    path = HOME / "mouse.mp4"
    height, width = clip.frames[0].shape[:2]
    with VideoWriter(path, 30.0, (width, height)) as writer:
        for frame in clip.frames:
            writer.write(frame)
    return path


def shoot(viewer: Viewer, name: str) -> None:
    """Save the whole window, in few colours so that the page stays light."""
    from PIL import Image

    settle()
    pixels = viewer.screenshot(canvas_only=False, flash=False)
    IMAGES.mkdir(exist_ok=True)
    picture = Image.fromarray(pixels[..., :3]).quantize(192, dither=Image.Dither.NONE)
    picture.save(IMAGES / f"{name}.png", optimize=True)
    print(f"wrote {IMAGES / name}.png")


def dock(viewer: Viewer, title: str) -> Any:
    """Open one of the plugin's widgets; the one that was open goes."""
    viewer.window.remove_dock_widget("all")
    return viewer.window.add_plugin_dock_widget("napari-superanimal", title)[1]


def predict(viewer: Viewer) -> Points:
    """The Predict widget after its run."""
    form = dock(viewer, "Predict animal poses")
    form.models.choose(MODEL)
    form.open_video(make_clip())
    form.run()
    wait(lambda: not form.running, 600)
    viewer.dims.set_current_step(0, N_FRAMES // 2)
    viewer.reset_view()
    shoot(viewer, "predict")
    return next(layer for layer in viewer.layers if type(layer).__name__ == "Points")


def correct(viewer: Viewer, layer: Points) -> None:
    """A keypoint after it was dragged to its place, close up."""
    from napari_superanimal.plugin.session import session_of

    session = session_of(layer)
    assert session is not None
    viewer.layers.selection.active = layer
    frame = session.frame
    here = np.flatnonzero(layer.data[:, 0] == frame)
    labels = layer.features["label"].to_numpy()[here]
    nose = here[list(labels).index("nose")]
    y, x = layer.data[nose, 1:]
    session.place(frame, [("nose", str(layer.features["id"][nose]), y + 2.0, x + 2.0)])
    layer.mode = "select"
    layer.selected_data = {int(nose)}
    viewer.camera.center = (float(y), float(x))
    viewer.camera.zoom = 6.0
    shoot(viewer, "edit")


def finetune(viewer: Viewer, layer: Points) -> None:
    """The Fine-tune widget while a model learns from the correction."""
    form = dock(viewer, "Fine-tune a model")
    form.source.points.choose(layer)
    form.steps.setValue(400)
    form.start()
    wait(lambda: not form.running or form.bar.bar.value() >= 300, 1200)
    viewer.reset_view()
    shoot(viewer, "finetune")
    form.cancel()
    wait(lambda: not form.running, 120)


def main() -> int:
    import napari

    viewer = napari.Viewer()
    viewer.window.resize(*SIZE)
    points = predict(viewer)
    correct(viewer, points)
    finetune(viewer, points)
    viewer.close()
    shutil.rmtree(HOME, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
