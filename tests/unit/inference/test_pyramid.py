"""Several scales and margins, on rendered mice with truth and on numbers made by hand."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_superanimal.demo.render import render_clip
from napari_superanimal.errors import UserError
from napari_superanimal.inference.fusion import AGREE, fuse_keypoints, merge_boxes
from napari_superanimal.inference.views import OVERLAP, view_around, views_at

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from napari_superanimal.inference.frame_predictor import FramePredictor
    from napari_superanimal.models.load import LoadedModel

SCENE = 4


@pytest.fixture(scope="module")
def mice() -> tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Frames with a mouse, its keypoints (T, K, 2) and boxes (T, 4)."""
    clip = render_clip(3, (480, 360), seed=4)
    return list(clip.frames), clip.truth.xy[:, 0], clip.truth.boxes[:, 0]


@pytest.fixture
def predictor(one_thread: None) -> FramePredictor:
    from napari_superanimal.inference.build import build_predictor
    from napari_superanimal.models.zoo import find_model

    return build_predictor(find_model("mouse-topview-mini"), device="cpu", flip=False)


def in_a_hall(frame: npt.NDArray[np.uint8], corner: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The frame in the corner of a scene several times as large, on a floor of its own brightness."""
    height, width = frame.shape[:2]
    floor = np.random.default_rng(0).normal(np.median(frame), 4, (SCENE * height, SCENE * width, 1))
    scene = np.repeat(floor.clip(0, 255).astype(np.uint8), 3, axis=2)
    x, y = corner
    scene[y : y + height, x : x + width] = frame
    return scene


@given(st.integers(60, 900), st.integers(60, 900), st.sampled_from([1.5, 2.0, 3.0, 4.0]))
def test_windows_cover_the_frame_and_overlap(width: int, height: int, scale: float) -> None:
    frame = np.zeros((height, width, 3), np.uint8)
    views = views_at(frame, scale)
    if max(height, width) / scale < 48:
        assert not views
        return
    seen = np.zeros((height, width), int)
    for view in views:
        h, w = view.picture.shape[:2]
        seen[int(view.top) : int(view.top) + h, int(view.left) : int(view.left) + w] += 1
    assert seen.min() >= 1
    lefts = sorted({view.left for view in views})
    side = views[0].picture.shape[1]
    assert all(b - a <= side * (1 - OVERLAP) + 1 for a, b in itertools.pairwise(lefts))


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.0, 2.0])
def test_boxes_of_views_come_back_to_where_they_were(scale: float) -> None:
    frame = np.zeros((300, 400, 3), np.uint8)
    frame[120:181, 200:281] = 255  # covers pixels 200..280 and 120..180
    for view in views_at(frame, scale):
        lit = np.argwhere(view.picture[..., 0] > 127)
        if not len(lit):
            continue
        low, high = lit.min(0)[::-1], lit.max(0)[::-1]
        box = view.to_frame(np.array([[*(low - 0.5), *(high - low + 1)]], np.float64))[0]
        if view.cut_off(np.array([[*low, *(high - low)]], np.float64))[0]:
            continue
        assert box == pytest.approx([199.5, 119.5, 81, 61], abs=0.5 / min(scale, 1) + 0.01)


def test_view_around_gives_the_animal_the_size_asked_for() -> None:
    frame = np.zeros((480, 640, 3), np.uint8)
    box = np.array([500.0, 30.0, 40.0, 20.0])
    near = view_around(frame, box, 0.2)
    assert 40 / near.longer == pytest.approx(0.2, rel=0.02)
    assert near.left <= 500
    assert near.left + near.picture.shape[1] >= 540
    far = view_around(frame, np.array([-100.0, -50.0, 800.0, 500.0]), 0.5)
    assert 800 * far.zoom / far.longer == pytest.approx(0.5, rel=0.02)
    assert far.picture.shape == frame.shape


def test_cut_off_tells_borders_of_windows_from_those_of_the_frame() -> None:
    frame = np.zeros((200, 200, 3), np.uint8)
    first = views_at(frame, 2.0)[0]
    at_frame, at_window = [0.0, 20.0, 30.0, 30.0], [70.0, 20.0, 30.0, 30.0]
    assert first.cut_off(np.array([at_frame, at_window])).tolist() == [False, True]


def test_merge_drops_the_same_animal_and_parts_of_it_only() -> None:
    whole, again, head, other = [0, 0, 100, 60], [4, 2, 98, 60], [5, 5, 20, 20], [300, 0, 100, 60]
    boxes = np.array([whole, again, head, other], np.float64)
    assert merge_boxes(boxes, np.array([0.9, 0.8, 0.7, 0.6]), 9).tolist() == [0, 3]
    assert merge_boxes(boxes, np.array([0.9, 0.8, 0.7, 0.6]), 1).tolist() == [0]
    assert merge_boxes(boxes, np.array([0.9, 0.8, 0.7, 0.6]), 9, part=np.inf).tolist() == [0, 2, 3]


def test_a_look_that_is_far_off_is_dropped_and_makes_the_point_doubtful() -> None:
    xy = np.zeros((3, 1, 2, 2))
    xy[:, 0, 0] = [[10, 10], [11, 10], [80, 10]]
    xy[:, 0, 1] = [[50, 50], [51, 50], [52, 50]]
    sure = np.full((3, 1, 2), 0.9)
    sure[2, 0, 0] = 0.99  # the sure one is wrong: two against one
    at, likelihood = fuse_keypoints(xy, sure, np.array([100.0]))
    assert at[0, 0] == pytest.approx([10.5, 10])
    assert at[0, 1] == pytest.approx([51, 50])
    assert likelihood[0] == pytest.approx([0.6, 0.9])


@given(st.floats(0.1, 50), st.floats(-1000, 1000), st.integers(0, 2**16))
def test_fusion_is_relative_to_the_animal(zoom: float, shift: float, seed: int) -> None:
    """Unlike an angle from the picture's origin, it does not care where the animal is or how large."""
    rng = np.random.default_rng(seed)
    xy, sure = rng.normal(0, 15, (3, 2, 4, 2)), rng.uniform(0.05, 1, (3, 2, 4))
    xy[rng.random((3, 2, 4)) < 0.2] = np.nan
    size = np.array([80.0, 120.0])
    at, likelihood = fuse_keypoints(xy, sure, size)
    moved, same = fuse_keypoints(xy * zoom + shift, sure, size * zoom)
    assert moved == pytest.approx(at * zoom + shift, rel=1e-6, abs=1e-6 * max(zoom, abs(shift)), nan_ok=True)
    assert same == pytest.approx(likelihood, nan_ok=True)
    assert np.isnan(at).all(-1).tolist() == np.isnan(xy).all(-1).all(0).tolist()


def test_one_look_is_kept_as_it_is() -> None:
    xy, sure = np.array([[[[3.0, 4.0]]]]), np.array([[[0.4]]])
    at, likelihood = fuse_keypoints(xy, sure, np.array([10.0]))
    assert at[0, 0] == pytest.approx([3.0, 4.0])
    assert likelihood[0, 0] == 0.4
    assert 0 < AGREE < 1


def test_closer_looks_are_more_exact() -> None:
    xy = np.array([[[[10.0, 20.0]]], [[[13.0, 20.0]]]])
    sure = np.full((2, 1, 1), 0.8)
    at, likelihood = fuse_keypoints(xy, sure, np.array([100.0]), (2.0, 1.0))
    assert at[0, 0] == pytest.approx([11.0, 20.0])
    assert likelihood[0, 0] == pytest.approx(0.8)
    assert fuse_keypoints(xy, sure, np.array([100.0]))[0][0, 0] == pytest.approx([11.5, 20.0])


def test_a_mouse_that_fills_the_picture_is_as_exact_as_with_the_plain_detector(
    mice: tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.float64], npt.NDArray[np.float64]],
    predictor: FramePredictor,
) -> None:
    """Boxes seen in a frame made smaller are coarse: they count less than those that the whole frame shows."""
    from napari_superanimal.inference.pyramid import SCALES, PyramidPredictor

    known = [predictor.space.index(k) for k in predictor.card.keypoints]
    errors = []
    for frame, truth, box in zip(*mice, strict=True):
        left, top = np.maximum(np.floor(box[:2] - 8).astype(int), 0)
        right, bottom = np.ceil(box[:2] + box[2:] + 8).astype(int)
        near = np.ascontiguousarray(frame[top:bottom, left:right])
        size = float(np.sqrt(np.prod(box[2:])))
        for way in (predictor, PyramidPredictor(predictor, SCALES)):
            found = way([near]).xy[0, 0, known] + (left, top)
            errors.append(np.nanmean(np.linalg.norm(found - truth[known], axis=-1)) / size)
    plain, pyramid = np.reshape(errors, (-1, 2)).mean(0)
    assert pyramid < 1.1 * plain


