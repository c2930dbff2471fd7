"""The modes of fine-tuning side by side, on the same split: what is learned, and what is forgotten."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.charts import Series, line_chart, save_chart
from napari_superanimal.jobs.plain_json import plain, write_json
from napari_superanimal.jobs.progress import CancelToken, Progress, ProgressCallback
from napari_superanimal.jobs.trials import PCK, START, Trials, measure, run_one

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RESULT = "compare.json"
FIGURES = (
    *("error_px", "pck", "new_error_px"),
    *("others_error_px", "others_pck", "others_dropped", "others_dropped_share"),
)


def compare(
    trials: Trials,
    out: Path,
    *,
    modes: Sequence[str],
    seeds: int,
    steps: int,
    first_seed: int = 0,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Fine-tune in every mode with every seed; writes ``compare.json`` after each run, and charts at the end.

    Returns
    -------
    dict
        ``runs`` (one row per mode and seed, the starting model's first) and ``summary`` (median, min and max over
        the seeds per mode).

    Raises
    ------
    UserError
        If `out` holds the result of another comparison and `resume` is False.
    Cancelled
        When stopped; finished runs are kept, and `resume` goes on.
    """
    settings = {"modes": list(modes), "seeds": seeds, "first_seed": first_seed, "steps": steps}
    rows = earlier_rows(out / RESULT, settings, resume)
    if not rows:
        start = measure(trials, trials.model, trials.table)
        start.pop("errors_px")
        rows = [{"mode": START, "seed": None, "frames": 0, **start}]
    done = {(r["mode"], r["seed"]) for r in rows}
    wanted = [(mode, seed) for seed in range(first_seed, first_seed + seeds) for mode in modes]
    for n, (mode, seed) in enumerate(wanted):
        if (mode, seed) in done:
            continue
        rows.append(
            run_one(
                trials,
                mode,
                seed,
                out / "models" / f"{mode}-{seed}",
                steps=steps,
                on_progress=numbered(on_progress, n, [steps] * len(wanted), f"{mode}, seed {seed}"),
                token=token,
                resume=True,
            )
        )
        rows[-1].pop("errors_px")
        write_json(out / RESULT, result(trials, settings, rows))
    found = result(trials, settings, rows)
    write_json(out / RESULT, found)
    names = [START, *modes]
    save_chart(
        out / "compare_learned.svg", chart(found, names, "error_px", "mean error, px", "Your keypoints")
    )
    if trials.reference is not None:
        words = "keypoints per animal"
        save_chart(
            out / "compare_forgotten.svg",
            chart(found, names, "others_dropped", f"lost {words}", "The other keypoints"),
        )
    return found


def earlier_rows(path: Path, settings: dict[str, Any], resume: bool) -> list[dict[str, Any]]:
    """Runs of an interrupted comparison with the same settings.

    Raises
    ------
    UserError
        If the file is there and is not to be, or cannot be, continued.
    """
    if not path.is_file():
        return []
    if not resume:
        raise UserError(
            "there is a result in this folder already",
            path=path,
            remedy="choose another --out, or pass --resume to continue it",
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["settings"] == plain(settings):
            return list(data["runs"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot be continued ({error})", path=path, remedy="choose another --out") from error
    raise UserError(
        "was made with other settings", path=path, remedy="choose another --out, or the same settings"
    )


def result(trials: Trials, settings: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is written and returned."""
    return {
        "model": trials.model.card.name,
        "settings": settings,
        "training_images": len(trials.training),
        "test_images": len(trials.test),
        "keypoints": list(trials.known),
        "others": list(trials.others),
        "others_are": "labelled" if trials.reference_is_truth else "what the starting model is sure of",
        "summary": summarise(rows),
        "runs": rows,
    }


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Median, min and max over the seeds, by mode and figure."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for mode in dict.fromkeys(r["mode"] for r in rows):
        figures = {}
        for figure in FIGURES:
            values = [r[figure] for r in rows if r["mode"] == mode and r.get(figure) is not None]
            if values:
                v = np.array(values, np.float64)
                figures[figure] = {
                    "median": float(np.median(v)),
                    "min": float(v.min()),
                    "max": float(v.max()),
                }
        out[mode] = figures
    return out


def chart(found: dict[str, Any], names: Sequence[str], figure: str, y_title: str, title: str) -> str:
    """One figure by mode, a point per seed."""
    place = {name: float(i) for i, name in enumerate(names)}
    series = [
        Series(
            name,
            [
                (place[name], r[figure])
                for r in found["runs"]
                if r["mode"] == name and r.get(figure) is not None
            ],
        )
        for name in names
    ]
    short = ["start" if n == START else n for n in names]
    return line_chart(series, title=title, x_title="", y_title=y_title, x_names=short)


def table_of(found: dict[str, Any]) -> str:
    """The comparison for a person: medians over the seeds, and the range in brackets."""

    def cell(figures: dict[str, dict[str, float]], name: str, digits: int) -> str:
        if name not in figures:
            return "-"
        f = figures[name]
        text = f"{f['median']:.{digits}f}"
        return text if f["min"] == f["max"] else f"{text} ({f['min']:.{digits}f}..{f['max']:.{digits}f})"

    columns = [("your keypoints: px", "error_px", 2), ("PCK@" + PCK, "pck", 3)]
    if any("new_error_px" in f for f in found["summary"].values()):
        columns.append(("new ones: px", "new_error_px", 2))
    if found["others"]:
        columns += [("others: px", "others_error_px", 2), ("lost per animal", "others_dropped", 2)]
    lines = [f"{'mode':<16}" + "".join(f"{title:>24}" for title, _, _ in columns)]
    for mode, figures in found["summary"].items():
        cells = [cell(figures, name, digits) for _, name, digits in columns]
        lines.append(f"{mode:<16}" + "".join(f"{c:>24}" for c in cells))
    if found["others"]:
        lines.append("")
        lines.append(f"others: {', '.join(found['others'])}; measured against {_against(found)}")
    return "\n".join(lines)


def _against(found: dict[str, Any]) -> str:
    return "labels" if found["others_are"] == "labelled" else "what the starting model is sure of"


def numbered(
    on_progress: ProgressCallback | None, n: int, lengths: Sequence[int], what: str
) -> ProgressCallback | None:
    """Progress of run `n` among several of `lengths` steps: steps of all runs, and which one it is."""
    if on_progress is None:
        return None

    def tell(progress: Progress) -> None:
        share = progress.done / max(progress.total, 1)
        later = sum(lengths[n + 1 :])
        on_progress(
            Progress(
                round(sum(lengths[:n]) + share * lengths[n]),
                sum(lengths),
                progress.rate,
                progress.eta_s + later / progress.rate if progress.rate > 0 else float("nan"),
                f"{what} (run {n + 1} of {len(lengths)})",
                progress.values,
            )
        )

    return tell
