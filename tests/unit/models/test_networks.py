"""The parts of our own networks."""

from __future__ import annotations

import copy

import pytest
import torch

from napari_superanimal.inference.runtime.fold import fold_batch_norms
from napari_superanimal.models.networks import NetworkConfig, PoseNet

pytestmark = pytest.mark.usefixtures("one_thread")

NARROW = {"channels": [8, 8, 16, 16], "stem_width": 8}


def network(overview: int) -> PoseNet:
    torch.manual_seed(0)
    return PoseNet(NetworkConfig("resnet10t", NARROW, 8, 4, 96, overview), 2).eval()


def reach(net: PoseNet) -> torch.Tensor:
    """Which cells of the backbone's finest features have a say in the heatmaps' first cell, (24, 24) bool."""
    features: list[torch.Tensor] = []

    def catch(module: torch.nn.Module, inputs: object, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        fine = maps[net.trunk.keep[0]].detach().requires_grad_(True)
        features.append(fine)
        return [fine if i == net.trunk.keep[0] else m.detach() for i, m in enumerate(maps)]

    with torch.enable_grad():
        hook = net.trunk.backbone.register_forward_hook(catch)
        heat = net(torch.randn(1, 3, 96, 96)).heatmaps
        hook.remove()
        heat[0, 0, 0, 0].backward()
    assert features[0].grad is not None
    return features[0].grad[0].abs().sum(0) > 0


def test_an_overview_sees_the_whole_crop() -> None:
    near, all_over = reach(network(0)), reach(network(16))
    assert near.shape == all_over.shape == (24, 24)
    assert near[:2, :2].all()
    assert not near[4:].any()
    assert all_over[-1].any()
    assert all_over[:, -1].any()


@pytest.mark.parametrize("shape", [(96, 96), (64, 96), (36, 52)])
@torch.inference_mode()
def test_an_overview_keeps_the_size_and_folds(shape: tuple[int, int]) -> None:
    """Also where a side is no multiple of what the coarsest scale would need."""
    net = network(16)
    images = torch.randn(2, 3, *shape)
    out = net(images)
    assert out.heatmaps.shape == (2, 2, shape[0] // 4, shape[1] // 4)
    folded = copy.deepcopy(net)
    assert fold_batch_norms(folded) > fold_batch_norms(network(0))
    torch.testing.assert_close(folded(images).heatmaps, out.heatmaps, atol=1e-4, rtol=1e-3)
