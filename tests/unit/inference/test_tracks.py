"""Individuals stay in their columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_superanimal.inference.tracks import MEMORY, Assignment, Tracker

BODY = np.array([[0.5, 0.0], [0.3, 0.15], [0.3, -0.15], [0.0, 0.0], [-0.3, 0.1], [-0.3, -0.1], [-0.5, 0.0]])
SIZE = 40.0


def animal(x: float, y: float, heading: float = 0.0) -> np.ndarray:
    """Keypoints (7, 2) of an animal of 40 px."""
    turn = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
    return np.array([x, y]) + SIZE * BODY @ turn.T


def see(
    tracker: Tracker,
    animals: list[np.ndarray],
    scores: list[float] | None = None,
    likelihood: list[float] | None = None,
) -> Assignment:
    """The tracker's answer to detections of these animals."""
    a, k = max(tracker.slots, len(animals)), tracker.keypoints
    boxes, score = np.full((a, 4), np.nan), np.full(a, np.nan)
    xy, sure = np.full((a, k, 2), np.nan), np.full((a, k), np.nan)
    for n, points in enumerate(animals):
        low, high = points.min(0), points.max(0)
        boxes[n], score[n] = [*low, *(high - low)], 0.9 if scores is None else scores[n]
        xy[n], sure[n] = points, 0.9 if likelihood is None else likelihood[n]
    return tracker.assign(boxes, score, xy, sure)


