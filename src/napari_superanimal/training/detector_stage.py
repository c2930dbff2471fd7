"""Training the detector on whole images."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from napari_superanimal.inference.decode import decode_boxes, iou
from napari_superanimal.models.networks import DetectorNet, NetworkConfig, standardise
from napari_superanimal.training.augment import (
    Augmentation,
    draw_affines,
    photometric,
    warp_boxes,
    warp_images,
)
from napari_superanimal.training.loop import LoopConfig, run
from napari_superanimal.training.scenery import Scenery, compose_scenes
from napari_superanimal.training.targets import box_targets, detector_loss

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_superanimal.jobs.progress import CancelToken, ProgressCallback
    from napari_superanimal.training.samples import ImageSamples, PoseSamples

#: Share of a box that must lie in the picture for its animal to be learned.
LEAST_LEFT = 0.2
#: Pictures per step of a detector that learns from a few more.
FEW = 8


def inside(boxes: Tensor, size: int) -> Tensor:
    """Boxes (M, 4) cut at the border of the picture, without those of which hardly anything is left."""
    low = boxes[:, :2].clamp(0, size - 1)
    high = (boxes[:, :2] + boxes[:, 2:]).clamp(0, size - 1)
    left = (high - low).prod(-1) > LEAST_LEFT * boxes[:, 2:].prod(-1)
    return torch.cat([low, high - low], dim=-1)[left]


def detector_batches(
    samples: ImageSamples,
    config: NetworkConfig,
    augmentation: Augmentation,
    batch_size: int,
    precision: str = "fp32",
    animals: PoseSamples | None = None,
    scenery: Scenery | None = None,
) -> Callable[[nn.Module, np.random.Generator], Tensor]:
    """A function that draws a batch and gives its loss.

    With cut-out `animals` and `scenery`, the share `augmentation.background` of every batch is composed scenes.
    """
    weight = samples.weight.astype(np.float64)
    chance = weight / weight.sum()
    size = config.input_size
    composed = 0
    if animals is not None and scenery is not None:
        composed = round(augmentation.background * batch_size)
        among = animals.weight.astype(np.float64) / animals.weight.sum(dtype=np.float64)

    def loss(network: nn.Module, rng: np.random.Generator) -> Tensor:
        real = batch_size - composed
        index = rng.choice(len(samples), real, p=chance)
        affines = draw_affines(real, size, augmentation, rng, zoom=0.9)
        images = warp_images(samples.images[torch.from_numpy(index)], affines, size)
        boxes = [
            warp_boxes(samples.hulls[i], bool(samples.given[i]), affines, n, size, size)
            for n, i in enumerate(index)
        ]
        if composed:
            assert animals is not None
            assert scenery is not None
            more, theirs = compose_scenes(animals, scenery, among, composed, size, augmentation, rng)
            images, boxes = torch.cat([images, more]), boxes + theirs
        boxes = [inside(each, size) for each in boxes]
        images = standardise(photometric(images, augmentation.photometric, rng))
        heat, values, near = box_targets(boxes, config.stride, size // config.stride)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            out = network(images.to(memory_format=torch.channels_last))
        return detector_loss(out.heatmaps.float(), out.boxes.float(), heat, values, near)

    return loss


def train_further(
    detector: DetectorNet,
    samples: ImageSamples,
    *,
    turning: float,
    steps: int,
    learning_rate: float,
    seed: int,
    frozen_statistics: bool = False,
    checkpoint: Path | None = None,
    resume: bool = False,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
    message: str,
) -> DetectorNet:
    """A copy of a detector that has learned from a few more pictures.

    Parameters
    ----------
    turning : float
        Degrees to either side that pictures are turned by.
    learning_rate, frozen_statistics, checkpoint, resume, message
        As in `training.loop`.

    Raises
    ------
    Cancelled
        When stopped; the checkpoint is kept and `resume` continues.
    """
    augmentation = Augmentation(rotation=turning, scale=1.3, shift=0.1, flip=True, photometric=0.7)
    trained = run(
        copy.deepcopy(detector),
        detector_batches(samples, detector.config, augmentation, FEW),
        LoopConfig(
            steps=steps,
            batch_size=FEW,
            learning_rate=learning_rate,
            average=0.99,
            seed=seed,
            frozen_statistics=frozen_statistics,
        ),
        checkpoint=checkpoint,
        resume=resume,
        on_progress=on_progress,
        token=token,
        message=message,
    )
    assert isinstance(trained, DetectorNet)
    return trained


def detector_validator(samples: ImageSamples, threshold: float) -> Callable[[nn.Module], dict[str, float]]:
    """Share of animals that are found (IoU above 0.5) and mean IoU of those found."""

    @torch.inference_mode()
    def validate(network: nn.Module) -> dict[str, float]:
        assert isinstance(network, DetectorNet)
        found, overlaps, total, extra = 0, [], 0, 0
        for start in range(0, len(samples), 32):
            images = standardise(samples.images[start : start + 32]).to(memory_format=torch.channels_last)
            out = network(images)
            results = decode_boxes(out.heatmaps, out.boxes, network.config.stride, 10, threshold)
            for (boxes, _), truth in zip(results, samples.boxes[start : start + 32], strict=True):
                total += len(truth)
                hits = 0
                for box in torch.from_numpy(truth):
                    best = max((iou(box, b) for b in boxes), default=0.0)
                    if best > 0.5:
                        hits += 1
                        overlaps.append(best)
                found += hits
                extra += max(0, len(boxes) - hits)
        return {
            "recall": found / max(total, 1),
            "iou": float(np.mean(overlaps)) if overlaps else 0.0,
            "false_boxes_per_image": extra / max(len(samples), 1),
        }

    return validate
