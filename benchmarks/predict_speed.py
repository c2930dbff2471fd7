"""How fast `predict` is, measured against what the cores allow, and how much memory it takes.

    python benchmarks/predict_speed.py --data DATA

Every round measures decoding alone, the whole run and the bare networks one after the other, so that other work on
the machine meets all alike; medians are reported. Memory is that of `superanimal predict` in fresh processes.
Writes results/predict_speed.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from common import RESULTS, load_average, number, summary, table, write_result

from napari_superanimal.inference.collect import Collector
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.inference.stream import PredictionStream, forward_fps
from napari_superanimal.models.load import load_model
from napari_superanimal.models.zoo import DEFAULT_MODEL
from napari_superanimal.video import Video, open_video

VIDEO = "videos/m3v1mp4.mp4"


def decode_only(video: Video, frames: range) -> dict[str, float]:
    """Reading the frames and nothing else; CPU of the whole process, codec threads included."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in video.iter_frames(frames.start, frames.stop, frames.step):
        pass
    return {
        "decode_fps": len(frames) / (time.perf_counter() - wall),
        "decode_alone_cpu_ms": 1000 * (time.process_time() - cpu) / len(frames),
    }


def others_cpu_s() -> float:
    """CPU seconds that all other programs have used since the machine started."""
    t = psutil.cpu_times()
    busy = t.user + t.system + getattr(t, "nice", 0.0) + getattr(t, "irq", 0.0) + getattr(t, "softirq", 0.0)
    return float(busy) - time.process_time()


def whole_run(video: Video, predictor: Predictor, frames: range) -> tuple[dict[str, float], list[Any], int]:
    """One run as `predict` does it; also a sample of its frames and the number of workers."""
    stream = PredictionStream(video, predictor, frames)
    collector = Collector(predictor, frames)
    cores = psutil.cpu_count() or 1
    wall, cpu, others = time.perf_counter(), time.process_time(), others_cpu_s()
    for chunk in stream:
        collector.add(chunk)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    others = max(0.0, others_cpu_s() - others)
    if not collector.complete:
        raise RuntimeError("the run ended early")
    shares = stream.stats.to_json()["cpu_ms_per_frame"]
    each = sum(shares.values()) / 1000
    n = len(frames)
    free = max(cores - others / wall, 1e-6)
    result = {
        "fps": n / wall,
        "bound_fps": cores / each,
        "ratio": n / wall * each / cores,
        "ratio_of_free_cores": n / wall * each / free,
        "decode_cpu_ms": shares["decode"],
        "detector_cpu_ms": shares["detector"],
        "pose_cpu_ms": shares["pose"],
        "all_cpu_ms": 1000 * cpu / n,
        "cores_used": cpu / wall,
        "cores_used_by_others": others / wall,
    }
    return result, stream.stats.sample, stream.stats.workers


def memory(video: Path, model: str, frames: int) -> dict[str, float]:
    """Run card figures of `superanimal predict` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        command = [sys.executable, "-m", "napari_superanimal.cli", "predict", str(video), "--model", model]
        command += ["--frames", f"0:{frames}", "--out", folder, "--device", "cpu"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        card = json.loads(next(out.glob("*.run.json")).read_text(encoding="utf-8"))
    if card["frames"] != frames:
        raise RuntimeError(f"{card['frames']} of {frames} frames were predicted")
    return {"frames": frames, "peak_rss_mb": card["peak_rss_mb"], "fps": card["fps"]}


def peaks(video: Path, model: str, count: int) -> dict[str, Any]:
    """Peak memory for few and for all frames, in turn; medians."""
    few, many = min(500, count), count
    runs = [memory(video, model, n) for n in (few, many) * 3]
    peak = {n: float(np.median([r["peak_rss_mb"] for r in runs if r["frames"] == n])) for n in (few, many)}
    print(table(["frames", "peak MB"], [[str(n), number(p, 0)] for n, p in peak.items()]))
    return {"runs": runs, "peak_rss_mb": peak, "growth_mb": peak[many] - peak[few]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the datasets")
    parser.add_argument("--video", default=VIDEO, help="relative to the data folder")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--frames", type=int, default=800, help="frames per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true", help="leave out the runs in fresh processes")
    parser.add_argument(
        "--memory-only", action="store_true", help="measure only these, keep the other figures"
    )
    arguments = parser.parse_args()

    path = arguments.data / arguments.video
    video = open_video(path)
    if arguments.memory_only:
        result = json.loads((RESULTS / "predict_speed.json").read_text(encoding="utf-8"))
        result["memory"] = peaks(path, arguments.model, len(video))
        write_result("predict_speed", result)
        return
    predictor = Predictor(load_model(arguments.model), device="cpu")
    frames = range(min(arguments.frames, len(video)))
    whole_run(video, predictor, range(64))  # warm up
    rounds: list[dict[str, float]] = []
    for _ in range(arguments.rounds):
        row = decode_only(video, frames)
        run, sample, workers = whole_run(video, predictor, frames)
        row |= run
        row["forward_fps"] = forward_fps(predictor, sample, workers)
        rounds.append(row)
        print("  ".join(f"{k} {number(v)}" for k, v in row.items()), flush=True)

    result = {
        "command": "python benchmarks/predict_speed.py --data DATA",
        "video": {"name": path.name, "frames": len(video), "size": [video.shape[2], video.shape[1]]},
        "model": arguments.model,
        "frames_per_round": len(frames),
        "rounds": len(rounds),
        "decode_threads": video.decode_threads,
        "workers": workers,
        "load_average": load_average(),
        "figures": {k: summary((r[k] for r in rounds), 3) for k in rounds[0]},
    }
    rows = [
        [k, number(v["median"]), number(v["min"]), number(v["max"])] for k, v in result["figures"].items()
    ]
    print(table(["figure", "median", "min", "max"], rows))
    if not arguments.no_memory:
        result["memory"] = peaks(path, arguments.model, len(video))
    print(write_result("predict_speed", result).name)


if __name__ == "__main__":
    main()
