"""Small and huge animals: the detector at a single scale, at several, and as `--scales auto` chooses.

    python benchmarks/pyramid.py --data DATA

Animals from a quarter to four times the size that the models were trained on (median of the longer side of the box
relative to the longer side of the picture): rendered mice with truth (one camera, so a small mouse has few pixels),
and held-out real frames (pixels kept: the scene is widened by mirrored background, or cut to a window around the
animal, where labels outside the window do not count). Errors are relative to the animal's size (square root of the
labelled box's area) and capped at 1, which is also what a keypoint costs that was not found.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from common import IMAGES, number, table, write_result
from evaluate_minis import RECIPES

from napari_superanimal.demo.render import render_clip
from napari_superanimal.demo.style import Style
from napari_superanimal.evaluation.evaluate import evaluate_predictions
from napari_superanimal.inference.build import build_predictor
from napari_superanimal.inference.pyramid import PyramidPredictor, survey
from napari_superanimal.jobs.scale_choice import FRAMES as SURVEYED
from napari_superanimal.keypoints import load_space
from napari_superanimal.models.known import known_pictures
from napari_superanimal.models.zoo import find_model
from napari_superanimal.poses import Poses, make_poses, with_boxes
from napari_superanimal.training.config import read_config
from napari_superanimal.training.datasets import load_datasets
from napari_superanimal.training.samples import read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from napari_superanimal.inference.frame_predictor import Frame, FramePredictor

SIZES = (0.25, 0.5, 1.0, 2.0, 4.0)
#: Every scale that `--scales auto` may choose from.
ALL = (0.25, 0.5, 1.0, 2.0, 4.0)
MICE, HORSES = "mouse-topview-mini", "quadruped-sideview-mini"
CAMERA = (640, 480)
SEEDS = (11, 12)
AIM = 1.5


@dataclass(frozen=True)
class Scenes:
    """Pictures with one labelled animal each, which may differ in size."""

    frames: list[Frame]
    truth: Poses


def scenes(
    frames: list[Frame], xy: Sequence[npt.NDArray], boxes: Sequence[npt.NDArray], space: Any
) -> Scenes:
    """Labels outside their picture are left out, and pictures without any left."""
    kept: list[int] = []
    points = []
    for i, (frame, at) in enumerate(zip(frames, xy, strict=True)):
        height, width = frame.shape[:2]
        inside = (at >= 0).all(-1) & (at[..., 0] <= width - 1) & (at[..., 1] <= height - 1)
        if inside.sum() >= 2:
            kept.append(i)
            points.append(np.where(inside[:, None], at, np.nan))
    truth = make_poses(
        space.keypoints,
        np.array(points)[:, None],
        boxes=np.array([boxes[i] for i in kept])[:, None],
        image_sizes=np.array([frames[i].shape[1::-1] for i in kept], np.int64),
        scorer="truth",
    )
    return Scenes([frames[i] for i in kept], truth)


def rendered(share: float, per_seed: int) -> Scenes:
    """Mice of a share of the picture, filmed by one camera: large ones are a window of a larger rendering."""
    frames, xy, boxes = [], [], []
    space = load_space("superanimal_topviewmouse")
    for seed in SEEDS:
        # body length 0.25 gives a box of about 0.2 of the picture's longer side
        zoom = max(share / 0.25, 1.0)
        body = 0.25 * share / 0.2 / zoom
        size = (int(CAMERA[0] * zoom) // 2 * 2, int(CAMERA[1] * zoom) // 2 * 2)
        clip = render_clip(per_seed * 12, size, seed=seed, style=Style(body_length=body, blur=0.8 * zoom))
        for t in range(0, per_seed * 12, 12):
            at, box = clip.truth.xy[t, 0], clip.truth.boxes[t, 0]
            longer = float(box[2:].max()) / share
            frame, shift = window(clip.frames[t], box, longer, CAMERA[0] / CAMERA[1], seed + t)
            frames.append(frame)
            xy.append(at - shift)
            boxes.append(np.concatenate([box[:2] - shift, box[2:]]))
    return scenes(frames, xy, boxes, space)


def window(
    frame: Frame, box: npt.NDArray, longer: float, aspect: float, seed: int
) -> tuple[Frame, npt.NDArray[np.float64]]:
    """A part of the picture around a box, its longer side `longer`; also its left and top edge."""
    height, width = frame.shape[:2]
    w, h = (longer, longer / aspect) if aspect >= 1 else (longer * aspect, longer)
    w, h = min(round(w), width), min(round(h), height)
    centre = box[:2] + box[2:] / 2 + np.random.default_rng(seed).uniform(-0.1, 0.1, 2) * (w, h)
    size, full = np.array([w, h]), np.array([width, height])
    left, top = (round(float(v)) for v in np.clip(centre - size / 2, 0, full - size))
    return np.ascontiguousarray(frame[top : top + h, left : left + w]), np.array([left, top], np.float64)


def widened(
    frame: Frame, background: Frame, factor: float, seed: int
) -> tuple[Frame, npt.NDArray[np.float64]]:
    """The picture somewhere in a scene `factor` times larger; also where its corner lies.

    Around it lies the background, mirrored again and again; for a single photo, its own edges go on.
    """
    height, width = frame.shape[:2]
    h, w = round(height * factor), round(width * factor)
    rng = np.random.default_rng(seed)
    top, left = int(rng.integers(0, h - height + 1)), int(rng.integers(0, w - width + 1))
    pad = ((top, h - height - top), (left, w - width - left), (0, 0))
    scene = np.pad(background, pad, mode="symmetric" if background is not frame else "edge")
    scene[top : top + height, left : left + width] = frame
    return scene, np.array([left, top], np.float64)


def resized(poses: Poses, frames: list[Frame], backgrounds: list[Frame], share: float, space: Any) -> Scenes:
    """Labelled pictures with their animals (the first of each) at a share of the picture."""
    new, xy, boxes = [], [], []
    for i, frame in enumerate(frames):
        box, at = poses.boxes[i, 0], poses.xy[i, 0]
        height, width = frame.shape[:2]
        longer = float(box[2:].max()) / share
        if longer > max(height, width):
            scene, corner = widened(frame, backgrounds[i], longer / max(height, width), i)
        else:
            scene, corner = window(frame, box, longer, width / height, i)
            corner = -corner
        new.append(scene)
        xy.append(at + corner)
        boxes.append(np.concatenate([box[:2] + corner, box[2:]]))
    return scenes(new, xy, boxes, space)


def held_out(recipe: str, source: str, data: Path, space: Any, count: int) -> tuple[Poses, list[Frame]]:
    """Held-out labelled pictures with one whole animal."""
    _, held = load_datasets(read_config(RECIPES / f"{recipe}.yaml"), space, data)
    held = with_boxes(held.take(np.array(held.sources) == source))
    alone = np.flatnonzero(held.found.any(-1).sum(1) == 1)
    alone = alone[np.asarray(held.found[alone, 0].sum(-1)) >= 3]
    held = held.take(alone[np.linspace(0, len(alone) - 1, count).round().astype(int)])
    return held, [read_image(held, row) for row in range(len(held))]


def measure(predictor: FramePredictor, part: Scenes) -> dict[str, Any]:
    """Error relative to the animal's size, PCK, share of pictures with an animal, CPU time."""
    k = len(predictor.space)
    xy, sure = np.full((len(part.frames), 1, k, 2), np.nan), np.full((len(part.frames), 1, k), np.nan)
    began = time.process_time()
    for i, frame in enumerate(part.frames):
        found = predictor([frame])
        xy[i], sure[i] = found.xy[0], found.likelihood[0]
    spent = time.process_time() - began
    predicted = make_poses(predictor.space.keypoints, xy, likelihood=sure, image_sizes=part.truth.image_sizes)
    report = evaluate_predictions(part.truth, predicted, predictor.space)
    error = np.minimum(report.relative, 1.0)
    seen = np.isfinite(report.relative)
    right = report.relative <= 0.1
    return {
        "n": len(part.frames),
        "error": float(error.mean()),
        "median": float(np.median(error)),
        "pck": float(right.mean()),
        "found": float(np.isfinite(xy).all(-1).any(-1).mean()),
        "likelihood": float(report.likelihood[seen].mean()) if seen.any() else None,
        "ms": 1000 * spent / len(part.frames),
    }


