"""Heatmaps to keypoints and boxes, confidence to likelihood."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_superanimal.inference.decode import decode_boxes, decode_keypoints, iou, untangle
from napari_superanimal.inference.likelihood import likelihood, novelty
from napari_superanimal.inference.pose_pass import limbs_of, symmetry_of
from napari_superanimal.keypoints import load_space
from napari_superanimal.training.targets import box_targets, keypoint_targets

pytestmark = pytest.mark.usefixtures("one_thread")


def logits(probability: torch.Tensor) -> torch.Tensor:
    return torch.logit(probability.clamp(1e-5, 1 - 1e-5))


@settings(max_examples=40)
@given(st.floats(0, 63), st.floats(0, 63), st.sampled_from([4, 8]))
def test_perfect_answers_give_the_point_back(x: float, y: float, stride: int) -> None:
    """Also at the border, and when another keypoint lies elsewhere."""
    cells = 64 // stride
    xy = torch.tensor([[[x, y], [30.0, 31.0]]])
    heat, shift, _ = keypoint_targets(xy, torch.full((1, 2), 2), stride, cells)
    at, confidence = decode_keypoints(logits(heat), shift.reshape(1, 4, cells, cells), stride)
    np.testing.assert_allclose(at.numpy(), xy.numpy(), atol=0.05)
    assert (confidence > 0.7).all()


def test_decoding_is_exact_without_offsets_for_a_cell_s_centre() -> None:
    heat = torch.full((1, 1, 8, 8), -20.0)
    heat[0, 0, 5, 2] = 3.0
    at, confidence = decode_keypoints(heat, torch.zeros(1, 2, 8, 8), 4)
    # cell 2 covers pixels 8 to 11
    np.testing.assert_allclose(at[0, 0].numpy(), [9.5, 21.5], atol=1e-4)
    assert confidence.item() == pytest.approx(1 / (1 + np.exp(-3)))


def feet(*peaks: list[tuple[int, int, float]]) -> torch.Tensor:
    """Heatmaps (1, K, 12, 12) with single cells (column, row, probability)."""
    probability = torch.full((1, len(peaks), 12, 12), 1e-4)
    for k, each in enumerate(peaks):
        for column, row, value in each:
            probability[0, k, row, column] = value
    return torch.logit(probability)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        # both say the same foot; the right one also sees the other foot well enough
        ([(3, 4, 0.9)], [(3, 4, 0.8), (9, 7, 0.6)], [(3, 4), (9, 7)]),
        # whichever of the two has the better second choice moves
        ([(3, 4, 0.8), (9, 7, 0.7)], [(3, 4, 0.9), (10, 2, 0.5)], [(9, 7), (3, 4)]),
        # a second choice that is next to nothing is no reason to part: feet may be one before the other
        ([(3, 4, 0.9)], [(3, 4, 0.8), (9, 7, 0.2)], [(3, 4), (3, 4)]),
        # two spots are two spots
        ([(3, 4, 0.9), (9, 7, 0.8)], [(9, 7, 0.9), (3, 4, 0.8)], [(3, 4), (9, 7)]),
    ],
)
def test_two_sides_share_a_spot_only_when_nothing_else_is_likely(
    left: list, right: list, expected: list
) -> None:
    heat = feet(left, right, [(5, 5, 0.4)])
    at, confidence = decode_keypoints(heat, torch.zeros(1, 6, 12, 12), 1, [(0, 1)])
    cells = [tuple(c) for c in at[0].round().int().tolist()]
    assert cells == [*expected, (5, 5)]
    for k, (column, row) in enumerate(cells):
        assert confidence[0, k] == pytest.approx(float(heat[0, k, row, column].sigmoid()), abs=1e-5)
    alone, _ = decode_keypoints(heat, torch.zeros(1, 6, 12, 12), 1)
    best = [max(each, key=lambda p: p[2])[:2] for each in (left, right)]
    assert [tuple(c) for c in alone[0, :2].round().int().tolist()] == best


def head(boxes: list[tuple], scores: list[float], size: int = 128, stride: int = 8) -> tuple:
    """What a perfect detector would say about boxes."""
    cells = size // stride
    each = [box_targets([torch.tensor([b])], stride, cells) for b in boxes]
    heat = torch.stack([h[0] * s for (h, _, _), s in zip(each, scores, strict=True)]).amax(0)[None]
    values = torch.zeros(1, 4, cells, cells)
    for _, value, near in each:
        values = torch.where(near > 0, value, values)
    return logits(heat), values


def test_boxes_come_back_best_first() -> None:
    boxes = [(10.0, 12.0, 30.0, 20.0), (70.0, 60.0, 24.0, 50.0), (20.0, 80.0, 16.0, 16.0)]
    heat, values = head(boxes, [0.6, 0.95, 0.8])
    [(found, scores)] = decode_boxes(heat, values, 8, limit=5, threshold=0.3)
    order = [1, 2, 0]
    np.testing.assert_allclose(found.numpy(), np.array(boxes)[order], atol=0.05)
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    [(found, _)] = decode_boxes(heat, values, 8, limit=2, threshold=0.3)
    np.testing.assert_allclose(found.numpy(), np.array(boxes)[order[:2]], atol=0.05)
    [(found, scores)] = decode_boxes(heat, values, 8, limit=5, threshold=0.85)
    assert (scores >= 0.85).all()
    assert len(found) == 1
    [(found, _)] = decode_boxes(heat, values, 8, limit=5, threshold=0.999)
    assert found.shape == (0, 4)


def test_of_two_boxes_on_one_animal_the_better_stays() -> None:
    heat = torch.full((1, 1, 16, 16), -20.0)
    heat[0, 0, 8, 8], heat[0, 0, 8, 10] = 2.0, 1.0
    values = torch.zeros(1, 4, 16, 16)
    values[:, 2:] = np.log(8)
    # 64 px boxes, 16 px apart: IoU 0.6
    [(found, scores)] = decode_boxes(heat, values, 8, limit=4, threshold=0.3)
    assert len(found) == 1
    assert scores[0] == pytest.approx(1 / (1 + np.exp(-2)))
    [(found, _)] = decode_boxes(heat, values, 8, limit=4, threshold=0.3, overlap=0.65)
    assert len(found) == 2


def test_overlap_of_boxes() -> None:
    a = torch.tensor([0.0, 0, 10, 10])
    assert iou(a, a) == pytest.approx(1)
    assert iou(a, torch.tensor([5.0, 0, 10, 10])) == pytest.approx(1 / 3)
    assert iou(a, torch.tensor([10.0, 0, 10, 10])) == 0
    assert iou(a, torch.tensor([2.0, 2, 0, 0])) == 0


CALIBRATION = {
    "weights": torch.tensor([0.3, 0.8, 0.5]),
    "means": torch.tensor([[0.0, 0.0], [10.0, 10.0]]),
    "deviations": torch.ones(2, 2),
    "knows": torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
}


def test_without_calibration_likelihood_is_confidence() -> None:
    confidence = torch.rand(3, 2)
    assert likelihood(confidence, torch.zeros(3, 4), {}) is confidence


def test_likelihood_rises_with_confidence() -> None:
    confidence = torch.linspace(0, 1, 50)[:, None].expand(50, 3)
    p = likelihood(confidence, torch.zeros(50, 2), CALIBRATION)
    assert ((p >= 0) & (p <= 1)).all()
    assert (p[1:-1].diff(dim=0) > 0).all()


def test_likelihood_falls_with_novelty() -> None:
    embedding = torch.linspace(0, -9, 30)[:, None].expand(30, 2)
    p = likelihood(torch.full((30, 3), 0.8), embedding, CALIBRATION)
    assert (p[:, 0].diff() <= 0).all()
    assert p[-1, 0] < p[0, 0] - 0.1


def test_a_keypoint_is_familiar_only_where_its_datasets_are() -> None:
    far = novelty(
        torch.tensor([[10.0, 10.0], [0.0, 0.0]]), *(CALIBRATION[k] for k in ("means", "deviations", "knows"))
    )
    assert far[0, 0] == far[1, 0], "both datasets know the first keypoint"
    assert far[0, 1] > far[1, 1] + 3, "the second only one of them"
    assert (far[:, 2] > 9).all(), "the third nobody"
    assert torch.isfinite(far).all()


#: Two legs: joints above (channels 0 and 1), feet below (2 and 3).
LEGS = torch.tensor([[[40.0, 30], [80, 30], [44, 70], [84, 70]]])


def test_feet_that_were_exchanged_trade_places() -> None:
    tangled = LEGS[:, [0, 1, 3, 2]]
    sure = torch.tensor([[0.9, 0.8, 0.6, 0.7]])
    xy, confidence = untangle(tangled, sure, [(0, 1, 2, 3)], 128)
    assert torch.equal(xy, LEGS)
    assert torch.equal(confidence, sure[:, [0, 1, 3, 2]])
    assert torch.equal(tangled, LEGS[:, [0, 1, 3, 2]]), "the input stays"


@pytest.mark.parametrize(
    ("xy", "sure"),
    [
        (LEGS, 0.9),
        (LEGS[:, [0, 1, 3, 2]], 0.4),  # joints that nobody can trust
        (LEGS * torch.tensor([0.2, 1.0]), 0.9),
        (LEGS[:, [0, 1, 3, 2]] * torch.tensor([0.1, 1.0]), 0.9),  # feet so close that legs may well cross
    ],
)
def test_other_feet_stay(xy: torch.Tensor, sure: float) -> None:
    confidence = torch.full((1, 4), sure)
    assert torch.equal(untangle(xy, confidence, [(0, 1, 2, 3)], 128)[0], xy)
    assert untangle(xy, confidence, [], 128)[0] is xy


def test_limbs_are_found_in_the_skeleton() -> None:
    space = load_space("superanimal_quadruped")
    names = {k: i for i, k in enumerate(space.keypoints)}
    limbs = {tuple(space.keypoints[c] for c in limb) for limb in limbs_of(names, space)}
    for end in ("front", "back"):
        legs = {f"{end}_{side}_{part}" for side in ("left", "right") for part in ("knee", "paw")}
        assert any(set(limb) == legs for limb in limbs)
    assert all(limb[0].replace("left", "right") == limb[1].replace("left", "right") for limb in limbs)
    some = {k: i for i, k in enumerate(("front_left_paw", "front_right_paw", "front_left_knee"))}
    assert limbs_of(some, space) == ()
    # where channels mean left and right already, a mirrored leg is another matter
    assert symmetry_of(space.keypoints, space, False).limbs == ()
