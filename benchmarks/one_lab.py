"""A model that knows one laboratory only, to fine-tune on another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from napari_superanimal.models.load import LoadedModel, load_model
from napari_superanimal.training.config import read_config
from napari_superanimal.training.train import train

RECIPE = Path(__file__).parent / "recipes" / "mouse-topview-mini.yaml"
STEPS = 2000


def start_without(lab: str, data: Path, out: Path) -> LoadedModel:
    """A model by the shipped recipe, shorter and without one laboratory, without a detector and calibration.

    What is there already is not trained again.
    """
    if not (out / "card.json").is_file():
        recipe = read_config(RECIPE)
        loop = replace(recipe.pose.loop, steps=STEPS, batch_size=8, validate_every=STEPS, precision="bf16")
        plain = replace(recipe.pose.augmentation, background=0.0, neighbour=0.0)
        config = replace(
            recipe,
            datasets=tuple(d for d in recipe.datasets if d.name != lab),
            pose=replace(recipe.pose, loop=loop, augmentation=plain),
            detector=None,
            leave_one_out=0,
        )
        train(config, data, out, resume=True)
    return load_model(out)
