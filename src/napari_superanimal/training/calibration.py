"""Making likelihood mean something: fitted where the model has never been.

For every dataset of a recipe a model is trained without it and tried on it. Each labelled keypoint gives raw
confidence, how far the crop is from the datasets that know this keypoint, and whether the prediction was within
PCK@0.1. Together with the held-out animals of known datasets these fit `inference.likelihood`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor

from napari_superanimal.inference.likelihood import EPSILON, novelty
from napari_superanimal.training.pose_stage import predict_samples

if TYPE_CHECKING:
    from napari_superanimal.inference.pose_pass import Symmetry
    from napari_superanimal.models.networks import PoseNet
    from napari_superanimal.training.samples import PoseSamples

RIGHT_WITHIN = 0.1
#: Deviation of an embedding's feature below this share of the average one is treated as this share.
FLOOR = 0.3

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trials:
    """Labelled keypoints that a model was tried on.

    confidence : (N,) raw, 0..1; far : (N,) novelty; right : (N,) bool within PCK@0.1;
    source : (N,) name of the dataset; keypoint : (N,) channel; unseen : (N,) bool, dataset not trained on
    """

    confidence: Floats
    far: Floats
    right: npt.NDArray[np.bool_]
    source: npt.NDArray[np.str_]
    keypoint: npt.NDArray[np.int64]
    unseen: npt.NDArray[np.bool_]


def embedding_statistics(
    network: PoseNet, samples: PoseSamples, real: list[str], symmetry: Symmetry
) -> dict[str, Tensor]:
    """Mean and deviation of embeddings per real dataset, and which keypoints each knows.

    Rendered pictures do not count: they look like everything, and no keypoint should be trusted for that.
    """
    _, _, embedding, _ = predict_samples(network, samples, symmetry)
    sources = np.array(samples.source)
    means, deviations, knows = [], [], []
    for name in real:
        chosen = torch.from_numpy(sources == name)
        means.append(embedding[chosen].mean(0))
        deviations.append(embedding[chosen].std(0))
        knows.append(torch.from_numpy((samples.visibility[sources == name] > 0).any(0)))
    spread = torch.stack(deviations)
    spread = spread.clamp_min(float(FLOOR * spread.mean()))
    return {"means": torch.stack(means), "deviations": spread, "knows": torch.stack(knows).float()}


def try_on(
    network: PoseNet,
    statistics: dict[str, Tensor],
    samples: PoseSamples,
    symmetry: Symmetry,
    *,
    flip: bool,
    unseen: bool,
) -> Trials:
    """Predict samples and compare with their labels, where some training dataset knows the keypoint."""
    at, confidence, embedding, truth = predict_samples(network, samples, symmetry, flip)
    error = np.linalg.norm(at - truth, axis=-1) * samples.pixel[:, None]
    far = novelty(embedding, statistics["means"], statistics["deviations"], statistics["knows"]).numpy()
    known = statistics["knows"].bool().any(0).numpy()
    labelled = (samples.visibility > 0) & np.isfinite(error) & known
    row, keypoint = np.nonzero(labelled)
    return Trials(
        confidence=confidence[labelled].astype(np.float64),
        far=far[labelled].astype(np.float64),
        right=error[labelled] <= RIGHT_WITHIN * samples.extent[row],
        source=np.array(samples.source)[row],
        keypoint=keypoint,
        unseen=np.full(len(row), unseen),
    )


def join(parts: list[Trials]) -> Trials:
    """Several trials as one."""
    return Trials(*(np.concatenate([getattr(p, f) for p in parts]) for f in Trials.__dataclass_fields__))


def features(trials: Trials) -> tuple[Floats, Floats]:
    """Log odds of the raw confidence, and the novelty that is penalised."""
    p = np.clip(trials.confidence, EPSILON, 1 - EPSILON)
    return np.log(p) - np.log1p(-p), np.maximum(trials.far, 0)


def fit(trials: Trials) -> Tensor:
    """(bias, slope, penalty) float32 of the logistic model; slope and penalty are not negative.

    Every dataset weighs the same, seen and unseen ones alike.
    """
    odds, far = features(trials)
    groups = np.array([f"{s}/{u}" for s, u in zip(trials.source, trials.unseen, strict=True)])
    weight = np.zeros(len(groups))
    for group in np.unique(groups):
        weight[groups == group] = 1.0 / (groups == group).sum()
    weight /= weight.sum()

    def cost(w: Floats) -> tuple[float, Floats]:
        z = w[0] + w[1] * odds - w[2] * far
        p = 1 / (1 + np.exp(-np.clip(z, -30, 30)))
        loss = -(weight * np.where(trials.right, np.log(p + 1e-12), np.log(1 - p + 1e-12))).sum()
        slope = weight * (p - trials.right)
        ridge = 1e-3 * w**2
        return float(loss + ridge.sum()), np.array(
            [slope.sum(), (slope * odds).sum(), -(slope * far).sum()]
        ) + 2e-3 * w

    found = minimize(
        cost, np.array([0.0, 1.0, 0.1]), jac=True, bounds=[(None, None), (0.05, None), (0.0, None)]
    )
    return torch.tensor(found.x, dtype=torch.float32)


def calibrated(trials: Trials, weights: Tensor) -> Floats:
    """Likelihood of each trial."""
    odds, far = features(trials)
    bias, slope, penalty = weights.double().numpy()
    return np.asarray(1 / (1 + np.exp(-(bias + slope * odds - penalty * far))))


def choose_threshold(
    likelihood: Floats, right: npt.NDArray[np.bool_], unseen: npt.NDArray[np.bool_] | None = None
) -> float:
    """The cut that keeps the most right keypoints for the fewest wrong ones: the largest difference of both.

    Where `unseen` tells datasets the model never saw from those it knows, both kinds count the same.
    """
    weight = np.ones(len(right))
    if unseen is not None and unseen.any() and not unseen.all():
        weight = np.where(unseen, 1 / unseen.sum(), 1 / (~unseen).sum())
    worth = np.where(right, weight, -weight)
    grid = np.round(np.arange(0.2, 0.91, 0.05), 2)
    return float(grid[int(np.argmax([worth[likelihood >= t].sum() for t in grid]))])


def curve(likelihood: Floats, right: npt.NDArray[np.bool_], bins: int = 10) -> list[dict[str, float]]:
    """Calibration curve: per bin of likelihood, how many trials and how many were right."""
    edge = np.clip((likelihood * bins).astype(int), 0, bins - 1)
    return [
        {
            "likelihood": float(likelihood[edge == b].mean()),
            "right": float(right[edge == b].mean()),
            "n": int((edge == b).sum()),
        }
        for b in range(bins)
        if (edge == b).any()
    ]


def summary(trials: Trials, weights: Tensor, channels: list[str]) -> dict[str, object]:
    """Figures for the card: threshold and curves, seen and unseen datasets apart, and PCK of the unseen ones."""
    p = calibrated(trials, weights)
    unseen = trials.unseen
    threshold = choose_threshold(p, trials.right, unseen)
    kept = p >= threshold
    out: dict[str, object] = {
        "bias_slope_penalty": [round(float(w), 4) for w in weights],
        "threshold": threshold,
        "curve_seen": curve(p[~unseen], trials.right[~unseen]),
    }
    if unseen.any():
        out["curve_unseen"] = curve(p[unseen], trials.right[unseen])
        out["unseen_kept"] = float(kept[unseen].mean())
        out["unseen_right_of_kept"] = (
            float(trials.right[unseen & kept].mean()) if (unseen & kept).any() else None
        )
        raw = curve(trials.confidence[unseen], trials.right[unseen])
        out["error_of_raw_confidence_unseen"] = gap(raw)
        out["error_of_likelihood_unseen"] = gap(curve(p[unseen], trials.right[unseen]))
        out["leave_one_dataset_out_pck_0.1"] = {
            str(s): {
                "all": float(trials.right[unseen & (trials.source == s)].mean()),
                **{
                    channels[k]: float(
                        trials.right[unseen & (trials.source == s) & (trials.keypoint == k)].mean()
                    )
                    for k in np.unique(trials.keypoint[unseen & (trials.source == s)])
                },
            }
            for s in np.unique(trials.source[unseen])
        }
    return out


def gap(points: list[dict[str, float]]) -> float:
    """Expected calibration error: mean distance of likelihood and share right, weighted by count."""
    total = sum(p["n"] for p in points)
    return float(sum(p["n"] * abs(p["likelihood"] - p["right"]) for p in points) / max(total, 1))
