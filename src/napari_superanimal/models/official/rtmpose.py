"""RTMPose: a CSPNeXt backbone and a head that classifies coordinates (SimCC)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_superanimal.models.official.networks import Parts

#: Input channels, output channels, blocks, identity, spatial pyramid pooling of every stage at width 1.
STAGES = (
    (64, 128, 3, True, False),
    (128, 256, 6, True, False),
    (256, 512, 6, True, False),
    (512, 1024, 3, False, True),
)
STRIDE = 32
TOKEN, EXPANDED, SHARED = 256, 512, 128
DECODE_BETA = 150.0
SPLIT = 2.0


@dataclass(frozen=True)
class RtmConfig:
    """What distinguishes the sizes of RTMPose.

    Attributes
    ----------
    deepen, widen : float
        Factors of blocks and channels.
    input_size : (int, int)
        Width and height of the crop, px.
    sigma : (float, float)
        Of the training targets in x and y; the decoding depends on them.
    """

    deepen: float
    widen: float
    input_size: tuple[int, int]
    sigma: tuple[float, float]


RTMPOSE_S = RtmConfig(0.33, 0.5, (256, 256), (5.66, 5.66))
RTMPOSE_X = RtmConfig(1.33, 1.25, (288, 384), (6.0, 6.93))


class SimccOutput(NamedTuple):
    """Scores of every half pixel: x (N, K, 2 * width) and y (N, K, 2 * height)."""

    x: Tensor
    y: Tensor


class ConvUnit(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(x)))


class Block(nn.Module):
    """3x3 convolution, then a separable 5x5 one, with or without the input added."""

    def __init__(self, channels: int, identity: bool) -> None:
        super().__init__()
        self.conv1 = ConvUnit(channels, channels, 3)
        self.conv2 = Parts(
            depthwise_conv=ConvUnit(channels, channels, 5, groups=channels),
            pointwise_conv=ConvUnit(channels, channels, 1),
        )
        self.identity = identity

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2.get_submodule("depthwise_conv")(self.conv1(x))
        out = self.conv2.get_submodule("pointwise_conv")(out)
        return out + x if self.identity else out


class Attention(nn.Module):
    """Weights every channel by what its mean says."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.fc(F.adaptive_avg_pool2d(x, 1)))


class CrossStage(nn.Module):
    """Half of the channels through the blocks, half past them."""

    def __init__(self, channels: int, blocks: int, identity: bool) -> None:
        super().__init__()
        half = channels // 2
        self.main_conv = ConvUnit(channels, half, 1)
        self.short_conv = ConvUnit(channels, half, 1)
        self.final_conv = ConvUnit(2 * half, channels, 1)
        self.blocks = nn.Sequential(*(Block(half, identity) for _ in range(blocks)))
        self.attention = Attention(2 * half)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], 1)
        out: Tensor = self.final_conv(self.attention(both))
        return out


class PyramidPooling(nn.Module):
    """Maxima over windows of 5, 9 and 13 cells beside the features themselves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvUnit(channels, channels // 2, 1)
        self.conv2 = ConvUnit(channels // 2 * 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        out: Tensor = self.conv2(torch.cat([x, *(F.max_pool2d(x, k, 1, k // 2) for k in (5, 9, 13))], 1))
        return out


class CSPNeXt(nn.Module):
    """The backbone: images (N, 3, H, W) to features (N, C, H/32, W/32)."""

    def __init__(self, config: RtmConfig) -> None:
        super().__init__()
        first = int(STAGES[0][0] * config.widen)
        narrow = int(STAGES[0][0] * config.widen // 2)
        self.stem = nn.Sequential(
            ConvUnit(3, narrow, 3, stride=2), ConvUnit(narrow, narrow, 3), ConvUnit(narrow, first, 3)
        )
        for i, (inputs, outputs, blocks, identity, pyramid) in enumerate(STAGES, 1):
            channels = int(outputs * config.widen)
            stage: list[nn.Module] = [ConvUnit(int(inputs * config.widen), channels, 3, stride=2)]
            if pyramid:
                stage.append(PyramidPooling(channels))
            stage.append(CrossStage(channels, max(round(blocks * config.deepen), 1), identity))
            self.add_module(f"stage{i}", nn.Sequential(*stage))
        self.channels = int(STAGES[-1][1] * config.widen)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for i in range(1, len(STAGES) + 1):
            x = self.get_submodule(f"stage{i}")(x)
        return x


class ScaleNorm(nn.Module):
    """Vectors to the length that one trained number gives."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1))
        self.factor = size**-0.5

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * self.factor
        return x / length.clamp_min(1e-5) * self.g


class ChannelScale(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class GatedAttention(nn.Module):
    """Keypoints (N, K, TOKEN) look at each other: gated attention unit with squared ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.uv = nn.Linear(TOKEN, 2 * EXPANDED + SHARED, bias=False)
        self.o = nn.Linear(EXPANDED, TOKEN, bias=False)
        self.gamma = nn.Parameter(torch.ones(2, SHARED))
        self.beta = nn.Parameter(torch.zeros(2, SHARED))
        self.ln = ScaleNorm(TOKEN)
        self.res_scale = ChannelScale(TOKEN)

    def forward(self, x: Tensor) -> Tensor:
        u, v, base = F.silu(self.uv(self.ln(x))).split((EXPANDED, EXPANDED, SHARED), dim=-1)
        query, key = (base[..., None, :] * self.gamma + self.beta).unbind(-2)
        weight = F.relu(query @ key.transpose(-2, -1) / math.sqrt(SHARED)).square()
        out: Tensor = self.res_scale(x) + self.o(u * (weight @ v))
        return out


class SimccHead(nn.Module):
    """A map per keypoint, flattened to a token, and from it scores of all x and all y."""

    def __init__(self, channels: int, keypoints: int, size: tuple[int, int]) -> None:
        super().__init__()
        cells = (size[0] // STRIDE) * (size[1] // STRIDE)
        self.final_layer = nn.Conv2d(channels, keypoints, 7, padding=3)
        self.mlp = nn.Sequential(ScaleNorm(cells), nn.Linear(cells, TOKEN, bias=False))
        self.gau = GatedAttention()
        self.cls_x = nn.Linear(TOKEN, int(size[0] * SPLIT), bias=False)
        self.cls_y = nn.Linear(TOKEN, int(size[1] * SPLIT), bias=False)

    def forward(self, features: Tensor) -> SimccOutput:
        tokens = self.gau(self.mlp(self.final_layer(features).flatten(2)))
        return SimccOutput(self.cls_x(tokens), self.cls_y(tokens))


class RTMPose(nn.Module):
    """Backbone and head."""

    def __init__(self, config: RtmConfig, keypoints: int) -> None:
        super().__init__()
        self.config = config
        self.input_size = config.input_size
        self.backbone = CSPNeXt(config)
        self.heads = Parts(bodypart=SimccHead(self.backbone.channels, keypoints, config.input_size))

    def forward(self, crops: Tensor) -> SimccOutput:
        out: SimccOutput = self.heads.get_submodule("bodypart")(self.backbone(crops))
        return out

    def prune(self) -> None:
        """Nothing is superfluous here."""
