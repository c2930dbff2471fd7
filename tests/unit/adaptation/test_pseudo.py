"""What becomes a pseudo-label, and what has no weight."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_superanimal.adaptation.pseudo import join_samples, pseudo_labels, to_samples, trusted
from napari_superanimal.training.targets import keypoint_targets, pose_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_superanimal.adaptation.teacher import Looks


def walking(frames: int = 12, keypoints: int = 6) -> np.ndarray:
    """Keypoints of an animal that moves steadily to the right, (T, K, 2)."""
    rng = np.random.default_rng(1)
    shape = rng.uniform(-40, 40, (keypoints, 2))
    return 200 + shape[None] + np.arange(frames)[:, None, None] * np.array([2.0, 0.0])


def test_sure_points_that_agree_become_labels_and_are_steadier_than_a_look(
    looks_at: Callable[..., Looks],
) -> None:
    truth = walking()
    looks = looks_at(truth, noise=1.0)
    labels = pseudo_labels(looks, 0.6)
    assert (labels.visibility == 2).all()
    assert labels.counts.labels == truth.shape[0] * truth.shape[1]
    error = np.linalg.norm(labels.xy - truth, axis=-1).mean()
    one = np.linalg.norm(looks.xy[:, 0] - truth, axis=-1).mean()
    assert error < 0.6 * one
    plain = pseudo_labels(looks, 0.6, temporal=False)
    assert error < np.linalg.norm(plain.xy - truth, axis=-1).mean()


def test_unsure_points_have_no_weight_and_no_gradient(looks_at: Callable[..., Looks]) -> None:
    looks = looks_at(walking())
    likelihood = looks.likelihood.copy()
    likelihood[:, :, 2] = 0.3
    labels = pseudo_labels(replace(looks, likelihood=likelihood), 0.6)
    assert (labels.visibility[:, 2] == -1).all()
    assert np.isnan(labels.xy[:, 2]).all()
    samples = to_samples(looks, labels, "clip")
    heat, shift, weight = keypoint_targets(
        torch.from_numpy(samples.xy), torch.from_numpy(samples.visibility.astype(np.int64)), 4, 13
    )
    out = torch.zeros_like(heat).requires_grad_()
    offsets = torch.zeros(heat.shape[0], 12, 13, 13).requires_grad_()
    pose_loss(out, offsets, heat, shift, weight).backward()
    assert out.grad is not None
    assert float(out.grad[:, 2].abs().max()) == 0.0
    assert float(out.grad[:, 1].abs().max()) > 0.0


def test_looks_that_disagree_do_not_teach(looks_at: Callable[..., Looks]) -> None:
    looks = looks_at(walking())
    xy = looks.xy.copy()
    xy[:, 1::2, 3] += 30  # mirrored looks see it elsewhere
    _, believed, counts = trusted(replace(looks, xy=xy), 0.6)
    assert not believed[:, 3].any()
    assert believed[:, [0, 1, 2, 4, 5]].all()
    assert counts.disagreed == len(looks)


def test_a_jump_out_of_the_track_does_not_teach(looks_at: Callable[..., Looks]) -> None:
    looks = looks_at(walking())
    xy = looks.xy.copy()
    xy[6, :, 0] += 50  # all looks agree on the wrong place
    labels = pseudo_labels(replace(looks, xy=xy), 0.6)
    assert labels.visibility[6, 0] == -1
    assert labels.counts.jumped == 1
    assert (np.delete(labels.visibility[:, 0], 6) == 2).all()


def test_backward_animals_and_lone_points_do_not_teach(looks_at: Callable[..., Looks]) -> None:
    looks = looks_at(walking(keypoints=10))
    back = np.zeros(len(looks), bool)
    back[:3] = True
    labels = pseudo_labels(looks, 0.6, backwards=back)
    assert (labels.visibility[:3] == -1).all()
    assert labels.counts.backwards == 30
    likelihood = np.full_like(looks.likelihood, 0.1)
    likelihood[:, :, 0] = 0.9
    lone = pseudo_labels(replace(looks, likelihood=likelihood), 0.6)
    assert lone.counts.labels == 0
    assert lone.counts.lone == len(looks)


def test_samples_lie_where_the_labels_are_and_join(looks_at: Callable[..., Looks]) -> None:
    truth = walking()
    looks = looks_at(truth, noise=0.0)
    samples = to_samples(looks, pseudo_labels(looks, 0.6), "clip")
    back = looks.squares[:, None, :2] + (samples.xy + 0.5) * looks.squares[:, None, 2:] / 54 - 0.5
    assert np.abs(back - truth).max() < 1e-3
    both = join_samples([samples, samples])
    assert len(both) == 2 * len(samples)
    assert both.source == ("clip",) * len(both)
