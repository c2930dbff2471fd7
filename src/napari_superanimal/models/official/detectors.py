"""The detectors of the released models: torchvision's, with the settings they were trained with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import FrozenBatchNorm2d

from napari_superanimal.models.official.catalogue import BOX_SCORE

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Number of classes of torchvision's COCO weights, and which of them people are; with two classes, animals.
COCO_CLASSES, PERSON = 91, 1


class ReleasedDetector(nn.Module):
    """A detector inside the ``model.`` that its snapshots' names begin with.

    Parameters
    ----------
    architecture : str
    coco : bool
        torchvision's own COCO weights: 91 classes, of which people are kept, and no second normalisation.
    """

    def __init__(self, architecture: str, *, coco: bool = False) -> None:
        super().__init__()
        self.architecture = architecture
        self.coco = coco
        self.model = _build(architecture, COCO_CLASSES if coco else 2, coco)

    def losses(self, images: Sequence[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """torchvision's losses, in training mode.

        Parameters
        ----------
        targets : list of dict
            Per image ``boxes`` (M, 4) x1, y1, x2, y2 px of the animals in it, or of the people.
        """
        named = [{**one, "labels": torch.full((len(one["boxes"]),), PERSON)} for one in targets]
        found: dict[str, Tensor] = self.model(list(images), named)
        return found

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Per image (3, H, W) boxes (M, 4) x1, y1, x2, y2 px and scores (M,), best first."""
        found: list[dict[str, Tensor]] = self.model(list(images))
        if not self.coco:
            return found
        return [{k: v[one["labels"] == PERSON] for k, v in one.items()} for one in found]


def _build(architecture: str, classes: int, coco: bool) -> nn.Module:
    nothing: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": classes}
    if architecture == "ssdlite":
        # no threshold here: the reference asks for 0.6, which this network does not know, and gets 0.001
        network: nn.Module = detection.ssdlite320_mobilenet_v3_large(**nothing)
        return network
    network = getattr(detection, architecture)(box_score_thresh=BOX_SCORE, **nothing)
    if architecture != "fasterrcnn_resnet50_fpn_v2":
        # trained from ImageNet weights with their batch statistics frozen; such layers count no batches
        eps = 0.0 if coco and architecture == "fasterrcnn_resnet50_fpn" else 1e-5
        freeze_norms(network, eps)
    return network


def freeze_norms(network: nn.Module, eps: float) -> None:
    """Replace every batch norm by one with fixed statistics, in place."""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(network, name, FrozenBatchNorm2d(child.num_features, eps=eps))
        else:
            freeze_norms(child, eps)


@torch.inference_mode()
def detect(network: ReleasedDetector, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Boxes (M, 4) x1, y1, x2, y2 and scores (M,) of normalised images (N, 3, H, W)."""
    return [(one["boxes"], one["scores"]) for one in network(list(images))]
