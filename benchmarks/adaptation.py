"""Adaptation to videos without labels: what it does to jitter, dropped keypoints and errors, and when it is reverted.

    python benchmarks/adaptation.py --data DATA [--only horse dog mouse dark upside-down exchanged detector]

Every run is `superanimal adapt` as users start it, with three seeds: three public videos, a rendered clip darkened and
blurred with known truth, the dog and the horse turned upside down, where the model's own predictions are wrong, and
models that call one part of the body by another's name: steady, sure, and wrong from every side. All figures are of
held-out frames. Labels, where there are any, take no part in learning, but in the decision. `--only
detector` trains the detector, too, on two clips.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from common import IMAGES, number, plain, table, write_result
from scipy.ndimage import gaussian_filter

from napari_superanimal.adaptation.adapt import AdaptSettings
from napari_superanimal.demo.render import render_clip
from napari_superanimal.jobs.adapt import AdaptOptions, adapt_files
from napari_superanimal.models.card import write_card
from napari_superanimal.models.zoo import find_model
from napari_superanimal.poses.formats import registry
from napari_superanimal.video import VideoWriter, open_video

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from napari_superanimal.jobs.adapt import Outcome

QUADRUPED, MOUSE = "quadruped-sideview-mini", "mouse-topview-mini"
#: Names that a model is made to exchange, by clip.
EXCHANGED = {
    "dog": (("front_left_thai", "front_left_knee"), ("front_right_thai", "front_right_knee")),
    "mouse": (("left_ear", "right_ear"),),
}
RENDERED = 240


@dataclass(frozen=True)
class Case:
    """One clip: its model, its labels, what the decision should be (None: whatever comes), the detector too."""

    name: str
    video: Path
    model: str | Path
    labels: Path | None = None
    expected: str | None = None
    detector: bool = False

    @property
    def seeds_needed(self) -> bool:
        """Whether seeds make a difference that is worth its time."""
        return self.expected is None and not self.detector


def darkened(frame: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """An eighth of the light, out of focus, noisy."""
    soft = gaussian_filter(frame.astype(np.float32), (6.0, 6.0, 0))
    return np.clip(0.12 * soft + 5 + rng.normal(0, 8, frame.shape), 0, 255).astype(np.uint8)


def write_video(path: Path, frames: Any, fps: float, change: Callable[[Any], Any]) -> Path:
    """A video of changed frames."""
    first = change(frames[0])
    with VideoWriter(path, fps, (first.shape[1], first.shape[0])) as writer:
        for i in range(len(frames)):
            writer.write(np.ascontiguousarray(change(frames[i])))
    return path


def exchanged(model: str, folder: Path, pairs: Iterable[tuple[str, str]]) -> Path:
    """A copy of a model that calls keypoints by each other's names."""
    ref = find_model(model)
    out = folder / f"{model}-exchanged"
    shutil.copytree(ref.folder, out)
    other = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    write_card(replace(ref.card, keypoints=tuple(other.get(k, k) for k in ref.card.keypoints)), out)
    return out


class _Frames:
    """The frames of a video by number."""

    def __init__(self, path: Path) -> None:
        self.video = open_video(path)

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, i: int) -> npt.NDArray[np.uint8]:
        return self.video.frame(i)


def cases(data: Path, folder: Path, only: set[str]) -> list[Case]:
    """The clips that can be had here; made ones are written into `folder`."""
    found = []
    videos = data / "videos"
    horse, dog, mouse = (videos / f"{n}.mp4" for n in ("BrownHorseinShadow", "DogRun", "m3v1mp4"))
    truth = data / "horse10_video_gt" / "BrownHorseinShadow_gt.h5"
    if "horse" in only and horse.is_file():
        found.append(Case("horse", horse, QUADRUPED, truth))
    if "dog" in only and dog.is_file():
        found.append(Case("dog", dog, QUADRUPED))
    if "mouse" in only and mouse.is_file():
        found.append(Case("mouse", mouse, MOUSE))
    if "dark" in only:
        clip = render_clip(RENDERED, size=(480, 360), seed=77)
        rng = np.random.default_rng(0)
        path = write_video(folder / "dark.mp4", clip.frames, clip.fps, lambda f: darkened(f, rng))
        labels = folder / "dark_truth.h5"
        registry.write(replace(clip.truth, scorer="truth"), labels, "dlc-h5", overwrite=True)
        found.append(Case("rendered mouse, dark and blurred", path, MOUSE, labels))
    if "upside-down" in only:
        for name, path, model in (("dog", dog, QUADRUPED), ("horse", horse, QUADRUPED)):
            if path.is_file():
                turned = write_video(
                    folder / f"{name}_upside_down.mp4", _Frames(path), 24.0, lambda f: f[::-1, ::-1]
                )
                found.append(Case(f"{name} upside down", turned, model, expected="reverted"))
    if "exchanged" in only:
        for name, path, model in (("dog", dog, QUADRUPED), ("mouse", mouse, MOUSE)):
            if path.is_file():
                wrong = exchanged(model, folder, EXCHANGED[name])
                title = " and ".join(EXCHANGED[name][0]).replace("_", " ")
                found.append(Case(f"{name}, {title} exchanged", path, wrong, expected="reverted"))
    if "detector" in only:
        for name, path, model, labels in (("horse", horse, QUADRUPED, truth), ("mouse", mouse, MOUSE, None)):
            if path.is_file():
                found.append(Case(f"{name}, the detector too", path, model, labels, detector=True))
    return found


