"""What a step of napari's slider costs with predictions on the video, and without.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/scrub.py --data DATA

(On a machine with a screen without the first part.) Shows the whole video with points, skeleton and boxes: once with
all 27 keypoints in every frame, the most there can be, and once with a shipped model's own predictions. The same
frames are visited with the layers shown and hidden in turn, so that other work on the machine meets both alike.
Writes results/scrub.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import load_average, number, summary, table, write_result

from napari_superanimal.keypoints import load_space
from napari_superanimal.models.zoo import DEFAULT_MODEL
from napari_superanimal.plugin.safe_import import import_torch
from napari_superanimal.poses import make_poses
from napari_superanimal.video import open_video

if TYPE_CHECKING:
    from napari import Viewer

    from napari_superanimal.poses import Poses
    from napari_superanimal.video import Video

VIDEO = "videos/m3v1mp4.mp4"
ALL_KEYPOINTS = "27 keypoints"
SPACE = "superanimal_topviewmouse"
SHOWN = {
    "video only": (),
    "points": ("poses",),
    "points, skeleton": ("poses", "poses skeleton"),
    "points, skeleton, boxes": ("poses", "poses skeleton", "poses boxes"),
}


def wandering_mouse(frames: int, size: tuple[int, int], seed: int = 0) -> Poses:
    """Plausible poses (frames, 1, 27) of an animal that walks about, every keypoint in every frame."""
    rng = np.random.default_rng(seed)
    space = load_space(SPACE)
    room = np.array(size) - 100
    path = np.cumsum(rng.normal(0, 3, (frames, 1, 1, 2)), 0)
    centre = 50 + np.abs((path + room / 2) % (2 * room) - room)
    xy = centre + rng.uniform(-40, 40, (1, 1, len(space), 2)) + rng.normal(0, 1, (frames, 1, len(space), 2))
    boxes = np.concatenate([centre[:, :, 0] - 45, np.full((frames, 1, 2), 90.0)], -1)
    # above the threshold throughout: every edge of the skeleton is drawn
    return make_poses(space.keypoints, xy, likelihood=rng.uniform(0.7, 1, xy.shape[:3]), boxes=boxes)


def predicted(video: Video, model: str) -> Poses:
    """The model's predictions of the whole video."""
    from napari_superanimal.inference.collect import Collector
    from napari_superanimal.inference.predictor import Predictor
    from napari_superanimal.inference.stream import PredictionStream
    from napari_superanimal.models.load import load_model

    predictor = Predictor(load_model(model), device="cpu")
    frames = range(len(video))
    collector = Collector(predictor, frames)
    for chunk in PredictionStream(video, predictor, frames):
        collector.add(chunk)
    return collector.poses()


def step(viewer: Viewer, frame: int) -> tuple[float, float]:
    """Milliseconds from moving the slider until the picture is drawn, and CPU milliseconds of all threads."""
    from qtpy.QtWidgets import QApplication

    started, cpu = time.perf_counter(), time.process_time()
    viewer.dims.set_current_step(0, frame)
    for _ in range(2):
        QApplication.processEvents()
    return (time.perf_counter() - started) * 1000, (time.process_time() - cpu) * 1000


def scrub(viewer: Viewer, video: Video, poses: Poses, rounds: int, steps: int) -> dict[str, Any]:
    """Median milliseconds per step, and what the layers add, for walking and for jumping through the video."""
    from napari_superanimal.plugin.session import show_poses

    points = show_poses(viewer, poses, name="poses", space=SPACE, threshold=0.6)
    rng = np.random.default_rng(1)
    n = len(video)
    orders = {
        "walking": (np.arange(rounds * steps) + n // 4) % n,
        "jumping": rng.integers(0, n, rounds * steps),
    }
    found: dict[str, Any] = {"points_in_layer": len(points.data)}
    for kind, frames in orders.items():
        for frame in frames:  # decode beforehand: it is the layers that are measured
            video.frame(int(frame))
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in SHOWN}
        for i in range(rounds):
            part = frames[i * steps : (i + 1) * steps]
            # each scene is first, second, ... in turn
            names = list(SHOWN)[i % len(SHOWN) :] + list(SHOWN)[: i % len(SHOWN)]
            for name in names:
                for layer in viewer.layers:
                    layer.visible = layer is viewer.layers[0] or layer.name in SHOWN[name]
                step(viewer, max(0, int(part[0]) - 1))
                times[name] += [step(viewer, int(f)) for f in part]
        walls = {name: [wall for wall, _ in t] for name, t in times.items()}
        median = {name: np.median(t, axis=0) for name, t in times.items()}
        base = median["video only"]
        found[kind] = {
            name: {
                **summary(walls[name], 1),
                "quantile_95": round(float(np.quantile(walls[name], 0.95)), 1),
                "added_to_median": round(float(median[name][0] - base[0]), 1),
                "cpu_ms": round(float(median[name][1]), 1),
                "cpu_ms_added": round(float(median[name][1] - base[1]), 1),
            }
            for name in SHOWN
        }
    return found


def one_scene(arguments: argparse.Namespace) -> dict[str, Any]:
    """Open the window with one set of poses and scrub."""
    # the user's own napari settings stay untouched
    os.environ.setdefault("NAPARI_CONFIG", str(Path(tempfile.mkdtemp()) / "settings.yaml"))
    video = open_video(arguments.data / arguments.video)
    count, height, width, _ = video.shape
    if arguments.scene == ALL_KEYPOINTS:
        poses = wandering_mouse(count, (width, height))
    else:
        import_torch()  # before the window is there
        poses = predicted(video, arguments.scene)
    import napari

    viewer = napari.Viewer()
    viewer.window.resize(1440, 900)
    viewer.add_image(video, rgb=True, cache=False, contrast_limits=(0, 255), name="video")
    found = scrub(viewer, video, poses, arguments.rounds, arguments.steps)
    viewer.close()
    return {"frames": count, **found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the datasets")
    parser.add_argument("--video", default=VIDEO, help="relative to the data folder")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--scene", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=20, help="steps per scene and round")
    arguments = parser.parse_args()

    if arguments.scene:
        print(json.dumps(one_scene(arguments)))
        return
    result: dict[str, Any] = {
        "command": "python benchmarks/scrub.py --data DATA",
        "steps_per_scene": arguments.rounds * arguments.steps,
        "load_average": load_average(),
        "scenes": {},
    }
    rows = []
    for name in (ALL_KEYPOINTS, arguments.model):
        # in a process of its own: where OpenGL is software, napari can crash after layers were removed
        command = [sys.executable, *sys.argv, "--scene", name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = result["scenes"][name] = json.loads(done.stdout.splitlines()[-1])
        for kind in ("walking", "jumping"):
            for shown, t in found[kind].items():
                added = number(t["added_to_median"], 1), number(t["cpu_ms_added"], 1)
                rows.append([name, kind, shown, number(t["median"], 1), *added])
    print(table(["poses", "slider", "shown", "median ms", "added ms", "added CPU ms"], rows))
    print(write_result("scrub", result).name)


if __name__ == "__main__":
    main()
