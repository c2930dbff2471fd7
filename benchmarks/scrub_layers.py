"""What a step of napari's slider costs with predictions on the video, and without.

    python benchmarks/scrub_layers.py VIDEO [--steps 40]

Opens a real window (on a machine without one: ``xvfb-run -a -s "-screen 0 1600x1000x24"``), shows the video
with 27 keypoints, skeleton and a box per frame, and walks through it. The same frames are visited with the
layers shown and hidden in turn, so that other work on the machine meets both alike.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import napari
import numpy as np
from qtpy.QtWidgets import QApplication

from napari_superanimal.keypoints import load_space
from napari_superanimal.plugin.session import session_of, show_poses
from napari_superanimal.poses import make_poses
from napari_superanimal.video import open_video

SPACE = "superanimal_topviewmouse"


def moving_mouse(frames: int, size: tuple[int, int], seed: int = 0):
    """Plausible poses (frames, 1, 27) of an animal that wanders about."""
    rng = np.random.default_rng(seed)
    space = load_space(SPACE)
    room = np.array(size) - 100
    path = np.cumsum(rng.normal(0, 3, (frames, 1, 1, 2)), 0)
    centre = 50 + np.abs((path + room / 2) % (2 * room) - room)
    xy = centre + rng.uniform(-40, 40, (1, 1, len(space), 2)) + rng.normal(0, 1, (frames, 1, len(space), 2))
    boxes = np.concatenate([centre[:, :, 0] - 45, np.full((frames, 1, 2), 90.0)], -1)
    return make_poses(space.keypoints, xy, likelihood=rng.uniform(0.3, 1, xy.shape[:3]), boxes=boxes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--steps", type=int, default=40, help="steps per round")
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()

    video = open_video(arguments.video)
    count, height, width, _ = video.shape
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1280, 800)
    viewer.add_image(video, rgb=True, cache=False, contrast_limits=(0, 255), name="video")
    layer = show_poses(viewer, moving_mouse(count, (width, height)), name="poses", space=SPACE)
    session = session_of(layer)
    assert session is not None
    names = {
        "nothing": (),
        "points": ("poses",),
        "points and skeleton": ("poses", "poses skeleton"),
        "points, skeleton and boxes": ("poses", "poses skeleton", "poses boxes"),
    }

    def step(frame: int) -> float:
        start = time.perf_counter()
        viewer.dims.set_current_step(0, frame)
        for _ in range(2):
            QApplication.processEvents()
        return (time.perf_counter() - start) * 1e3

    rng = np.random.default_rng(1)
    result: dict[str, dict[str, float]] = {}
    jumps = rng.integers(0, count, arguments.steps * arguments.rounds)
    walk = np.arange(arguments.steps * arguments.rounds) + min(100, count // 4)
    for kind, frames in (("walking", walk % count), ("jumping", jumps)):
        # decode beforehand: it is the layers that are measured
        for frame in frames:
            video.frame(int(frame))
        times: dict[str, list[float]] = {name: [] for name in names}
        for i in range(arguments.rounds):
            part = frames[i * arguments.steps : (i + 1) * arguments.steps]
            for name, shown in names.items():
                for each in viewer.layers:
                    each.visible = each.name == "video" or each.name in shown
                step(max(0, int(part[0]) - 1))
                times[name] += [step(int(f)) for f in part]
        result[kind] = {name: round(float(np.median(t)), 1) for name, t in times.items()}
    print(json.dumps({"frames": count, "points": len(layer.data), "median_ms": result}, indent=2))
    viewer.close()


if __name__ == "__main__":
    main()
