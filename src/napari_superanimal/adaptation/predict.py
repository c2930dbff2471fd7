"""Predictions on bursts of a video, as `superanimal predict` makes them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

from napari_superanimal.inference.collect import chunk_poses, join_chunks
from napari_superanimal.inference.stream import FrameSource, PredictionStream
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Meter, ProgressCallback

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_superanimal.inference.chunk import Chunk
    from napari_superanimal.inference.frame_predictor import FramePredictor
    from napari_superanimal.poses import Poses


def predict_bursts(
    predictor: FramePredictor,
    video: FrameSource,
    bursts: Sequence[range],
    *,
    message: str = "predicting",
    path: str = "",
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> Poses:
    """Predictions on all frames of some bursts, individuals followed within each.

    Raises
    ------
    Cancelled
        If the token was set.
    """
    meter = Meter(sum(len(b) for b in bursts))
    chunks: list[Chunk] = []
    done = 0
    for burst in bursts:
        pieces = cast("Generator[Chunk]", iter(PredictionStream(video, predictor, burst, token=token)))
        with contextlib.closing(pieces):
            for chunk in pieces:
                chunks.append(chunk)
                done += len(chunk.frames)
                if on_progress is not None:
                    on_progress(meter.at(done, message))
        if token is not None and token.cancelled:
            raise Cancelled("stopped")
    return chunk_poses(predictor, join_chunks(chunks), path=path)
