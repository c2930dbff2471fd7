"""How fast SuperAnimal's own networks run, against a straightforward implementation in the same process.

    python benchmarks/official_speed.py --data DATA --golden GOLDEN [--frames 200]

HRNet-w32 with Faster R-CNN MobileNet on m3v1, one mouse. The released weights are not needed for a measurement of
time: they are made from the recipe in GOLDEN. Every way to run them is measured from the file to the poses; the
straightforward implementation (decode, detect in every frame, one crop at a time, eager float32, all torch threads)
runs before, between and after them. The pose stage (crops, normalisation, network, decoding) is compared with the bare
network on the same crops. Peak memory is that of `superanimal predict` in a process of its own. Networks made from a
recipe find the same thing in every frame; how far poses move when the detector looks at few frames is measured with
trained models by precision.py. Writes results/official_speed.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from common import load_average, number, table, write_result

from napari_superanimal.inference.build import build_predictor
from napari_superanimal.inference.keyframes import AUTO
from napari_superanimal.inference.official.crops import top_down_crop
from napari_superanimal.inference.official.images import normalise
from napari_superanimal.inference.runtime.engine import EXACT, Engine, engines
from napari_superanimal.inference.stream import PredictionStream, forward_fps
from napari_superanimal.models.official.load import load_detector, load_pose
from napari_superanimal.models.zoo import HOME_VARIABLE, ModelRef, find_model
from napari_superanimal.video import Video, open_video

if TYPE_CHECKING:
    from collections.abc import Callable

VIDEO = "videos/m3v1mp4.mp4"
POSE = "superanimal_topviewmouse_hrnet_w32"
DETECTOR = "superanimal_topviewmouse_fasterrcnn_mobilenet_v3_large_fpn"


@dataclass(frozen=True)
class Way:
    """A way to run the networks."""

    name: str
    engine: Engine = EXACT
    reference: bool = False
    every: int = 1

    @property
    def words(self) -> list[str]:
        """On the command line."""
        if self.reference:
            return ["--reference", "--max-individuals", "1"]
        words = ["--runtime", self.engine.runtime, "--precision", self.engine.precision]
        return [*words, "--detect-every", str(self.every)]


def ways(device: torch.device) -> list[Way]:
    """Those of this computer, the exact ones first."""
    found = [Way("fp32 exact (as the reference)", reference=True)]
    here = engines(device)[::-1]
    names = {"torch fp32": "torch fp32, batch norms folded"}
    found += [Way(names.get(str(engine), str(engine)), engine) for engine in here]
    fast = [engine for engine in here if engine.runtime == here[-1].runtime]
    found += [Way(f"{engine}, detector every {AUTO} frames", engine, every=AUTO) for engine in fast]
    return found


def recipe_models(golden: Path, folder: Path) -> dict[str, tuple[str, ModelRef]]:
    """NAME:FILE and the model, of both networks with the recipe's weights."""
    spec = importlib.util.spec_from_file_location("recipe", golden / "recipe.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"error: {golden} holds no recipe.py")
    recipe: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    found = {}
    for name in (POSE, DETECTOR):
        keys = json.loads((golden / f"{name}.keys.json").read_text(encoding="utf-8"))["keys"]
        path = folder / f"{name}.pt"
        torch.save({"model": recipe.state_dict_from_keys(keys, model=name.split("_", 2)[2])}, path)
        named = f"{name}:{path}"
        found[name] = named, find_model(named)
    return found


def straightforward(models: dict[str, ModelRef], device: torch.device) -> Callable[[Video, range], float]:
    """Frames per second of a loop as one writes it first."""
    detector = load_detector(models[DETECTOR]).network.to(device)
    pose: Any = load_pose(models[POSE]).network.to(device)

    @torch.inference_mode()
    def run(video: Video, frames: range) -> float:
        started = time.perf_counter()
        for _, frame in video.iter_frames(frames.start, frames.stop, frames.step):
            corners = detector(list(normalise(frame[None], device)))[0]["boxes"][:1].cpu().numpy()
            for x1, y1, x2, y2 in corners:
                crop = top_down_crop(frame, np.array([x1, y1, x2 - x1, y2 - y1]), pose.input_size)
                if crop is not None:
                    heatmaps = pose(normalise(crop.pixels[None], device).contiguous()).heatmaps
                    best = heatmaps.flatten(2).argmax(-1).cpu().numpy()
                    np.stack([best % heatmaps.shape[-1], best // heatmaps.shape[-1]], -1) * 4.0 + 2.0
        return len(frames) / (time.perf_counter() - started)

    return run


def end_to_end(video: Video, predictor: Any, frames: range) -> dict[str, float]:
    """One pass over the frames as `predict` does it."""
    looks = 0
    real = predictor.detect

    def counted(shots: Any) -> Any:
        nonlocal looks
        looks += len(shots)
        return real(shots)

    predictor.detect = counted
    stream = PredictionStream(video, predictor, frames)
    cpu = time.process_time()
    done = sum(len(chunk.frames) for chunk in stream)
    cpu = time.process_time() - cpu
    predictor.detect = real
    if done != len(frames):
        raise RuntimeError(f"{done} of {len(frames)} frames")
    each = stream.stats.to_json()["cpu_ms_per_frame"]
    both = each["detector"] + each["pose"] + each["decode"]
    return {
        "fps": done / stream.stats.seconds,
        "process_cpu_ms_per_frame": 1000 * cpu / done,
        "detector_ms": each["detector"],
        "pose_ms": each["pose"],
        "decode_ms": each["decode"],
        "detector_share": each["detector"] / both,
        "pose_share": each["pose"] / both,
        "frames_detected": looks / done,
    }


def pose_stage(predictor: Any, frames: list[np.ndarray], rounds: int) -> dict[str, float]:
    """The pose stage and its bare network on the same crops, in turn, in one thread; the best of each."""

    def measure() -> dict[str, float]:
        torch.set_num_threads(1)
        found = predictor.detect(frames)
        shots = [frame for frame, (boxes, _) in zip(frames, found, strict=True) for _ in boxes]
        boxes = np.concatenate([boxes for boxes, _ in found])
        bare = predictor.bare_pose(shots, boxes)
        best = {"stage": np.inf, "bare": np.inf}
        for turn in range(rounds + 1):
            for name, work in (("stage", lambda: predictor.pose(shots, boxes)), ("bare", bare)):
                started = time.perf_counter()
                work()
                if turn:  # the first round warms up
                    best[name] = min(best[name], time.perf_counter() - started)
        n = len(boxes)
        return {
            "bare_pose_ms": 1000 * best["bare"] / n,
            "pose_stage_ms": 1000 * best["stage"] / n,
            "pose_stage_of_bare": best["bare"] / best["stage"],
        }

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(measure).result()


def peak_memory(video: Path, named: dict[str, str], way: Way, frames: int, device: str) -> float:
    """Peak of `superanimal predict` in a process of its own, MB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "napari_superanimal.cli", "predict", str(video)]
        command += ["--model", named[POSE], "--detector", named[DETECTOR], "--frames", f"0:{frames}"]
        command += ["--out", folder, "--device", device, *way.words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        card = json.loads(next(Path(folder).glob("*.run.json")).read_text(encoding="utf-8"))
    return float(card["peak_rss_mb"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the datasets")
    parser.add_argument(
        "--golden", type=Path, required=True, help="folder with recipe.py and the lists of keys"
    )
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--plain-frames", type=int, default=40, help="of each straightforward run")
    parser.add_argument("--rounds", type=int, default=5, help="of the pose stage against the bare network")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--no-memory", action="store_true", help="leave out the runs in fresh processes")
    arguments = parser.parse_args()

    path = arguments.data / VIDEO
    video = open_video(path)
    frames = range(min(arguments.frames, len(video)))
    plain_frames = range(min(arguments.plain_frames, len(frames)))
    device = torch.device(arguments.device)
    workers = psutil.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        os.environ[HOME_VARIABLE] = str(Path(folder) / "home")
        made = recipe_models(arguments.golden, Path(folder))
        named, models = {k: v[0] for k, v in made.items()}, {k: v[1] for k, v in made.items()}
        plain = straightforward(models, device)
        plain(video, plain_frames[:2])
        speeds = [plain(video, plain_frames)]
        rows: list[dict[str, Any]] = []
        for way in ways(device):
            predictor: Any = build_predictor(
                models[POSE],
                detector=models[DETECTOR],
                device=arguments.device,
                runtime=way.engine.runtime,
                precision=way.engine.precision,
                reference=way.reference,
                detect_every=way.every,
            )
            sample = [frame for _, frame in video.iter_frames(0, predictor.chunk_frames, 1)]
            predictor(sample[:2])  # whatever is prepared at first use
            row: dict[str, Any] = {
                "way": way.name,
                "words": way.words,
                **end_to_end(video, predictor, frames),
            }
            row |= pose_stage(predictor, sample[: predictor.batch_size], arguments.rounds)
            if way.every == 1:
                row["forward_fps"] = forward_fps(predictor, sample, workers, repeats=2)
            if not arguments.no_memory:
                few = min(len(frames), 60)
                row["peak_rss_mb"] = peak_memory(path, named, way, few, arguments.device)
            rows.append(row)
            print(
                "  ".join(f"{k} {number(v) if isinstance(v, float) else v}" for k, v in row.items()),
                flush=True,
            )
            speeds.append(plain(video, plain_frames))
    typical = float(np.median(speeds))
    for i, row in enumerate(rows):
        # the runs beside it met the same machine
        row["times_straightforward"] = row["fps"] / float(np.mean(speeds[i : i + 2]))
    result = {
        "command": "python benchmarks/official_speed.py --data DATA --golden GOLDEN",
        "video": {"name": path.name, "size": [video.shape[2], video.shape[1]]},
        "frames": len(frames),
        "models": [POSE, DETECTOR],
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "workers": workers if device.type == "cpu" else 1,
        "load_average": load_average(),
        "straightforward": {
            "frames": len(plain_frames),
            "threads": torch.get_num_threads(),
            "fps": typical,
            "fps_of_each_run": speeds,
        },
        "ways": rows,
    }
    print(
        table(
            ["way", "fps", "times straightforward", "pose stage / bare"],
            [
                [
                    r["way"],
                    number(r["fps"]),
                    number(r["times_straightforward"]),
                    number(r["pose_stage_of_bare"], 3),
                ]
                for r in rows
            ],
        )
    )
    print(f"straightforward: {number(typical)} fps; {write_result('official_speed', result).name}")


if __name__ == "__main__":
    main()
