"""What a model rehearses is what the old one answers to the same crop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_superanimal.inference.decode import decode_keypoints
from napari_superanimal.models.load import load_model
from napari_superanimal.training.rehearsal import ENOUGH, LOGITS, Rehearsal
from napari_superanimal.training.targets import keypoint_targets, pose_loss

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def teacher():
    return load_model("mouse-topview-mini").pose.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))


def test_the_old_model_answers_for_what_nobody_labelled(teacher, images: torch.Tensor) -> None:
    with torch.no_grad():
        out = teacher(images)
    at, _ = decode_keypoints(out.heatmaps, out.offsets, teacher.config.stride)
    # a new channel first, then two of the old model's, in another order
    rehearsal = Rehearsal(teacher, [None, 2, 0], np.ones((2, 3), bool), np.ones((2, 3), bool))
    xy = torch.full((2, 3, 2), 5.0)
    xy[0, 1] = torch.nan  # below the threshold: no label at all
    asked = torch.tensor([[True, True, True], [True, False, True]])
    answer = rehearsal.answer(images, xy, asked)
    assert answer.taken.tolist() == [[False, True, True], [False, False, True]]
    torch.testing.assert_close(answer.xy[0, 1:], at[0, [2, 0]])
    torch.testing.assert_close(answer.xy[1, 2], at[1, 0])
    torch.testing.assert_close(answer.xy[1, :2], xy[1, :2])
    labelled = torch.full_like(answer.logits, 0.25)
    heat = answer.heat(labelled)
    torch.testing.assert_close(heat[0, 1], out.heatmaps[0, 2].sigmoid())
    torch.testing.assert_close(heat[1, 1], labelled[1, 1])
    torch.testing.assert_close(heat[:, 0], labelled[:, 0])
    torch.testing.assert_close(answer.logits[:, 1], out.heatmaps[:, 2])
    torch.testing.assert_close(answer.offsets[:, 1], out.offsets[:, 4:6])


def test_a_model_that_answers_as_before_has_nothing_to_learn(teacher, images: torch.Tensor) -> None:
    with torch.no_grad():
        out = teacher(images)
    k, stride = out.heatmaps.shape[1], teacher.config.stride
    at, _ = decode_keypoints(out.heatmaps, out.offsets, stride)
    rehearsal = Rehearsal(teacher, list(range(k)), np.ones((2, k), bool), np.ones((2, k), bool))
    answer = rehearsal.answer(images, at, torch.ones(2, k, dtype=torch.bool))
    assert answer.taken.all()
    codes = torch.full((2, k), 2)
    hard, shift, weight = keypoint_targets(answer.xy, codes, stride, out.heatmaps.shape[-1])
    assert answer.unlike(out.heatmaps, out.offsets) == 0
    assert answer.unlike(out.heatmaps + 1, out.offsets) == pytest.approx(LOGITS * 2 * k, rel=1e-4)

    def gradient(target: torch.Tensor) -> float:
        same = out.heatmaps.clone().requires_grad_()
        pose_loss(same, out.offsets, target, shift, weight).backward()
        assert same.grad is not None
        return float(same.grad.abs().max())

    assert gradient(answer.heat(hard)) < 1e-6 < 1e-3 * gradient(hard)


def test_who_knows_little_of_the_animals_holds_little(teacher, images: torch.Tensor) -> None:
    """Of 18 keypoints that nobody labelled and the old model has, the old model is sure of 3."""
    asked, unlabelled = np.zeros((10, 3), bool), np.zeros((10, 3), bool)
    asked[:3, 1], unlabelled[:, :2], unlabelled[:8, 2] = True, True, True
    rehearsal = Rehearsal(teacher, [None, 2, 0], asked, unlabelled)
    assert rehearsal.worth == pytest.approx(3 / 18 / ENOUGH)
    surer = replace(rehearsal, asked=unlabelled)
    assert surer.worth == 1
    assert replace(rehearsal, unlabelled=np.zeros_like(asked)).worth == 0
    taken = torch.ones(2, 3, dtype=torch.bool)
    held = [r.answer(images, torch.zeros(2, 3, 2), taken) for r in (rehearsal, surer)]
    far = [a.unlike(a.logits + 1, a.offsets.flatten(1, 2)) for a in held]
    assert float(far[0]) == pytest.approx(rehearsal.worth * float(far[1]))
