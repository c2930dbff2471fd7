"""The networks of the released models, with the parameter names of their snapshots.

Names of parameters are part of a file format: modules are named so that a snapshot loads strictly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import timm
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Crop pixels per unit of a network's offset channels.
LOCREF_STD = 7.2801


class HeatmapOutput(NamedTuple):
    """What a heatmap network gives for crops (N, 3, H, W).

    heatmaps : (N, K, h, w), as they come, about 0..1
    offsets : (N, 2K, h, w) in units of `LOCREF_STD` px, channels x0, y0, x1, y1...; None where there are none
    """

    heatmaps: Tensor
    offsets: Tensor | None


class Parts(nn.Module):
    """A module that only holds others under their names."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class DeconvHead(nn.Module):
    """One transposed convolution from features to channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.deconv_layers = nn.Sequential(nn.ConvTranspose2d(inputs, outputs, kernel, stride))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.deconv_layers(x)
        return out


class HRNetPose(nn.Module):
    """HRNet-w32: the finest branch (32 channels, stride 4) and one 1x1 layer."""

    input_size = (256, 256)
    stride = 4

    def __init__(self, keypoints: int) -> None:
        super().__init__()
        body = timm.create_model(
            "hrnet_w32", features_only=True, feature_location="", out_indices=(1, 2, 3, 4), pretrained=False
        )
        self.backbone = Parts(model=body)
        self.heads = Parts(bodypart=Parts(heatmap_head=DeconvHead(32, keypoints, 1, 1)))

    def forward(self, crops: Tensor) -> HeatmapOutput:
        finest = self.backbone.get_submodule("model")(crops)[0]
        return HeatmapOutput(self.heads.get_submodule("bodypart.heatmap_head")(finest), None)

    def prune(self) -> None:
        """Drop what leads only to the branches that nobody reads: the same numbers, less work."""
        last = self.backbone.get_submodule("model.stage4.2")
        last.fuse_layers = nn.ModuleList([last.get_submodule("fuse_layers.0")])


class ResNetPose(nn.Module):
    """ResNet-50 with group norm at stride 16; heatmaps and offsets at stride 8."""

    input_size = (256, 256)
    stride = 8

    def __init__(self, keypoints: int) -> None:
        super().__init__()
        body = timm.create_model("resnet50_gn", output_stride=16, pretrained=False)
        body.fc = nn.Identity()
        self.backbone = Parts(model=body)
        self.heads = Parts(
            bodypart=Parts(
                heatmap_head=DeconvHead(2048, keypoints, 3, 2),
                locref_head=DeconvHead(2048, 2 * keypoints, 3, 2),
            )
        )

    def forward(self, crops: Tensor) -> HeatmapOutput:
        features = self.backbone.get_submodule("model").forward_features(crops)  # type: ignore[operator]
        head = self.heads.get_submodule
        return HeatmapOutput(head("bodypart.heatmap_head")(features), head("bodypart.locref_head")(features))

    def prune(self) -> None:
        """Nothing is superfluous here."""


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of everything that a snapshot of this network must hold."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def fill(network: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Load weights strictly and make the network ready to run.

    Raises
    ------
    RuntimeError
        If they do not fit; `snapshot.misfits` says so for people beforehand.
    """
    with torch.no_grad():
        network.load_state_dict(dict(tensors), strict=True)
    return network.eval().requires_grad_(False)