def test_a_mouse_lost_in_a_hall_is_found_in_windows(
    mice: tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.float64], npt.NDArray[np.float64]],
    predictor: FramePredictor,
) -> None:
    from napari_superanimal.inference.pyramid import PyramidPredictor

    frames, truth, boxes = mice
    corner = (700, 500)
    scene = in_a_hall(frames[0], corner)
    known = [predictor.space.index(k) for k in predictor.card.keypoints]
    size = float(np.sqrt(np.prod(boxes[0, 2:])))
    found = PyramidPredictor(predictor, (1.0, 4.0))([scene])
    error = np.linalg.norm(found.xy[0, 0, known] - truth[0, known] - corner, axis=-1) / size
    assert np.nanmax(error) < 0.1
    # the same animal in its own frame, seen as usual, is hardly better
    usual = predictor([frames[0]])
    best = np.linalg.norm(usual.xy[0, 0, known] - truth[0, known], axis=-1) / size
    assert np.nanmean(error) < 1.5 * np.nanmean(best) + 0.01


def test_heavy_detectors_are_not_asked_to_look_into_many_windows() -> None:
    from napari_superanimal.inference.pyramid import SCALES, scales_to_try
    from napari_superanimal.models.zoo import list_models

    cards = {ref.card.name: ref.card for ref in list_models()}
    assert scales_to_try(cards["mouse-topview-mini"]) == SCALES
    official = [card for card in cards.values() if card.official]
    assert official
    assert all(scales_to_try(card) == (0.5, 1.0, 2.0) for card in official)


