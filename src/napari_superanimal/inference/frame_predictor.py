"""What every predictor gives and takes, and how boxes and keypoints of some frames are put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from napari_superanimal.inference.runtime.clock import busy_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.models.card import ModelCard

Frame = npt.NDArray[np.uint8]
#: Boxes (M, 4) x, y, width, height px of the frame and scores (M,), best first.
Boxes = tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]


#: Detectors that are no model's: the frame as one box, and the model's own.
WHOLE_FRAME, OWN_DETECTOR = "whole-frame", "model"
#: A detection beyond the number of individuals is looked at if its score is this share of the last one's within it.
CLOSE = 0.7


@dataclass(frozen=True)
class Predictions:
    """Keypoints of the individuals in some frames; NaN where there is nothing.

    A is the number of individuals, and as many more as the predictor may spare a look.

    xy : (n, A, K, 2) float32 px of the frame; likelihood : (n, A, K) float32;
    boxes : (n, A, 4) float32 px x, y, width, height; box_scores : (n, A) float32
    """

    xy: npt.NDArray[np.float32]
    likelihood: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    box_scores: npt.NDArray[np.float32]


@dataclass
class Shares:
    """CPU seconds by stage: of the calling threads, and of those that compute for them."""

    detector: float = 0.0
    pose: float = 0.0


class FramePredictor(Protocol):
    """What streaming, collecting and evaluating need of a model that is ready to run.

    Attributes
    ----------
    spare : int
        Boxes per frame that are looked at beyond the individuals: tracking chooses among them.
    chunk_frames : int
        Frames per unit of work: few where a frame takes long, so that cancelling stays quick.
    shares : Shares
        Filled while it runs.
    """

    card: ModelCard
    space: KeypointSpace
    max_individuals: int
    spare: int
    device: torch.device
    batch_size: int
    flip: bool
    chunk_frames: int
    shares: Shares

    @property
    def individuals(self) -> tuple[str, ...]: ...

    @property
    def scorer(self) -> str: ...

    def detect(self, frames: Sequence[Frame]) -> Sequence[Boxes]: ...

    def pose(
        self, frames: Sequence[Frame], boxes: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray, npt.NDArray]: ...

    def __call__(self, frames: Sequence[Frame]) -> Predictions: ...

    def bare(self, frames: Sequence[Frame]) -> Callable[[], None]: ...


def whole_frames(frames: Sequence[Frame]) -> list[Boxes]:
    """Each frame as one box, where nothing looks for animals."""
    return [(np.array([[0.0, 0.0, f.shape[1], f.shape[0]]]), np.array([1.0])) for f in frames]


def box_by_box(
    frames: Sequence[Frame], found: Sequence[Boxes]
) -> tuple[list[Frame], npt.NDArray[np.floating]]:
    """The boxes (N, 4) of all frames and the frame of each; where there is none, one of 64 px in the first frame."""
    owner = [frame for frame, (boxes, _) in zip(frames, found, strict=True) for _ in boxes]
    if not owner:
        return [frames[0]], np.array([[0.0, 0.0, 64.0, 64.0]])
    return owner, np.concatenate([boxes for boxes, _ in found])


def predict_frames(predictor: FramePredictor, frames: Sequence[Frame]) -> Predictions:
    """Boxes, then keypoints, of n frames (H, W, 3) uint8 RGB."""
    started = busy_seconds()
    detected = [close_ones(each, predictor.max_individuals) for each in predictor.detect(frames)]
    predictor.shares.detector += busy_seconds() - started
    return predict_in_boxes(predictor, frames, detected)


def close_ones(found: Boxes, individuals: int) -> Boxes:
    """Boxes and scores, best first, without those beyond `individuals` that are much less certain."""
    boxes, scores = found
    if len(scores) <= individuals:
        return found
    keep = (np.arange(len(scores)) < individuals) | (scores >= CLOSE * scores[individuals - 1])
    return boxes[keep], scores[keep]


def predict_in_boxes(
    predictor: FramePredictor, frames: Sequence[Frame], detected: Sequence[Boxes]
) -> Predictions:
    """Keypoints in the boxes of n frames, at most `max_individuals` and `spare` per frame."""
    started = busy_seconds()
    n, a, k = len(frames), predictor.max_individuals + predictor.spare, len(predictor.space)
    owner = [i for i, (b, _) in enumerate(detected) for _ in b]
    rank = [j for b, _ in detected for j in range(len(b))]
    boxes = np.concatenate([b for b, _ in detected]) if owner else np.empty((0, 4))
    scores = np.concatenate([s for _, s in detected]) if owner else np.empty(0)
    xy = np.full((n, a, k, 2), np.nan, np.float32)
    sure = np.full((n, a, k), np.nan, np.float32)
    out_boxes = np.full((n, a, 4), np.nan, np.float32)
    out_scores = np.full((n, a), np.nan, np.float32)
    if owner:
        points, confidence = predictor.pose([frames[i] for i in owner], boxes)
        xy[owner, rank], sure[owner, rank] = points, confidence
        out_boxes[owner, rank], out_scores[owner, rank] = boxes, scores
    predictor.shares.pose += busy_seconds() - started
    return Predictions(xy, sure, out_boxes, out_scores)
