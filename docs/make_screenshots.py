"""Write docs/images/*.png: real screenshots of napari with the plugin, on a rendered clip.

Needs a display; without one: `xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

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


def shoot(viewer: object, name: str) -> None:
    """Save the whole window, in few colours so that the page stays light."""
    from PIL import Image

    viewer.window._qt_window.resize(*SIZE)  # napari offers no public way
    settle()
    pixels = viewer.screenshot(canvas_only=False, flash=False)
    IMAGES.mkdir(exist_ok=True)
    picture = Image.fromarray(pixels[..., :3]).quantize(192, dither=Image.Dither.NONE)
    picture.save(IMAGES / f"{name}.png", optimize=True)
    print(f"wrote {IMAGES / name}.png")


def main() -> int:
    import napari

    viewer = napari.Viewer()
    viewer.window._qt_window.resize(*SIZE)
    dock, predict = viewer.window.add_plugin_dock_widget("napari-superanimal", "Predict poses")
    predict.models.choose(MODEL)
    predict.open_video(make_clip())
    predict.run()
    wait(lambda: not predict.running, 300)
    viewer.dims.set_current_step(0, N_FRAMES // 2)
    shoot(viewer, "predict")
    return 0


if __name__ == "__main__":
    sys.exit(main())
