"""Write into the shipped models' cards what the pictures are like that they know, for `superanimal check`.

    python benchmarks/measure_card_distributions.py --data DATA [--proportions-only]

Sizes, brightness and contrast of the animals in the training data, and the proportions of their bodies, which
adaptation asks for; on held-out animals and on datasets the model has never seen also how familiar they are, how sure
the model is and how far off. Run it after a model was trained anew (update_cards.py keeps what it writes), then
`python docs/make_model_cards.py`. One core, two minutes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from evaluate_minis import MODELS, RECIPES, datasets

from napari_superanimal.evaluation.evaluate import evaluate_predictions
from napari_superanimal.evaluation.pictures import animal_figures, distribution, novelty_of
from napari_superanimal.evaluation.run import predict_images
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.models.card import write_card
from napari_superanimal.models.known import KEY, PROPORTIONS
from napari_superanimal.models.load import LoadedModel, load_model
from napari_superanimal.models.zoo import find_model
from napari_superanimal.poses import Poses, with_boxes
from napari_superanimal.poses.proportions import MOST, learn_proportions
from napari_superanimal.training.config import read_config
from napari_superanimal.training.datasets import load_datasets
from napari_superanimal.training.rendered import rendered_dataset
from napari_superanimal.training.samples import FrameReader, read_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_superanimal.keypoints import KeypointSpace

#: Training pictures per model: sizes and light do not need all of them.
PICTURES = 200
#: Rendered pictures whose truth tells the proportions of rendered animals.
RENDERED = 90
RIGHT_WITHIN = 0.1
COMMAND = "python benchmarks/measure_card_distributions.py --data DATA"


def animals(poses: Poses, reader: FrameReader) -> Iterator[tuple[Any, np.ndarray]]:
    """(picture, box) of every labelled animal."""
    boxes = with_boxes(poses).boxes
    for row in range(len(poses)):
        who = np.flatnonzero(poses.found[row].any(-1))
        if len(who):
            frame = reader(poses, row)
            for a in who:
                yield frame, boxes[row, a]


def light_and_size(poses: Poses) -> dict[str, dict[str, float]]:
    """Distributions over training animals, each dataset counting the same."""
    sources = np.array(poses.sources)
    names = list(dict.fromkeys(poses.sources))
    values: dict[str, list[float]] = {}
    rng = np.random.default_rng(0)
    for name in names:
        rows = np.flatnonzero(sources == name)
        count = PICTURES // len(names)
        chosen = rng.choice(rows, count, replace=len(rows) < count)
        for frame, box in animals(poses.take(np.sort(chosen)), read_image):
            for key, value in animal_figures(frame, box).items():
                values.setdefault(key, []).append(value)
    return {key: distribution(v) for key, v in values.items()}


def bodies(poses: Poses) -> np.ndarray:
    """Labelled animals (N, K, 2) of training data, about as many from each dataset; boxes are not needed."""
    sources = np.array(poses.sources)
    names = list(dict.fromkeys(poses.sources))
    each = MOST // len(names)
    parts = []
    for name in names:
        xy = poses.xy[sources == name]
        xy = xy[np.isfinite(xy).all(-1).sum(-1) >= 3]  # (M, K, 2): rows and animals together
        parts.append(xy[np.random.default_rng(0).permutation(len(xy))[:each]])
    return np.concatenate(parts)


def proportions(training: Poses, recipe: Path, space: KeypointSpace, view: str) -> dict[str, Any]:
    """For the card: of all labelled animals, and of rendered ones where the recipe has them."""
    parts = [bodies(training)]
    for dataset in read_config(recipe).datasets:
        if dataset.rendered:
            known = {
                k for k, seen in zip(training.keypoints, training.found.any((0, 1)), strict=True) if seen
            }
            made, _ = rendered_dataset(RENDERED, known, space, 1, dataset.name)
            xy = np.where((made.visibility > 0)[..., None], made.xy, np.nan)
            parts.append(xy[np.isfinite(xy).all(-1).sum(-1) >= 3])
    learned = learn_proportions(
        np.concatenate(parts), space.keypoints, space.swap, mirrored="top" not in view
    )
    assert learned is not None
    return learned.to_json()


def trust(model: LoadedModel, parts: list[tuple[Poses, FrameReader]]) -> dict[str, Any]:
    """Familiarity, likelihood per animal, and relative error on labelled boxes."""
    novel, sure, off = [], [], []
    right = total = 0
    for poses, reader in parts:
        poses = poses.take(np.flatnonzero(poses.found.any((1, 2))))
        pairs = list(animals(poses, reader))
        novel += novelty_of(model, [f for f, _ in pairs], np.array([b for _, b in pairs])).tolist()
        predictor = Predictor(model, device="cpu", max_individuals=len(poses.individuals))
        predicted = predict_images(poses, predictor, boxes="labels", reader=reader)  # type: ignore[arg-type]
        for row in range(len(predicted)):
            for a in np.flatnonzero(predicted.found[row].any(-1)):
                sure.append(float(np.nanmean(predicted.likelihood[row, a])))
        relative = evaluate_predictions(poses, predicted, model.space).relative
        off += relative[np.isfinite(relative)].tolist()
        right, total = right + int((relative <= RIGHT_WITHIN).sum()), total + len(relative)
    if not total:
        return {}
    return {
        "novelty": distribution(novel),
        "likelihood": distribution(sure),
        "error_relative": distribution(off),
        "right": {"share": round(right / total, 4), "n": total},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument(
        "--proportions-only", action="store_true", help="leave the other distributions as they are"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.models:
        ref = find_model(name)
        model = load_model(ref)
        recipe = RECIPES / f"{name}.yaml"
        training, _ = load_datasets(read_config(recipe), model.space, args.data)
        measured: dict[str, Any] = {PROPORTIONS: proportions(training, recipe, model.space, model.card.view)}
        print(f"{name}: {len(measured[PROPORTIONS]['pairs'])} pairs")
        if not args.proportions_only:
            measured[KEY] = pictures(model, training, recipe, args.data)
        write_card(replace(ref.card, calibration={**ref.card.calibration, **measured}), ref.folder)


def pictures(model: LoadedModel, training: Poses, recipe: Path, data: Path) -> dict[str, Any]:
    """Distributions of known and unseen pictures."""
    parts: dict[str, list[tuple[Poses, FrameReader]]] = {"validation": [], "unseen": []}
    for _, _, role, poses, reader in datasets(model, recipe, data):
        parts[role].append((poses, reader))
    found = {
        "command": COMMAND,
        "known": {**light_and_size(training), **trust(model, parts["validation"])},
        "unseen": trust(model, parts["unseen"]),
    }
    for kind in ("known", "unseen"):
        for key, levels in found[kind].items():  # type: ignore[attr-defined]
            print(f"  {kind:<8}{key:<16}" + "  ".join(f"{k} {v:g}" for k, v in levels.items()))
    return found


if __name__ == "__main__":
    main()
