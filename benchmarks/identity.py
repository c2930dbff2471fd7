"""Do individuals keep their identity? Rendered mice that meet, with known tracks.

python benchmarks/identity.py [--frames N]

The shipped mouse model finds the animals; what it finds is put into columns by score (no tracks) and by the tracker.
The seeds are not those that the tracker's constants were chosen on (1, 2, 5 and 9).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from common import number, table, write_result

from napari_superanimal.demo.render import Style, render_clip
from napari_superanimal.evaluation.identity import identity_scores
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.inference.stream import predict_stream
from napari_superanimal.inference.tracks import RISKY, Tracker
from napari_superanimal.models.load import load_model
from napari_superanimal.models.zoo import find_model
from napari_superanimal.poses import Poses, make_poses

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

MODEL = "mouse-topview-mini"
SIZE = (480, 360)


@dataclass(frozen=True)
class Case:
    """A clip: how many mice, how long relative to the arena, how lively."""

    name: str
    mice: int
    seed: int
    body_length: float
    activity: float


CASES = (
    Case("two mice", 2, 21, 0.25, 1.0),
    Case("two mice, other seed", 2, 33, 0.28, 1.2),
    Case("four large mice, crowded", 4, 40, 0.30, 1.6),
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
    chunks = list(predict_stream(Rendered(clip.frames), predictor, range(frames), track=False))
    boxes, scores, xy, sure = (
        np.concatenate([getattr(c, name) for c in chunks])
        for name in ("boxes", "box_scores", "xy", "likelihood")
    )
    tracker = Tracker(case.mice, len(predictor.space))
    tracked, risk = np.full_like(xy, np.nan), np.zeros((frames, case.mice))
    for t in range(frames):
        step = tracker.assign(boxes[t], scores[t], xy[t], sure[t])
        tracked[t, step.columns], risk[t] = xy[t, step.detections], step.swap_risk
    iou = overlap(clip.truth)
    found: dict[str, Any] = {}
    for name, points in (("untracked", xy), ("tracked", tracked)):
        poses = make_poses(predictor.space.keypoints, points, individuals=predictor.individuals)
        found[name] = identity_scores(clip.truth, poses).to_json()
    flagged = risk.max(1) >= RISKY
    switches = found["tracked"]["switch_frames"]
    return {
        "case": case.name,
        "mice": case.mice,
        "seed": case.seed,
        "frames": frames,
        "largest_iou": float(iou.max()),
        "frames_overlapping": int((iou > 0.1).sum()),
        **found,
        "frames_at_risk": int(flagged.sum()),
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