def test_several_animals_keep_their_number(
    predictor: FramePredictor, tiny_model: Callable[..., LoadedModel]
) -> None:
    from napari_superanimal.inference.build import build_predictor
    from napari_superanimal.inference.predictor import Predictor
    from napari_superanimal.inference.pyramid import PyramidPredictor
    from napari_superanimal.models.zoo import find_model

    clip = render_clip(1, (640, 480), n_mice=2, seed=7)
    two = build_predictor(find_model("mouse-topview-mini"), device="cpu", flip=False, max_individuals=2)
    found = PyramidPredictor(two, (0.5, 1.0, 2.0))([clip.frames[0]])
    centres = found.boxes[0, :, :2] + found.boxes[0, :, 2:] / 2
    true = clip.truth.boxes[0, :, :2] + clip.truth.boxes[0, :, 2:] / 2
    gaps = np.linalg.norm(centres[:, None] - true[None], axis=-1)
    assert sorted(gaps.argmin(1).tolist()) == [0, 1]
    assert gaps.min(1).max() < 30
    # an untrained model may find nothing at all: that is no error
    none = Predictor(tiny_model(), device="cpu", max_individuals=1)
    none.detector_threshold = 2.0
    assert np.isnan(PyramidPredictor(none, (0.5, 2.0))([clip.frames[0]]).xy).all()


