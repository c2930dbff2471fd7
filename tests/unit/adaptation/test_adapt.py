"""What training on pseudo-labels must not do."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_superanimal.adaptation.adapt import no_surer
from napari_superanimal.adaptation.pseudo import pseudo_labels, to_samples
from napari_superanimal.inference.pose_pass import Symmetry
from napari_superanimal.training.pose_stage import predict_samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_superanimal.adaptation.teacher import Looks
    from napari_superanimal.models.load import LoadedModel
    from napari_superanimal.models.networks import PoseNet


def test_keypoints_without_labels_grow_no_surer(
    looks_at: Callable[..., Looks], tiny_model: Callable[..., LoadedModel]
) -> None:
    symmetry = Symmetry(mirror=(0, 1, 2))
    start = tiny_model(keypoints=("nose", "left_ear", "tail_base"), detector=False).pose
    rng = np.random.default_rng(0)
    looks = looks_at(200 + rng.uniform(-40, 40, (9, 3, 2)))
    crops = torch.from_numpy(rng.integers(0, 256, tuple(looks.crops.shape), np.uint8))
    samples = to_samples(replace(looks, crops=crops), pseudo_labels(looks, 0.6), "clip")
    trained = copy.deepcopy(start)
    assert trained.heatmaps.bias is not None
    with torch.no_grad():
        trained.heatmaps.bias += torch.tensor([2.0, 1.0, -1.0])

    def sure(network: PoseNet) -> np.ndarray:
        return np.median(predict_samples(network, samples, symmetry)[1], axis=0)

    before, grown = sure(start), sure(trained)
    assert (grown[:2] > before[:2] + 0.01).all()
    no_surer(trained, start, samples, symmetry, np.array([True, False, True]))
    after = sure(trained)
    assert after[0] == pytest.approx(before[0], abs=1e-4)
    assert after[1] == pytest.approx(grown[1], abs=1e-6)
    assert after[2] == pytest.approx(grown[2], abs=1e-6)
    assert after[2] < before[2]
