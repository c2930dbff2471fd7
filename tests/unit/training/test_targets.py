"""Targets and masks: an undefined keypoint teaches exactly nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_superanimal.keypoints import KeypointSpace
from napari_superanimal.training.samples import canonical_sides
from napari_superanimal.training.targets import box_targets, detector_loss, keypoint_targets, pose_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_superanimal.models.load import LoadedModel

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_target_is_a_bump_on_its_keypoint() -> None:
    xy = torch.tensor(
        [[[13.5, 21.5], [float("nan")] * 2, [10.0, 10.0], [10.0, 10.0], [70.0, 10.0], [5.0, 6.0]]]
    )
    codes = torch.tensor([[2, 0, 0, -1, 2, 1]])
    heat, offsets, weight = keypoint_targets(xy, codes, 4, 16)
    assert heat.shape == (1, 6, 16, 16)
    assert offsets.shape == (1, 6, 2, 16, 16)
    # pixel 13.5 is the middle of cell 3
    assert heat[0, 0].argmax() == 5 * 16 + 3
    assert heat[0, 0, 5, 3] == pytest.approx(1)
    np.testing.assert_allclose(offsets[0, 0, :, 5, 3], [0, 0], atol=1e-6)
    np.testing.assert_allclose(offsets[0, 0, :, 4, 1], [2, 1], atol=1e-6)
    for absent in (1, 2, 3, 4):
        assert (heat[0, absent] == 0).all()
    assert heat[0, 5].max() > 0.8, "occluded keypoints are drawn"
    # not labelled is trained as absent, undefined not at all
    assert weight.tolist() == [[1, 1, 1, 0, 1, 1]]
    assert torch.isfinite(offsets).all()


@pytest.mark.parametrize("value", [0.0, 4.0, -7.5])
def test_undefined_keypoints_have_exactly_no_gradient(value: float) -> None:
    generator = torch.Generator().manual_seed(0)
    heatmaps = torch.randn(4, 5, 8, 8, generator=generator) + value
    offsets = torch.randn(4, 10, 8, 8, generator=generator) * 3
    heatmaps.requires_grad_()
    offsets.requires_grad_()
    xy = torch.rand(4, 5, 2, generator=generator) * 32
    codes = torch.randint(0, 3, (4, 5), generator=generator)
    codes[:, 3] = -1
    codes[1, 0] = -1
    heat, shift, weight = keypoint_targets(xy, codes, 4, 8)
    pose_loss(heatmaps, offsets, heat, shift, weight).backward()
    gradients = (heatmaps.grad, offsets.grad.view(4, 5, 2, 8, 8))
    for gradient in gradients:
        assert (gradient[codes == -1] == 0).all()
    assert (gradients[0][codes >= 0].abs().flatten(1).sum(1) > 0).all()
    assert (gradients[1][codes > 0].abs().flatten(1).sum(1) > 0).all()
    # what is not labelled here is taught as absent: the heatmap goes down everywhere, offsets are left alone
    assert (gradients[0][codes == 0] > 0).all()
    assert (gradients[1][codes == 0] == 0).all()


def test_undefined_keypoints_leave_the_head_s_weights_alone(tiny_model: Callable[..., LoadedModel]) -> None:
    network = tiny_model(detector=False).pose.train()
    heat, shift, weight = keypoint_targets(
        torch.rand(2, 4, 2) * 32, torch.tensor([[2, -1, 0, -1], [2, -1, 1, 2]]), 4, 8
    )
    out = network(torch.randn(2, 3, 32, 32))
    pose_loss(out.heatmaps, out.offsets, heat, shift, weight).backward()
    for layer, width in ((network.heatmaps, 1), (network.offsets, 2)):
        for parameter in (layer.weight, layer.bias):
            each = parameter.grad.reshape(4, width, -1)
            assert (each[1] == 0).all()
            assert (each[[0, 2, 3]].abs().flatten(1).sum(1) > 0).all()


def test_a_batch_of_undefined_keypoints_only_is_no_trouble() -> None:
    heatmaps = torch.randn(2, 3, 8, 8, requires_grad=True)
    heat, shift, weight = keypoint_targets(torch.full((2, 3, 2), torch.nan), torch.full((2, 3), -1), 4, 8)
    loss = pose_loss(heatmaps, torch.randn(2, 6, 8, 8), heat, shift, weight)
    loss.backward()
    assert loss == 0
    assert (heatmaps.grad == 0).all()


def test_parts_of_a_batch_add_up_to_the_batch() -> None:
    """With the number of defined keypoints of all parts, parts with few do not weigh more."""
    generator = torch.Generator().manual_seed(1)
    heatmaps, offsets = (
        torch.randn(6, 4, 8, 8, generator=generator),
        torch.randn(6, 8, 8, 8, generator=generator),
    )
    codes = torch.full((6, 4), -1)
    codes[0] = 2
    codes[3:, 0] = 2
    heat, shift, weight = keypoint_targets(torch.rand(6, 4, 2, generator=generator) * 32, codes, 4, 8)
    whole = pose_loss(heatmaps, offsets, heat, shift, weight)
    cuts = (slice(0, 1), slice(1, 4), slice(4, 6))
    parts = [
        pose_loss(heatmaps[c], offsets[c], heat[c], shift[c], weight[c], norm=weight.sum()) for c in cuts
    ]
    torch.testing.assert_close(sum(parts), whole)
    local = [pose_loss(heatmaps[c], offsets[c], heat[c], shift[c], weight[c]) for c in cuts]
    assert abs(float(sum(local) / 3 - whole)) > 0.01 * float(whole), "each part's own mean is another loss"


def test_box_targets_mark_centres() -> None:
    heat, values, near = box_targets(
        [torch.tensor([[8.0, 16, 32, 16], [200.0, 10, 20, 20]]), torch.empty(0, 4)], 8, 16
    )
    assert heat[1].max() == near[1].max() == 0
    # centre (24, 24) lies between the cells 2 and 3
    cell = divmod(int(heat[0, 0].argmax()), 16)
    assert cell in {(2, 2), (2, 3), (3, 2), (3, 3)}
    assert (near[0, 0] == 1).any()
    x, y, w, h = values[0, :, cell[0], cell[1]].tolist()
    assert ((cell[1] + x + 0.5) * 8 - 0.5, (cell[0] + y + 0.5) * 8 - 0.5) == pytest.approx((24, 24))
    assert (np.exp(w) * 8, np.exp(h) * 8) == pytest.approx((32, 16))
    assert heat[0, 0, :, 10:].max() < 1e-6, "a box whose centre is outside is none"
    logits = torch.zeros(2, 1, 16, 16, requires_grad=True)
    boxes = torch.zeros(2, 4, 16, 16, requires_grad=True)
    detector_loss(logits, boxes, heat, values, near).backward()
    assert (boxes.grad[:, :, :][(near == 0).expand(2, 4, 16, 16)] == 0).all()
    assert (logits.grad[1] > 0).all()


SPACE = KeypointSpace(
    "s",
    ("nose", "left_paw", "right_paw", "tail"),
    pairs=(("left_paw", "right_paw"),),
    front=("nose",),
    rear=("tail",),
)


def test_left_and_right_become_near_and_far() -> None:
    right = np.array([[100.0, 0], [60, 50], [70, 50], [0, 0]])
    left = right * [-1, 1]
    front = right * [0.05, 1]
    xy, codes = np.stack([right, left, front]), np.tile(np.array([2, 2, 1, 0], np.int8), (3, 1))
    out, visibility = canonical_sides(xy, codes, SPACE)
    # an animal that faces right shows its right side
    np.testing.assert_array_equal(out[0, 1:3], right[[2, 1]])
    assert visibility[0].tolist() == [2, 1, 2, 0]
    np.testing.assert_array_equal(out[1], left)
    assert visibility[1].tolist() == [2, 2, 1, 0]
    # seen from the front nobody can say: paired keypoints are undefined, the others stay
    assert np.isnan(out[2, 1:3]).all()
    assert visibility[2].tolist() == [2, -1, -1, 0]
    np.testing.assert_array_equal(out[2, [0, 3]], front[[0, 3]])
    # the labels themselves are left alone
    np.testing.assert_array_equal(xy[0], right)
    assert (codes == [2, 2, 1, 0]).all()
