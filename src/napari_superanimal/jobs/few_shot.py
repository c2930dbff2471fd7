"""How many labelled frames are needed: error by number of frames, mode and seed (as in the paper's Fig. 1e)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.charts import Band, Series, line_chart, save_chart
from napari_superanimal.jobs.compare import earlier_rows, numbered
from napari_superanimal.jobs.plain_json import write_json
from napari_superanimal.jobs.trials import START, Trials, measure, run_one

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_superanimal.jobs.progress import CancelToken, ProgressCallback

RESULT = "few_shot.json"
SHARES = (0.01, 0.05, 0.1, 0.5, 1.0)
#: What others are compared with when it is said how many frames they save.
BASELINE = "scratch"


def few_shot(
    trials: Trials,
    out: Path,
    *,
    modes: Sequence[str],
    seeds: int,
    steps: int,
    baseline_steps: int | None = None,
    frames: Sequence[int] = (),
    shares: Sequence[float] = SHARES,
    first_seed: int = 0,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Fine-tune on few and many frames; writes ``few_shot.json`` after each run and ``few_shot.svg`` at the end.

    Parameters
    ----------
    baseline_steps : int, optional
        Of `BASELINE`, which needs more of them than what starts from a model; by default the same.
    frames : sequence of int
        Numbers of frames; empty takes `shares` of the training images, at least one.

    Returns
    -------
    dict
        ``runs``; ``zero_shot`` (the starting model's error with the 95 % interval of its mean over keypoints);
        ``saving`` (for every mode and number of frames, how many frames `BASELINE` needs for the same error).

    Raises
    ------
    UserError
        If there are fewer training images than `frames` asks for, or `out` holds another result.
    Cancelled
        When stopped; finished runs are kept, and `resume` goes on.
    """
    count = len(trials.training)
    sizes = sorted(set(frames) or {max(1, round(share * count)) for share in shares})
    if sizes[0] < 1 or sizes[-1] > count:
        raise UserError(
            f"{sizes[-1]} frames asked for, {count} images to learn from", remedy="ask for fewer frames"
        )
    settings: dict[str, Any] = {
        "modes": list(modes),
        "seeds": seeds,
        "first_seed": first_seed,
        "steps": steps,
        "baseline_steps": baseline_steps or steps,
        "frames": sizes,
    }
    rows = earlier_rows(out / RESULT, settings, resume)
    start = measure(trials, trials.model, trials.table) if trials.known else {}
    wanted = [(n, s, m) for s in range(first_seed, first_seed + seeds) for n in sizes for m in modes]
    done = {(r["frames"], r["seed"], r["mode"]) for r in rows}
    lengths = [settings["baseline_steps"] if mode == BASELINE else steps for _, _, mode in wanted]
    for i, (size, seed, mode) in enumerate(wanted):
        if (size, seed, mode) in done:
            continue
        # the first frames of one shuffle: larger sets contain the smaller ones
        chosen = np.sort(np.random.default_rng(seed).permutation(count)[:size])
        row = run_one(
            trials,
            mode,
            seed,
            out / "models" / f"{mode}-{size}-{seed}",
            steps=lengths[i],
            rows=chosen,
            on_progress=numbered(
                on_progress, i, lengths, f"{mode}, {size} frame{'s' * (size > 1)}, seed {seed}"
            ),
            token=token,
            resume=True,
        )
        row.pop("errors_px", None)
        rows.append(row)
        write_json(out / RESULT, result(trials, settings, start, rows))
    found = result(trials, settings, start, rows)
    write_json(out / RESULT, found)
    save_chart(out / "few_shot.svg", chart(found))
    return found


