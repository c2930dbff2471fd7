"""Small and huge animals: the detector at a single scale, at several, and as `--scales auto` chooses.

    python benchmarks/pyramid.py --data DATA

The same animals, rendered with truth and held-out real ones, from a quarter to four times the size that the models
were trained on: as a share of the picture, in pixels, and both (see `animal_sizes.py`). Errors are relative to the
animal's size (square root of the labelled box's area) and capped at 1, which is also what a keypoint costs that was
not found. Beside the ways to predict stands what the pose network makes of the labelled boxes: no choice of scales
can be much better than that.

Two questions are answered. Over sizes: how much larger is a way's error at its worst size than at its best? At each
size: how much larger is it than that of the best single scale of the pyramid, which nobody knows beforehand?
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from animal_sizes import (
    KINDS,
    OTHERS,
    SIZES,
    Pictures,
    Scenes,
    Subject,
    held_out,
    rendered,
    subject,
    walking_horse,
)
from common import IMAGES, RESULTS, evenly, number, table, write_result

from napari_superanimal.inference.build import build_predictor
from napari_superanimal.inference.pyramid import SCALES, PyramidPredictor
from napari_superanimal.inference.remembering import Remembering
from napari_superanimal.inference.survey import survey
from napari_superanimal.jobs.scale_choice import FRAMES as SURVEYED
from napari_superanimal.models.known import known_pictures
from napari_superanimal.models.zoo import find_model

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from napari_superanimal.inference.frame_predictor import Boxes, Frame, FramePredictor

MICE, HORSES = "mouse-topview-mini", "quadruped-sideview-mini"
AIM = 1.5
LABELS, SINGLE, ALL, AUTO = "labels", "single", "all", "auto"
ALONE = tuple(f"{s:g}" for s in SCALES)
#: Draws of pictures with replacement, for the range of a ratio.
DRAWS = 2000
#: Pictures per size that tell the time.
TIMED = 1


def in_found_boxes(predictor: FramePredictor) -> Callable[[Frame, int], Boxes]:
    """Keypoints (K, 2) and likelihood (K,) of the animal that a predictor finds."""

    def look(frame: Frame, _: int) -> Boxes:
        found = predictor([frame])
        return found.xy[0, 0], found.likelihood[0, 0]

    return look


def in_labelled_boxes(predictor: FramePredictor, part: Scenes) -> Callable[[Frame, int], Boxes]:
    """The same in the labelled box of each picture."""

    def look(frame: Frame, row: int) -> Boxes:
        xy, sure = predictor.pose([frame], part.truth.boxes[row, :1])
        return xy[0], sure[0]

    return look


def milliseconds(predictor: FramePredictor, part: Scenes) -> float:
    """CPU time per picture, over a few of them."""
    began = time.process_time()
    for frame in part.frames[:TIMED]:
        predictor([frame])
    return 1000 * (time.process_time() - began) / min(TIMED, len(part.frames))


def measure(
    look: Callable[[Frame, int], Boxes], part: Scenes, known: npt.NDArray[np.int64]
) -> tuple[dict[str, Any], npt.NDArray[np.float64]]:
    """Figures, and the capped errors by picture and keypoint (n, K), NaN where nothing is labelled."""
    xy = np.full((len(part.frames), *part.truth.xy.shape[2:]), np.nan)
    for i, frame in enumerate(part.frames):
        xy[i] = look(frame, i)[0]
    truth = part.truth.xy[:, 0, known]
    size = np.sqrt(np.prod(part.truth.boxes[:, 0, 2:], axis=-1))
    error = np.linalg.norm(xy[:, known] - truth, axis=-1) / size[:, None]
    capped = np.where(np.isfinite(truth).all(-1), np.minimum(np.nan_to_num(error, nan=np.inf), 1.0), np.nan)
    labelled = capped[np.isfinite(capped)]
    figures = {
        "error": float(labelled.mean()),
        "median": float(np.median(labelled)),
        "pck": float((labelled <= 0.1).mean()),
        "found": float(np.isfinite(xy).all(-1).any(-1).mean()),
    }
    return figures, capped


def worst_over_best(errors: npt.NDArray[np.float64], seed: int = 0) -> dict[str, Any]:
    """Largest mean error over the smallest, over sizes, for errors (sizes, n, K); 5 and 95 % over draws of pictures.

    A maximum over a minimum is larger the fewer pictures there are: the range tells how far to believe it.
    """
    sums, counts = np.nansum(errors, axis=2), np.isfinite(errors).sum(2)
    rows = np.random.default_rng(seed).integers(0, errors.shape[1], (DRAWS, errors.shape[1]))
    drawn = sums[:, rows].sum(-1) / counts[:, rows].sum(-1)
    ratios = drawn.max(0) / drawn.min(0)
    means = sums.sum(1) / counts.sum(1)
    medians = np.nanmedian(errors.reshape(len(errors), -1), axis=1)
    return {
        "mean": float(means.max() / means.min()),
        "low": float(np.quantile(ratios, 0.05)),
        "high": float(np.quantile(ratios, 0.95)),
        "median": float(medians.max() / medians.min()),
    }


def one_size(
    plain: FramePredictor, part: Scenes, known: npt.NDArray[np.int64]
) -> tuple[dict[str, Any], dict[str, npt.NDArray[np.float64]]]:
    """Every way on the pictures of one kind and size."""
    n = len(part.frames)
    quick = Remembering(plain, part.frames)
    rows = evenly(n, SURVEYED)
    found = survey(quick, [part.frames[row] for row in rows], seconds=600)
    row: dict[str, Any] = {
        "n": n,
        "share": part.share,
        "pixels": part.pixels,
        "scales": list(found.scales),
        "survey": found.to_json(),
        "keypoints": int(np.isfinite(part.truth.xy[:, 0, known]).all(-1).sum()),
    }
    errors = {}
    looks = {
        LABELS: in_labelled_boxes(quick, part),
        SINGLE: in_found_boxes(quick),
        **{f"{s:g}": in_found_boxes(PyramidPredictor(quick, (s,))) for s in SCALES},
        ALL: in_found_boxes(PyramidPredictor(quick, SCALES)),
        AUTO: in_found_boxes(PyramidPredictor(quick, found.scales) if found.scales else quick),
    }
    for way, look in looks.items():
        row[way], errors[way] = measure(look, part, known)
    row[SINGLE]["ms"] = milliseconds(plain, part)
    row[ALL]["ms"] = milliseconds(PyramidPredictor(plain, SCALES), part)
    chosen = PyramidPredictor(plain, found.scales) if found.scales else None
    row[AUTO]["ms"] = milliseconds(chosen, part) if chosen else row[SINGLE]["ms"]
    best = min((SINGLE, *ALONE), key=lambda way: row[way]["error"])
    row["best"] = {"scale": best, "error": row[best]["error"]}
    return row, errors


def one_subject(animal: Subject) -> dict[str, Any]:
    """Every kind and size of a subject."""
    plain = build_predictor(find_model(animal.model), device="cpu")
    known = np.array([plain.space.index(k) for k in plain.card.keypoints])
    usual = one_size(plain, animal.scenes("share", 1.0), known)
    out: dict[str, Any] = {
        "what": animal.what,
        "model": animal.model,
        "usual_share": animal.usual,
        "kinds": {},
    }
    for kind in KINDS:
        measured = {}
        for size in sorted({*OTHERS[kind], 1.0}):
            measured[size] = usual if size == 1 else one_size(plain, animal.scenes(kind, size), known)
            row = measured[size][0]
            print(
                f"{animal.name:15s}{kind:7s}{size:5g}x {row['pixels']:5.0f} px {100 * row['share']:3.0f} %  "
                + "  ".join(
                    f"{w} {row[w]['error']:.4f}/{row[w]['median']:.4f}" for w in (LABELS, SINGLE, ALL, AUTO)
                ),
                f"({row[SINGLE]['ms']:.0f}/{row[ALL]['ms']:.0f}/{row[AUTO]['ms']:.0f} ms)",
                " ".join(f"{w} {row[w]['error']:.3f}" for w in ALONE),
                f"auto {row['scales']}",
                flush=True,
            )
        ways = (LABELS, SINGLE, ALL, AUTO)
        over = {w: worst_over_best(np.stack([e[w] for _, e in measured.values()])) for w in ways}
        beside = {
            w: max(row[w]["error"] / row["best"]["error"] for row, _ in measured.values())
            for w in (SINGLE, ALL, AUTO)
        }
        above = {
            w: max(row[w]["error"] / row[LABELS]["error"] for row, _ in measured.values())
            for w in (SINGLE, ALL, AUTO)
        }
        out["kinds"][kind] = {
            "sizes": {f"{size:g}": row for size, (row, _) in measured.items()},
            "worst_over_best": over,
            "over_best_scale": beside,
            "over_labels": above,
        }
        print(
            f"{animal.name:15s}{kind:7s}",
            {
                w: f"{v['mean']:.2f} ({v['low']:.2f}..{v['high']:.2f}; {v['median']:.2f})"
                for w, v in over.items()
            },
            "over best scale",
            {w: round(v, 2) for w, v in beside.items()},
            "over labels",
            {w: round(v, 2) for w, v in above.items()},
            flush=True,
        )
    return out


def draw(result: dict[str, Any]) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    subjects = result["subjects"]
    figure, axes = plt.subplots(
        len(KINDS),
        len(subjects),
        figsize=(2.6 * len(subjects), 2.3 * len(KINDS)),
        dpi=100,
        layout="constrained",
        sharex=True,
        sharey="col",
        squeeze=False,
    )
    lines = (
        (LABELS, "#888888", ":"),
        (SINGLE, "#cc3311", "-"),
        (ALL, "#3366aa", "-"),
        (AUTO, "#117733", "--"),
    )
    for column, (name, measured) in enumerate(subjects.items()):
        for ax, (kind, found) in zip(axes[:, column], measured["kinds"].items(), strict=True):
            for way, colour, style in lines:
                values = [(float(size), row[way]["error"]) for size, row in found["sizes"].items()]
                label = "labelled boxes" if way == LABELS else way
                ax.plot(*zip(*values, strict=True), marker="o", ms=3, color=colour, label=label, ls=style)
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.set_xticks(SIZES, [f"{s:g}x" for s in SIZES])
            ax.grid(alpha=0.3)
            if column == 0:
                ax.set_ylabel(f"{kind}\nmean error, animal sizes", fontsize=8)
        axes[0, column].set_title(name, fontsize=10)
    axes[0, 0].legend(fontsize=7)
    figure.savefig(IMAGES / "pyramid.png")


def subjects_in(data: Path, count: int) -> list[Subject]:
    usual = {m: float(known_pictures(find_model(m).card)["animal_share"]["0.5"]) for m in (MICE, HORSES)}

    def mouse(name: str, what: str, pictures: Pictures) -> Subject:
        return subject(name, what, MICE, usual[MICE], pictures)

    def horse(name: str, what: str, pictures: Pictures) -> Subject:
        return subject(name, what, HORSES, usual[HORSES], pictures)

    def held(model: str, source: str, *, arena: bool) -> Pictures:
        return held_out(model, source, data, count, arena=arena)

    found = [
        mouse("rendered mouse", "rendered, truth", rendered(count)),
        horse("sheep", "sheep, held-out recordings", held(HORSES, "sheep", arena=False)),
        horse("horse", "horse, held-out animals", held(HORSES, "horse", arena=False)),
        mouse("oft", "mouse, held-out animal", held(MICE, "oft", arena=True)),
        mouse("openfield", "mouse, held-out frames", held(MICE, "openfield", arena=True)),
    ]
    if (data / "horse10_video_gt").is_dir():
        unseen = walking_horse(HORSES, data, count)
        found.append(horse("walking horse", "a video that the model has never seen", unseen))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--frames", type=int, default=8, help="pictures per subject and size")
    parser.add_argument("--only", nargs="+", help="these subjects; the others stay as they were measured")
    args = parser.parse_args()
    torch.set_num_threads(1)
    subjects = subjects_in(args.data, args.frames)
    out: dict[str, Any] = {"frames": args.frames, "scales": list(SCALES), "aim": AIM}
    found: dict[str, Any] = {}
    if args.only and (RESULTS / "pyramid.json").is_file():
        found = json.loads((RESULTS / "pyramid.json").read_text(encoding="utf-8"))["subjects"]
    for animal in subjects:
        if not args.only or animal.name in args.only:
            found[animal.name] = one_subject(animal)
            # in the order of the list, and nothing is lost where it takes long
            out["subjects"] = {s.name: found[s.name] for s in subjects if s.name in found}
            write_result("pyramid", out)
    draw(out)
    head = ["subject", "kind", "size", LABELS, SINGLE, ALL, AUTO]
    lines = [
        [name, kind, f"{size}x", *(number(row[w]["error"], 4) for w in head[3:])]
        for name, s in out["subjects"].items()
        for kind, found in s["kinds"].items()
        for size, row in found["sizes"].items()
    ]
    print(table(head, lines))


if __name__ == "__main__":
    main()
