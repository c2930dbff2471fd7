"""How often each dataset is drawn in training."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_superanimal.training.config import TrainConfig
    from napari_superanimal.training.samples import PoseSamples


def balanced(samples: PoseSamples) -> PoseSamples:
    """Samples of which every dataset is drawn equally often, however many animals it has."""
    return replace(samples, weight=balanced_weights(samples.source))


def balanced_weights(sources: Sequence[str]) -> np.ndarray:
    """Weight (N,) float32 of each sample: one over the size of its dataset, 1 on average."""
    names, which, counts = np.unique(np.array(sources, str), return_inverse=True, return_counts=True)
    return (len(sources) / (len(names) * counts[which])).astype(np.float32)


def balance_datasets(config: TrainConfig, data: Path) -> TrainConfig:
    """A recipe whose datasets are drawn equally often, rendered pictures among them.

    Parameters
    ----------
    data : Path
        Folder that the recipe's dataset paths are relative to.
    """
    from napari_superanimal.keypoints import load_space
    from napari_superanimal.training.datasets import load_datasets

    training, _ = load_datasets(config, load_space(config.space), data)
    sources = np.repeat(np.array(training.sources, str), training.found.any(-1).sum(-1))
    drawn = [d.name for d in config.datasets for _ in range(d.rendered)]
    every = (*sources.tolist(), *drawn)
    weight = dict(zip(every, balanced_weights(every).tolist(), strict=True))
    return replace(
        config, datasets=tuple(replace(d, weight=weight.get(d.name, 1.0)) for d in config.datasets)
    )
