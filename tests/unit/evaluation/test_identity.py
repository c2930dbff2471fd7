"""IDF1, switches and misses of tracks that are known; and the tracker on mice that meet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_superanimal.demo.render import Style, render_clip
from napari_superanimal.errors import UserError
from napari_superanimal.evaluation.identity import identity_scores
from napari_superanimal.inference.tracks import Tracker
from napari_superanimal.poses import Poses, make_poses


def two_animals(frames: int = 10) -> Poses:
    """Far apart, with boxes of 40 px."""
    xy = np.zeros((frames, 2, 3, 2))
    xy[:, 1] += 200
    xy += 10 * np.arange(3)[:, None]
    boxes = np.concatenate([xy.min(2) - 10, np.full((frames, 2, 2), 40.0)], -1)
    return make_poses(("a", "b", "c"), xy, boxes=boxes)


def test_perfect_tracks() -> None:
    scores = identity_scores(two_animals(), two_animals())
    assert (scores.idf1, scores.mota, scores.switches, scores.misses, scores.false_positives) == (
        1,
        1,
        0,
        0,
        0,
    )
    assert (scores.frames, scores.animals, scores.predicted) == (10, 20, 20)


def test_the_order_of_individuals_and_keypoints_does_not_matter() -> None:
    truth = two_animals()
    other = make_poses(("c", "b", "x", "a"), truth.xy[:, ::-1][:, :, [2, 1, 1, 0]])
    assert identity_scores(truth, other).idf1 == 1


def test_a_swap_half_way_costs_half_of_the_identities() -> None:
    truth = two_animals()
    swapped = truth.xy.copy()
    swapped[5:] = swapped[5:, ::-1]
    scores = identity_scores(truth, replace(truth, xy=swapped))
    # both animals go on under the other's name from frame 5 on
    assert (scores.switches, scores.switch_frames) == (2, (5, 5))
    assert scores.idf1 == pytest.approx(0.5)
    assert scores.mota == pytest.approx(1 - 2 / 20)


def test_misses_and_inventions() -> None:
    truth = two_animals()
    given = truth.xy.copy()
    given[2:4, 0] = np.nan  # two misses
    given[7, 1] += 500  # a miss and an invention
    scores = identity_scores(truth, replace(truth, xy=given))
    assert (scores.misses, scores.false_positives, scores.switches) == (3, 1, 0)
    assert scores.idf1 == pytest.approx(2 * 17 / (20 + 18))
    assert (scores.idp, scores.idr) == (pytest.approx(17 / 18), pytest.approx(17 / 20))


def test_one_prediction_is_not_counted_for_two_animals() -> None:
    """An identity that both animals had at some time, while they lie on each other."""
    truth = two_animals(6)
    xy = truth.xy.copy()
    xy[4:, 1] = xy[4:, 0] + 1
    truth = replace(truth, xy=xy)
    given = xy.copy()
    given[:, 1] = np.nan
    given[:2, 0] = xy[:2, 1]
    scores = identity_scores(truth, replace(truth, xy=given))
    assert (scores.predicted, scores.misses, scores.false_positives) == (6, 6, 0)


def test_nothing_in_common_is_refused() -> None:
    truth = two_animals()
    for other in (replace(truth, frames=truth.frames + 50), replace(truth, keypoints=("x", "y", "z"))):
        with pytest.raises(UserError, match="both know"):
            identity_scores(truth, other)


@pytest.mark.parametrize("seed", [3, 4, 6])
def test_two_mice_that_meet_keep_their_identities(seed: int) -> None:
    """Two mice of the renderer, listed in any order, with noise, gaps, and as one where they overlap a lot."""
    clip = render_clip(600, (480, 360), 2, seed, Style(body_length=0.28, activity=1.3))
    truth, rng = clip.truth, np.random.default_rng(seed)
    low = np.maximum(truth.boxes[:, 0, :2], truth.boxes[:, 1, :2])
    high = (truth.boxes[..., :2] + truth.boxes[..., 2:]).min(1)
    both = np.prod(np.clip(high - low, 0, None), axis=-1)
    iou = both / (np.prod(truth.boxes[..., 2:], -1).sum(1) - both)
    assert (iou > 0.1).sum() >= 5, "the mice meet in this clip"
    tracker = Tracker(2, len(truth.keypoints))
    tracked, by_chance = (np.full_like(truth.xy, np.nan) for _ in range(2))
    for t in range(len(truth)):
        order = rng.permutation(2)
        xy = truth.xy[t, order] + rng.normal(0, 2, truth.xy[t].shape)
        boxes = truth.boxes[t, order] + rng.normal(0, 3, (2, 4))
        sure, scores = np.where(np.isfinite(xy[..., 0]), 0.8, np.nan), rng.uniform(0.5, 1, 2)
        if iou[t] > 0.45 or rng.random() < 0.05:
            scores[rng.integers(2)] = np.nan
        gone = np.isnan(scores)
        xy[gone], boxes[gone], sure[gone] = np.nan, np.nan, np.nan
        step = tracker.assign(boxes, scores, xy, sure)
        tracked[t, step.columns] = xy[step.detections]
        by_chance[t] = xy
    result = identity_scores(truth, replace(truth, xy=tracked))
    assert result.switches == 0
    assert result.idf1 > 0.94
    assert identity_scores(truth, replace(truth, xy=by_chance)).switches > 100
