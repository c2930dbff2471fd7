"""The recipe of a model, as a YAML file in the repository or from the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from napari_superanimal.errors import UserError
from napari_superanimal.models.networks import NetworkConfig
from napari_superanimal.training.augment import Augmentation
from napari_superanimal.training.loop import LoopConfig
from napari_superanimal.training.silhouettes import Outline


@dataclass(frozen=True)
class DatasetConfig:
    """One source of labels.

    Attributes
    ----------
    name : str
    path : str
        Dataset in any readable format, relative to the data folder; empty for rendered pictures.
    table : str
        Conversion table (file or shipped name); empty: names decide.
    validation : str
        File with image names, one per line, or ``match:REGEX`` on image paths; these rows are never trained on.
    exclude : str
        REGEX on image paths; these rows are left out altogether (labels known to be wrong).
    weight : float
        How often an animal of this set is drawn, relative to others.
    licence, source : str
        For the card.
    rendered : int
        Number of rendered pictures instead of files.
    """

    name: str
    path: str = ""
    table: str = ""
    validation: str = ""
    exclude: str = ""
    weight: float = 1.0
    licence: str = ""
    source: str = ""
    rendered: int = 0


@dataclass(frozen=True)
class Start:
    """Published weights that a backbone starts from.

    Attributes
    ----------
    file : str
        A timm model's weights (.safetensors, .pth), relative to the recipe's folder.
    licence, source : str
        For the card.
    """

    file: str
    licence: str = ""
    source: str = ""


@dataclass(frozen=True)
class StageConfig:
    """Network, augmentation and optimisation of the pose network or of the detector.

    Attributes
    ----------
    pretrained : Start or None
        What the backbone starts from; None draws it.
    frozen : tuple of str
        Parts of the backbone whose weights stay as they are, named as in timm (``blocks.0``).
    """

    network: NetworkConfig
    augmentation: Augmentation = field(default_factory=Augmentation)
    loop: LoopConfig = field(default_factory=LoopConfig)
    pretrained: Start | None = None
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainConfig:
    """Everything that makes a model.

    Attributes
    ----------
    name : str
    space : str
    datasets : tuple of DatasetConfig
    pose : StageConfig
    detector : StageConfig or None
    context : float
        Crop side relative to the longer side of the box.
    side_canonical : bool
        Learn near and far instead of left and right (side views).
    flip : bool
        Predict every crop together with its mirror image.
    leave_one_out : int
        Steps of the models that are trained without one dataset each, to calibrate likelihood; 0 leaves it raw.
    leave_out : tuple of str
        The datasets that are left out in turn; empty means each of them.
    masking : bool
        False trains undefined keypoints as absent: for comparison only.
    outline : Outline or None
        How keypoints draw the animal, for the augmentations that need silhouettes.
    card : dict
        Fields of the model card.
    folder : Path
        Where relative files of the recipe are.
    """

    name: str
    space: str
    datasets: tuple[DatasetConfig, ...]
    pose: StageConfig
    detector: StageConfig | None = None
    context: float = 1.2
    side_canonical: bool = False
    flip: bool = False
    leave_one_out: int = 0
    leave_out: tuple[str, ...] = ()
    masking: bool = True
    outline: Outline | None = None
    card: dict[str, Any] = field(default_factory=dict)
    folder: Path = Path()


def read_config(path: Path) -> TrainConfig:
    """Read a recipe.

    Raises
    ------
    UserError
        If the file is missing, no YAML, or has unknown or missing fields.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TrainConfig(
            name=data["name"],
            space=data["space"],
            datasets=tuple(DatasetConfig(**d) for d in data["datasets"]),
            pose=_stage(data["pose"]),
            detector=_stage(data["detector"]) if data.get("detector") else None,
            context=float(data.get("context", 1.2)),
            side_canonical=bool(data.get("side_canonical", False)),
            flip=bool(data.get("flip", False)),
            leave_one_out=int(data.get("leave_one_out", 0)),
            leave_out=tuple(data.get("leave_out", ())),
            masking=bool(data.get("masking", True)),
            outline=Outline.from_json(data["outline"]) if data.get("outline") else None,
            card=dict(data.get("card", {})),
            folder=path.parent,
        )
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"not a training recipe ({type(error).__name__}: {reason})",
            path=path,
            remedy="see docs/training.md for the fields",
        ) from error


def _stage(data: dict[str, Any]) -> StageConfig:
    return StageConfig(
        network=NetworkConfig(**data["network"]),
        augmentation=Augmentation(**data.get("augmentation", {})),
        loop=LoopConfig(**data.get("loop", {})),
        pretrained=Start(**data["pretrained"]) if data.get("pretrained") else None,
        frozen=tuple(data.get("frozen", ())),
    )
