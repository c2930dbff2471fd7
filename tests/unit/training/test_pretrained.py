"""Recipes whose backbone starts from published weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_superanimal.errors import UserError
from napari_superanimal.models.networks import NetworkConfig, PoseNet
from napari_superanimal.training.config import StageConfig, Start
from napari_superanimal.training.loop import LoopConfig, run
from napari_superanimal.training.pretrained import prepare

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

LITE0 = NetworkConfig("tf_efficientnet_lite0", width=8, stride=8, input_size=64)
FROZEN = ("conv_stem", "blocks.0")


def publish(backbone: str, folder: Path, suffix: str = ".safetensors") -> Path:
    """A classifier's weights as timm offers them, here drawn."""
    state = timm.create_model(backbone, pretrained=False).state_dict()
    path = folder / f"{backbone}{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path)
    return path


@pytest.mark.parametrize(
    ("backbone", "suffix", "stem", "spread"),
    [
        # trained on (pixel - 0.5) / 0.5: pictures come with twice that spread here
        ("tf_efficientnet_lite0", ".safetensors", "conv_stem.weight", 0.5),
        ("resnet18", ".pth", "conv1.weight", 1.11),
        # timm names the layers otherwise where only features are asked for
        ("convnext_atto", ".safetensors", "stem_0.weight", 1.11),
    ],
)
def test_a_network_starts_from_published_weights(
    backbone: str, suffix: str, stem: str, spread: float, tmp_path: Path
) -> None:
    path = publish(backbone, tmp_path, suffix)
    published = timm.create_model(
        backbone, features_only=True, pretrained=True, pretrained_cfg_overlay={"file": str(path)}
    )
    network = PoseNet(replace(LITE0, backbone=backbone), 2)
    prepare(network.trunk, StageConfig(network.config, pretrained=Start(path.name)), tmp_path)
    expected: dict[str, Tensor] = published.state_dict()
    assert stem in expected
    for name, value in network.trunk.backbone.state_dict().items():
        factor = spread if name == stem else 1
        torch.testing.assert_close(value, expected[name] * factor, rtol=0.01, atol=0.0, msg=name)


def test_what_is_frozen_stays_and_the_backbone_learns_slower(tmp_path: Path) -> None:
    network = PoseNet(LITE0, 2)
    prepare(network.trunk, StageConfig(LITE0, frozen=FROZEN), tmp_path)
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
        ({"pretrained": Start("nowhere.pth")}, "cannot read the weights"),
        ({"pretrained": Start("pointer.safetensors")}, "cannot read the weights"),
        ({"pretrained": Start("code.pth")}, "cannot read the weights"),
        ({"pretrained": Start("resnet18.pth")}, "do not fit the backbone tf_efficientnet_lite0"),
        ({"frozen": ("blocks.77",)}, "no part 'blocks.77'"),
        ({"frozen": ("block",)}, "no part 'block'"),
    ],
)
def test_what_cannot_be_meant_is_said(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    publish("resnet18", tmp_path, ".pth")
    (tmp_path / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    # a pickle may run code: only tensors are read
    torch.save({"state_dict": {"conv_stem.weight": nn.Conv2d(3, 3, 3)}}, tmp_path / "code.pth")
    network = PoseNet(LITE0, 2)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(UserError, match=said) as caught:
        prepare(network.trunk, StageConfig(LITE0, **changes), tmp_path)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
