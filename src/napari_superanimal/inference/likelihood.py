"""From raw heatmap confidence to a likelihood that means something.

A heatmap's peak says how sure the network is on pictures like those it was trained on. On another lab's pictures
it stays just as sure and is wrong more often. Likelihood therefore also looks at how familiar the crop is: the
distance of its features to those of the datasets in which this very keypoint was labelled. A keypoint that only
one laboratory labelled is trusted on pictures like that laboratory's and less elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-4


def novelty(embedding: Tensor, means: Tensor, deviations: Tensor, knows: Tensor) -> Tensor:
    """How far crops are from the datasets that know each keypoint.

    Parameters
    ----------
    embedding : (N, C)
    means : (D, C)
        Mean embedding per training dataset.
    deviations : (D, C)
        Deviation within each dataset.
    knows : (D, K) 0 or 1
        Whether a dataset labels a keypoint.

    Returns
    -------
    (N, K) log of the mean squared distance, in deviations, to the nearest such dataset; about 0 for training data.
    """
    scaled = (embedding[:, None] - means) / deviations
    distance = scaled.square().mean(-1)
    nearest = torch.where(knows.bool(), distance[..., None], torch.inf).amin(1)
    return nearest.clamp(0.05, 1e4).log()


def logit(p: Tensor) -> Tensor:
    """Log odds, bounded."""
    p = p.clamp(EPSILON, 1 - EPSILON)
    return torch.log(p) - torch.log1p(-p)


def likelihood(confidence: Tensor, embedding: Tensor, calibration: dict[str, Tensor]) -> Tensor:
    """Likelihood (N, K) in 0..1 of being within PCK@0.1, from raw confidence (N, K) and embeddings (N, C).

    Without a calibration the raw confidence is returned.
    """
    if not calibration:
        return confidence
    bias, slope, penalty = calibration["weights"]
    far = novelty(embedding, calibration["means"], calibration["deviations"], calibration["knows"])
    return torch.sigmoid(bias + slope * logit(confidence) - penalty * far.clamp_min(0))