def result(
    trials: Trials, settings: dict[str, Any], start: dict[str, Any], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """What is written and returned."""
    return {
        "model": trials.model.card.name,
        "settings": settings,
        "training_images": len(trials.training),
        "test_images": len(trials.test),
        "keypoints": list(trials.known),
        "zero_shot": zero_shot(start),
        "curves": {mode: medians(rows, mode) for mode in settings["modes"]},
        "saving": {mode: saving(rows, mode) for mode in settings["modes"] if mode != BASELINE},
        "runs": rows,
    }


def zero_shot(start: dict[str, Any], draws: int = 1000) -> dict[str, float] | None:
    """The starting model's mean error, px, with a bootstrap interval (95 %)."""
    errors = np.array(start.get("errors_px", []), np.float64)
    if not len(errors):
        return None
    rng = np.random.default_rng(0)
    means = errors[rng.integers(0, len(errors), (draws, len(errors)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"error_px": float(errors.mean()), "low": float(low), "high": float(high)}


def medians(rows: Sequence[dict[str, Any]], mode: str) -> list[dict[str, float]]:
    """Median error over the seeds, and its range, by number of frames."""
    out = []
    for size in sorted({r["frames"] for r in rows if r["mode"] == mode}):
        v = np.array([r["error_px"] for r in rows if r["mode"] == mode and r["frames"] == size], np.float64)
        out.append(
            {
                "frames": size,
                "error_px": float(np.median(v)),
                "min": float(v.min()),
                "max": float(v.max()),
                "seeds": len(v),
            }
        )
    return out


def saving(rows: Sequence[dict[str, Any]], mode: str) -> list[dict[str, Any]]:
    """For every number of frames, how many frames the baseline needs for the same error.

    Read off the baseline's curve of medians, straight between points on logarithmic axes. ``at_least`` says that
    the baseline does not get there with all its frames, and gives these.
    """
    base = medians(rows, BASELINE)
    out: list[dict[str, Any]] = []
    for point in medians(rows, mode):
        needed, reached = frames_for(point["error_px"], base)
        if needed is not None:
            out.append(
                {
                    "frames": point["frames"],
                    "error_px": point["error_px"],
                    "baseline_frames": needed,
                    "times_fewer": needed / point["frames"],
                    "at_least": not reached,
                }
            )
    return out


def frames_for(error: float, curve: Sequence[dict[str, float]]) -> tuple[float | None, bool]:
    """Frames at which a curve first comes down to `error`, and whether it does; (None, False) without a curve."""
    if not curve:
        return None, False
    for i, point in enumerate(curve):
        if point["error_px"] <= error:
            if i == 0:
                return float(point["frames"]), True
            before = curve[i - 1]
            share = math.log(before["error_px"] / error) / math.log(before["error_px"] / point["error_px"])
            return float(before["frames"] * (point["frames"] / before["frames"]) ** share), True
    return float(curve[-1]["frames"]), False


def chart(found: dict[str, Any]) -> str:
    """Error over frames, a point per seed, with the zero-shot band."""
    zero = found["zero_shot"]
    band = None
    if zero is not None:
        band = Band(f"{START}, untrained", zero["low"], zero["error_px"], zero["high"])
    series = [
        Series(mode, [(float(r["frames"]), r["error_px"]) for r in found["runs"] if r["mode"] == mode])
        for mode in found["settings"]["modes"]
    ]
    return line_chart(
        series,
        title=f"{found['test_images']} held-back images",
        x_title="labelled frames",
        y_title="mean error, px",
        band=band,
    )


def table_of(found: dict[str, Any]) -> str:
    """The curve for a person."""
    sizes = found["settings"]["frames"]
    lines = [f"{'frames':<16}" + "".join(f"{n:>20}" for n in sizes)]
    for mode, curve in found["curves"].items():
        cells = {p["frames"]: f"{p['error_px']:.2f} ({p['min']:.2f}..{p['max']:.2f})" for p in curve}
        lines.append(f"{mode:<16}" + "".join(f"{cells.get(n, '-'):>20}" for n in sizes))
    if zero := found["zero_shot"]:
        lines.append(f"{'untrained':<16}{zero['error_px']:>20.2f}")
    for mode, points in found["saving"].items():
        if points:
            best = max(points, key=lambda p: p["times_fewer"])
            more = "more than " if best["at_least"] else ""
            lines.append(
                f"{mode} with {best['frames']} frames is as good as {BASELINE} with {more}"
                f"{best['baseline_frames']:.0f}: {more}{best['times_fewer']:.1f} times fewer"
            )
    return "\n".join(lines)
