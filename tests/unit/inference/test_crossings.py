"""Rendered mice that touch each other, found and followed by the shipped model: nobody is exchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from napari_superanimal.demo.render import Clip, Style, render_clip
from napari_superanimal.evaluation.identity import identity_scores
from napari_superanimal.inference.collect import chunk_poses, join_chunks
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.inference.stream import PredictionStream
from napari_superanimal.jobs.predict import predict_files
from napari_superanimal.jobs.predict_plan import PredictOptions
from napari_superanimal.models.load import load_model
from napari_superanimal.models.zoo import find_model
from napari_superanimal.poses import box_iou
from napari_superanimal.video import VideoWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from napari_superanimal.inference.chunk import Chunk

#: The part of the clip around the crossing.
FRAMES = range(128, 224)


class Rendered:
    """The clip as a source of frames."""

    def __init__(self, clip: Clip) -> None:
        self._frames = {i: clip.frames[i] for i in FRAMES}

    def __len__(self) -> int:
        return FRAMES.stop

    def iter_frames(
        self, start: int = 0, stop: int | None = None, step: int = 1
    ) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        for i in range(start, len(self) if stop is None else stop, step):
            yield i, self._frames[i]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(load_model(find_model("mouse-topview-mini")), max_individuals=2, flip=False)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(FRAMES.stop, (480, 360), 2, 21, Style(body_length=0.25))


@pytest.fixture(scope="module")
def video(clip: Clip) -> Rendered:
    return Rendered(clip)


@pytest.fixture(scope="module")
def followed(video: Rendered, predictor: Predictor) -> Chunk:
    return join_chunks(list(PredictionStream(video, predictor, FRAMES)))


@pytest.fixture(scope="module")
def overlap(clip: Clip) -> npt.NDArray[np.float64]:
    """(T,) IoU of the two animals' true boxes."""
    boxes = clip.truth.boxes[FRAMES.start : FRAMES.stop]
    return np.array([box_iou(b[:1], b[1:])[0, 0] for b in boxes])


def test_nobody_is_exchanged_while_they_touch(
    clip: Clip, predictor: Predictor, followed: Chunk, overlap: npt.NDArray[np.float64]
) -> None:
    assert 0.2 < overlap.max() < 0.4
    assert (overlap > 0.1).sum() > 20
    scores = identity_scores(clip.truth, chunk_poses(predictor, followed))
    assert scores.switches == 0
    assert scores.idf1 > 0.93


def test_the_risk_is_where_they_touch(followed: Chunk, overlap: npt.NDArray[np.float64]) -> None:
    risk = followed.swap_risk.max(1)
    assert risk[overlap > 0.2].mean() > 0.5
    assert (overlap == 0).sum() > 20
    assert risk[overlap == 0].max() < 0.1


def test_a_stream_that_goes_on_in_the_middle_of_it_finds_the_same(
    video: Rendered, predictor: Predictor, followed: Chunk
) -> None:
    stop = FRAMES.start + 4 * predictor.chunk_frames
    before = join_chunks(list(PredictionStream(video, predictor, range(FRAMES.start, stop))))
    after = PredictionStream(video, predictor, range(stop, FRAMES.stop), tracks=before.tracks)
    joined = join_chunks([before, *after])
    for name in ("xy", "likelihood", "boxes", "box_scores", "swap_risk", "tracks"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(followed, name), err_msg=name)


def test_the_risk_is_beside_the_predictions(
    clip: Clip, tmp_path: Path, followed: Chunk, overlap: npt.NDArray[np.float64]
) -> None:
    """A table of the frames that deserve a look, and their spans in the run card."""
    with VideoWriter(tmp_path / "pair.mp4", 30, clip.size) as writer:
        for frame in FRAMES:
            writer.write(clip.frames[frame])
    options = PredictOptions("mouse-topview-mini", max_individuals=2, flip=False)
    [result] = predict_files([tmp_path / "pair.mp4"], options)
    table = pd.read_csv(tmp_path / "pair_mouse-topview-mini.swap_risk.csv")
    assert set(table["individual"]) == {"animal0", "animal1"}
    assert table["swap_risk"].between(0, 1).all()
    risky = table.loc[table["swap_risk"] >= 0.5, "frame"].unique()
    assert overlap[risky].min() > 0.1
    spans = result.card["swap_risk"]["spans"]
    assert sorted(risky) == [f for span in spans for f in range(span["first"], span["last"] + 1)]
    assert tmp_path / "pair_mouse-topview-mini.swap_risk.csv" in result.files
