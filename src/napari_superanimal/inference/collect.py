"""Chunks put together to poses, complete or as far as they have come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.inference.chunk import Chunk
from napari_superanimal.inference.risk_log import RiskLog
from napari_superanimal.poses import Poses, make_poses, risk_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.inference.frame_predictor import FramePredictor


def chunk_poses(predictor: FramePredictor, chunk: Chunk, **metadata: Any) -> Poses:
    """A chunk as predictions of the model."""
    card = predictor.card
    return make_poses(
        predictor.space.keypoints,
        chunk.xy.astype(np.float64),
        frames=chunk.frames,
        individuals=predictor.individuals,
        likelihood=chunk.likelihood,
        boxes=chunk.boxes,
        box_scores=chunk.box_scores,
        scorer=predictor.scorer,
        skeleton=predictor.space.skeleton,
        metadata={"model": card.name, "space": card.space_name, "threshold": card.threshold, **metadata},
    )


def join_chunks(chunks: Sequence[Chunk]) -> Chunk:
    """Consecutive chunks as one; at least one."""

    def joined(name: str) -> Any:
        return np.concatenate([getattr(chunk, name) for chunk in chunks])

    return Chunk(
        frames=joined("frames"),
        xy=joined("xy"),
        likelihood=joined("likelihood"),
        boxes=joined("boxes"),
        box_scores=joined("box_scores"),
        swap_risk=joined("swap_risk"),
        tracks=chunks[-1].tracks,
    )


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
        self._risk = np.zeros((n, a), np.float32)
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
        self._risk[rows] = chunk.swap_risk
        self._done[rows] = True

    def poses(self, **metadata: Any) -> Poses:
        """The frames that are done, as predictions of the model."""
        rows = np.flatnonzero(self._done)
        frames = np.array(self.frames, np.int64)[rows]
        risk = RiskLog(self._predictor.individuals)
        risk.add(frames, self._risk[rows])
        chunk = Chunk(
            frames,
            self._xy[rows],
            self._likelihood[rows],
            self._boxes[rows],
            self._scores[rows],
            self._risk[rows],
        )
        table = risk_rows([(frames, self._risk[rows])], self._predictor.individuals)
        return chunk_poses(self._predictor, chunk, swap_risk={**risk.to_json(), "rows": table}, **metadata)
