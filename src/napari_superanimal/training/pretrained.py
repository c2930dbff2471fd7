"""Published weights that a backbone may start from, instead of drawn ones (transfer learning)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import timm
from timm.models import load_state_dict

from napari_superanimal.errors import UserError, first_line

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from napari_superanimal.models.networks import Trunk
    from napari_superanimal.training.config import StageConfig

#: Usual standard deviation of a photograph's pixels, black 0 and white 1.
PHOTO_SPREAD = 0.25


def prepare(trunk: Trunk, stage: StageConfig, folder: Path) -> None:
    """Make a drawn network what a recipe's stage begins with.

    Parameters
    ----------
    folder : Path
        Of the recipe: the file of the weights is relative to it.

    Raises
    ------
    UserError
        As `start_from`, and if a part that shall be frozen does not exist.
    """
    if stage.pretrained is not None:
        start_from(trunk, stage.network.backbone, folder / stage.pretrained.file)
    for part in stage.frozen:
        inside = [w for name, w in trunk.backbone.named_parameters() if name.startswith(f"{part}.")]
        if not inside:
            raise UserError(
                f"the backbone {stage.network.backbone} has no part {part!r} that could be frozen",
                remedy="name it as timm does, for instance blocks.0",
            )
        for weight in inside:
            weight.requires_grad_(False)


def start_from(trunk: Trunk, backbone: str, path: Path) -> None:
    """Give a trunk's backbone the weights of a file that timm can read.

    Parameters
    ----------
    backbone : str
        The timm model that the weights are of; what it was trained on tells how its inputs were scaled.
    path : Path
        Weights of the whole classifier or of the features only, as .safetensors or .pth.

    Raises
    ------
    UserError
        If the file cannot be read, or a layer is missing or has another shape.
    """
    found = _read(path)
    chosen: dict[str, Tensor] = {}
    for name, own in trunk.backbone.state_dict().items():
        value = found.get(_plain(name))
        if value is None or value.shape != own.shape:
            raise UserError(
                f"these weights do not fit the backbone {backbone} ({name} is missing or has another shape)",
                path=path,
                remedy="give the weights of exactly this timm model, without `backbone_args`",
            )
        chosen[name] = value
    published = timm.get_pretrained_cfg(backbone)
    if published is not None and isinstance(published.first_conv, str):
        # `standardise` gives pictures a deviation of 1; the weights expect what their own scaling gave
        spread = PHOTO_SPREAD * len(published.std) / sum(published.std)
        stem = _plain(f"{published.first_conv}.weight")
        chosen = {n: v * spread if _plain(n) == stem else v for n, v in chosen.items()}
    trunk.backbone.load_state_dict(chosen)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = load_state_dict(str(path), weights_only=True)
    except Exception as error:
        raise UserError(
            f"cannot read the weights that the backbone shall start from ({first_line(error)})",
            path=path,
            remedy="give a .safetensors or .pth file of a timm model",
        ) from error
    return {_plain(name): value for name, value in state.items()}


def _plain(name: str) -> str:
    # timm flattens the nesting of some models where only their features are asked for: stages.0 is stages_0
    return name.replace(".", "_")
