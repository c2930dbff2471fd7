"""How good the shipped models are: validation animals of their own datasets, and datasets they have never seen.

    python benchmarks/evaluate_minis.py --data DATA

writes results/evaluation.json, results/evaluation.md and docs/images/calibration_<model>.png (needs matplotlib,
in the extra `dev`). One core, a few minutes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from common import IMAGES, RESULTS, evenly, number, table, write_result
from unseen import UNSEEN

from napari_superanimal.errors import UserError
from napari_superanimal.evaluation.evaluate import Report, evaluate_predictions
from napari_superanimal.evaluation.run import predict_images
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.inference.pyramid import PyramidPredictor
from napari_superanimal.inference.survey import survey
from napari_superanimal.jobs.scale_choice import FRAMES
from napari_superanimal.models.load import LoadedModel, load_model
from napari_superanimal.training.calibration import curve, gap
from napari_superanimal.training.config import read_config
from napari_superanimal.training.datasets import load_datasets
from napari_superanimal.training.samples import read_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_superanimal.inference.frame_predictor import FramePredictor
    from napari_superanimal.poses import Poses
    from napari_superanimal.training.samples import FrameReader

RECIPES = Path(__file__).parent / "recipes"
MODELS = ("mouse-topview-mini", "quadruped-sideview-mini")
RIGHT_WITHIN = 0.1
#: Where boxes come from, in words; SCALES is the detector as `--scales auto` uses it.
LABELS, DETECTOR, SCALES = "labels", "detector", "scales"
BOXES = {LABELS: "labels", DETECTOR: "detector", SCALES: "detector, scales auto"}
#: Keypoints that are named of the training pictures.
LEAST = 3


def datasets(
    model: LoadedModel, recipe: Path, data: Path
) -> Iterator[tuple[str, str, str, Poses, FrameReader]]:
    """(name, what it is, "validation" or "unseen", labels in the model's space, reader of pictures)."""
    _, held = load_datasets(read_config(recipe), model.space, data)
    for name, part in by_source(held):
        yield name, "held-out animals or recordings", "validation", part, read_image
    for dataset in UNSEEN.get(model.card.space_name, ()):
        if not (data / dataset.needs).exists():
            print(f"left out: {dataset.name} ({dataset.needs} is not in the data folder)")
            continue
        poses, reader = dataset.load(data, model.space)
        yield dataset.name, dataset.what, "unseen", poses, reader


def by_source(poses: Poses) -> Iterator[tuple[str, Poses]]:
    """Each dataset's part."""
    sources = np.array(poses.sources)
    for name in dict.fromkeys(poses.sources):
        yield name, poses.take(sources == name)


def fit(model: LoadedModel, recipe: Path, data: Path) -> dict[str, Any]:
    """The pictures that it was trained on, in labelled boxes.

    A keypoint that is off even there is labelled now here and now there: what it costs no training can win.
    """
    trained, _ = load_datasets(read_config(recipe), model.space, data)
    return {
        name: evaluate(model, part, read_image, "labels")[0].to_json() for name, part in by_source(trained)
    }


def evaluate(model: LoadedModel, poses: Poses, reader: FrameReader, boxes: str) -> tuple[Report, float]:
    """Report, and milliseconds per picture (reading it included)."""
    poses = poses.take(np.flatnonzero(poses.found.any((1, 2))))
    predictor: FramePredictor = Predictor(model, device="cpu", max_individuals=len(poses.individuals))
    started = time.process_time()
    if boxes == SCALES:
        chosen = survey(predictor, [reader(poses, int(row)) for row in evenly(len(poses), FRAMES)]).scales
        predictor = PyramidPredictor(predictor, chosen) if chosen else predictor
    where: Any = LABELS if boxes == LABELS else DETECTOR
    predicted = predict_images(poses, predictor, boxes=where, reader=reader)
    spent = time.process_time() - started
    return evaluate_predictions(poses, predicted, model.space), 1000 * spent / len(poses)


def trust(report: Report, threshold: float) -> dict[str, Any]:
    """What likelihood is worth: calibration curve, its error, and what the default threshold keeps."""
    found = np.isfinite(report.relative)
    sure, right = report.likelihood[found], report.relative[found] <= RIGHT_WITHIN
    if not len(sure):
        return {"n": 0}
    points = curve(sure, right)
    kept = sure >= threshold
    return {
        "n": len(sure),
        "mean_likelihood": float(sure.mean()),
        "right": float(right.mean()),
        "calibration_error": gap(points),
        "kept": float(kept.mean()),
        "right_of_kept": float(right[kept].mean()) if kept.any() else None,
        "right_of_doubtful": float(right[~kept].mean()) if (~kept).any() else None,
        "curve": points,
    }


def joined(reports: list[Report]) -> Report:
    """Several reports as one, for `trust`: every labelled keypoint weighs the same."""
    first = reports[0]
    arrays = {
        name: np.concatenate([getattr(r, name) for r in reports])
        for name in ("errors", "relative", "likelihood", "keypoint", "pixels")
    }
    return Report(
        first.keypoints,
        sum(r.n_images for r in reports),
        sum(r.n_individuals for r in reports),
        missed=sum(r.missed for r in reports),
        map=float("nan"),
        **arrays,
    )


def evaluate_all(name: str, recipe: Path, data: Path) -> dict[str, Any]:
    """Everything about one model."""
    model = load_model(name)
    out: dict[str, Any] = {
        "sha256": model.card.sha256,
        "created": model.card.created,
        "threshold": model.card.threshold,
        "keypoints": list(model.card.keypoints),
        "datasets": {},
    }
    reports: dict[tuple[str, str], list[Report]] = {}
    for dataset, what, role, poses, reader in datasets(model, recipe, data):
        entry: dict[str, Any] = {"what": what, "role": role}
        for boxes in BOXES:
            report, spent = evaluate(model, poses, reader, boxes)
            entry[boxes] = {**report.to_json(), "trust": trust(report, model.card.threshold)}
            entry[boxes]["cpu_ms_per_image"] = spent
            reports.setdefault((role, boxes), []).append(report)
        out["datasets"][dataset] = entry
        line = entry["detector"]
        print(
            f"{name}  {dataset:16s} {role:10s} n={line['n_images']:4d}  error {number(line['mean_error_px'])} px  "
            f"PCK@0.1 {number(line['pck']['0.1'])}  likelihood {number(line['trust'].get('mean_likelihood'))}",
            flush=True,
        )
    out["trust"] = {
        role: {boxes: trust(joined(reports[role, boxes]), model.card.threshold) for boxes in BOXES}
        for role in ("validation", "unseen")
        if (role, "labels") in reports
    }
    out["fit"] = fit(model, recipe, data)
    return out


def draw(name: str, result: dict[str, Any]) -> None:
    """Calibration plot: likelihood against the share within PCK@0.1."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.2, 4.6), dpi=110, layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.7", lw=1, ls="--", label="what likelihood promises")
    for role, colour, style in (("validation", "#3366aa", "-"), ("unseen", "#cc3311", "-")):
        found = result["trust"].get(role, {}).get("detector")
        if not found or not found["n"]:
            continue
        points = found["curve"]
        title = {"validation": "held-out animals", "unseen": "datasets never seen"}[role]
        label = f"{title}: {found['n']} keypoints, error {found['calibration_error']:.2f}"
        x, y = [p["likelihood"] for p in points], [p["right"] for p in points]
        axes.plot(x, y, style, color=colour, lw=1.8, label=label)
        axes.scatter(x, y, s=[12 + 160 * p["n"] / found["n"] for p in points], color=colour, zorder=3)
    axes.axvline(
        result["threshold"], color="0.4", lw=1, ls=":", label=f"default threshold {result['threshold']:.2f}"
    )
    axes.set(
        xlabel="likelihood",
        ylabel="share within 0.1 of the animal's size (PCK@0.1)",
        title=name,
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.legend(fontsize=8, loc="upper left")
    IMAGES.mkdir(exist_ok=True, parents=True)
    figure.savefig(IMAGES / f"calibration_{name}.png", metadata={"Software": None})
    plt.close(figure)


def accuracy_rows(result: dict[str, Any]) -> list[list[str]]:
    rows = []
    for dataset, entry in result["datasets"].items():
        for boxes, words in BOXES.items():
            e = entry[boxes]
            rows.append(
                [
                    dataset if boxes == LABELS else "",
                    entry["role"],
                    words,
                    str(e["n_images"]),
                    number(e["mean_error_px"]),
                    number(e["pck"]["0.05"]),
                    number(e["pck"]["0.1"]),
                    number(e["map"]),
                    number(e["trust"].get("mean_likelihood")),
                    number(e["trust"].get("calibration_error")),
                ]
            )
    return rows


def trust_table(result: dict[str, Any]) -> str:
    """What likelihood says and what is true, seen and unseen datasets apart; boxes from the detector."""
    header = [
        *("datasets", "keypoints", "PCK@0.1", "likelihood", "calibration error"),
        *(f"share ≥ {result['threshold']:.2f}", "PCK@0.1 of these", "PCK@0.1 of the rest"),
    ]
    names = ("right", "mean_likelihood", "calibration_error", "kept", "right_of_kept", "right_of_doubtful")
    rows = []
    for role, both in result["trust"].items():
        found = both["detector"]
        if found["n"]:
            rows.append([role, str(found["n"]), *(number(found[name]) for name in names)])
    return table(header, rows)


def keypoint_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Per keypoint and dataset: PCK@0.1 and mean likelihood, boxes from the detector."""
    names = list(result["datasets"])
    keypoints = list(
        dict.fromkeys(k for d in names for k in result["datasets"][d]["detector"]["per_keypoint"])
    )
    rows = []
    for keypoint in keypoints:
        row = [f"`{keypoint}`"]
        for dataset in names:
            found = result["datasets"][dataset]["detector"]["per_keypoint"].get(keypoint)
            row.append(
                ""
                if found is None
                else f"{number(found['pck']['0.1'])} / {number(found['mean_likelihood'])} ({found['n']})"
            )
        rows.append(row)
    return ["keypoint", *names], rows


def fit_table(result: dict[str, Any]) -> str:
    """What it makes of its own training pictures, and of which keypoints it makes the least."""
    rows = []
    for dataset, found in result["fit"].items():
        share = {k: v["pck"]["0.05"] for k, v in found["per_keypoint"].items()}
        least = [f"`{k}` {number(share[k])}" for k in sorted(share, key=share.__getitem__)[:LEAST]]
        pck = found["pck"]
        rows.append(
            [dataset, str(found["n_images"]), number(pck["0.05"]), number(pck["0.1"]), ", ".join(least)]
        )
    return table(["dataset", "images", "PCK@0.05", "PCK@0.1", "least, PCK@0.05"], rows)


def markdown(results: dict[str, Any]) -> str:
    """results/evaluation.md."""
    parts = [
        "# Evaluation of the shipped models",
        "",
        "Written by `python benchmarks/evaluate_minis.py --data DATA`. Errors in pixels of the original picture; PCK "
        "relative to the square root of the box's area; a keypoint that was not predicted counts as wrong.",
    ]
    for name, result in results.items():
        header = [
            *("dataset", "role", "boxes", "images", "error px", "PCK@0.05", "PCK@0.1", "mAP"),
            *("likelihood", "calibration error"),
        ]
        parts += ["", f"## {name}", "", table(header, accuracy_rows(result))]
        parts += ["", "What likelihood is worth (boxes from the detector):", "", trust_table(result)]
        parts += [
            "",
            "The pictures that it was trained on (labelled boxes), for comparison:",
            "",
            fit_table(result),
        ]
        parts += ["", "Per keypoint: PCK@0.1 / mean likelihood (labelled keypoints):", ""]
        parts.append(table(*keypoint_rows(result)))
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the datasets")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="names, or folders of models")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for name in arguments.models:
        try:
            card = load_model(name).card
        except UserError as error:
            print(f"left out: {error}")
            continue
        recipe = RECIPES / f"{card.recipe.get('name', card.name)}.yaml"
        results[card.name] = evaluate_all(name, recipe, arguments.data)
        draw(card.name, results[card.name])
    text = markdown(results)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "evaluation.md").write_text(text, encoding="utf-8")
    write_result(
        "evaluation", {"command": "python benchmarks/evaluate_minis.py --data DATA", "models": results}
    )


if __name__ == "__main__":
    main()
