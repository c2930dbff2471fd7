"""The detector of a model fine-tuned from one of SuperAnimal's: the old one where it finds the animals."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_superanimal.inference.official.detect import BoxFinder
from napari_superanimal.inference.official.images import normalise, unit_range
from napari_superanimal.jobs.progress import Cancelled, Meter
from napari_superanimal.models.official.detectors import ReleasedDetector
from napari_superanimal.poses import Poses, with_boxes
from napari_superanimal.training import distributed
from napari_superanimal.training.detector_update import GOOD_ENOUGH, apart_from_poses, with_other_animals
from napari_superanimal.training.loop import LoopConfig, run
from napari_superanimal.training.replay import match_boxes
from napari_superanimal.training.samples import FrameReader, read_image
from napari_superanimal.training.train import DETECTOR_CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_superanimal.jobs.progress import CancelToken, ProgressCallback
    from napari_superanimal.models.official.load import OfficialPose

#: Images per step and most steps: a step of a large picture takes seconds on a processor.
BATCH, MOST_STEPS = 2, 300
LEARNING_RATE = 1e-4
#: What stays as it is: with few pictures, only what is built on the features is trained.
FROZEN = ("model.backbone.body.", "model.backbone.features.")


def update_released(
    model: OfficialPose,
    labels: Poses,
    out: Path,
    *,
    steps: int,
    seed: int = 0,
    turning: float = 180.0,
    resume: bool = False,
    reader: FrameReader = read_image,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> tuple[ReleasedDetector | None, dict[str, Any]]:
    """The detector for a model fine-tuned on `labels`, and how many of the labelled animals the released one finds.

    An animal is found where a box holds its labels: these may cover a part of it only. Where the old detector finds
    an animal, its own box is learned, so that only what it misses changes it.

    Parameters
    ----------
    turning : float
        As `augment.turning` says; pictures of views from above are turned upside down, too.

    Returns
    -------
    detector, {"recall_before", "trained"}
        None where the starting model's detector stays. ``{"kept"}`` says why it was not looked at.

    Raises
    ------
    Cancelled
        When stopped; a checkpoint is kept once training has begun.
    """
    if model.detector is None:
        return None, {"kept": "it is not on this computer"}
    if distributed.world_size() > 1:
        return None, {"kept": "several processes train the pose network only"}
    finder = BoxFinder(model.detector, torch.device("cpu"))
    most = 2 * len(labels.individuals) + 2
    meter = Meter(len(labels))
    taught, found, animals = [], 0, 0
    boxed = with_boxes(labels)
    for row in range(len(labels)):
        if token is not None and token.cancelled:
            raise Cancelled("stopped")
        who = np.flatnonzero(np.isfinite(boxed.boxes[row]).all(-1) & labels.found[row].any(-1))
        seen = np.asarray(finder([reader(labels, row)], most)[0][0], np.float64)
        partner = match_boxes(labels.xy[row, who], boxed.boxes[row, who], seen)
        boxes = boxed.boxes[row].copy()
        boxes[who[partner >= 0]] = seen[partner[partner >= 0]]
        taught.append(boxes)
        found += int((partner >= 0).sum())
        animals += len(who)
        if on_progress is not None:
            on_progress(meter.at(row + 1, "looking for the labelled animals"))
    recall = found / max(animals, 1)
    figures: dict[str, Any] = {"recall_before": round(recall, 4), "trained": False}
    if recall >= GOOD_ENOUGH:
        return None, figures
    lesson = replace(boxed, boxes=np.stack(taught))
    lesson = with_other_animals(lesson, lambda frame: finder([frame], most)[0], finder.threshold, reader)

    network = copy.deepcopy(model.detector.network)
    for name, weight in network.named_parameters():
        weight.requires_grad_(not name.startswith(FROZEN))
    count = min(steps, MOST_STEPS)
    trained = run(
        network,
        detector_loss(lesson, reader, upside_down=turning >= 180.0),
        LoopConfig(
            steps=count,
            batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            average=0.99,
            seed=seed,
            frozen_statistics=True,
        ),
        checkpoint=out / DETECTOR_CHECKPOINT,
        resume=resume,
        on_progress=apart_from_poses(on_progress),
        token=token,
        message="training the detector",
    )
    assert isinstance(trained, ReleasedDetector)
    return trained.requires_grad_(False), {**figures, "trained": True, "steps": count}


def detector_loss(
    labels: Poses, reader: FrameReader, *, upside_down: bool
) -> Callable[[nn.Module, np.random.Generator], Tensor]:
    """A function that draws whole images, mirrored and lit at random, and gives torchvision's losses of them."""
    device = torch.device("cpu")

    def loss(network: nn.Module, rng: np.random.Generator) -> Tensor:
        assert isinstance(network, ReleasedDetector)
        # torchvision draws the boxes that it learns from; a resumed run draws the same
        torch.manual_seed(int(rng.integers(2**31)))
        images, targets = [], []
        for row in rng.choice(len(labels), BATCH):
            boxes = labels.boxes[row][np.isfinite(labels.boxes[row]).all(-1)]
            frame, corners = augmented(reader(labels, int(row)), boxes, rng, upside_down=upside_down)
            make = unit_range if network.coco else normalise
            images.append(make(frame[None], device)[0])
            targets.append({"boxes": torch.from_numpy(corners).float()})
        return torch.stack(list(network.losses(images, targets).values())).sum()

    return loss


def augmented(
    frame: npt.NDArray[np.uint8],
    boxes: npt.NDArray[np.float64],
    rng: np.random.Generator,
    *,
    upside_down: bool,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """A frame mirrored and lit at random, and the corners (M, 4) x1, y1, x2, y2 px of its boxes (M, 4), cut at its
    border; boxes of which nothing is left are dropped."""
    height, width = frame.shape[:2]
    x1, y1 = boxes[:, 0], boxes[:, 1]
    x2, y2 = x1 + boxes[:, 2], y1 + boxes[:, 3]
    if rng.random() < 0.5:
        frame, x1, x2 = frame[:, ::-1], width - x2, width - x1
    if upside_down and rng.random() < 0.5:
        frame, y1, y2 = frame[::-1], height - y2, height - y1
    gamma, gain = np.exp(rng.uniform(-0.3, 0.3)), rng.uniform(0.8, 1.2)
    light = np.clip(255.0 * gain * (np.arange(256) / 255.0) ** gamma, 0, 255).astype(np.uint8)
    corners = np.stack([x1.clip(0, width), y1.clip(0, height), x2.clip(0, width), y2.clip(0, height)], -1)
    kept = (corners[:, 2:] - corners[:, :2] > 1).all(-1)
    return light[frame], corners[kept]
