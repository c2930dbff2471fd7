"""Training the detector on whole images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from napari_superanimal.inference.decode import decode_boxes, iou
from napari_superanimal.models.networks import DetectorNet, NetworkConfig, standardise
from napari_superanimal.poses.boxes import KEYPOINT_MARGIN, boxes_from_keypoints
from napari_superanimal.training.augment import (
    Affines,
    Augmentation,
    draw_affines,
    photometric,
    warp_images,
    warp_points,
)
from napari_superanimal.training.targets import box_targets, detector_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_superanimal.training.samples import ImageSamples


def warp_boxes(hull: np.ndarray, given: bool, affines: Affines, n: int, size: int) -> Tensor:
    """Boxes (M, 4) px of a picture after the n-th map, drawn anew around the turned points (M, P, 2)."""
    one = Affines(affines.matrix[n : n + 1], affines.shift[n : n + 1], affines.mirrored[n : n + 1])
    points = warp_points(torch.from_numpy(hull).reshape(1, -1, 2), one, size, size)[0].reshape(hull.shape)
    boxes = boxes_from_keypoints(points.double().numpy(), margin=0.0 if given else KEYPOINT_MARGIN)
    return torch.from_numpy(boxes[np.isfinite(boxes).all(-1)]).float()


def detector_batches(
    samples: ImageSamples, config: NetworkConfig, augmentation: Augmentation, batch_size: int
) -> Callable[[nn.Module, np.random.Generator], Tensor]:
    """A function that draws a batch and gives its loss."""
    weight = samples.weight.astype(np.float64)
    chance = weight / weight.sum()
    size = config.input_size

    def loss(network: nn.Module, rng: np.random.Generator) -> Tensor:
        index = rng.choice(len(samples), batch_size, p=chance)
        affines = draw_affines(batch_size, size, augmentation, rng, zoom=0.9)
        images = warp_images(samples.images[torch.from_numpy(index)], affines, size)
        boxes = [
            warp_boxes(samples.hulls[i], bool(samples.given[i]), affines, n, size)
            for n, i in enumerate(index)
        ]
        images = standardise(photometric(images, augmentation.photometric, rng))
        heat, values, near = box_targets(boxes, config.stride, size // config.stride)
        out = network(images.to(memory_format=torch.channels_last))
        return detector_loss(out.heatmaps, out.boxes, heat, values, near)

    return loss


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
