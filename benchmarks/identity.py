"""Do individuals keep their identity? Rendered mice that meet, with known tracks.

python benchmarks/identity.py [--frames N]

The shipped mouse model finds the animals; what it finds is put into columns by score (no tracks) and by the tracker.
The tracker was written on the clips marked as seen, and on seeds 9, 102 to 114, 200, 201 and 601 to 617. The others
are, from seed 618 on and in order, the first six clips whose animals' true boxes overlap by an IoU of 0.2 to 0.4 at
most, and the first two of those that overlap more; and four mice of another seed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from common import number, table, write_result

from napari_superanimal.demo.render import Style, render_clip
from napari_superanimal.evaluation.identity import identity_scores
from napari_superanimal.inference.collect import chunk_poses, join_chunks
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.inference.risk_log import RISKY
from napari_superanimal.inference.stream import PredictionStream
from napari_superanimal.models.load import load_model
from napari_superanimal.models.zoo import find_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from napari_superanimal.poses import Poses

MODEL = "mouse-topview-mini"
SIZE = (480, 360)


@dataclass(frozen=True)
class Case:
    """A clip: how many mice, how long relative to the arena, how lively; whether the tracker was written on it."""

    name: str
    mice: int
    seed: int
    body_length: float
    activity: float
    seen: bool = False


def pair(name: str, seed: int, *, seen: bool = False) -> Case:
    """Two mice; those of odd seeds are smaller and slower."""
    size, activity = (0.25, 1.0) if seed % 2 else (0.28, 1.2)
    return Case(f"{name}, seed {seed}", 2, seed, size, activity, seen)


CASES = (
    pair("two mice", 21, seen=True),
    Case("two mice, seed 33", 2, 33, 0.28, 1.2, seen=True),
    *(pair("two mice", seed, seen=True) for seed in (503, 504, 506, 507, 509, 510, 606, 617)),
    *(pair("two mice", seed) for seed in (618, 625, 626, 629, 630, 632)),
    *(pair("two mice on each other", seed, seen=True) for seed in (502, 508, 511)),
    *(pair("two mice on each other", seed) for seed in (619, 620)),
    Case("four large mice, crowded, seed 40", 4, 40, 0.30, 1.6, seen=True),
    Case("four large mice, crowded, seed 500", 4, 500, 0.30, 1.6, seen=True),
    Case("four large mice, crowded, seed 602", 4, 602, 0.30, 1.6),
)


class Rendered:
    """A rendered clip as a source of frames."""

    def __init__(self, frames: Any) -> None:
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def iter_frames(
        self, start: int = 0, stop: int | None = None, step: int = 1
    ) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        for i in range(start, len(self) if stop is None else stop, step):
            yield i, self._frames[i]


def overlap(truth: Poses) -> npt.NDArray[np.float64]:
    """(T,) largest IoU of two animals' boxes."""
    boxes = truth.boxes
    low = np.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = np.minimum(
        boxes[:, :, None, :2] + boxes[:, :, None, 2:], boxes[:, None, :, :2] + boxes[:, None, :, 2:]
    )
    both = np.prod(np.clip(high - low, 0, None), axis=-1)
    area = np.prod(boxes[..., 2:], axis=-1)
    iou = both / (area[:, :, None] + area[:, None] - both)
    iou[:, np.arange(boxes.shape[1]), np.arange(boxes.shape[1])] = 0
    return np.asarray(np.nanmax(iou, axis=(1, 2)))


def measure(case: Case, frames: int) -> dict[str, Any]:
    """One clip with and without tracks."""
    style = Style(body_length=case.body_length, activity=case.activity)
    clip = render_clip(frames, SIZE, case.mice, case.seed, style)
    predictor = Predictor(load_model(find_model(MODEL)), max_individuals=case.mice, flip=False)
    video = Rendered(clip.frames)
    iou = overlap(clip.truth)
    found: dict[str, Any] = {}
    risk = np.zeros((frames, case.mice))
    for name, track in (("untracked", False), ("tracked", True)):
        chunk = join_chunks(list(PredictionStream(video, predictor, range(frames), track=track)))
        found[name] = identity_scores(clip.truth, chunk_poses(predictor, chunk)).to_json()
        risk = chunk.swap_risk
    found["untracked"].pop("switch_frames")
    flagged = risk.max(1) >= RISKY
    switches = found["tracked"]["switch_frames"]
    return {
        "case": case.name,
        "mice": case.mice,
        "seed": case.seed,
        "seen": case.seen,
        "frames": frames,
        "largest_iou": float(iou.max()),
        "frames_overlapping": int((iou > 0.1).sum()),
        **found,
        "frames_at_risk": int(flagged.sum()),
        "mean_risk_touching": float(risk.max(1)[iou > 0.2].mean()) if (iou > 0.2).any() else None,
        "mean_risk_apart": float(risk.max(1)[iou == 0].mean()) if (iou == 0).any() else None,
        # within a third of a second
        "switches_flagged": sum(bool(flagged[max(0, f - 10) : f + 2].any()) for f in switches),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    frames = parser.parse_args().frames
    cases = []
    for case in CASES:
        cases.append(measure(case, frames))
        print(cases[-1]["case"], cases[-1]["tracked"], flush=True)
    write_result("identity", {"model": MODEL, "size": SIZE, "cases": cases})
    header = ("clip", "largest IoU", "IDF1 by score", "IDF1 tracked", "switches by score", "switches tracked")
    print(
        table(
            header,
            [
                (
                    c["case"],
                    number(c["largest_iou"]),
                    number(c["untracked"]["idf1"], 3),
                    number(c["tracked"]["idf1"], 3),
                    c["untracked"]["switches"],
                    c["tracked"]["switches"],
                )
                for c in cases
            ],
        )
    )


if __name__ == "__main__":
    main()
