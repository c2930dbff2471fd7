"""Which scales frames need: rendered mice as usual, lost in a hall, and none at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_superanimal.demo.render import render_clip
from napari_superanimal.inference.frame_predictor import Predictions
from napari_superanimal.inference.survey import FAR, SINGLE, candidates, distance, survey, what_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_superanimal.inference.frame_predictor import Boxes, Frame, FramePredictor

SCENE = 4


@pytest.fixture(scope="module")
def mice() -> tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.float64]]:
    """Frames with a mouse, and its boxes (T, 4)."""
    clip = render_clip(3, (480, 360), seed=4)
    return list(clip.frames), clip.truth.boxes[:, 0]


@pytest.fixture
def predictor(one_thread: None) -> FramePredictor:
    from napari_superanimal.inference.build import build_predictor
    from napari_superanimal.models.zoo import find_model

    return build_predictor(find_model("mouse-topview-mini"), device="cpu", flip=False)


def in_a_hall(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The frame in a corner of a scene several times as large, on a floor of its own brightness."""
    height, width = frame.shape[:2]
    floor = np.random.default_rng(0).normal(np.median(frame), 4, (SCENE * height, SCENE * width, 1))
    scene = np.repeat(floor.clip(0, 255).astype(np.uint8), 3, axis=2)
    scene[300 : 300 + height, 900 : 900 + width] = frame
    return scene


def animals(xy: npt.NDArray[np.float64], side: float, sure: npt.ArrayLike = 1.0) -> Predictions:
    """Predictions of one frame: keypoints (A, K, 2) in square boxes, with likelihoods (A, 1)."""
    boxes = np.full((1, len(xy), 4), side, np.float32)
    scores = np.ones((1, len(xy)), np.float32)
    return Predictions(
        xy[None].astype(np.float32), np.full((1, *xy.shape[:2]), sure, np.float32), boxes, scores
    )


def test_usual_animals_are_left_alone(
    mice: tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.float64]], predictor: FramePredictor
) -> None:
    frames, boxes = mice
    usual = survey(predictor, frames)
    assert usual.scales == ()
    assert list(usual.tried) == [SINGLE]
    assert usual.animal_share == pytest.approx(boxes[:, 2:].max() / 480, rel=0.4)


def test_small_ones_are_given_the_fastest_scales_that_see_what_all_see(
    mice: tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.float64]], predictor: FramePredictor
) -> None:
    from napari_superanimal.inference.pyramid import SCALES, PyramidPredictor, views_of

    frames, boxes = mice
    scenes = [in_a_hall(frame) for frame in frames[:2]]
    small = survey(predictor, scenes)
    assert max(small.scales) >= 2
    assert 1.0 in small.scales
    assert small.frames == 2
    assert small.animal_share == pytest.approx(boxes[:, 2:].max() / (480 * SCENE), rel=0.4)
    assert small.together > small.single
    # in the order of their cost, up to the first that suffices
    names = list(small.tried)
    assert names[0] == SINGLE
    costs = [sum(views_of(float(s)) for s in name.split(",")) for name in names[1:]]
    assert costs == sorted(costs)
    *too_far, last = small.tried.values()
    assert all(v > small.limit for v in too_far)
    assert last <= small.limit
    assert names[-1] == ",".join(f"{s:g}" for s in small.scales)
    # what is promised of two frames holds for their predictions
    every, chosen = (PyramidPredictor(predictor, s) for s in (SCALES, small.scales))
    best = [every([scene]) for scene in scenes]
    weights = [np.nan_to_num(b.likelihood[0]).astype(np.float64) for b in best]
    apart = sum(distance(b, chosen([scene]), w) for b, scene, w in zip(best, scenes, weights, strict=True))
    assert apart <= small.limit**2 * np.sum(weights) + 1e-6
    assert small.to_json()["tried"].keys() == small.tried.keys()


def test_frames_without_an_animal_choose_nothing(
    mice: tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.float64]], predictor: FramePredictor
) -> None:
    frames, _ = mice
    found = survey(predictor, [np.zeros_like(frames[0])] * 2, (0.5, 1.0))
    assert found.scales == ()
    assert found.animal_share is None or found.together < 0.4
    assert survey(predictor, []).frames == 0
    # beside one with an animal they say nothing
    assert survey(predictor, [np.zeros_like(frames[0]), frames[0]], (0.5, 1.0)).scales == ()


def test_one_mouse_is_enough_where_several_are_looked_for(
    mice: tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.float64]], predictor: FramePredictor
) -> None:
    """What windows take for another animal is believed in less, and must not make everything slower."""
    from napari_superanimal.inference.build import build_predictor
    from napari_superanimal.models.zoo import find_model

    many = build_predictor(find_model("mouse-topview-mini"), device="cpu", flip=False, max_individuals=3)
    assert survey(many, mice[0]).scales == ()


def test_no_frame_is_begun_when_the_time_is_over(
    mice: tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.float64]], predictor: FramePredictor
) -> None:
    assert survey(predictor, mice[0], (0.5, 1.0), seconds=0.0).frames == 1


class Counting:
    """A predictor, and how many pictures and boxes it was asked about."""

    def __init__(self, inner: FramePredictor) -> None:
        self.inner = inner
        self.seen: list[tuple[str, int]] = []

    def __getattr__(self, name: str) -> object:
        if name.startswith("_") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def detect(self, frames: Sequence[Frame]) -> Sequence[Boxes]:
        self.seen.append(("detect", len(frames)))
        return self.inner.detect(frames)

    def pose(self, frames: Sequence[Frame], boxes: npt.NDArray[np.floating]) -> Boxes:
        self.seen.append(("pose", len(frames)))
        return self.inner.pose(frames, boxes)


