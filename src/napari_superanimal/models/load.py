"""Model folders to networks and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import atomic_path
from napari_superanimal.keypoints import KeypointSpace
from napari_superanimal.models.card import CARD_FILE, DETECTOR_FILE, POSE_FILE, ModelCard, write_card
from napari_superanimal.models.networks import DetectorNet, NetworkConfig, PoseNet
from napari_superanimal.models.zoo import ModelRef, find_model, sha256

if TYPE_CHECKING:
    from pathlib import Path

#: Tensors of the calibration are kept beside the weights under this prefix.
CALIBRATION = "calibration."


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run.

    Attributes
    ----------
    pose : PoseNet
        Its channels are ``card.keypoints``.
    detector : DetectorNet or None
    calibration : dict of str to Tensor
        Tensors that `inference.likelihood` uses; empty means raw confidence.
    """

    card: ModelCard
    space: KeypointSpace
    pose: PoseNet
    detector: DetectorNet | None
    calibration: dict[str, Tensor]


def load_model(model: str | Path | ModelRef) -> LoadedModel:
    """Build a model's networks on the CPU in float32 and fill in its weights.

    Raises
    ------
    UserError
        If the model is unknown, its card describes no network, or a weight file is missing, damaged or does not
        fit the card.
    """
    ref = model if isinstance(model, ModelRef) else find_model(model)
    card = ref.card
    if ref.official:
        raise UserError(
            f"{card.name} is a network of SuperAnimal's, which cannot be trained on without labels",
            remedy="fine-tune it on labels (superanimal finetune), or start from a shipped model",
        )
    try:
        space = KeypointSpace.from_json(card.space)
        pose = PoseNet(NetworkConfig.from_json(card.pose), len(card.keypoints))
        detector = DetectorNet(NetworkConfig.from_json(card.detector)) if card.detector else None
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"the model card describes no network ({type(error).__name__}: {error})",
            path=ref.folder / CARD_FILE,
            remedy="install or import the model again",
        ) from error
    calibration = _fill(pose, ref.folder / POSE_FILE)
    if detector is not None:
        _fill(detector, ref.folder / DETECTOR_FILE)
        detector.eval()
    return LoadedModel(card, space, pose.eval(), detector, calibration)


def _fill(network: nn.Module, path: Path) -> dict[str, Tensor]:
    """Load weights strictly; returns the tensors that belong to the calibration."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"the weights cannot be read ({error})", path=path, remedy="install or import the model again"
        ) from error
    extra = {k.removeprefix(CALIBRATION): v.float() for k, v in tensors.items() if k.startswith(CALIBRATION)}
    weights = {k: v for k, v in tensors.items() if not k.startswith(CALIBRATION)}
    expected = network.state_dict()
    wrong = [k for k, v in expected.items() if k not in weights or weights[k].shape != v.shape]
    surplus = [k for k in weights if k not in expected]
    if wrong or surplus:
        raise UserError(
            f"the weights do not fit the card: {len(wrong)} missing or of another shape, {len(surplus)} unknown "
            f"(first: {(wrong + surplus)[0]})",
            path=path,
            remedy="install or import the model again",
        )
    network.load_state_dict({k: v.to(expected[k].dtype) for k, v in weights.items()})
    return extra


def save_model(
    card: ModelCard,
    pose: PoseNet,
    detector: DetectorNet | None,
    folder: Path,
    *,
    calibration: dict[str, Tensor] | None = None,
) -> ModelRef:
    """Write a model folder: fp16 weights, then the card with their checksums.

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    sums = {}
    _save(pose, folder / POSE_FILE, calibration or {})
    sums[POSE_FILE] = sha256(folder / POSE_FILE)
    if detector is not None:
        _save(detector, folder / DETECTOR_FILE, {})
        sums[DETECTOR_FILE] = sha256(folder / DETECTOR_FILE)
    card = replace(card, sha256=sums)
    write_card(card, folder)
    return ModelRef(card, folder)


def _save(network: nn.Module, path: Path, extra: dict[str, Tensor]) -> None:
    tensors = {k: _half(v) for k, v in network.state_dict().items()}
    tensors |= {CALIBRATION + k: v.float() for k, v in extra.items()}
    with atomic_path(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary)


def _half(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().to(torch.float16) if tensor.dtype == torch.float32 else tensor.detach().cpu()
