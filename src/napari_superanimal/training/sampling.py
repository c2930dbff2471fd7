"""How often each dataset is drawn in training."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.training.samples import PoseSamples


def balanced(samples: PoseSamples) -> PoseSamples:
    """Samples of which every dataset is drawn equally often, however many animals it has."""
    return replace(samples, weight=balanced_weights(samples.source))


def balanced_weights(sources: Sequence[str]) -> np.ndarray:
    """Weight (N,) float32 of each sample: one over the size of its dataset, 1 on average."""
    names, which, counts = np.unique(np.array(sources, str), return_inverse=True, return_counts=True)
    return (len(sources) / (len(names) * counts[which])).astype(np.float32)
