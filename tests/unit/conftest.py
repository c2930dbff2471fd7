"""Small real models for tests of the engine; torch is imported only where it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.models.load import LoadedModel

# how fast an example is depends on what else the machine does
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

#: Spreads the head's answers over the crop: an untrained head says the same everywhere.
HEAD_SPREAD = 0.6


@pytest.fixture
def tiny_model(one_thread: None) -> Callable[..., LoadedModel]:
    """Builds an untrained model of 32 px crops (and 64 px pictures for the detector) in a few milliseconds."""

    def build(
        space: KeypointSpace | None = None,
        keypoints: tuple[str, ...] | None = None,
        *,
        detector: bool = True,
        seed: int = 0,
        **card: object,
    ) -> LoadedModel:
        import torch

        from napari_superanimal.keypoints import load_space
        from napari_superanimal.models.card import ModelCard
        from napari_superanimal.models.load import LoadedModel
        from napari_superanimal.models.networks import DetectorNet, NetworkConfig, PoseNet

        torch.manual_seed(seed)
        space = space or load_space("superanimal_topviewmouse")
        keypoints = keypoints or ("nose", "left_ear", "right_ear", "tail_base")
        narrow = {"channels": [8, 8, 16, 16], "stem_width": 8}
        pose = PoseNet(NetworkConfig("resnet10t", narrow, 8, 4, 32), len(keypoints))
        finder = DetectorNet(NetworkConfig("resnet10t", narrow, 8, 8, 64)) if detector else None
        for layer in (pose.heatmaps, pose.offsets, *([finder.heatmaps, finder.boxes] if finder else [])):
            torch.nn.init.normal_(layer.weight, std=HEAD_SPREAD)
        if finder is not None:
            torch.nn.init.zeros_(finder.heatmaps.bias)
        values: dict[str, object] = {
            "name": "tiny",
            "space": space.to_json(),
            "keypoints": keypoints,
            "view": "top view",
            "pose": pose.config.to_json(),
            "detector": finder.config.to_json() if finder else {},
            "detector_threshold": 0.0,
        }
        made = ModelCard(**{**values, **card})  # type: ignore[arg-type]
        return LoadedModel(made, space, pose.eval(), finder.eval() if finder else None, {})

    return build