@dataclass(frozen=True)
class Subject:
    """Where animals come from."""

    name: str
    what: str
    model: str
    scenes: Callable[[float], Scenes]


def real(model: str, source: str, what: str, data: Path, count: int, *, arena: bool) -> Subject:
    """Held-out frames of one data set; with `arena`, the background is the median of the frames of a recording."""
    space = load_space(find_model(model).card.space_name)
    poses, frames = held_out(model, source, data, space, count)
    backgrounds = frames
    if arena:
        recordings = [str(Path(image).parent) for image in poses.images]
        of = {
            r: np.median(np.stack([f for f, other in zip(frames, recordings, strict=True) if other == r]), 0)
            for r in set(recordings)
        }
        backgrounds = [of[r].astype(np.uint8) for r in recordings]
    return Subject(source, what, model, lambda share: resized(poses, frames, backgrounds, share, space))


def bounded(rows: dict[str, dict[str, Any]]) -> float:
    """Largest error relative to the best size's, over sizes."""
    errors = [row["error"] for row in rows.values()]
    return max(errors) / min(errors)


def draw(result: dict[str, Any]) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    subjects = result["subjects"]
    figure, axes = plt.subplots(
        1, len(subjects), figsize=(3.1 * len(subjects), 3.2), dpi=110, layout="constrained", sharey=True
    )
    for ax, (name, subject) in zip(axes, subjects.items(), strict=True):
        for way, colour in (("single", "#cc3311"), ("all", "#3366aa"), ("auto", "#117733")):
            values = [subject["sizes"][f"{s:g}"][way]["error"] for s in SIZES]
            ax.plot(
                SIZES, values, marker="o", ms=4, color=colour, label=way, ls="--" if way == "auto" else "-"
            )
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(SIZES, [f"{s:g}x" for s in SIZES])
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("animal's size")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("mean error, animal sizes")
    axes[0].legend(fontsize=8)
    figure.savefig(IMAGES / "pyramid.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--frames", type=int, default=6, help="pictures per subject and size")
    args = parser.parse_args()
    torch.set_num_threads(1)
    subjects = [
        Subject(
            "rendered mouse",
            "rendered, truth, one camera",
            MICE,
            lambda share: rendered(share, args.frames // 2),
        ),
        real(MICE, "openfield", "mouse, held-out frames", args.data, args.frames, arena=True),
        real(MICE, "oft", "mouse, held-out animal", args.data, args.frames, arena=True),
        real(HORSES, "horse", "horse, held-out animals", args.data, args.frames, arena=False),
        real(HORSES, "sheep", "sheep, held-out recordings", args.data, args.frames, arena=False),
    ]
    out: dict[str, Any] = {"frames": args.frames, "scales": list(ALL), "aim": AIM, "subjects": {}}
    for subject in subjects:
        plain = build_predictor(find_model(subject.model), device="cpu")
        usual = float(known_pictures(plain.card)["animal_share"]["0.5"])
        sizes: dict[str, Any] = {}
        for size in SIZES:
            part = subject.scenes(size * usual)
            began = time.process_time()
            rows = np.unique(
                np.linspace(0, len(part.frames) - 1, min(SURVEYED, len(part.frames))).round().astype(int)
            )
            found = survey(plain, [part.frames[row] for row in rows], ALL)
            spent = time.process_time() - began
            row: dict[str, Any] = {
                "single": measure(plain, part),
                "all": measure(PyramidPredictor(plain, ALL), part),
                "scales": list(found.scales),
                "survey_s": round(spent, 1),
                "keypoints": int(part.truth.found.sum()),
            }
            row["auto"] = (
                measure(PyramidPredictor(plain, found.scales), part) if found.scales else row["single"]
            )
            sizes[f"{size:g}"] = row
            print(
                f"{subject.name:16s}{size:5g}  "
                + "  ".join(
                    f"{w} {row[w]['error']:.3f} ({row[w]['pck']:.2f}, {row[w]['ms']:.0f} ms)"
                    for w in ("single", "all", "auto")
                ),
                found.scales,
                flush=True,
            )
        ways = ("single", "all", "auto")
        worst = {w: bounded({k: r[w] for k, r in sizes.items()}) for w in ways}
        out["subjects"][subject.name] = {
            "what": subject.what,
            "model": subject.model,
            "usual_share": usual,
            "sizes": sizes,
            "worst_over_best": worst,
        }
        print(subject.name, {w: round(v, 2) for w, v in worst.items()}, flush=True)
    write_result("pyramid", out)
    draw(out)
    head = ["subject", "size", "single", "all", "auto"]
    lines = [
        [name, f"{size}x", *(number(r[w]["error"], 3) for w in head[2:])]
        for name, s in out["subjects"].items()
        for size, r in s["sizes"].items()
    ]
    print(table(head, lines))


if __name__ == "__main__":
    main()
