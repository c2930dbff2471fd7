"""Networks: a timm backbone, a small top-down decoder, and one head for poses or one for boxes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_superanimal.errors import UserError


@dataclass(frozen=True)
class NetworkConfig:
    """What is needed to build a network again.

    Attributes
    ----------
    backbone : str
        A timm model name.
    backbone_args : dict
        Extra arguments of ``timm.create_model`` (narrower channels, for instance).
    width : int
        Channels of the decoder.
    stride : int
        Input pixels per heatmap cell.
    input_size : int
        Side of the square crop (pose) or longest side of the image (detector), px.
    overview : int
        Channels of a part that sees the whole picture before the heads decide; 0 leaves it out.
    """

    backbone: str
    backbone_args: dict[str, Any] = field(default_factory=dict)
    width: int = 48
    stride: int = 4
    input_size: int = 128
    overview: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> NetworkConfig:
        return NetworkConfig(**data)


class PoseOutput(NamedTuple):
    """What the pose network gives for crops (N, 3, S, S).

    heatmaps : (N, K, S/stride, S/stride) logits
    offsets : (N, 2K, S/stride, S/stride), cells; channels 2k and 2k+1 are x and y of keypoint k
    embedding : (N, C) pooled features, for judging how familiar a crop looks
    """

    heatmaps: Tensor
    offsets: Tensor
    embedding: Tensor


class DetectorOutput(NamedTuple):
    """What the detector gives for images (N, 3, H, W).

    heatmaps : (N, 1, H/stride, W/stride) logits of animals' centres
    boxes : (N, 4, H/stride, W/stride): centre offset x, y in cells and log of width, height in cells
    """

    heatmaps: Tensor
    boxes: Tensor


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Overview(nn.Module):
    """An hourglass over the decoder's features: which foot is meant is seen from the rest of the body.

    Features at three coarser scales, the coarsest with three convolutions, and back up with what was there before
    (Newell et al. 2016, Stacked hourglass networks).
    """

    def __init__(self, outside: int, inside: int) -> None:
        super().__init__()
        self.ahead = conv_block(outside, outside)
        self.enter = nn.Sequential(
            nn.Conv2d(outside, inside, 1, bias=False), nn.BatchNorm2d(inside), nn.ReLU(inplace=True)
        )
        self.down = nn.ModuleList(conv_block(inside, inside) for _ in range(2))
        self.whole = nn.Sequential(*(conv_block(inside, inside) for _ in range(3)))
        self.up = nn.ModuleList(conv_block(inside, inside) for _ in range(2))
        self.leave = nn.Conv2d(inside, outside, 1)

    def forward(self, features: Tensor) -> Tensor:
        features = self.ahead(features)
        x = self.enter(F.avg_pool2d(features, 2, ceil_mode=True))
        seen = []
        for block in self.down:
            seen.append(block(x))
            x = F.max_pool2d(seen[-1], 2, ceil_mode=True)
        x = self.whole(x)
        for block in self.up:
            finer = seen.pop()
            x = block(finer + F.interpolate(x, size=finer.shape[-2:], mode="nearest"))
        return features + F.interpolate(self.leave(x), size=features.shape[-2:], mode="nearest")


class Trunk(nn.Module):
    """Backbone and decoder: images (N, 3, H, W) to features (N, width, H/stride, W/stride)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        arguments: dict[str, Any] = dict(config.backbone_args)
        if config.backbone.startswith("hrnet"):
            arguments["feature_location"] = ""
        try:
            backbone = timm.create_model(config.backbone, features_only=True, pretrained=False, **arguments)
        except (RuntimeError, AttributeError, TypeError) as error:
            raise UserError(
                f"timm has no backbone {config.backbone!r} that gives features ({error})",
                remedy="use a timm model, for instance mobilenetv4_conv_small or resnet18",
            ) from error
        info: Any = backbone.feature_info
        reductions = info.reduction()
        wanted = [i for i, r in enumerate(reductions) if r >= config.stride]
        # a backbone may list a stride twice; the later map has seen more of the network
        keep = [
            i
            for n, i in enumerate(wanted)
            if n + 1 == len(wanted) or reductions[wanted[n + 1]] != reductions[i]
        ]
        self.backbone = backbone
        self.keep = keep
        channels = [info.channels()[i] for i in keep]
        self.laterals = nn.ModuleList(nn.Conv2d(c, config.width, 1) for c in channels)
        self.smooth = nn.ModuleList(conv_block(config.width, config.width) for _ in channels[:-1])
        self.overview = Overview(config.width, config.overview) if config.overview else None
        self.embedding_size = channels[-1]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.backbone(images)
        maps = [maps[i] for i in self.keep]
        x = self.laterals[-1](maps[-1])
        for level in range(len(maps) - 2, -1, -1):
            lateral = self.laterals[level](maps[level])
            x = F.interpolate(x, size=lateral.shape[-2:], mode="nearest") + lateral
            x = self.smooth[level](F.relu(x))
        if self.overview is not None:
            x = self.overview(x)
        return x, maps[-1].mean((-2, -1))


class PoseNet(nn.Module):
    """Heatmaps and sub-cell offsets of keypoints in a square crop of one animal."""

    def __init__(self, config: NetworkConfig, keypoints: int) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk(config)
        self.mix = conv_block(config.width, config.width)
        self.heatmaps = nn.Conv2d(config.width, keypoints, 1)
        self.offsets = nn.Conv2d(config.width, 2 * keypoints, 1)
        reset_head(self.heatmaps, self.offsets)

    def forward(self, crops: Tensor) -> PoseOutput:
        features, embedding = self.trunk(crops)
        features = self.mix(features)
        return PoseOutput(self.heatmaps(features), self.offsets(features), embedding)


class DetectorNet(nn.Module):
    """Centres and sizes of animals in a whole image."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk(config)
        self.mix = conv_block(config.width, config.width)
        self.heatmaps = nn.Conv2d(config.width, 1, 1)
        self.boxes = nn.Conv2d(config.width, 4, 1)
        reset_head(self.heatmaps, self.boxes)

    def forward(self, images: Tensor) -> DetectorOutput:
        features = self.mix(self.trunk(images)[0])
        return DetectorOutput(self.heatmaps(features), self.boxes(features))


def reset_head(heatmaps: nn.Conv2d, rest: nn.Conv2d) -> None:
    """A fresh head starts by saying "nothing here", so that training does not begin with a shock."""
    for layer in (heatmaps, rest):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    nn.init.constant_(heatmaps.bias, -4.0)  # type: ignore[arg-type]


def standardise(images: Tensor) -> Tensor:
    """uint8 or 0..255 images (N, 3, H, W) to float32 with mean 0 and deviation 1 per image.

    Taking brightness and contrast out of every image removes most of what differs between cameras.
    """
    last = images.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    x = images.to(torch.float32, memory_format=order, copy=True)
    # a view with one row per image: reductions over three axes take eight times as long
    flat = (x.permute(0, 2, 3, 1) if last else x).flatten(1)
    flat -= flat.mean(1, keepdim=True)
    flat /= torch.linalg.vector_norm(flat, dim=1, keepdim=True) / math.sqrt(flat.shape[1] - 1) + 5.0
    return x