def one(case: Case, seed: int, folder: Path) -> tuple[Outcome, float]:
    """One adaptation, and its CPU seconds."""
    out = folder / f"{case.name.replace(' ', '-').replace(',', '')}-{seed}"
    began = time.process_time()
    outcome = adapt_files(
        [case.video],
        AdaptOptions(
            model=case.model,
            out=out,
            settings=AdaptSettings(seed=seed, detector=case.detector),
            labels=case.labels,
            device="cpu",
        ),
    )
    return outcome, time.process_time() - began


def figures(outcome: Outcome) -> dict[str, Any]:
    """What is reported of a run."""
    proof = outcome.proofs[0]
    keep = (
        "jitter_px",
        "jitter_fixed_px",
        "dropped",
        "size_variation",
        "agreement",
        "error_px",
        "right",
        "labels",
        "motion",
    )
    return {
        "decision": outcome.decision,
        "trained": outcome.trained,
        "reasons": list(outcome.reasons),
        "frames": proof.frames,
        "points": proof.points,
        "triplets": proof.triplets,
        "arms": {
            arm: {**{k: getattr(f, k) for k in keep}, "odd": f.odd.share, "odd_told": f.odd.told}
            for arm, f in proof.arms.items()
        },
        "pseudo_labels": next(iter(outcome.pseudo_labels.values()), {}),
        "trust": next(iter(outcome.trust.values()), {}),
    }


def middle(runs: list[dict[str, Any]], arm: str, name: str) -> dict[str, float]:
    """Median, min and max over the seeds."""
    v = np.array([r["arms"][arm][name] for r in runs], np.float64)
    return {"median": float(np.median(v)), "min": float(v.min()), "max": float(v.max())}


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of all seeds of a clip."""
    arms = runs[0]["arms"]
    return {
        "decisions": [r["decision"] for r in runs],
        "arms": {arm: {name: middle(runs, arm, name) for name in arms[arm]} for arm in arms},
    }


def main() -> None:
    names = ("horse", "dog", "mouse", "dark", "upside-down", "exchanged", "detector")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--only", nargs="+", choices=names, default=names[:6])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keep finished runs here and go on from them")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        work = args.work or folder / "work"
        work.mkdir(parents=True, exist_ok=True)
        for case in cases(args.data, folder, set(args.only)):
            runs = []
            for seed in range(args.seeds if case.seeds_needed else 1):
                done = work / f"{case.name}-{seed}.json"
                if not done.is_file():
                    outcome, seconds = one(case, seed, folder)
                    run = plain({"seed": seed, "cpu_seconds": seconds, **figures(outcome)})
                    done.write_text(json.dumps(run), encoding="utf-8")
                    if case.name == "dog" and seed == 0:
                        (IMAGES / "adaptation_dog.svg").write_bytes(
                            (outcome.folder / "jitter.svg").read_bytes()
                        )
                run = json.loads(done.read_text(encoding="utf-8"))
                runs.append(run)
                before, after = run["arms"]["zero-shot"], run["arms"]["adapted"]
                print(
                    f"{case.name}, seed {seed}: {run['decision']}, jitter {number(before['jitter_px'])} -> "
                    f"{number(after['jitter_px'])}, error {number(before['error_px'])} -> {number(after['error_px'])}, "
                    f"{run['cpu_seconds']:.0f} CPU s: {'; '.join(run['reasons'])}",
                    flush=True,
                )
            results[case.name] = {
                "video": case.video.name,
                "model": find_model(case.model).card.name,
                "expected": case.expected,
                "detector": case.detector,
                "runs": runs,
                "summary": summarise(runs),
            }
    rows = [
        [
            name,
            arm,
            *(number(s[k]["median"], d) for k, d in (("jitter_px", 2), ("dropped", 2), ("error_px", 1))),
        ]
        for name, r in results.items()
        for arm, s in r["summary"]["arms"].items()
    ]
    print(table(["clip", "predictions", "jitter px", "dropped", "error px"], rows))
    result = {
        "command": "python benchmarks/adaptation.py --data DATA",
        "settings": AdaptSettings().to_json(),
        "clips": results,
    }
    print(f"written {write_result('adaptation', result).name}")


if __name__ == "__main__":
    main()