def test_nothing_is_computed_twice(
    mice: tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.float64]], predictor: FramePredictor
) -> None:
    from napari_superanimal.inference.pyramid import PyramidPredictor
    from napari_superanimal.inference.remembering import Remembering

    frame = mice[0][0]
    counting = Counting(predictor)
    once = Remembering(counting, [frame])
    scales = (0.5, 1.0, 2.0)
    first = PyramidPredictor(once, scales)([frame])
    asked = len(counting.seen)
    again = PyramidPredictor(once, scales)([frame])
    assert len(counting.seen) == asked
    alone = PyramidPredictor(predictor, scales)([frame])
    for name in ("xy", "likelihood", "boxes", "box_scores"):
        # one by one or in a batch is the same but for the last digits
        assert getattr(first, name) == pytest.approx(getattr(alone, name), abs=0.02, nan_ok=True)
        assert np.array_equal(getattr(first, name), getattr(again, name), equal_nan=True)
    # parts of them are known, other pictures are not
    PyramidPredictor(once, (2.0,))([frame])
    assert sum(n for what, n in counting.seen[asked:] if what == "detect") <= 1
    dark = (frame // 2).astype(np.uint8)
    asked = len(counting.seen)
    once([dark])
    assert len(counting.seen) > asked
    # windows of a frame are told apart wherever they are, and found again
    asked = len(counting.seen)
    windows = [
        frame[:200, :200],
        frame[:200, 8:208],
        frame[:200, :208],
        frame[:200, :200],
        frame[::-1][:200, :200],
    ]
    once.detect(windows)
    assert counting.seen[asked:] == [("detect", 4)]
    # the same boxes twice in one call are one crop
    asked = len(counting.seen)
    xy, _ = once.pose([frame, frame], np.array([[100.0, 100, 80, 60]] * 2))
    assert counting.seen[asked:] == [("pose", 1)]
    assert np.array_equal(xy[0], xy[1], equal_nan=True)


def test_candidates_come_in_the_order_of_their_cost_and_keep_the_whole_frame() -> None:
    from napari_superanimal.inference.pyramid import SCALES, views_of

    found = candidates(SCALES)
    assert found[0] == ()
    assert found[1] == (1.0,)
    assert SCALES not in found
    assert len(set(found)) == len(found) == 2 ** (len(SCALES) - 1)
    assert all(1.0 in some for some in found[1:])
    costs = [sum(map(views_of, some)) for some in found[1:]]
    assert costs == sorted(costs)
    assert candidates((2.0, 4.0)) == [(), (2.0,), (4.0,)]


def test_distances_are_relative_to_the_animal_and_end_somewhere() -> None:
    square = np.array([[[0.0, 0.0], [40.0, 0.0], [40.0, 40.0], [0.0, 40.0]]])
    right, all_alike = np.array([4.0, 0.0]), np.ones((1, 4))
    best = animals(square, side=40.0)
    assert distance(best, best, all_alike) == 0.0
    moved = animals(square + right, side=99.0)
    assert distance(best, moved, all_alike) == pytest.approx(4 * 0.1**2)
    larger, also_moved = animals(3 * square, side=120.0), animals(3 * (square + right), side=40.0)
    assert distance(larger, also_moved, all_alike) == pytest.approx(4 * 0.1**2)
    # elsewhere, or not found, is the same: far
    for far in (square + 1000, square * np.nan):
        assert distance(best, animals(far, side=40.0), all_alike) == pytest.approx(4 * FAR**2)
    # what does not count may be anywhere
    assert distance(best, moved, np.array([[1.0, 0.5, 0.0, 0.0]])) == pytest.approx(1.5 * 0.1**2)
    nothing = animals(square * np.nan, side=np.nan)
    assert distance(nothing, moved, np.zeros((1, 4))) == 0.0


@given(st.integers(0, 2**16), st.integers(1, 4))
def test_the_order_of_animals_does_not_matter(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 30, (count, 5, 2)) + 1000 * np.arange(count)[:, None, None]
    weights = rng.uniform(0.1, 1, (count, 5))
    best = animals(xy, side=30.0)
    assert distance(best, animals(rng.permutation(xy), side=30.0), weights) == pytest.approx(0)
    # one animal less costs as much as all of its keypoints
    xy[0] = np.nan
    lost = distance(best, animals(xy, side=30.0), weights)
    assert lost == pytest.approx(FAR**2 * weights[0].sum())


@pytest.mark.parametrize(
    ("sure", "counted"),
    [
        # one mouse, and what windows show beside it
        ([[0.9, 0.5], [0.9, 0.8], [0.3, 0.9]], [[0], [0], [1]]),
        # two, one of which is hidden at times
        ([[0.9, 0.9], [0.8, 0.9], [0.9, 0.4]], [[0, 1], [0, 1], [0]]),
        # frames without an animal
        ([[0.9, 0.0], [0.2, 0.1], [0.0, 0.0]], [[0], [], []]),
        ([[0.0, 0.0], [np.nan, np.nan]], [[], []]),
    ],
)
def test_as_many_animals_count_as_most_frames_show(sure: list[list[float]], counted: list[list[int]]) -> None:
    xy = np.arange(2 * 3 * 2, dtype=float).reshape(2, 3, 2)
    frames = [animals(xy, 30.0, np.array(each)[:, None]) for each in sure]
    for weights, each, rows in zip(what_counts(frames), sure, counted, strict=True):
        assert np.flatnonzero(weights.any(1)).tolist() == rows
        assert weights[rows] == pytest.approx(np.array(each)[rows][:, None] * np.ones(3))
