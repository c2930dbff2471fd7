"""Recipes whose backbone starts from published weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from napari_superanimal.errors import UserError
from napari_superanimal.models.networks import NetworkConfig, PoseNet
from napari_superanimal.training import pretrained
from napari_superanimal.training.config import StageConfig
from napari_superanimal.training.loop import LoopConfig, run
from napari_superanimal.training.pretrained import PRETRAINED, prepare, read_state

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

NAME = "efficientnet-lite0-imagenet"
LITE0 = NetworkConfig("tf_efficientnet_lite0", width=8, stride=8, input_size=64)
FROZEN = ("conv_stem", "blocks.0")


def stage(network: NetworkConfig = LITE0, **changes: Any) -> StageConfig:
    return StageConfig(network, **{"pretrained": NAME, "frozen": FROZEN, **changes})


def test_a_network_starts_from_the_published_weights() -> None:
    network = PoseNet(LITE0, 2)
    prepare(network.trunk, stage())
    published = read_state(PRETRAINED[NAME])
    for name, value in network.trunk.backbone.state_dict().items():
        # pictures come with twice the spread that the weights were trained for
        factor = 0.5 if name == "conv_stem.weight" else 1.0
        assert torch.equal(value, published[name] * factor), name


def test_what_is_frozen_stays_and_the_backbone_learns_slower() -> None:
    network = PoseNet(LITE0, 2)
    prepare(network.trunk, stage())
    before = {k: v.detach().clone() for k, v in network.named_parameters()}
    images = torch.randn(2, 3, 64, 64)

    def loss(net: nn.Module, rng: np.random.Generator) -> Tensor:
        return net(images).heatmaps.square().mean()

    loop = LoopConfig(steps=1, batch_size=2, learning_rate=1e-3, backbone_rate=0.1, weight_decay=0.0)
    run(network, loss, loop)
    moved = {k: float((v.detach() - before[k]).abs().max()) for k, v in network.named_parameters()}
    frozen = [k for k in moved if k.startswith(tuple(f"trunk.backbone.{part}." for part in FROZEN))]
    assert len(frozen) == 7
    assert all(moved[k] == 0 for k in frozen)
    # the first step of Adam moves every weight by the learning rate
    backbone = max(v for k, v in moved.items() if ".backbone." in k)
    rest = max(v for k, v in moved.items() if ".backbone." not in k)
    assert backbone == pytest.approx(0.1 * rest, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pretrained": "resnet"}, "no pretrained weights 'resnet'"),
        ({"network": NetworkConfig("resnet10t")}, "do not fit"),
        ({"frozen": ("blocks.77",)}, "no part 'blocks.77'"),
        ({"frozen": ("block",)}, "no part 'block'"),
    ],
)
def test_what_cannot_be_meant_is_said(changes: dict[str, Any], said: str) -> None:
    chosen = replace(stage(), **changes)
    with pytest.raises(UserError, match=said) as caught:
        prepare(PoseNet(chosen.network, 2).trunk, chosen)
    assert caught.value.remedy


def test_weights_that_are_not_there_or_others_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(pretrained.PRETRAINED, NAME, replace(PRETRAINED[NAME], package="no_such_package"))
    with pytest.raises(UserError, match=r"no_such_package, which is not installed") as caught:
        prepare(PoseNet(LITE0, 2).trunk, stage())
    assert "recipes" in str(caught.value.remedy)

    package = tmp_path / "other_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "weights.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    monkeypatch.syspath_prepend(tmp_path)
    other = replace(PRETRAINED[NAME], package="other_weights", file="weights.pth")
    monkeypatch.setitem(pretrained.PRETRAINED, NAME, other)
    with pytest.raises(UserError, match="not the weights that the recipe starts from") as caught:
        prepare(PoseNet(LITE0, 2).trunk, stage())
    assert caught.value.path == package / "weights.pth"