def test_a_likelier_animal_in_the_same_window_does_not_hide_another(predictor: FramePredictor) -> None:
    """The closer look at a box asks for more boxes than animals: the best one may be about something else."""
    from napari_superanimal.inference.pyramid import NEIGHBOURS, PyramidPredictor

    clip = render_clip(1, (640, 480), n_mice=2, seed=7)
    frame, boxes = clip.frames[0], clip.truth.boxes[0]
    first = boxes, np.array([0.9, 0.8]), np.array([0.9, 0.8])
    pyramid = PyramidPredictor(predictor, (1.0,))
    whole = [[views_at(frame, 1.0), views_at(frame, 1.0)]]
    one, several = (
        [found for parts in pyramid._look(whole, more)[0] for found in parts] for more in (0, NEIGHBOURS)
    )
    assert [len(found[0]) for found in one] == [1, 1]
    # a single box is that of one mouse, and the other counts as not found again
    assert (pyramid._second_look(first, one)[1] < 0.5).sum() == 1
    assert (pyramid._second_look(first, several)[1] < 0.5).sum() == 0
    assert predictor.spare == 0


def test_the_heaviest_box_of_a_scale_need_not_be_the_animal(
    mice: tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.float64], npt.NDArray[np.float64]],
    predictor: FramePredictor,
) -> None:
    """The second one is looked at too, and the pose network believes in it."""
    from napari_superanimal.inference.pyramid import PyramidPredictor

    (frame, *_), _, (mouse, *_) = mice
    floor = np.array([0.0 if mouse[0] > 240 else 400.0, 0.0 if mouse[1] > 180 else 280.0, 80.0, 80.0])
    pyramid = PyramidPredictor(predictor, (2.0,))
    parts = [(np.array([floor]), np.array([0.9]), np.array([0.9]))]
    parts += [(np.array([mouse]), np.array([0.8]), np.array([0.5]))]
    first = pyramid._first_look([views_at(frame, 2.0)], [parts])
    assert first[0].tolist() == [floor.tolist(), mouse.tolist()]
    boxes, _ = pyramid._judge(frame, first)
    assert boxes.tolist() == [mouse.tolist()]


def test_two_looks_at_a_box_are_averaged_and_another_box_stays_beside(predictor: FramePredictor) -> None:
    from napari_superanimal.inference.pyramid import PyramidPredictor

    pyramid = PyramidPredictor(predictor, (1.0,))
    first = np.array([[100.0, 100, 60, 40], [300, 100, 60, 40]]), np.array([0.9, 0.5]), np.array([0.6, 0.5])
    closer = np.array([[104.0, 100, 64, 40]]), np.array([0.8]), np.array([0.2])
    whole = np.array([[280.0, 90, 200, 100]]), np.array([0.7]), np.array([0.7])
    boxes, scores, weights = pyramid._second_look(first, [closer, whole])
    assert boxes[0] == pytest.approx([101, 100, 61, 40])
    assert boxes[1:].tolist() == [[300, 100, 60, 40], [280, 90, 200, 100]]
    assert scores.tolist() == [0.9, 0.5, 0.7]
    assert weights.tolist() == [0.6, 0.5, 0.7]


def test_what_makes_no_sense_is_refused(predictor: FramePredictor) -> None:
    from napari_superanimal.inference.build import build_predictor
    from napari_superanimal.inference.pyramid import PyramidPredictor
    from napari_superanimal.models.zoo import find_model

    whole = build_predictor(find_model("mouse-topview-mini"), detector="whole-frame", device="cpu")
    with pytest.raises(UserError, match="without a detector"):
        PyramidPredictor(whole, (1.0, 2.0))
    for bad in ((), (0.0,), (-1.0,), (float("nan"),), (100.0,)):
        with pytest.raises(UserError, match="scales are numbers"):
            PyramidPredictor(predictor, bad)
