"""New keypoints are learned first, and nothing else moves meanwhile."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from napari_superanimal.jobs.progress import Cancelled, CancelToken, Progress
from napari_superanimal.models.networks import NetworkConfig, PoseNet
from napari_superanimal.training.channels import MINI_ROWS
from napari_superanimal.training.loop import LoopConfig
from napari_superanimal.training.new_channels import FASTER, SHARE, learn_new_first
from napari_superanimal.training.targets import keypoint_targets, pose_loss

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = NetworkConfig("resnet10t", {"channels": [8, 8, 16, 16], "stem_width": 8}, 8, 4, 32)
NEW = [1, 3]
LOOP = LoopConfig(steps=600, batch_size=4, learning_rate=2e-3)


@pytest.fixture
def network() -> PoseNet:
    torch.manual_seed(0)
    return PoseNet(CONFIG, 4).eval()


def dots(network: torch.nn.Module, rng: np.random.Generator) -> torch.Tensor:
    """Loss for finding a bright dot; every keypoint lies on it."""
    xy = torch.from_numpy(rng.uniform(6, 26, (4, 1, 2))).float()
    grid = torch.stack(torch.meshgrid(torch.arange(32), torch.arange(32), indexing="xy")).float()
    dot = torch.exp(-(grid - xy[:, 0, :, None, None]).square().sum(1, keepdim=True) / 8)
    heat, shift, weight = keypoint_targets(
        xy.expand(4, 4, 2), torch.full((4, 4), 2), CONFIG.stride, 32 // CONFIG.stride
    )
    out = network(dot.expand(4, 3, 32, 32) * 4 - 1)
    return pose_loss(out.heatmaps, out.offsets, heat, shift, weight)


def test_only_the_new_channels_move_and_they_learn(network: PoseNet) -> None:
    before = copy.deepcopy(network.state_dict())
    frozen = [name for name, w in network.named_parameters() if name == "mix.0.weight"]
    network.mix[0].weight.requires_grad_(False)
    told: list[Progress] = []
    with torch.no_grad():
        loss = float(dots(network, np.random.default_rng(1)))
    learn_new_first(network, MINI_ROWS, NEW, dots, LOOP, on_progress=told.append)
    rows = {row.name: row for row in MINI_ROWS}
    for name, value in network.state_dict().items():
        if name not in rows:
            assert torch.equal(value, before[name]), name
            continue
        for k in range(4):
            same = torch.equal(rows[name].of({name: value}, k), rows[name].of(before, k))
            assert same == (k not in NEW), (name, k)
    network.eval()
    with torch.no_grad():
        assert float(dots(network, np.random.default_rng(1))) < 0.9 * loss
    assert {p.total for p in told} == {round(SHARE * LOOP.steps)}
    assert not any(p.values for p in told), "the steps of the training begin later"
    # afterwards everything learns again, but what was frozen before
    dots(network, np.random.default_rng(2)).backward()
    assert [n for n, w in network.named_parameters() if not w.requires_grad] == frozen
    gradient = network.heatmaps.weight.grad
    assert gradient is not None
    assert (gradient.abs().amax((1, 2, 3)) > 0).all()
    assert FASTER > 1


def test_it_can_be_stopped(network: PoseNet) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        learn_new_first(network, MINI_ROWS, NEW, dots, LOOP, token=token)
    assert all(weight.requires_grad for weight in network.parameters())
