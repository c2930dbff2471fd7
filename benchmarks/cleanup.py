"""Clean-up and smoothing judged on tracks whose truth is known, with injected swaps, outliers and noise.

`python benchmarks/cleanup.py` takes the true keypoints of rendered recordings (mice from above), spoils them and
says how many of the spoilt points are found, how many others are accused, and how far points are from the truth
before and after. With `--predict N` also N rendered frames per clip as the shipped model sees them.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from common import number, table, write_result

from napari_superanimal.demo.render import render_clip
from napari_superanimal.evaluation.jitter import steadiness
from napari_superanimal.keypoints import load_space
from napari_superanimal.smoothing import METHODS, SmoothOptions, clean, find_problems, smooth

if TYPE_CHECKING:
    from napari_superanimal.poses import Poses

SPACE = "superanimal_topviewmouse"
#: Noise as a share of the body's length, about that of the shipped model on animals it knows (2 px of 90).
NOISE = 0.02


def spoil(truth: Poses, rng: np.random.Generator, swaps: int, outliers: int) -> tuple[Poses, Any, Any]:
    """Noise, runs of exchanged pairs (single ones and all at once) and runs of stray points.

    Returns
    -------
    poses, and the (T, A, K) cells that were exchanged and that were moved away
    """
    space = load_space(SPACE)
    size = _size(truth)
    xy = truth.xy + rng.normal(0, NOISE * size, truth.xy.shape)
    exchanged, strayed = np.zeros(truth.likelihood.shape, bool), np.zeros(truth.likelihood.shape, bool)
    t_all, animals = len(truth), len(truth.individuals)
    for _ in range(swaps):
        start, length, a = rng.integers(5, t_all - 30), rng.integers(1, 21), rng.integers(animals)
        rows = np.arange(start, start + length)
        every = list(range(len(space.pairs)))
        for p in every if rng.random() < 0.5 else rng.choice(every, 1):
            pair = [space.index(name) for name in space.pairs[p]]
            if exchanged[rows][:, a][:, pair].any():
                continue
            xy[rows[:, None], a, [pair]] = xy[rows[:, None], a, [pair[::-1]]]
            exchanged[rows[:, None], a, [pair]] = True
    for _ in range(outliers):
        start, length = rng.integers(5, t_all - 30), rng.integers(1, 9)
        a, k = rng.integers(animals), rng.integers(len(space))
        rows = np.arange(start, start + length)
        angle = rng.uniform(0, 2 * np.pi)
        xy[rows, a, k] += rng.uniform(0.3, 1.2) * size * np.array([np.cos(angle), np.sin(angle)])
        strayed[rows, a, k] = True
    return replace(truth, xy=xy, scorer="spoilt"), exchanged, strayed


def _size(truth: Poses) -> float:
    space = load_space(SPACE)
    body = truth.xy[:, :, space.index("nose")] - truth.xy[:, :, space.index("tail_base")]
    return float(np.nanmedian(np.linalg.norm(body, axis=-1)))


def cells(poses: Poses, findings: Any, kind: str) -> Any:
    """(T, A, K) cells that findings of a kind name."""
    mask = np.zeros(poses.likelihood.shape, bool)
    row = {int(f): i for i, f in enumerate(poses.frames)}
    for finding in findings:
        if finding.kind == kind:
            rows = np.array([row[int(f)] for f in finding.frames])
            k = [poses.keypoints.index(name) for name in finding.keypoints]
            mask[rows[:, None], poses.individuals.index(finding.individual), [k]] = True
    return mask


def share(hit: Any, of: Any) -> float:
    return float((hit & of).sum() / of.sum()) if of.sum() else float("nan")


def error(poses: Poses, truth: Poses) -> float:
    """Mean distance from the truth, px, of what both have."""
    off = np.linalg.norm(poses.xy - truth.xy, axis=-1)
    return float(np.nanmean(off))


def far(poses: Poses, truth: Poses) -> float:
    """Share of points more than a tenth of the body away, missing ones counted."""
    off = np.linalg.norm(poses.xy - truth.xy, axis=-1)[truth.found]
    return float((~(off <= 0.1 * _size(truth))).mean())


def detection(seeds: list[int], frames: int) -> dict[str, Any]:
    """Findings against what was injected, and on clips where nothing was."""
    rows: dict[str, list[float]] = {}
    for seed in seeds:
        truth = render_clip(frames, n_mice=1 + seed % 2, seed=seed).truth
        rng = np.random.default_rng(seed)
        spoilt, exchanged, strayed = spoil(truth, rng, swaps=frames // 60, outliers=frames // 20)
        began = time.perf_counter()
        findings = find_problems(spoilt)
        seconds = time.perf_counter() - began
        mended = clean(spoilt, findings)
        swap, stray = cells(spoilt, findings, "swap"), cells(spoilt, findings, "outlier")
        # an exchanged pair that lies together looks the same either way: count those that matter
        apart = np.linalg.norm(spoilt.xy - truth.xy, axis=-1) > 0.1 * _size(truth)
        quiet, _, _ = spoil(truth, rng, 0, 0)
        false = find_problems(quiet)
        figures = {
            "swap_recall": share(swap, exchanged & apart),
            "swap_precision": share(exchanged, swap & apart),
            "outlier_recall": share(stray, strayed),
            "outlier_precision": share(strayed, stray),
            "accused_cells_of_a_clean_track": float(
                (cells(quiet, false, "swap") | cells(quiet, false, "outlier")).mean()
            ),
            "wrong_before": far(spoilt, truth),
            "wrong_after": far(mended, truth),
            "error_px_before": error(spoilt, truth),
            "error_px_after": error(mended, truth),
            "frames_per_second": frames / seconds,
        }
        for name, value in figures.items():
            rows.setdefault(name, []).append(value)
    return {
        name: {"mean": float(np.nanmean(v)), "min": float(np.nanmin(v)), "max": float(np.nanmax(v))}
        for name, v in rows.items()
    }


def smoothing(seeds: list[int], frames: int) -> dict[str, Any]:
    """Error and jitter of every method on noisy tracks, as they are and cleaned."""
    out: dict[str, Any] = {}
    settings = {
        "none": None,
        **{name: SmoothOptions(method=name) for name in METHODS},
    }
    for kind, swaps, outliers in (
        ("noise only", 0, 0),
        ("noise, swaps and outliers, cleaned first", frames // 60, frames // 20),
    ):
        for name, options in settings.items():
            errors, jitters, true_jitters = [], [], []
            for seed in seeds:
                truth = render_clip(frames, n_mice=1 + seed % 2, seed=seed).truth
                spoilt, _, _ = spoil(truth, np.random.default_rng(seed), swaps, outliers)
                poses = clean(spoilt, find_problems(spoilt)) if swaps else spoilt
                result = poses if options is None else smooth(poses, options)
                errors.append(error(result, truth))
                jitters.append(steadiness(result).jitter_px)
                true_jitters.append(steadiness(truth).jitter_px)
            out.setdefault(kind, {})[name] = {
                "error_px": float(np.mean(errors)),
                "jitter_px": float(np.mean(jitters)),
                "jitter_of_the_truth_px": float(np.mean(true_jitters)),
            }
    return out


def predicted(seeds: list[int], frames: int, model: str) -> dict[str, Any]:
    """The same on what the shipped model sees in rendered frames."""
    import torch

    from napari_superanimal.inference.build import build_predictor
    from napari_superanimal.inference.collect import Collector
    from napari_superanimal.inference.stream import Chunk
    from napari_superanimal.models.zoo import find_model

    torch.set_num_threads(1)
    predictor = build_predictor(find_model(model), device="cpu")
    sums: dict[str, list[tuple[float, float, float]]] = {}
    for seed in seeds:
        clip = render_clip(frames, seed=seed)
        collector = Collector(predictor, range(frames))
        for start in range(0, frames, 16):
            part = clip.frames[start : start + 16]
            found = predictor(part)
            numbers = np.arange(start, start + len(part))
            collector.add(Chunk(numbers, found.xy, found.likelihood, found.boxes, found.box_scores))
        raw = collector.poses()
        kept = [k for k in range(len(raw.keypoints)) if raw.found[..., k].any()]
        truth = replace(clip.truth, individuals=raw.individuals)
        findings = find_problems(raw)
        mended = clean(raw, findings)
        steps = {"as predicted": raw, "cleaned": mended}
        steps |= {f"cleaned, {name}": smooth(mended, SmoothOptions(method=name)) for name in METHODS}
        for name, poses in steps.items():
            off = np.linalg.norm(poses.xy - truth.xy, axis=-1)[..., kept]
            missing_or_far = ~(off <= 0.1 * _size(clip.truth))
            sums.setdefault(name, []).append(
                (float(np.nanmean(off)), float(missing_or_far.mean()), steadiness(poses).jitter_px)
            )
    return {
        name: dict(zip(("error_px", "wrong", "jitter_px"), np.mean(v, axis=0).tolist(), strict=True))
        for name, v in sums.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=900)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--predict", type=int, default=0, metavar="N", help="also predict N rendered frames")
    parser.add_argument("--model", default="mouse-topview-mini")
    args = parser.parse_args()
    seeds = list(range(args.seeds))
    result: dict[str, Any] = {
        "command": f"python benchmarks/cleanup.py --frames {args.frames} --seeds {args.seeds}"
        + (f" --predict {args.predict}" if args.predict else ""),
        "noise_body_lengths": NOISE,
        "detection": detection(seeds, args.frames),
        "smoothing": smoothing(seeds, args.frames),
    }
    print(
        table(
            ["", "mean", "min", "max"],
            [[k, *(number(v[x], 3) for x in ("mean", "min", "max"))] for k, v in result["detection"].items()],
        )
    )
    for kind, rows in result["smoothing"].items():
        print(f"\n{kind}\n")
        print(
            table(
                ["method", "error px", "jitter px"],
                [[k, number(v["error_px"]), number(v["jitter_px"])] for k, v in rows.items()],
            )
        )
    if args.predict:
        result["predicted"] = predicted(seeds[:3], args.predict, args.model)
        print(f"\npredictions of {args.model} on rendered frames\n")
        print(
            table(
                ["", "error px", "wrong", "jitter px"],
                [
                    [k, number(v["error_px"]), number(v["wrong"], 3), number(v["jitter_px"])]
                    for k, v in result["predicted"].items()
                ],
            )
        )
    print(f"\nwritten {write_result('cleanup', result).name}")


if __name__ == "__main__":
    main()
