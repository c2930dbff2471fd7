"""Figures before and after, and the decision, on predictions made to measure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_superanimal.adaptation.proof import prove, same_columns
from napari_superanimal.adaptation.trust import Trust, doubts
from napari_superanimal.adaptation.verdict import judge
from napari_superanimal.poses import Poses, make_poses

KEYPOINTS = ("nose", "left_ear", "right_ear", "tail_base", "tail_end")
GOOD = Trust(50, (0.8, 0.4, 0.5, 0.4), 0.9, 0.9, 40, 5, 0.5, 2.0)


def clip(noise: float = 0.0, seed: int = 0, likelihood: float = 0.9, offset: float = 0.0) -> Poses:
    """Two bursts of 30 frames of an animal that moves steadily, size 100 px."""
    rng = np.random.default_rng(seed)
    body = np.array([[40, 0], [25, 10], [25, -10], [-20, 5], [-45, -5]], float)
    frames = np.concatenate([np.arange(30), np.arange(100, 130)])
    xy = 200 + body[None] + frames[:, None, None] * np.array([0.5, 0.2])
    xy = xy + rng.normal(0, 1, xy.shape) * noise + offset
    boxes = np.concatenate([xy.mean(1) - 50, np.full((60, 2), 100.0)], -1)
    return make_poses(
        KEYPOINTS,
        xy,
        frames=frames,
        likelihood=np.full((60, 5), likelihood),
        boxes=boxes[:, None],
        box_scores=np.ones((60, 1)),
    )


def test_noise_gives_its_own_jitter_and_filters_stand_beside() -> None:
    proof = prove(clip(2.0), clip(0.5, seed=1), KEYPOINTS, 0.6, labels=clip())
    # a second difference of normal noise s has length s * sqrt(6) * sqrt(pi / 2) on average
    assert proof.before.jitter_px == pytest.approx(2.0 * np.sqrt(6) * np.sqrt(np.pi / 2), rel=0.1)
    assert proof.after.jitter_px == pytest.approx(0.25 * proof.before.jitter_px, rel=0.15)
    assert proof.arms["median"].jitter_px < proof.before.jitter_px
    assert proof.arms["kalman"].jitter_px < proof.before.jitter_px
    assert proof.after.error_px < 0.5 * proof.before.error_px
    assert proof.before.labels == 300
    assert proof.triplets == 2 * 28 * 5
    assert set(proof.after.per_keypoint) == set(KEYPOINTS)


def test_a_steadier_model_passes() -> None:
    verdict = judge(prove(clip(2.0), clip(0.5, seed=1), KEYPOINTS, 0.6))
    assert verdict.passes
    assert "jitter fell" in verdict.reasons[0]


def test_more_jitter_fails() -> None:
    verdict = judge(prove(clip(1.0), clip(1.5, seed=1), KEYPOINTS, 0.6))
    assert not verdict.passes
    assert any("jitter did not fall" in r for r in verdict.reasons)


def test_dropping_what_trembles_is_no_way_to_pass() -> None:
    before = clip(2.0)
    gone = replace(before, likelihood=np.where(np.arange(5) < 2, 0.1, before.likelihood))
    verdict = judge(prove(before, gone, KEYPOINTS, 0.6))
    assert not verdict.passes
    assert any("more keypoints are dropped" in r for r in verdict.reasons)
    # nor does leaving points out change the jitter of the others
    out = replace(before, xy=np.where(np.arange(5)[:, None] < 2, np.nan, before.xy))
    proof = prove(before, out, KEYPOINTS, 0.6)
    assert proof.after.jitter_px == proof.before.jitter_px
    assert proof.after.agreement == pytest.approx(0.6)
    assert not judge(proof).passes


def test_a_still_model_elsewhere_fails() -> None:
    verdict = judge(prove(clip(2.0), clip(0.1, offset=40.0), KEYPOINTS, 0.6))
    assert not verdict.passes
    assert any("stayed where they were" in r for r in verdict.reasons)


def test_a_body_that_breathes_fails() -> None:
    after = clip(0.5, seed=1)
    pulse = 1 + 0.4 * np.sin(np.arange(60) / 6)[:, None, None, None]
    middle = after.xy.mean(2, keepdims=True)
    verdict = judge(prove(clip(2.0), replace(after, xy=middle + pulse * (after.xy - middle)), KEYPOINTS, 0.6))
    assert any("size varies more" in r for r in verdict.reasons)


def test_labels_decide_where_there_are_some() -> None:
    # 8 px is within a tenth of the animal: agreement alone would not see it
    proof = prove(clip(2.0), clip(0.5, seed=1, offset=5.0), KEYPOINTS, 0.6, labels=clip())
    assert judge(prove(clip(2.0), clip(0.5, seed=1, offset=5.0), KEYPOINTS, 0.6)).passes
    assert any("error against the labels rose" in r for r in judge(proof).reasons)
    # points that were sure and wrong: having moved towards the labels speaks for the adapted model
    wrong = prove(clip(2.0, offset=40.0), clip(0.5, seed=1), KEYPOINTS, 0.6, labels=clip())
    assert wrong.after.agreement == 0.0
    assert judge(wrong).passes
    few = clip().take([3, 4])
    assert prove(clip(2.0), clip(0.5), KEYPOINTS, 0.6, labels=few).before.labels == 10


def test_nothing_sure_proves_nothing() -> None:
    verdict = judge(prove(clip(2.0, likelihood=0.2), clip(0.5, likelihood=0.9), KEYPOINTS, 0.6))
    assert any("too few to compare" in r for r in verdict.reasons)


def test_other_videos_need_not_get_better() -> None:
    same = prove(clip(1.0), clip(1.0), KEYPOINTS, 0.6)
    assert not judge(same).passes
    assert judge(same, learned=False).passes


def test_doubts_about_the_pseudo_labels_fail_however_steady_it_looks() -> None:
    proof = prove(clip(2.0), clip(0.5, seed=1), KEYPOINTS, 0.6)
    assert judge(proof, doubts(GOOD, "side view")).passes
    upside = replace(GOOD, likelihood_by_turn=(0.4, 0.4, 0.6, 0.3))
    verdict = judge(proof, doubts(upside, "side view"))
    assert not verdict.passes
    assert "180 degrees" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("wrong", "view", "word"),
    [
        ({"turned": 0.4}, "top view", "turned"),
        ({"mirrored": 0.3}, "side view", "mirrored"),
        ({"mirrored": 0.7}, "top view", "mirrored"),
        ({"backwards": 35}, "side view", "tail first"),
        ({"novelty": 3.0}, "top view", "unlike all"),
    ],
)
def test_each_check_says_what_is_wrong(wrong: dict[str, float], view: str, word: str) -> None:
    found = doubts(replace(GOOD, **wrong), view)
    assert len(found) == 1
    assert word in found[0]
    assert doubts(GOOD, view) == ()


def test_an_animal_from_above_has_no_upper_side() -> None:
    assert doubts(replace(GOOD, likelihood_by_turn=(0.7, 0.8, 0.8, 0.8)), "top view") == ()


def test_nothing_known_is_no_doubt() -> None:
    nan = float("nan")
    assert doubts(Trust(0, (nan,) * 4, nan, nan, 0, 0, nan, nan), "side view") == ()


def test_individuals_are_compared_with_themselves() -> None:
    one, two = clip(1.0), clip(1.0, seed=3, offset=120.0)

    def pair(a: Poses, b: Poses) -> Poses:
        names = ("xy", "visibility", "likelihood", "human", "boxes", "box_scores")
        joined = {n: np.concatenate([getattr(a, n), getattr(b, n)], 1) for n in names}
        return replace(a, individuals=("animal0", "animal1"), **joined)

    before, after = pair(one, two), pair(two, one)
    assert np.array_equal(same_columns(before, after).xy, before.xy)
    assert prove(before, after, KEYPOINTS, 0.6).after.agreement == 1.0
