"""Small and huge animals: the detector shown a frame at several scales, the pose network at several margins."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_superanimal.errors import UserError
from napari_superanimal.inference.fusion import PART, SAME, covered, fuse_keypoints, merge_boxes
from napari_superanimal.inference.keyframes import predict_between
from napari_superanimal.inference.views import OVERLAP, View, view_around, views_at
from napari_superanimal.models.known import known_pictures, size_margin
from napari_superanimal.poses import box_iou

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_superanimal.inference.frame_predictor import Boxes, Frame, FramePredictor, Predictions
    from napari_superanimal.models.card import ModelCard

#: Scales that "auto" chooses from; 1 is the whole frame.
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
#: Crops around a box, relative to the usual one.
MARGINS = (0.8, 1.0, 1.25)
#: Where a card does not tell which sizes its detector knows: share of the picture, and spread (log).
USUAL_SHARE, USUAL_SPREAD = 0.35, 0.9
#: What the score of a box is worth that is cut off by the border of a window.
CUT_OFF = 0.5
#: Boxes of every scale beyond the number of animals: the heaviest may be something else, which the pose network sees.
OTHERS = 1
#: Boxes of a second look beyond the number of animals: what else is in the window must not hide the box it is about.
NEIGHBOURS = 2
#: A box of the second look is the same animal if it covers this share of the smaller of both.
OVERLAPS = 0.3
#: A box is left out if its keypoints are this much less believable than those of the frame's best; a frame tells
#: nothing about scales if its best animal is this much less believable than that of the best frame.
DOUBTFUL = 0.4
#: Views per batch of frames.
VIEWS = 48

#: Boxes (M, 4) px of the frame, scores (M,), and scores weighed by what is known about sizes (M,).
_Found = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]


def usual_size(card: ModelCard) -> tuple[float, float]:
    """Longer side of an animal relative to the longer side of the picture that the detector learned from.

    Returns
    -------
    share : float
        The median.
    spread : float
        Half of the central range, as a logarithm; the augmentation of the training widens it.
    """
    levels = known_pictures(card).get("animal_share")
    if levels is None:
        return USUAL_SHARE, USUAL_SPREAD
    spread = np.log(float(levels["0.95"]) / float(levels["0.05"])) / 2 + np.log(size_margin(card))
    return float(levels["0.5"]), float(max(spread, 0.3))


def scales_to_try(card: ModelCard) -> tuple[float, ...]:
    """Scales among which frames decide.

    SuperAnimal's detectors see small animals in large pictures, and a frame in many windows takes them minutes.
    """
    return tuple(s for s in SCALES if 0.5 <= s <= 2) if card.official else SCALES


def check_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """Scales, ascending and each once.

    Raises
    ------
    UserError
        If there is none, or one is not between 1/16 and 16.
    """
    found = tuple(sorted({float(s) for s in scales}))
    if not found or not all(1 / 16 <= s <= 16 for s in found):
        raise UserError(
            "scales are numbers from 0.0625 to 16",
            remedy="1 is the whole frame, 2 windows of half its size, 0.5 the frame made half as large",
        )
    return found


def views_of(scale: float) -> int:
    """About how many views a scale has."""
    return 1 if scale <= 1 else int(np.ceil(1 + (scale - 1) / (1 - OVERLAP))) ** 2


class PyramidPredictor:
    """Another predictor, shown every frame at several scales.

    Small animals are found in overlapping windows, huge ones in the frame made smaller. Boxes of all views are put
    together: those whose size in the detector's view is the one it knows count most, those that the border of a
    window cuts off count less. Each is then looked at once more in a view of the best size, and where boxes exclude
    each other, the one wins whose keypoints the pose network believes in: windows of an empty floor or of half an
    animal do not deceive both networks. The pose network sees each box that is left at several margins
    (`fusion.fuse_keypoints`).

    Parameters
    ----------
    inner : FramePredictor
        Any; its boxes and keypoints are used.
    scales : sequence of float
    margins : sequence of float

    Raises
    ------
    UserError
        If the predictor has no detector, or a scale is out of range.
    """

    spare = 0

    def __init__(
        self, inner: FramePredictor, scales: Sequence[float], *, margins: Sequence[float] = MARGINS
    ) -> None:
        if getattr(inner, "whole_frame", False):
            raise UserError(
                "without a detector there are no scales to search", remedy="leave --scales or whole-frame out"
            )
        self.inner = inner
        self.card = inner.card
        self.space = inner.space
        self.max_individuals = inner.max_individuals
        self.device = inner.device
        self.batch_size = inner.batch_size
        self.flip = inner.flip
        self.shares = inner.shares
        self.scales = check_scales(scales)
        self.margins = tuple(margins)
        self.usual, self.spread = usual_size(inner.card)
        # as many frames at a time as fill some batches of views
        per_frame = sum(views_of(s) for s in self.scales)
        self.detect_every = int(getattr(inner, "detect_every", 1))
        fitting = max(1, VIEWS // per_frame)
        self.chunk_frames = inner.chunk_frames if self.detect_every > 1 else min(inner.chunk_frames, fitting)

    @property
    def individuals(self) -> tuple[str, ...]:
        return self.inner.individuals

    @property
    def scorer(self) -> str:
        return self.inner.scorer

    def detect(self, frames: Sequence[Frame]) -> Sequence[Boxes]:
        """Boxes (M, 4) and scores (M,) per frame, best first, px of the frame."""
        views = [[views_at(frame, scale) for scale in self.scales] for frame in frames]
        for frame, each in zip(frames, views, strict=True):
            if not any(each):
                each.append(views_at(frame, 1.0))
        first = [self._first_look(each, found) for each, found in zip(views, self._look(views), strict=True)]
        again = [
            [[view_around(frame, box, self.usual)] for box in boxes]
            for frame, (boxes, _, _) in zip(frames, first, strict=True)
        ]
        second = [
            self._second_look(candidates, [part for parts in found for part in parts])
            for candidates, found in zip(first, self._look(again, NEIGHBOURS), strict=True)
        ]
        return [self._judge(frame, found) for frame, found in zip(frames, second, strict=True)]

    def pose(
        self, frames: Sequence[Frame], boxes: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray, npt.NDArray]:
        """Keypoints (N, K, 2) px of the frame and likelihood (N, K) for N boxes (N, 4), one frame each."""
        there: npt.NDArray[np.float64] = np.asarray(boxes, np.float64)
        looks = [self.inner.pose(frames, _widened(there, margin)) for margin in self.margins]
        if len(looks) == 1:
            return looks[0]
        size = np.sqrt(np.prod(there[:, 2:], axis=-1))
        # what a keypoint is off by grows with the pixels of the crop: these are inverse variances
        exact = [margin**-2 for margin in self.margins]
        return fuse_keypoints(
            np.stack([xy for xy, _ in looks]), np.stack([sure for _, sure in looks]), size, exact
        )

    def __call__(self, frames: Sequence[Frame]) -> Predictions:
        """Boxes, then keypoints, of n frames (H, W, 3) uint8 RGB; they may differ in size."""
        return predict_between(self, frames, self.detect_every)

    def bare(self, frames: Sequence[Frame]) -> Callable[[], None]:
        """The inner networks alone, on these frames at one scale."""
        return self.inner.bare(frames)

    def _look(self, views: Sequence[Sequence[Sequence[View]]], more: int = 0) -> list[list[list[_Found]]]:
        """What the detector finds in views, which are sorted by frame and by scale; so many more boxes in each."""
        pictures = [view.picture for frame in views for scale in frame for view in scale]
        detector = copy.copy(self.inner)
        detector.spare = more
        found: list[Boxes] = []
        for start in range(0, len(pictures), VIEWS):
            found += detector.detect(pictures[start : start + VIEWS])
        left = iter(found)
        return [[[self._weigh(view, *next(left)) for view in scale] for scale in frame] for frame in views]

    def _weigh(self, view: View, boxes: npt.NDArray[np.floating], scores: npt.NDArray[np.floating]) -> _Found:
        """Boxes of a view in the frame, with their weights."""
        there = np.asarray(boxes, np.float64).reshape(-1, 4)
        sure = np.asarray(scores, np.float64)
        # in a frame made smaller, boxes are coarser
        return view.to_frame(there), sure, sure * self._fit(there, view) * min(view.zoom, 1.0)

    def _first_look(self, views: Sequence[Sequence[View]], found: Sequence[Sequence[_Found]]) -> _Found:
        """The best boxes of every scale; what two scales agree on once."""
        most = self.max_individuals + OTHERS
        each = [self._merge(parts, most) for parts in found if parts]
        return self._merge(each, len(views) * most, part=np.inf)

    def _fit(self, boxes: npt.NDArray[np.float64], view: View) -> npt.NDArray[np.float64]:
        """(M,) how far boxes of a view can be trusted by their size in it, and by being whole; 0..1."""
        if not len(boxes):
            return np.empty(0)
        share = np.maximum(boxes[:, 2:].max(1), 1.0) / view.longer
        off = np.log(share / self.usual) / self.spread
        return np.exp(-0.5 * off**2) * np.where(view.cut_off(boxes), CUT_OFF, 1.0)

    def _merge(self, parts: Sequence[_Found], most: int, part: float = PART) -> _Found:
        """The boxes of several views as those of one frame."""
        if not parts:
            return np.empty((0, 4)), np.empty(0), np.empty(0)
        boxes, scores, weights = (np.concatenate([p[i] for p in parts]) for i in range(3))
        keep = merge_boxes(boxes, weights, most, part)
        return boxes[keep], scores[keep], weights[keep]

    def _second_look(self, first: _Found, found: Sequence[_Found]) -> _Found:
        """Each box together with what is seen in a view of its own; what is not found there again counts half.

        Two looks at the same box are averaged: a crop that is a little too large or off costs accuracy. Where the
        second is quite another box, both stay: it may be the whole of a part, or a part of the whole.
        """
        boxes, scores, weights = (np.array(v) for v in first)
        others: list[_Found] = []
        for i, (again, sure, weight) in enumerate(found):
            over = covered(boxes[i : i + 1], again)[0] if len(again) else np.empty(0)
            if not (over > OVERLAPS).any():
                scores[i], weights[i] = scores[i] / 2, weights[i] / 2
                continue
            j = int(np.argmax(weight * (over > OVERLAPS)))
            if box_iou(boxes[i : i + 1], again[j : j + 1])[0, 0] > SAME:
                boxes[i] = np.average([boxes[i], again[j]], axis=0, weights=[weights[i] + 1e-9, weight[j]])
                scores[i], weights[i] = max(scores[i], sure[j]), max(weights[i], weight[j])
            elif weight[j] >= weights[i]:
                others.append((again[j : j + 1], sure[j : j + 1], weight[j : j + 1]))
        every = [(boxes, scores, weights), *others]
        boxes, scores, weights = (np.concatenate([part[i] for part in every]) for i in range(3))
        return boxes, scores, weights

    def _judge(self, frame: Frame, found: _Found) -> Boxes:
        """Of boxes that exclude each other, those whose keypoints the pose network believes in."""
        boxes, scores, weights = self._merge([found], len(found[0]), part=np.inf)
        if len(boxes) > 1:
            weights = scores * self.belief([frame] * len(boxes), boxes)
            kept = weights >= DOUBTFUL * weights.max()
            boxes, scores, weights = self._merge(
                [(boxes[kept], scores[kept], weights[kept])], self.max_individuals
            )
        return boxes, scores

    def belief(self, frames: Sequence[Frame], boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """(N,) mean likelihood of the keypoints in N boxes (N, 4), one frame each; 0 without any."""
        return mean_likelihood(self.inner.pose(frames, boxes)[1])


def mean_likelihood(sure: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """(N,) of the keypoints (N, K) that there are; 0 without any."""
    there = np.isfinite(sure)
    return np.asarray(np.where(there, sure, 0.0).sum(-1, dtype=np.float64) / np.maximum(there.sum(-1), 1))


def _widened(boxes: npt.NDArray[np.float64], factor: float) -> npt.NDArray[np.float64]:
    """Boxes (N, 4) made larger around their centres."""
    size = boxes[:, 2:] * factor
    return np.hstack([boxes[:, :2] + (boxes[:, 2:] - size) / 2, size])