def see_again(tracker: Tracker, detected: list[np.ndarray], present: list[np.ndarray]) -> Assignment:
    """The same, with second looks: the pose of the animal in the middle of a box, none where the box is empty."""

    def look(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        xy, sure = np.zeros((len(boxes), tracker.keypoints, 2)), np.zeros((len(boxes), tracker.keypoints))
        for n, box in enumerate(boxes):
            middle = box[:2] + box[2:] / 2
            gaps = [np.linalg.norm(points.mean(0) - middle) for points in present]
            if min(gaps) < SIZE / 2:
                xy[n], sure[n] = present[int(np.argmin(gaps))], 0.9
        return xy, sure

    a, k = tracker.slots, tracker.keypoints
    boxes, score = np.full((a, 4), np.nan), np.full(a, np.nan)
    xy, sure = np.full((a, k, 2), np.nan), np.full((a, k), np.nan)
    for n, points in enumerate(detected):
        low, high = points.min(0), points.max(0)
        boxes[n], score[n], xy[n], sure[n] = [*(low - 10), *(high - low + 20)], 0.9, points, 0.9
    return tracker.assign(boxes, score, xy, sure, look)


def columns(tracker: Tracker, *places: tuple[float, float]) -> list[int]:
    return see(tracker, [animal(x, y) for x, y in places]).columns.tolist()


def test_animals_that_stay_apart_keep_their_columns() -> None:
    """Whatever the order in which the detector lists them."""
    rng = np.random.default_rng(0)
    tracker = Tracker(3, 7)
    angle = np.array([0.0, 2.1, 4.2])
    first = None
    for _ in range(100):
        angle += 0.1
        centres = 200 + 100 * np.stack([np.cos(angle), np.sin(angle)], -1) + rng.normal(0, 2, (3, 2))
        order = rng.permutation(3)
        step = see(tracker, [animal(x, y) for x, y in centres[order]])
        column = np.empty(3, int)
        column[order] = step.columns
        first = column if first is None else first
        np.testing.assert_array_equal(column, first)
        assert step.swap_risk.max() == 0


def test_keypoints_tell_animals_apart_whose_boxes_coincide() -> None:
    """Two animals turn around one spot, crossed over each other: the boxes are the same all the time."""
    tracker = Tracker(2, 7)
    a, b = see(tracker, [animal(100, 100, 0.0), animal(100, 100, np.pi)]).columns
    for t in range(1, 60):
        turned = [animal(100, 100, 0.1 * t), animal(100, 100, np.pi + 0.1 * t)]
        assert see(tracker, turned[::-1]).columns.tolist() == [b, a]


def test_animals_that_pass_each_other_go_on_as_themselves() -> None:
    """Head on, a hand's breadth apart, and the detector lists whoever is farther left first."""
    tracker = Tracker(2, 7)
    for t in range(60):
        one, other = animal(40 + 4 * t, 100), animal(276 - 4 * t, 112, np.pi)
        listed = [one, other] if t < 30 else [other, one]
        assert see(tracker, listed).columns.tolist() == ([0, 1] if t < 30 else [1, 0]), t


def test_an_animal_under_another_one_is_found_again_where_it_went() -> None:
    """Hidden for some frames, it comes out on the other side."""
    tracker = Tracker(2, 7)
    resting = animal(160, 100, np.pi / 2)
    for t in range(40):
        walking = animal(40 + 6 * t, 104)
        hidden = 15 <= t <= 24
        step = see(tracker, [resting] if hidden else [walking, resting])
        assert step.columns.tolist() == ([1] if hidden else [0, 1]), t


def test_the_same_animal_twice_is_taken_once() -> None:
    tracker = Tracker(3, 7)
    step = see(tracker, [animal(100, 100), animal(300, 100), animal(101, 101)], [0.6, 0.8, 0.7])
    # of the two the better one is kept
    assert step.detections.tolist() == [1, 2]
    assert len(set(step.columns.tolist())) == 2


def test_an_animal_is_found_again_after_a_gap() -> None:
    tracker = Tracker(2, 7)
    a, b = columns(tracker, (50, 50), (300, 300))
    for _ in range(MEMORY - 1):
        assert columns(tracker, (300, 300)) == [b]
    assert columns(tracker, (80, 60), (302, 300)) == [a, b]


def test_frames_without_animals_are_no_trouble() -> None:
    tracker = Tracker(2, 7)
    [a] = columns(tracker, (50, 50))
    for _ in range(5):
        assert columns(tracker) == []
    assert columns(tracker, (52, 50)) == [a]


def test_a_newcomer_takes_a_free_column_first() -> None:
    tracker = Tracker(2, 7)
    [a] = columns(tracker, (50, 50))
    # too far for the same animal, and the other column was never used
    assert columns(tracker, (400, 400)) == [1 - a]


def test_a_newcomer_takes_the_column_that_was_lost_for_longest() -> None:
    tracker = Tracker(2, 7)
    a, b = columns(tracker, (50, 50), (300, 300))
    columns(tracker, (300, 300))
    assert columns(tracker, (600, 50), (300, 300)) == [a, b]


def test_doubt_is_told() -> None:
    """Risk is high where an exchange would fit as well, for those that are concerned and nobody else."""
    tracker = Tracker(3, 7)
    see(tracker, [animal(100, 100), animal(110, 100, np.pi), animal(400, 100)])
    # both turned by a quarter: nobody can say which way
    step = see(tracker, [animal(105, 95, np.pi / 2), animal(105, 105, -np.pi / 2), animal(401, 100)])
    assert step.swap_risk[[0, 1]].min() > 0.6
    assert step.swap_risk[2] == 0


def test_who_comes_back_from_far_may_be_anybody() -> None:
    tracker = Tracker(3, 7)
    columns(tracker, (100, 100), (200, 100), (400, 100))
    columns(tracker, (400, 100))
    step = see(tracker, [animal(800, 400), animal(400, 100)])
    assert step.columns.tolist() == [0, 2]
    assert step.swap_risk.tolist() == [1, 0, 0]


def test_detections_without_keypoints_go_by_their_boxes() -> None:
    tracker = Tracker(2, 7)
    nothing = np.full((2, 7, 2), np.nan), np.full((2, 7), np.nan)
    boxes = np.array([[0.0, 0, 40, 40], [100, 0, 40, 40]])
    assert tracker.assign(boxes, np.ones(2), *nothing).columns.tolist() == [0, 1]
    assert tracker.assign(boxes[::-1] + 5, np.ones(2), *nothing).columns.tolist() == [1, 0]


def test_two_animals_found_as_one_are_both_seen_by_a_second_look() -> None:
    """Side by side, the only detection mixes the head of one with the other's rump."""
    tracker = Tracker(2, 7)
    for t in range(50):
        one, other = animal(40 + 4 * t, 100), animal(240 - 4 * t, 118, np.pi)
        touching = 22 <= t <= 28
        step = see_again(
            tracker, [np.concatenate([one[:3], other[3:]])] if touching else [one, other], [one, other]
        )
        order = np.argsort(step.columns)
        assert step.columns[order].tolist() == [0, 1], t
        np.testing.assert_allclose(step.xy[order], [one, other], err_msg=str(t))
        assert (step.detections >= 0).all() != touching


def test_a_second_look_that_shows_the_neighbour_again_is_not_taken() -> None:
    """One lies under the other: what is seen in its place is the other one. Both are at risk until it is back."""
    tracker = Tracker(2, 7)
    for t in range(30):
        upper, lower = animal(100 + t, 100), animal(104 + t, 104, 0.4)
        hidden = 10 <= t < 20
        present = [upper] if hidden else [upper, lower]
        step = see_again(tracker, present, present)
        assert step.columns.tolist() == ([0] if hidden else [0, 1])
        assert step.swap_risk.min() == 1.0 if hidden else t == 20 or step.swap_risk.max() < 0.5


def test_a_tail_does_not_become_the_animal_that_is_out_of_sight() -> None:
    tracker = Tracker(2, 7)
    see(tracker, [animal(100, 100), animal(300, 100)])
    for _ in range(10):
        # far from both, and much less certain
        assert see(tracker, [animal(100, 100), animal(200, 300)], [0.9, 0.4]).columns.tolist() == [0]
    assert see(tracker, [animal(100, 100), animal(302, 100)]).columns.tolist() == [0, 1]


def test_a_stain_gives_its_column_to_an_animal() -> None:
    """It was there first, and the detector likes it better; but it has neither nose nor tail."""
    tracker = Tracker(2, 7)
    stain = animal(300, 60)
    for t in range(20):
        step = see(tracker, [animal(100 + t, 100), stain], [0.9, 0.62], [0.95, 0.02])
        assert step.columns.tolist() == [0, 1]
    for t in range(20, 60):
        both = [animal(100 + t, 100), stain, animal(100 + t, 180)]
        step = see(tracker, both, [0.9, 0.62, 0.55], [0.95, 0.02, 0.9])
        assert dict(zip(step.detections.tolist(), step.columns.tolist(), strict=True)) == {0: 0, 2: 1}, t
        assert step.swap_risk.max() == 0
    # the second one is hidden for a moment: the stain does not become it
    for t in range(60, 64):
        step = see(tracker, [animal(100 + t, 100), stain], [0.9, 0.62], [0.95, 0.02])
        assert step.columns.tolist() == [0], t
    step = see(tracker, [animal(164, 100), stain, animal(164, 180)], [0.9, 0.62, 0.55], [0.95, 0.02, 0.9])
    assert dict(zip(step.detections.tolist(), step.columns.tolist(), strict=True)) == {0: 0, 2: 1}


def test_a_stain_does_not_become_an_animal_that_was_forgotten() -> None:
    tracker = Tracker(2, 7)
    see(tracker, [animal(100, 100), animal(100, 180)], None, [0.95, 0.95])
    for _ in range(MEMORY + 10):
        step = see(tracker, [animal(100, 100), animal(300, 60)], [0.9, 0.62], [0.95, 0.02])
        assert step.columns.tolist() == [0]
    # it comes back where it was not expected, for all that was known
    assert see(tracker, [animal(100, 100), animal(320, 180)]).columns.tolist() == [0, 1]
    # an animal that can hardly be seen gets the column in the end
    other = Tracker(2, 7)
    see(other, [animal(100, 100), animal(100, 180)], None, [0.95, 0.95])
    for _ in range(MEMORY + 200):
        step = see(other, [animal(100, 100), animal(300, 60)], [0.9, 0.9], [0.95, 0.45])
    assert step.columns.tolist() == [0, 1]


def test_two_that_were_always_in_one_box_are_told_apart() -> None:
    """The only detection holds both and shows now this one, now that one; a tight look shows who is asked for."""
    tracker = Tracker(2, 7)
    one, other = animal(100, 100), animal(134, 134)
    low, high = np.minimum(one, other).min(0) - 5, np.maximum(one, other).max(0) + 5
    box = np.array([[*low, *(high - low)]])

    def look(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        middle = boxes[:, :2] + boxes[:, 2:] / 2
        nearest = [min((one, other), key=lambda p: np.linalg.norm(p.mean(0) - m)) for m in middle]
        return np.array(nearest), np.full((len(boxes), 7), 0.9)

    def both(shown: np.ndarray) -> dict[int, np.ndarray]:
        step = tracker.assign(box, np.array([0.9]), shown[None], np.full((1, 7), 0.9), look)
        return dict(zip(step.columns.tolist(), step.xy, strict=True))

    assert both(one).keys() == {0}
    for shown in (one, one, other, one, other, other):
        seen = both(shown)
        np.testing.assert_array_equal(seen[0], one)
        if 1 in seen:
            np.testing.assert_array_equal(seen[1], other)
    assert 1 in seen


def test_an_animal_keeps_its_column_when_it_is_hard_to_see_for_a_moment() -> None:
    """What was known about it before counts: a newcomer takes no column of somebody who was sure for long."""
    tracker = Tracker(2, 7)
    for t in range(30):
        see(tracker, [animal(100 + t, 100), animal(300, 200)])
    for t in range(30, 35):
        three = [animal(100 + t, 100), animal(300, 200), animal(300, 40)]
        step = see(tracker, three, [0.9, 0.5, 0.9], [0.9, 0.3, 0.9])
        assert dict(zip(step.detections.tolist(), step.columns.tolist(), strict=True)) == {0: 0, 1: 1}


def test_what_lies_beside_an_animal_is_not_taken_for_it() -> None:
    """Its reflection in the wall is as near to where it should be as it is itself, and is listed first."""
    tracker = Tracker(1, 7)
    see(tracker, [animal(100, 100)])
    for t in range(1, 20):
        step = see(tracker, [animal(104 + 2 * t, 104), animal(100 + 2 * t, 100)], [0.5, 0.8], [0.4, 0.9])
        assert step.detections.tolist() == [1]


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(0, 1000), st.integers(1, 29))
def test_no_column_is_given_twice_and_a_restored_tracker_goes_on_the_same(
    slots: int, seed: int, stop: int
) -> None:
    rng = np.random.default_rng(seed)
    tracker, other = Tracker(slots, 7), None
    for t in range(30):
        n = int(rng.integers(0, slots + 3))
        here = [animal(*rng.uniform(0, 200, 2), rng.uniform(0, 6)) for _ in range(n)]
        scores = rng.uniform(0.3, 1, n).tolist()
        if t == stop:
            other = Tracker(slots, 7)
            other.restore(tracker.state())
        step = see(tracker, here, scores)
        assert len(step.columns) == len(step.detections) == len(set(step.columns.tolist()))
        assert ((step.columns >= 0) & (step.columns < slots)).all()
        assert ((step.swap_risk >= 0) & (step.swap_risk <= 1)).all()
        if other is not None:
            again = see(other, here, scores)
            np.testing.assert_array_equal(again.columns, step.columns)
            np.testing.assert_array_equal(again.swap_risk, step.swap_risk)
            np.testing.assert_array_equal(other.state(), tracker.state())


def test_a_state_of_other_individuals_is_refused() -> None:
    with pytest.raises(ValueError, match="2 individuals"):
        Tracker(2, 7).restore(Tracker(3, 7).state())
    with pytest.raises(ValueError, match="2 individuals"):
        Tracker(2, 7).restore(Tracker(2, 7).state()[:-1])
