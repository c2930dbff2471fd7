"""Likelihood that means something: what was put in comes out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_superanimal.inference.likelihood import likelihood
from napari_superanimal.training.calibration import (
    Trials,
    calibrated,
    choose_threshold,
    curve,
    features,
    fit,
    gap,
    join,
    summary,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def trials(
    n: int, weights: tuple[float, float, float], seed: int = 0, source: str = "a", unseen: bool = False
) -> Trials:
    """Trials whose chance to be right is a known logistic function."""
    rng = np.random.default_rng(seed)
    made = Trials(
        confidence=rng.uniform(0.02, 0.98, n),
        far=rng.uniform(-1, 4, n),
        right=np.zeros(n, bool),
        source=np.full(n, source),
        keypoint=rng.integers(0, 2, n),
        unseen=np.full(n, unseen),
    )
    p = calibrated(made, torch.tensor(weights))
    return Trials(made.confidence, made.far, rng.random(n) < p, made.source, made.keypoint, made.unseen)


@pytest.mark.parametrize("weights", [(0.0, 1.0, 0.0), (0.5, 0.7, 0.8), (-1.0, 1.5, 0.3)])
def test_a_known_function_is_found_again(weights: tuple[float, float, float]) -> None:
    made = trials(20000, weights)
    found = fit(made)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), weights, atol=0.12)
    assert gap(curve(calibrated(made, found), made.right)) < 0.03
    np.testing.assert_allclose(calibrated(made, found), calibrated(made, torch.tensor(weights)), atol=0.05)


def test_confidence_never_counts_against_and_novelty_never_in_favour() -> None:
    made = trials(3000, (0.0, -1.0, -1.0))
    _, slope, penalty = fit(made).tolist()
    assert slope == pytest.approx(0.05)
    assert penalty == 0


def test_every_dataset_weighs_the_same() -> None:
    many, few = trials(8000, (2.0, 0.5, 0.0), 1, "many"), trials(400, (-2.0, 0.5, 0.0), 2, "few")
    together = join([many, few])
    assert len(together.confidence) == 8400
    bias = float(fit(together)[0])
    assert abs(bias) < 0.5, "between the two, not at the larger one"


def test_training_and_inference_use_the_same_function() -> None:
    made = trials(50, (0.3, 0.8, 0.5))
    weights = torch.tensor([0.3, 0.8, 0.5])
    # an embedding whose mean squared distance is exp(far)
    embedding = torch.from_numpy(np.exp(made.far / 2)).float()[:, None]
    p = likelihood(
        torch.from_numpy(made.confidence).float()[:, None],
        embedding,
        {
            "weights": weights,
            "means": torch.zeros(1, 1),
            "deviations": torch.ones(1, 1),
            "knows": torch.ones(1, 1),
        },
    )
    np.testing.assert_allclose(p[:, 0].numpy(), calibrated(made, weights), atol=1e-4)
    odds, far = features(made)
    assert (far >= 0).all()
    assert np.isfinite(odds).all()


def test_the_threshold_keeps_right_and_drops_wrong() -> None:
    p = np.linspace(0, 1, 1001)
    for cut in (0.3, 0.55, 0.8):
        assert choose_threshold(p, p >= cut) == pytest.approx(cut, abs=0.051)
    assert choose_threshold(p, np.ones(1001, bool)) == pytest.approx(0.2)
    assert choose_threshold(p, np.zeros(1001, bool)) == pytest.approx(0.9)


def test_unseen_datasets_count_as_much_as_seen_ones_for_the_threshold() -> None:
    """However many labels the seen ones have."""
    p = np.linspace(0, 1, 1001)
    # seen datasets are right from 0.5 on; unseen ones are mostly between 0.5 and 0.8, and wrong there
    new = np.concatenate([p, np.linspace(0.5, 0.799, 2000)])
    for times in (1, 20):
        likelihood = np.concatenate([np.tile(p, times), new])
        right = np.concatenate([np.tile(p >= 0.5, times), new >= 0.8])
        unseen = np.arange(len(likelihood)) >= 1001 * times
        assert choose_threshold(likelihood, right, unseen) == pytest.approx(0.8)
    assert choose_threshold(likelihood, right) == pytest.approx(0.5), "by numbers alone the seen ones decide"


def test_the_calibration_curve_by_hand() -> None:
    points = curve(np.array([0.11, 0.19, 0.95, 1.0]), np.array([False, True, True, True]))
    assert [p["n"] for p in points] == [2, 2]
    assert points[0]["likelihood"] == pytest.approx(0.15)
    assert [p["right"] for p in points] == [0.5, 1.0]
    assert gap(points) == pytest.approx((2 * 0.35 + 2 * 0.025) / 4)


def test_the_card_tells_seen_and_unseen_apart() -> None:
    weights = (0.2, 0.9, 0.6)
    both = join(
        [
            trials(2000, weights, 1, "a"),
            trials(2000, weights, 2, "a", True),
            trials(500, weights, 3, "b", True),
        ]
    )
    told = summary(both, torch.tensor(weights), ["nose", "tail"])
    assert 0.2 <= told["threshold"] <= 0.9
    assert sum(p["n"] for p in told["curve_seen"]) == 2000
    assert sum(p["n"] for p in told["curve_unseen"]) == 2500
    assert told["unseen_right_of_kept"] > both.right[both.unseen].mean()
    assert told["error_of_likelihood_unseen"] < told["error_of_raw_confidence_unseen"]
    left_out = told["leave_one_dataset_out_pck_0.1"]
    assert set(left_out) == {"a", "b"}
    assert set(left_out["a"]) == {"all", "nose", "tail"}
    only_seen = summary(trials(100, weights), torch.tensor(weights), ["nose", "tail"])
    assert 0.2 <= only_seen["threshold"] <= 0.9
    assert "curve_unseen" not in only_seen
