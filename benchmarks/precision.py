"""What bfloat16, OpenVINO and boxes between keyframes do to keypoints, on trained models.

    python benchmarks/precision.py --data DATA

The shipped models predict real recordings, and pictures that they were not trained on, with every engine of this
computer. Poses are compared with those of torch in float32 twice: in the same boxes, and each with its own
detector. With `--detect-every` boxes come from every n-th frame; there the comparison is with the detector on every
frame. Writes results/precision.json.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from animal_sizes import held_out
from common import number, table, write_result

from napari_superanimal.inference.frame_predictor import predict_frames, predict_in_boxes
from napari_superanimal.inference.keyframes import AUTO, chunk_length, predict_between
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.inference.runtime.engine import EXACT, engines
from napari_superanimal.models.load import load_model
from napari_superanimal.video import open_video

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_superanimal.inference.frame_predictor import Boxes, Frame, Predictions

#: How far keypoints may move from those of float32, px: half of them, and 99 of 100.
MEDIAN_PX, MOST_PX = 0.2, 2.0


@dataclass(frozen=True)
class Clip:
    """A recording and the model for it."""

    video: str
    model: str
    frames: range

    @property
    def name(self) -> str:
        return Path(self.video).name

    def shots(self, data: Path) -> list[Frame]:
        video = open_video(data / self.video)
        numbers = self.frames[: len(video)]
        return [frame for _, frame in video.iter_frames(numbers.start, numbers.stop, numbers.step)]


@dataclass(frozen=True)
class Photos:
    """Held-out pictures of a data set that the model was trained on."""

    source: str
    model: str
    count: int = 80

    @property
    def name(self) -> str:
        return f"{self.source}, held-out pictures"

    def shots(self, data: Path) -> list[Frame]:
        return held_out(self.model, self.source, data, self.count, arena=False).frames


CLIPS = (
    Clip("videos/m3v1mp4.mp4", "mouse-topview-mini", range(0, 200)),
    Clip("videos/BrownHorseinShadow.mp4", "quadruped-sideview-mini", range(0, 200)),
    Photos("horse", "quadruped-sideview-mini"),
    Photos("sheep", "quadruped-sideview-mini"),
)


class Looks:
    """Counts the frames that a predictor's detector looks at."""

    def __init__(self, predictor: Predictor) -> None:
        self.frames = 0
        self._detect = predictor.detect
        predictor.detect = self  # type: ignore[method-assign, assignment]

    def __call__(self, frames: Sequence[Frame]) -> Sequence[Boxes]:
        self.frames += len(frames)
        return self._detect(frames)


def in_parts(
    frames: Sequence[Frame], length: int, work: Callable[[Sequence[Frame], int], Predictions]
) -> list[np.ndarray]:
    """Keypoints (T, A, K, 2) and likelihood (T, A, K) of all frames, chunk by chunk."""
    parts = [work(frames[i : i + length], i) for i in range(0, len(frames), length)]
    return [
        np.concatenate([getattr(p, name) for p in parts])
        for name in ("xy", "likelihood", "boxes", "box_scores")
    ]


def shifts(exact: Sequence[np.ndarray], other: Sequence[np.ndarray], threshold: float) -> dict[str, Any]:
    """Distances of keypoints from the exact ones; those that only one side has are counted apart."""
    both = np.isfinite(exact[0]).all(-1) & np.isfinite(other[0]).all(-1)
    only = np.isfinite(exact[0]).all(-1) ^ np.isfinite(other[0]).all(-1)
    moved = np.linalg.norm(exact[0] - other[0], axis=-1)
    sure = both & (exact[1] >= threshold)
    found: dict[str, Any] = {"only_one_has": int(only.sum())}
    for name, chosen in (("all", both), ("confident", sure)):
        values = moved[chosen].astype(np.float64)
        found[name] = {
            "keypoints": int(chosen.sum()),
            "median_px": float(np.median(values)),
            "p95_px": float(np.quantile(values, 0.95)),
            "p99_px": float(np.quantile(values, 0.99)),
            "largest_px": float(values.max()),
        }
    found["likelihood_p99"] = float(np.quantile(np.abs(exact[1] - other[1])[both], 0.99))
    return found


def measure(data: Path, clip: Clip | Photos, every: int) -> dict[str, Any]:
    """Every engine on one recording, and keyframes where frames follow each other."""
    shots = clip.shots(data)
    model = load_model(clip.model)
    predictor = Predictor(model, device="cpu")
    threshold = model.card.threshold
    started = time.perf_counter()
    exact = in_parts(shots, predictor.chunk_frames, lambda part, _: predict_frames(predictor, part))
    seconds = time.perf_counter() - started
    kept: list[Boxes] = [
        (boxes[np.isfinite(scores)], scores[np.isfinite(scores)])
        for boxes, scores in zip(exact[2], exact[3], strict=True)
    ]
    rows = {}
    for engine in engines(predictor.device):
        if engine == EXACT:
            continue
        other = Predictor(model, device="cpu", runtime=engine.runtime, precision=engine.precision)

        def same(part: Sequence[Frame], at: int, other: Predictor = other) -> Predictions:
            return predict_in_boxes(other, part, kept[at : at + len(part)])

        def own(part: Sequence[Frame], _: int, other: Predictor = other) -> Predictions:
            return predict_frames(other, part)

        rows[str(engine)] = {
            "same_boxes": shifts(exact, in_parts(shots, predictor.chunk_frames, same), threshold),
            "own_boxes": shifts(exact, in_parts(shots, predictor.chunk_frames, own), threshold),
        }
    size = float(np.median(np.sqrt(np.nanmean(exact[2][..., 2] * exact[2][..., 3], axis=-1))))
    found = {
        "video": clip.name,
        "model": clip.model,
        "frames": len(shots),
        "exact_seconds": seconds,
        "likelihood_threshold": threshold,
        "box_size_px": size,
        "engines": rows,
    }
    if isinstance(clip, Clip):
        looks = Looks(predictor)
        between = in_parts(
            shots, chunk_length(every, 1), lambda part, _: predict_between(predictor, part, every)
        )
        found["keyframes"] = {
            "every": every,
            "detector_share": looks.frames / len(shots),
            **shifts(exact, between, threshold),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the datasets")
    parser.add_argument("--detect-every", type=int, default=AUTO)
    arguments = parser.parse_args()
    with ThreadPoolExecutor(1, initializer=lambda: torch.set_num_threads(1)) as pool:
        clips = [
            pool.submit(measure, arguments.data, clip, arguments.detect_every).result() for clip in CLIPS
        ]
    rows = []
    for clip in clips:
        named = {f"{n}, {k.replace('_', ' ')}": v for n, e in clip["engines"].items() for k, v in e.items()}
        if "keyframes" in clip:
            named["keyframes"] = clip["keyframes"]
        for name, found in named.items():
            for kind in ("confident", "all"):
                values = found[kind]
                figures = [number(values[k], 3) for k in ("median_px", "p95_px", "p99_px", "largest_px")]
                rows.append([clip["video"], name, kind, values["keypoints"], *figures])
    print(table(["video", "what", "keypoints", "n", "median", "95 %", "99 %", "largest"], rows))
    result = {
        "command": "python benchmarks/precision.py --data DATA",
        "limits_px": {"median": MEDIAN_PX, "p99": MOST_PX},
        "clips": clips,
    }
    print(write_result("precision", result).name)


if __name__ == "__main__":
    main()
