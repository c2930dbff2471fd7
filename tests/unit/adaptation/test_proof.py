"""Figures before and after, and the decision, on predictions made to measure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_superanimal.adaptation.bodies import OddPoints, motion, odd_points
from napari_superanimal.adaptation.proof import prove, same_columns
from napari_superanimal.adaptation.trust import Trust, doubts
from napari_superanimal.adaptation.verdict import judge
from napari_superanimal.poses import Poses, make_poses
from napari_superanimal.poses.proportions import Proportions, learn_proportions

KEYPOINTS = ("nose", "left_ear", "right_ear", "tail_base", "tail_end")
GOOD = Trust(50, (0.8, 0.4, 0.5, 0.4), 0.9, 0.9, 40, 5, 0.5, 2.0)


BODY = np.array([[40, 0], [25, 10], [25, -10], [-20, 5], [-45, -5]], float)


@pytest.fixture(scope="module")
def usual() -> Proportions:
    """What such bodies are like."""
    rng = np.random.default_rng(0)
    bodies = BODY + rng.normal(0, 3, (300, 5, 2))
    found = learn_proportions(bodies, KEYPOINTS, np.array([0, 2, 1, 3, 4]), mirrored=False)
    assert found is not None
    return found


def clip(noise: float = 0.0, seed: int = 0, likelihood: float = 0.9, offset: float = 0.0) -> Poses:
    """Two bursts of 30 frames of an animal that moves steadily, size 100 px."""
    rng = np.random.default_rng(seed)
    frames = np.concatenate([np.arange(30), np.arange(100, 130)])
    xy = 200 + BODY[None] + frames[:, None, None] * np.array([0.5, 0.2])
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
    # a little less is not enough, but it is not none
    (reason,) = judge(prove(clip(1.0), clip(0.97), KEYPOINTS, 0.6)).reasons
    assert reason.startswith("jitter fell by only 3 %")


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


def test_a_body_that_no_animal_has_fails(usual: Proportions) -> None:
    """Points that the starting model was not sure of come to lie where they cannot be, steadily and surely."""
    before, after = clip(2.0), clip(0.5, seed=1)
    before.likelihood[:, :, 4] = 0.2
    assert judge(prove(before, after, KEYPOINTS, 0.6, proportions=usual)).passes
    after.xy[:, :, 4] = after.xy[:, :, 0] + [3, 20]
    proof = prove(before, after, KEYPOINTS, 0.6, proportions=usual)
    (reason,) = judge(proof).reasons
    assert "tail_end" in reason
    assert "mostly do not lie to each other" in reason
    assert judge(prove(before, after, KEYPOINTS, 0.6)).passes, "without proportions nobody would know"
    # what was as odd before is not the adaptation's fault
    before.likelihood[:, :, 4] = 0.9
    before.xy[:, :, 4] = before.xy[:, :, 0] + [3, 20]
    assert judge(prove(before, after, KEYPOINTS, 0.6, proportions=usual)).passes


def test_a_few_points_out_of_proportion_everywhere_fail(usual: Proportions) -> None:
    before, after = clip(2.0), clip(0.5, seed=1)
    for k in range(5):
        rows = np.arange(4 * k, 60, 20)
        after.xy[rows, :, k] += 60.0
    proof = prove(before, after, KEYPOINTS, 0.6, proportions=usual)
    assert proof.after.odd.wrong(proof.before.odd) == ()
    assert any("out of proportion" in reason for reason in judge(proof).reasons)


def test_a_body_that_stands_still_fails() -> None:
    """The mean pose, whatever is shown, is steady, and near enough to where sure points are."""
    before, after = clip(1.0), clip(0.1, seed=1)
    wave = 9.0 * np.sin(np.arange(60) / 4)[:, None]
    for k, way in enumerate(([0, 1], [1, 0], [-1, 0], [0, -1], [0, 1])):
        before.xy[:, :, k] += wave[..., None] * np.array(way)
    proof = prove(before, after, KEYPOINTS, 0.6)
    assert proof.before.motion == pytest.approx(0.064, abs=0.01)
    (reason,) = judge(proof).reasons
    assert "move less within the animal" in reason


def test_motion_is_not_trembling() -> None:
    boxes = np.tile([150.0, 150, 100, 100], (60, 1, 1))
    given = np.ones((60, 1, 1), bool)
    frames = np.arange(60)
    rng = np.random.default_rng(0)
    still = np.full((60, 1, 1, 2), 200.0) + rng.normal(0, 3, (60, 1, 1, 2))
    assert motion(still, boxes, given, frames) < 0.03
    walking = still + np.linspace(-20, 20, 60)[:, None, None, None]
    assert motion(walking, boxes, given, frames) > 0.12
    assert np.isnan(motion(walking[:4], boxes[:4], given[:4], frames[:4]))
    # neighbours only: no window spans a gap
    assert np.isnan(motion(walking, boxes, given, frames * 2))


def test_keypoints_are_called_wrong_only_with_some_evidence(usual: Proportions) -> None:
    xy = np.tile(BODY, (20, 1, 1))
    assert odd_points(usual, xy).wrong() == ()
    assert odd_points(None, xy) == OddPoints()
    xy[:, 3] = xy[:, 0]
    found = odd_points(usual, xy)
    assert found.told == 100
    assert "nose and tail_base" in found.wrong()
    assert odd_points(usual, xy[:5]).wrong() == ()
    assert found.wrong(found) == ()


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


@pytest.mark.parametrize(("points", "passes"), [(25, False), (35, True)])
def test_some_sure_points_are_enough(points: int, passes: bool) -> None:
    sure = np.zeros((60, 1, 5), bool)
    sure.reshape(-1)[:points] = True
    verdict = judge(prove(clip(2.0), clip(0.5, seed=1), KEYPOINTS, 0.6, fixed=sure))
    assert verdict.passes == passes
    assert passes or "too few to compare" in verdict.reasons[0]


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
        ({"odd": 0.2, "told": 200}, "side view", "out of proportion"),
        ({"odd": 0.2, "told": 200, "misplaced": ("nose and tail_base",)}, "side view", "mostly lie to"),
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
