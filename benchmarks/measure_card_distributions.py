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
from napari_superanimal.evaluation.run import predict_images
from napari_superanimal.inference.pictures import novelty_of
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.models.card import write_card
from napari_superanimal.models.known import KEY, PROPORTIONS
from napari_superanimal.models.load import LoadedModel, load_model
from napari_superanimal.models.zoo import find_model
from napari_superanimal.training.config import read_config
from napari_superanimal.training.datasets import load_datasets
from napari_superanimal.training.knowledge import animals, knowledge, tried
from napari_superanimal.training.rendered import rendered_dataset
from napari_superanimal.training.samples import read_image
from napari_superanimal.training.train import known_keypoints

if TYPE_CHECKING:
    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.poses import Poses
    from napari_superanimal.training.samples import FrameReader

COMMAND = "python benchmarks/measure_card_distributions.py --data DATA"


def what_it_learned_from(training: Poses, recipe: Path, space: KeypointSpace, view: str) -> dict[str, Any]:
    """As training writes it into a card: labelled animals, and rendered ones where the recipe has them."""
    config = read_config(recipe)
    known = known_keypoints(training, space)
    drawn = [
        rendered_dataset(each.rendered, known, space, config.pose.loop.seed + number, each.name)[0]
        for number, each in enumerate(d for d in config.datasets if d.rendered)
    ]
    return knowledge(training, space, view, reader=read_image, of=(training, *drawn))


def trust(model: LoadedModel, parts: list[tuple[Poses, FrameReader]]) -> dict[str, Any]:
    """Familiarity, likelihood per animal, and relative error on labelled boxes."""
    novel, sure, off = [], [], []
    for poses, reader in parts:
        poses = poses.take(np.flatnonzero(poses.found.any((1, 2))))
        each = list(animals(poses, reader))
        novel += novelty_of(model, [f for _, f, _ in each], np.array([b for _, _, b in each])).tolist()
        predictor = Predictor(model, device="cpu", max_individuals=len(poses.individuals))
        predicted = predict_images(poses, predictor, boxes="labels", reader=reader)  # type: ignore[arg-type]
        for row in range(len(predicted)):
            for a in np.flatnonzero(predicted.found[row].any(-1)):
                sure.append(float(np.nanmean(predicted.likelihood[row, a])))
        off += evaluate_predictions(poses, predicted, model.space).relative.tolist()
    return tried(novel, sure, np.array(off))


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
        measured = what_it_learned_from(training, recipe, model.space, model.card.view)
        print(f"{name}: {len(measured[PROPORTIONS]['pairs'])} pairs")
        if args.proportions_only:
            del measured[KEY]
        else:
            measured[KEY] = pictures(model, measured[KEY]["known"], recipe, args.data)
        write_card(replace(ref.card, calibration={**ref.card.calibration, **measured}), ref.folder)


def pictures(model: LoadedModel, known: dict[str, Any], recipe: Path, data: Path) -> dict[str, Any]:
    """Distributions of known and unseen pictures."""
    parts: dict[str, list[tuple[Poses, FrameReader]]] = {"validation": [], "unseen": []}
    for _, _, role, poses, reader in datasets(model, recipe, data):
        parts[role].append((poses, reader))
    found = {
        "command": COMMAND,
        "known": {**known, **trust(model, parts["validation"])},
        "unseen": trust(model, parts["unseen"]),
    }
    for kind in ("known", "unseen"):
        for key, levels in found[kind].items():  # type: ignore[attr-defined]
            print(f"  {kind:<8}{key:<16}" + "  ".join(f"{k} {v:g}" for k, v in levels.items()))
    return found


if __name__ == "__main__":
    main()
