"""The detector on every n-th frame: few looks, boxes that follow the animals, second looks where that fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_superanimal.demo.render import render_clip
from napari_superanimal.inference.build import build_predictor
from napari_superanimal.inference.collect import Collector
from napari_superanimal.inference.frame_predictor import Shares, predict_frames
from napari_superanimal.inference.keyframes import between, chunk_length, predict_between, same_animals
from napari_superanimal.inference.stream import PredictionStream
from napari_superanimal.models.zoo import find_model

if TYPE_CHECKING:
    from collections.abc import Sequence

SHAPE = np.array([[0.2, 0.3], [0.8, 0.3], [0.5, 0.7], [0.3, 0.6]])


class Scene:
    """A predictor that knows where the animals are (T, A, 4), NaN where there is none."""

    def __init__(self, boxes: np.ndarray) -> None:
        self.boxes = np.asarray(boxes, np.float64)
        self.max_individuals, self.spare = self.boxes.shape[1], 0
        self.space: Sequence[str] = ("a", "b", "c", "d")
        self.card = SimpleNamespace(threshold=0.5)
        self.shares = Shares()
        self.looked: list[int] = []
        self.sure = np.full(self.boxes.shape[:2], 0.9)

    @property
    def frames(self) -> list[np.ndarray]:
        return [np.full((2, 2, 3), i, np.uint8) for i in range(len(self.boxes))]

    def detect(self, frames: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        numbers = [int(f[0, 0, 0]) for f in frames]
        self.looked += numbers
        kept = [self.boxes[i][np.isfinite(self.boxes[i, :, 0])] for i in numbers]
        return [(each, np.full(len(each), 0.8)) for each in kept]

    def pose(self, frames: Sequence[np.ndarray], boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints of the animal that is nearest to the box."""
        xy, sure = [], []
        for frame, box in zip(frames, boxes, strict=True):
            i = int(frame[0, 0, 0])
            real = self.boxes[i]
            nearest = int(np.nanargmin(np.linalg.norm(real[:, :2] - box[:2], axis=-1)))
            xy.append(real[nearest, :2] + SHAPE * real[nearest, 2:])
            sure.append(np.full(4, self.sure[i, nearest]))
        return np.array(xy), np.array(sure)


def walk(frames: int, x: float = 10.0, speed: float = 2.0) -> np.ndarray:
    t = np.arange(frames)
    return np.stack([x + speed * t, np.full(frames, 20.0), np.full(frames, 60.0), np.full(frames, 40.0)], -1)


def run(scene: Scene, every: int) -> Any:
    return predict_between(scene, scene.frames, every)  # type: ignore[arg-type]


def test_an_animal_that_walks_is_looked_at_in_every_nth_frame() -> None:
    scene = Scene(walk(25)[:, None])
    found = run(scene, 8)
    assert scene.looked == [0, 8, 16, 24]
    np.testing.assert_allclose(found.boxes, scene.boxes, atol=1e-3)
    np.testing.assert_allclose(found.box_scores, 0.8)
    exact = predict_frames(scene, scene.frames)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.xy, exact.xy, atol=1e-3)
    assert chunk_length(8, 4) == 25
    assert chunk_length(1, 4) == 4
    assert chunk_length(40, 4) == 41


def test_where_an_animal_comes_the_detector_looks_again() -> None:
    boxes = np.full((17, 2, 4), np.nan)
    boxes[:, 0] = walk(17)
    boxes[11:, 1] = walk(17, 200.0)[11:]
    scene = Scene(boxes)
    found = run(scene, 8)
    assert np.isfinite(found.box_scores).sum(1).tolist() == [1] * 11 + [2] * 6
    # the empty and the full part are not looked at frame by frame
    assert len(set(scene.looked)) == len(scene.looked) < 10
    np.testing.assert_allclose(found.boxes[11:, 1], boxes[11:, 1], atol=1e-3)


