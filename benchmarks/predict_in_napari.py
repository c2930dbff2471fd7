"""Whether a prediction inside a live napari is as fast as without one.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/predict_in_napari.py --data DATA

(On a machine with a screen without the first part.) In turn, the same frames are predicted in a fresh process
without napari, and with the Predict widget in a real viewer whose event loop runs. Speed is that from the first
frames that come back to the last, on both sides. Writes results/predict_in_napari.json.
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
from typing import Any

import numpy as np
from common import load_average, number, summary, table, write_result

VIDEO = "videos/m3v1mp4.mp4"
MODEL = "mouse-topview-mini"


class Clock:
    """Frames per second, and CPU of this process per frame, from the first sign of progress to the last."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float, int]] = []

    def mark(self, done: int) -> None:
        if done > 0 and (not self.marks or done > self.marks[-1][2]):
            self.marks.append((time.perf_counter(), time.process_time(), done))

    def figures(self) -> dict[str, float]:
        (t0, c0, n0), (t1, c1, n1) = self.marks[0], self.marks[-1]
        return {
            "fps": (n1 - n0) / (t1 - t0),
            "cpu_ms_per_frame": 1000 * (c1 - c0) / (n1 - n0),
            "cores_used": (c1 - c0) / (t1 - t0),
        }


#: Frames of a short run before each measured one.
WARM = 200


def headless(path: Path, model: str, frames: int) -> dict[str, float]:
    """The run without napari, in this process."""
    from napari_superanimal.inference.collect import Collector
    from napari_superanimal.inference.predictor import Predictor
    from napari_superanimal.inference.stream import PredictionStream
    from napari_superanimal.models.load import load_model
    from napari_superanimal.video import open_video

    predictor = Predictor(load_model(model), device="cpu")
    wanted = range(frames)
    collector, clock = Collector(predictor, wanted), Clock()
    for chunk in PredictionStream(open_video(path), predictor, wanted):
        collector.add(chunk)
        clock.mark(collector.done)
    return clock.figures()


def in_fresh_process(path: Path, model: str, frames: int) -> dict[str, float]:
    """`headless` in a process that has never heard of napari."""
    command = [sys.executable, __file__, "--data", str(path.parent), "--video", path.name]
    command += ["--model", model, "--frames", str(frames), "--headless"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


class Window:
    """A viewer with the video and the Predict widget."""

    def __init__(self, path: Path, model: str, frames: int) -> None:
        import napari

        from napari_superanimal.plugin.widgets import predict

        self.viewer = napari.Viewer()
        self.viewer.window.resize(1440, 900)
        _, self.widget = self.viewer.window.add_plugin_dock_widget(
            "napari-superanimal", "Predict animal poses"
        )
        self.widget.models.choose(model)
        self.widget.open_video(path)
        self.widget.frames.setCurrentText(predict.RANGE)
        self.widget.start.setValue(0)
        self.widget.step.setValue(1)
        self.frames = frames

    def run(self, frames: int | None = None) -> dict[str, float]:
        """Press Predict and let the event loop run until it is done: frames per second, and where the GUI was busy."""
        from qtpy.QtCore import QEventLoop, QTimer

        frames = frames or self.frames
        self.widget.stop.setValue(frames)
        before = list(self.viewer.layers)
        clock, shown = Clock(), []
        widget, receive = self.widget, self.widget._receive

        def spy(message: Any) -> None:
            started = time.perf_counter()
            progress = getattr(message, "progress", None)
            if progress is not None:
                clock.mark(progress.done)
            receive(message)
            if getattr(message, "poses", None) is not None:
                shown.append(time.perf_counter() - started)

        # a timer that should fire every 10 ms tells how long the GUI could not answer
        beats: list[float] = []
        loop = QEventLoop()
        pulse, end = QTimer(), QTimer()
        pulse.timeout.connect(lambda: beats.append(time.perf_counter()))
        end.timeout.connect(lambda: None if widget.running else loop.quit())
        widget._receive = spy
        try:
            widget.run_button.click()
            pulse.start(10)
            end.start(50)
            loop.exec()
        finally:
            pulse.stop()
            end.stop()
            del widget._receive
        found = [layer for layer in self.viewer.layers if layer not in before]
        if clock.marks[-1][2] != frames or not found:
            raise RuntimeError(f"the run ended early: {widget.hint.text()}")
        # every run in the same scene: layers of earlier ones cost time, even hidden
        for layer in found:
            self.viewer.layers.remove(layer)
        gaps = np.diff(beats) * 1000
        return {
            **clock.figures(),
            "updates_shown": len(shown),
            "update_ms": 1000 * float(np.median(shown)) if shown else 0.0,
            "gui_gap_ms_median": float(np.median(gaps)),
            "gui_gap_ms_99": float(np.quantile(gaps, 0.99)),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the datasets")
    parser.add_argument("--video", default=VIDEO, help="relative to the data folder")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--frames", type=int, default=2330, help="frames per run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--headless", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    path = arguments.data / arguments.video
    if arguments.headless:
        print(json.dumps(headless(path, arguments.model, arguments.frames)))
        return

    # the user's own napari settings stay untouched
    os.environ.setdefault("NAPARI_CONFIG", str(Path(tempfile.mkdtemp()) / "settings.yaml"))
    window = Window(path, arguments.model, arguments.frames)
    window.run()  # imports torch into the viewer's process
    rounds = []
    for i in range(arguments.rounds):
        found: dict[str, dict[str, float]] = {}
        # now this first, now that
        for kind in ("headless", "napari") if i % 2 else ("napari", "headless"):
            if kind == "headless":
                found[kind] = in_fresh_process(path, arguments.model, arguments.frames)
            else:
                # while the other process ran, the system may have taken memory of this one away
                window.run(WARM)
                found[kind] = window.run()
        row = {f"{kind}_{name}": value for kind, part in found.items() for name, value in part.items()}
        row["ratio"] = row["napari_fps"] / row["headless_fps"]
        # what the ratio would be if both had the machine to themselves: CPU is less moved by other programs
        row["ratio_of_cpu"] = row["headless_cpu_ms_per_frame"] / row["napari_cpu_ms_per_frame"]
        rounds.append(row)
        print("  ".join(f"{k} {number(v)}" for k, v in row.items()), flush=True)
    window.viewer.close()
    result = {
        "command": "python benchmarks/predict_in_napari.py --data DATA",
        "model": arguments.model,
        "frames": arguments.frames,
        "rounds": len(rounds),
        "load_average": load_average(),
        "figures": {k: summary((r[k] for r in rounds), 3) for k in rounds[0]},
    }
    rows = [
        [k, number(v["median"]), number(v["min"]), number(v["max"])] for k, v in result["figures"].items()
    ]
    print(table(["figure", "median", "min", "max"], rows))
    print(write_result("predict_in_napari", result).name)


if __name__ == "__main__":
    main()
