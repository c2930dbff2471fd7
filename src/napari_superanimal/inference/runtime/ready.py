"""Networks made ready for an engine."""

from __future__ import annotations

import copy
import threading
from typing import Any

import torch
from torch import nn

from napari_superanimal.inference.runtime.engine import EXACT, Engine
from napari_superanimal.inference.runtime.fold import fold_batch_norms
from napari_superanimal.inference.runtime.half import Half
from napari_superanimal.inference.runtime.openvino_network import OpenVinoNetwork
from napari_superanimal.models.networks import DetectorNet, PoseNet
from napari_superanimal.models.official.networks import HRNetPose, ResNetPose
from napari_superanimal.models.official.rtmpose import RTMPose


def heads_of(network: nn.Module) -> tuple[str, ...]:
    """Names of the last layers, which compute in float32 whatever the precision."""
    if isinstance(network, PoseNet):
        return ("heatmaps", "offsets")
    if isinstance(network, DetectorNet):
        return ("heatmaps", "boxes")
    if isinstance(network, RTMPose):
        return ("heads.bodypart",)
    if isinstance(network, HRNetPose | ResNetPose):
        return tuple(
            name for name, _ in network.named_modules() if name.endswith(("heatmap_head", "locref_head"))
        )
    return ()


def ready(network: nn.Module, engine: Engine, *, size: tuple[int, int], fold: bool = True) -> Any:
    """A network of crops or pictures, as an engine runs it.

    Parameters
    ----------
    network : nn.Module
        In float32 and evaluation mode, on its device; stays as it is. Takes (N, 3, H, W), gives a named tuple.
    size : (height, width) of its input
        For a `DetectorNet` only an example.
    fold : bool
        Fold batch norms in float32 too.

    Returns
    -------
    nn.Module
        Takes and gives float32; has the network's `config`, where there is one.
    """
    made: nn.Module
    if engine == EXACT:
        made = _folded(network) if fold else network
    elif engine.runtime == "torch":
        made = Half(_folded(network), heads_of(network))
    else:
        made = _openvino(network, engine.precision, size)
    made.eval()
    if made is not network and hasattr(network, "config"):
        made.config = network.config
    return made


def _folded(network: nn.Module) -> nn.Module:
    made = copy.deepcopy(network)
    fold_batch_norms(made)
    return made.to(memory_format=torch.channels_last)


def _openvino(network: nn.Module, precision: str, size: tuple[int, int]) -> nn.Module:
    whole = _folded(network).to(memory_format=torch.contiguous_format)
    free = (2, 3) if isinstance(network, DetectorNet) else ()
    return OpenVinoNetwork(whole, torch.zeros(1, 3, *size), precision, free=free)


def ready_detector(network: nn.Module, engine: Engine) -> nn.Module:
    """One of torchvision's detectors, its convolutions run by an engine; boxes are computed by torch in float32.

    Parameters
    ----------
    network : nn.Module
        A `ReleasedDetector` in float32 and evaluation mode; stays as it is.
    """
    made = copy.deepcopy(network)
    model: Any = made.get_submodule("model")
    fold_batch_norms(model.backbone)
    parts = ["backbone"]
    if hasattr(model, "roi_heads"):
        parts += ["rpn.head", "roi_heads.box_head", "roi_heads.box_predictor"]
        if isinstance(model.roi_heads.box_head, nn.Sequential):
            fold_batch_norms(model.roi_heads.box_head)
    for name in parts:
        part = model.get_submodule(name)
        if engine.runtime == "openvino":
            # pictures and feature maps come in every size, what is cut out per box in one only
            free = () if name.startswith("roi_heads") else (2, 3)
            model.set_submodule(name, _OpenVinoPart(part, engine.precision, free))
        else:
            part.to(memory_format=torch.channels_last)
            if engine.precision == "bf16":
                model.set_submodule(name, Half(part))
    return made.eval()


class _OpenVinoPart(nn.Module):
    """A part of a detector, converted when its first input shows what it gets."""

    def __init__(self, part: nn.Module, precision: str, free: tuple[int, ...]) -> None:
        super().__init__()
        self.part = part
        self.precision = precision
        self.free = free
        self._once = threading.Lock()

    def forward(self, inputs: Any) -> Any:
        with self._once:
            if not isinstance(self.part, OpenVinoNetwork):
                self.part = OpenVinoNetwork(self.part, inputs, self.precision, free=self.free)
        return self.part(inputs)