def test_animals_that_are_close_or_fast_are_looked_at_in_every_frame() -> None:
    close = Scene(np.stack([walk(9), walk(9, 25.0)], 1))
    run(close, 8)
    assert sorted(close.looked) == list(range(9))
    fast = Scene(walk(9, speed=40.0)[:, None])
    found = run(fast, 8)
    assert sorted(fast.looked) == list(range(9))
    np.testing.assert_allclose(found.boxes, fast.boxes, atol=1e-3)


def test_poses_that_do_not_lie_as_they_should_are_looked_at_again() -> None:
    boxes = walk(17, speed=0.0)
    boxes[4, 0] += 30.0  # there and back between two keyframes
    scene = Scene(boxes[:, None])
    found = run(scene, 8)
    assert scene.looked == [0, 8, 16, 4]
    np.testing.assert_allclose(found.boxes[:, 0], boxes, atol=1e-3)
    scene = Scene(walk(17)[:, None])
    scene.sure[11] = 0.1
    run(scene, 8)
    assert scene.looked == [0, 8, 16, 11]
    # where nothing is ever sure, the poses cannot vouch for the boxes
    scene = Scene(walk(17)[:, None])
    scene.sure[:] = 0.1
    run(scene, 8)
    assert sorted(scene.looked) == list(range(17))


def test_nobody_there_and_pictures_of_several_sizes() -> None:
    empty = Scene(np.full((17, 1, 4), np.nan))
    found = run(empty, 8)
    assert empty.looked == [0, 8, 16]
    assert np.isnan(found.xy).all()
    scene = Scene(walk(3)[:, None])
    shots = [np.full((2 + i, 2, 3), i, np.uint8) for i in range(3)]
    predict_between(scene, shots, 8)  # type: ignore[arg-type]
    assert scene.looked == [0, 1, 2]


def test_boxes_of_two_frames_are_matched_whatever_their_order() -> None:
    one = np.array([[0, 0, 10, 10], [50, 50, 10, 10]], np.float32), np.array([0.9, 0.5], np.float32)
    other = np.array([[52, 50, 10, 10], [2, 0, 10, 10]], np.float32), np.array([0.7, 0.6], np.float32)
    same = same_animals(one, other)
    assert same is not None
    assert same.tolist() == [1, 0]
    boxes, scores = between(one, other, same, 0.5)
    assert boxes.tolist() == [[1, 0, 10, 10], [51, 50, 10, 10]]
    assert scores == pytest.approx([0.75, 0.6])
    assert same_animals(one, (other[0][:1], other[1][:1])) is None


def test_a_rendered_mouse(one_thread: None) -> None:
    """The real model on a video: few looks, and poses as with all of them; in chunks, as in a stream."""
    clip = render_clip(60, size=(320, 240), seed=11)
    shots = list(clip.frames)
    video = SimpleNamespace(
        iter_frames=lambda start, stop, step: ((i, shots[i]) for i in range(start, stop, step))
    )
    looks = 0
    results = {}
    for every in (1, 6):
        predictor: Any = build_predictor(
            find_model("mouse-topview-mini"), device="cpu", precision="fp32", detect_every=every
        )
        real, looks = predictor.detect, 0

        def counted(frames: Sequence[np.ndarray], real: Any = real) -> Any:
            nonlocal looks
            looks += len(frames)
            return real(frames)

        predictor.detect = counted
        collector = Collector(predictor, range(60))
        for chunk in PredictionStream(video, predictor, range(60)):  # type: ignore[arg-type]
            collector.add(chunk)
        results[every] = collector.poses(), looks
    exact, every_frame = results[1]
    found, few = results[6]
    assert every_frame == 60
    assert 10 <= few <= 30
    sure = exact.likelihood >= 0.5
    assert sure.sum() > 200
    moved = np.linalg.norm(found.xy - exact.xy, axis=-1)[sure]
    assert np.median(moved) < 1.0
    assert np.quantile(moved, 0.95) < 4.0
