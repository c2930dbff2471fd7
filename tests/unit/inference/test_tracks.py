"""Individuals stay in their columns."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_superanimal.inference.tracks import MEMORY, SlotTracker


def boxes(centres: np.ndarray, size: float = 40.0) -> np.ndarray:
    centres = np.asarray(centres, np.float64).reshape(-1, 2)
    return np.concatenate([centres - size / 2, np.full_like(centres, size)], -1)


def test_animals_that_stay_apart_keep_their_columns() -> None:
    """Whatever the order in which the detector lists them."""
    rng = np.random.default_rng(0)
    tracker = SlotTracker(3)
    angle = np.array([0.0, 2.1, 4.2])
    first = None
    for _ in range(200):
        angle += 0.1
        centres = 200 + 100 * np.stack([np.cos(angle), np.sin(angle)], -1) + rng.normal(0, 2, (3, 2))
        order = rng.permutation(3)
        column = np.empty(3, int)
        column[order] = tracker.assign(boxes(centres[order]))
        first = column if first is None else first
        np.testing.assert_array_equal(column, first)


def test_an_animal_is_found_again_after_a_gap() -> None:
    tracker = SlotTracker(2)
    a, b = tracker.assign(boxes([[50, 50], [300, 300]]))
    for _ in range(MEMORY - 1):
        assert tracker.assign(boxes([[300, 300]])).tolist() == [b]
    assert tracker.assign(boxes([[80, 60], [302, 300]])).tolist() == [a, b]


def test_frames_without_animals_are_no_trouble() -> None:
    tracker = SlotTracker(2)
    [a] = tracker.assign(boxes([[50, 50]]))
    for _ in range(5):
        assert tracker.assign(np.empty((0, 4))).shape == (0,)
    assert tracker.assign(boxes([[52, 50]])).tolist() == [a]


def test_a_newcomer_takes_a_free_column_first() -> None:
    tracker = SlotTracker(2)
    [a] = tracker.assign(boxes([[50, 50]]))
    # too far for the same animal, and the other column was never used
    assert tracker.assign(boxes([[400, 400]])).tolist() == [1 - a]


def test_a_newcomer_takes_the_column_that_was_lost_for_longest() -> None:
    tracker = SlotTracker(2)
    a, b = tracker.assign(boxes([[50, 50], [300, 300]]))
    tracker.assign(boxes([[300, 300]]))
    assert tracker.assign(boxes([[600, 50], [300, 300]])).tolist() == [a, b]


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(0, 1000))
def test_no_column_is_given_twice(slots: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tracker = SlotTracker(slots)
    for _ in range(40):
        n = int(rng.integers(0, slots + 1))
        column = tracker.assign(boxes(rng.uniform(0, 300, (n, 2))))
        assert len(column) == n == len(set(column.tolist()))
        assert ((column >= 0) & (column < slots)).all()
