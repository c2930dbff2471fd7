"""Which frames are learned from and which are kept for the proof."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from napari_superanimal.adaptation.bursts import FEWEST, GUARD, choose_bursts
from napari_superanimal.errors import UserError


@example(total=296, seed=0, learn=72)
@given(total=st.integers(FEWEST, 5000), seed=st.integers(0, 5), learn=st.integers(24, 400))
def test_held_out_frames_are_far_from_all_that_is_learned(total: int, seed: int, learn: int) -> None:
    bursts = choose_bursts(total, learn_frames=learn, seed=seed)
    held = {f for b in bursts.held for f in b}
    learned = [f for b in bursts.learn for f in b]
    assert held
    assert learned
    assert len(learned) == len(set(learned)) <= learn
    assert all(0 <= f < total for f in (*held, *learned))
    near = {f + d for f in held for d in range(-GUARD, GUARD + 1)}
    assert not near & set(learned)
    assert all(len(b) >= 5 for b in (*bursts.learn, *bursts.held))


def test_seeds_are_proved_on_the_same_frames() -> None:
    one, two = choose_bursts(3000, seed=0), choose_bursts(3000, seed=1)
    assert one.held == two.held
    assert one.learn != two.learn
    assert one == choose_bursts(3000, seed=0)


def test_too_short_a_video_is_refused() -> None:
    with pytest.raises(UserError, match="too few"):
        choose_bursts(FEWEST - 1)
