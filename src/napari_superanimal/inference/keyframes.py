"""The detector on every n-th frame only: between them, boxes follow a straight line that the poses confirm.

The detector looks at keyframes. Where the animals of two keyframes can be told apart and overlap with themselves, the
boxes in between are interpolated; where not (somebody came or went, moved far, or two are close together) it looks at
the frame in the middle, and so on. All frames then go through the pose network in common batches. At the end the
keypoints must lie in their boxes as they do in the keyframes: where they do not, or where fewer are sure, the detector
looks at that frame after all.

Everything happens within one chunk of frames, so that a run that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from napari_superanimal.inference.frame_predictor import predict_frames, predict_in_boxes
from napari_superanimal.inference.runtime.clock import busy_seconds
from napari_superanimal.poses import box_iou, boxes_from_keypoints

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.inference.frame_predictor import Boxes, Frame, FramePredictor, Predictions

    Floats = npt.NDArray[np.float64]
    Rows = npt.NDArray[np.int64]

#: What "auto" starts from; between keyframes the detector looks as often as the animals' movement asks for.
AUTO = 8
#: Frames of a chunk, about: the last one is a keyframe too.
LENGTH = 24
#: Least overlap (IoU) of an animal's boxes in two keyframes.
STEADY = 0.4
#: Animals whose boxes overlap more than this in a keyframe are looked at in every frame.
CLOSE = 0.2
#: How far the centre of the keypoints may lie from where it should in the box, in sizes of the box, and by which
#: factor their extent may differ.
OFF, LARGER = 0.12, 1.25
#: Share of the sure keypoints of both keyframes that must be sure, and the fewest that tell anything.
KEPT, FEWEST = 0.75, 3


def chunk_length(every: int, usual: int) -> int:
    """Frames of a chunk where the detector looks at every n-th one; `usual` where it looks at all."""
    return usual if every <= 1 else every * max(1, LENGTH // every) + 1


def predict_between(predictor: FramePredictor, frames: Sequence[Frame], every: int) -> Predictions:
    """As `predict_frames`, with the detector on every n-th frame and where it is needed.

    Parameters
    ----------
    frames : sequence of (H, W, 3) uint8
        Consecutive ones; pictures of several sizes are no recording, they are all looked at.
    every : int
    """
    if every <= 1 or len({f.shape for f in frames}) != 1:
        return predict_frames(predictor, frames)
    started = busy_seconds()
    found: dict[int, Boxes] = {}

    def look(numbers: Sequence[int]) -> None:
        new = [i for i in numbers if i not in found]
        if new:
            most = predictor.max_individuals
            boxes = predictor.detect([frames[i] for i in new])
            # what is there in some keyframes only cannot be followed between them
            found.update((i, (b[:most], s[:most])) for i, (b, s) in zip(new, boxes, strict=True))

    last = len(frames) - 1
    keys = sorted({*range(0, last, every), last})
    look(keys)
    spans = list(pairwise(keys))
    lines: list[tuple[int, int, Rows]] = []
    while spans:
        torn: list[tuple[int, int]] = []
        for a, b in spans:
            same = same_animals(found[a], found[b])
            if same is not None:
                lines.append((a, b, same))
            elif b - a > 1:
                torn.append((a, b))
        look([(a + b) // 2 for a, b in torn])
        spans = [part for a, b in torn for part in ((a, (a + b) // 2), ((a + b) // 2, b))]
    boxes = dict(found)
    for a, b, same in lines:
        boxes.update({i: between(found[a], found[b], same, (i - a) / (b - a)) for i in range(a + 1, b)})
    predictor.shares.detector += busy_seconds() - started

    predicted = predict_in_boxes(predictor, frames, [boxes[i] for i in range(len(frames))])
    doubtful = [i for line in lines for i in _doubtful(predicted, *line, predictor.card.threshold)]
    if doubtful:
        again = predict_frames(predictor, [frames[i] for i in doubtful])
        for name in ("xy", "likelihood", "boxes", "box_scores"):
            getattr(predicted, name)[doubtful] = getattr(again, name)
    return predicted


def same_animals(one: Boxes, other: Boxes) -> Rows | None:
    """For each box of a frame (M, 4) the row of the same animal in another frame; None where that is not clear."""
    a, b = np.asarray(one[0], np.float64), np.asarray(other[0], np.float64)
    if len(a) != len(b) or _crowded(a) or _crowded(b):
        return None
    overlap = box_iou(a, b)
    rows, same = linear_sum_assignment(-overlap)
    return same if (overlap[rows, same] >= STEADY).all() else None


def _crowded(boxes: Floats) -> bool:
    overlap = box_iou(boxes, boxes)
    np.fill_diagonal(overlap, 0.0)
    return bool((overlap > CLOSE).any())


def between(one: Boxes, other: Boxes, same: Rows, part: float) -> Boxes:
    """Boxes and scores a part of the way from one frame to another, in the order of the first."""
    boxes = (1 - part) * one[0] + part * other[0][same]
    scores = (1 - part) * one[1] + part * other[1][same]
    return boxes.astype(one[0].dtype), scores.astype(one[1].dtype)


def _doubtful(found: Predictions, a: int, b: int, same: Rows, threshold: float) -> list[int]:
    """Frames between two keyframes whose keypoints do not lie in their boxes as they do there."""
    if not len(same) or b - a < 2:
        return []
    rows = np.arange(len(same))
    start, count_a = _place(found, a, rows, threshold)
    end, count_b = _place(found, b, same, threshold)
    doubtful = []
    for i in range(a + 1, b):
        place, count = _place(found, i, rows, threshold)
        part = (i - a) / (b - a)
        off = np.abs(place - ((1 - part) * start + part * end))
        few = count < np.maximum(KEPT * np.minimum(count_a, count_b), FEWEST)
        # NaN, where nothing tells, is no agreement
        fits = (off[:, :2] <= OFF).all(-1) & (off[:, 2:] <= np.log(LARGER)).all(-1) & ~few
        if not fits.all():
            doubtful.append(i)
    return doubtful


def _place(found: Predictions, frame: int, rows: Rows, threshold: float) -> tuple[Floats, Rows]:
    """Where the sure keypoints of individuals lie in their boxes (M, 4), and how many there are (M,).

    Centre from the box's centre, in sizes of the box, and logarithm of their extent relative to it.
    """
    sure = found.likelihood[frame, rows] >= threshold
    xy = np.where(sure[..., None], found.xy[frame, rows], np.nan).astype(np.float64)
    tight, box = boxes_from_keypoints(xy, margin=0.0), found.boxes[frame, rows].astype(np.float64)
    size = np.maximum(box[:, 2:], 1.0)
    centre = (tight[:, :2] + tight[:, 2:] / 2 - box[:, :2] - box[:, 2:] / 2) / size
    extent = np.log(np.maximum(tight[:, 2:], 1.0) / size)
    return np.hstack([centre, extent]), sure.sum(-1)
