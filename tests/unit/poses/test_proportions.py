"""The mean body and how keypoints lie to each other: learned from some bodies, asked of others."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_superanimal.poses.proportions import (
    ROOM,
    Proportions,
    agreeing,
    joined,
    learn_proportions,
    proportions_of,
)

NAMES = ("nose", "neck", "left_knee", "left_paw", "right_knee", "right_paw", "hip", "tail_base")
SWAP = np.array([0, 1, 4, 5, 2, 3, 6, 7])
SIDE = np.array([[50, 30], [30, 25], [22, -5], [22, -30], [20, -6], [20, -31], [-30, 5], [-45, 20]], float)
#: From above: what is called left lies on one side of the line from nose to tail.
TOP = np.array([[50, 0], [30, 0], [20, 12], [24, 22], [20, -12], [24, -22], [-20, 0], [-50, 0]], float)


def bodies(
    count: int, seed: int = 0, *, shape: np.ndarray = SIDE, mirrored: bool = True, missing: float = 0.15
) -> np.ndarray:
    """Animals of every size, place and direction, which bend a little; some points are not known."""
    rng = np.random.default_rng(seed)
    xy = shape + rng.normal(0, 2.5, (count, *shape.shape))
    if mirrored:
        xy[..., 0] *= rng.choice([-1, 1], count)[:, None]
    angle = rng.uniform(-0.4, 0.4, count) if mirrored else rng.uniform(0, 2 * np.pi, count)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(-1, 2, 2)
    size = np.exp(rng.uniform(-1.5, 1.5, count))[:, None, None]
    xy = size * (xy @ turn) + rng.uniform(-500, 500, (count, 1, 2))
    xy[rng.random(xy.shape[:2]) < missing] = np.nan
    return xy


@pytest.fixture(scope="module")
def learned() -> Proportions:
    found = learn_proportions(bodies(400), NAMES, SWAP, mirrored=True)
    assert found is not None
    return found


def exchanged(xy: np.ndarray, one: str, other: str) -> np.ndarray:
    order = list(range(len(NAMES)))
    i, j = NAMES.index(one), NAMES.index(other)
    order[i], order[j] = j, i
    return xy[:, order]


def test_bodies_like_those_learned_from_fit(learned: Proportions) -> None:
    odd = learned.odd(bodies(400, seed=1))
    assert np.nanmean(odd) < 0.01
    assert np.isfinite(odd).mean() > 0.7
    # usual means: all but two percent of the pairs are within their limits
    assert np.nanmean(learned.distances(bodies(400, seed=1)) > 1) < 0.04


def test_the_point_that_is_wrong_is_found_and_not_its_neighbours(learned: Proportions) -> None:
    xy = bodies(200, seed=2)
    extent = np.nanmax(xy, 1) - np.nanmin(xy, 1)
    xy[:, 3] += 0.5 * extent
    odd = learned.odd(xy)
    assert np.nanmean(odd[:, 3]) > 0.9
    assert np.nanmean(odd[:, [0, 1, 2, 4, 5, 6, 7]]) < 0.05


def test_a_body_that_no_animal_has(learned: Proportions) -> None:
    xy = bodies(300, seed=3, missing=0.0)
    knee, paw = NAMES.index("left_knee"), NAMES.index("left_paw")
    assert learned.odd(exchanged(xy, "left_knee", "left_paw"))[:, [knee, paw]].mean() > 0.9
    collapsed = xy.copy()
    collapsed[:, 2:6] = xy[:, 6:7]  # all feet where the hip is
    assert np.nanmean(learned.odd(collapsed)[:, 2:6]) > 0.4
    # the two legs of a pair lie in the same place in side views: nothing is wrong with exchanging them
    assert np.nanmean(learned.odd(xy[:, SWAP])) < 0.01


def test_seen_from_above_left_and_right_cannot_change_places() -> None:
    learned = learn_proportions(bodies(400, shape=TOP, mirrored=False), NAMES, SWAP, mirrored=False)
    assert learned is not None
    xy = bodies(200, 5, shape=TOP, mirrored=False)
    assert np.nanmean(learned.odd(xy)) < 0.01
    assert np.nanmean(learned.odd(xy[:, SWAP])[:, [2, 3, 4, 5]]) > 0.9
    assert np.nanmean(learned.odd(xy * [1, -1])[:, [2, 3, 4, 5]]) > 0.9


def test_data_sets_with_different_keypoints_make_one_body() -> None:
    front, rear = bodies(200, 1, missing=0.0), bodies(200, 2, missing=0.0)
    front[:, 6:] = np.nan
    rear[:, :1] = np.nan
    learned = learn_proportions(np.concatenate([front, rear]), NAMES, SWAP, mirrored=True)
    assert learned is not None
    assert np.isfinite(learned.mean).all()
    apart = np.linalg.norm(learned.mean[0] - learned.mean[7]) / np.linalg.norm(
        learned.mean[1] - learned.mean[6]
    )
    assert apart == pytest.approx(
        np.linalg.norm(SIDE[0] - SIDE[7]) / np.linalg.norm(SIDE[1] - SIDE[6]), rel=0.05
    )


def test_what_a_card_holds_gives_the_same(learned: Proportions) -> None:
    others = (*NAMES[::-1], "whisker")
    again = proportions_of(json.loads(json.dumps(learned.to_json())), others)
    assert again is not None
    xy = bodies(100, seed=4)
    wide = np.concatenate([xy[:, ::-1], np.full((100, 1, 2), np.nan)], 1)
    np.testing.assert_array_equal(again.odd(wide)[:, -2::-1], learned.odd(xy))
    assert np.isnan(again.odd(wide)[:, -1]).all()
    # (frames, animals) stay what they are
    assert learned.odd(xy.reshape(20, 5, 8, 2)).shape == (20, 5, 8)
    assert proportions_of({}, NAMES) is None
    assert proportions_of(learned.to_json(), ("beak", "wing")) is None


def test_few_points_or_few_bodies_tell_nothing(learned: Proportions) -> None:
    assert learn_proportions(bodies(12), NAMES, SWAP, mirrored=True) is None
    assert learn_proportions(np.full((50, 8, 2), np.nan), NAMES, SWAP, mirrored=True) is None
    xy = bodies(5)
    xy[:, 3:] = np.nan
    assert np.isnan(learned.odd(xy)).all()
    # all on one spot: no size, but an answer
    assert np.isfinite(learned.odd(np.full((3, 8, 2), 7.0))).any()


@pytest.fixture(scope="module")
def long_legs() -> Proportions:
    """Of other animals: a long neck, long legs, no tail base labelled; another direction is up."""
    shape = SIDE.copy()
    shape[:, 1] *= 1.8
    xy = bodies(300, seed=6, shape=shape)[..., ::-1].copy()
    xy[:, NAMES.index("tail_base")] = np.nan
    found = learn_proportions(xy, NAMES, SWAP, mirrored=True)
    assert found is not None
    return found


def test_what_is_usual_for_either_is_usual_for_both(learned: Proportions, long_legs: Proportions) -> None:
    tall = SIDE.copy()
    tall[:, 1] *= 1.8
    others, own = bodies(200, seed=7, shape=tall), bodies(200, seed=8)
    assert np.nanmean(learned.distances(others) > 1) > 0.2, "they do differ"
    others[:, NAMES.index("tail_base")] = np.nan
    both = joined(learned, long_legs)
    for xy in (others, own):
        assert np.nanmean(both.distances(xy) > 1) < 0.04
        assert np.nanmean(both.odd(xy)) < 0.01
    # the tail base is judged as before
    tail = NAMES.index("tail_base")
    assert (both.pairs == tail).sum() == (learned.pairs == tail).sum()
    # what no animal has is still found
    wrong = exchanged(own, "nose", "tail_base")
    assert np.nanmedian(both.distances(wrong), axis=0).max() > ROOM


def test_bodies_of_other_keypoints_cannot_be_joined(learned: Proportions) -> None:
    half = bodies(200, seed=9, missing=0.0)
    half[:, :3] = np.nan
    rear = learn_proportions(half, NAMES, SWAP, mirrored=True)
    assert rear is not None
    front = proportions_of(learned.to_json(), [*NAMES[:5], "", "", ""])
    assert front is not None
    assert joined(front.renamed(NAMES), rear) is rear


def test_labels_are_right_where_they_contradict(learned: Proportions) -> None:
    right = bodies(5, seed=10, missing=0.0)
    same = agreeing(learned, right)
    assert same is not None
    assert len(same.pairs) == len(learned.pairs)
    # who labels the paw and calls it knee, and the knee paw, is not told that they are wrong
    other = exchanged(right, "left_knee", "left_paw")
    less = agreeing(learned, other)
    assert less is not None
    assert 0 < len(less.pairs) < len(learned.pairs)
    assert (
        np.nanmedian(less.distances(exchanged(bodies(200, seed=11), "left_knee", "left_paw")), axis=0).max()
        < ROOM
    )
    assert agreeing(learned, np.empty((0, 8, 2))) is not None
