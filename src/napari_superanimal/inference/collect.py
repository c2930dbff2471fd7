"""Chunks put together to poses, complete or as far as they have come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.poses import Poses, make_poses

if TYPE_CHECKING:
    from napari_superanimal.inference.chunk import Chunk
    from napari_superanimal.inference.frame_predictor import FramePredictor


class Collector:
    """Collects the chunks of a run; `poses` may be asked for at any time.

    Parameters
    ----------
    predictor : FramePredictor
        Gives names of keypoints, individuals and scorer.
    frames : range
        Frames that were asked for.
    """

    def __init__(self, predictor: FramePredictor, frames: range) -> None:
        self._predictor = predictor
        self.frames = frames
        self._row = {f: i for i, f in enumerate(frames)}
        n, a, k = len(frames), predictor.max_individuals, len(predictor.space)
        self._xy = np.full((n, a, k, 2), np.nan, np.float32)
        self._likelihood = np.full((n, a, k), np.nan, np.float32)
        self._boxes = np.full((n, a, 4), np.nan, np.float32)
        self._scores = np.full((n, a), np.nan, np.float32)
        self._done = np.zeros(n, bool)

    @property
    def done(self) -> int:
        """Frames collected so far."""
        return int(self._done.sum())

    @property
    def complete(self) -> bool:
        return bool(self._done.all())

    def add(self, chunk: Chunk) -> None:
        """Take in a chunk."""
        rows = [self._row[int(f)] for f in chunk.frames]
        self._xy[rows], self._likelihood[rows] = chunk.xy, chunk.likelihood
        self._boxes[rows], self._scores[rows] = chunk.boxes, chunk.box_scores
        self._done[rows] = True

    def poses(self, **metadata: Any) -> Poses:
        """The frames that are done, as predictions of the model."""
        rows = np.flatnonzero(self._done)
        frames = np.array(self.frames, np.int64)[rows]
        card = self._predictor.card
        return make_poses(
            self._predictor.space.keypoints,
            self._xy[rows].astype(np.float64),
            frames=frames,
            individuals=self._predictor.individuals,
            likelihood=self._likelihood[rows],
            boxes=self._boxes[rows],
            box_scores=self._scores[rows],
            scorer=self._predictor.scorer,
            skeleton=self._predictor.space.skeleton,
            metadata={"model": card.name, "space": card.space_name, "threshold": card.threshold, **metadata},
        )
