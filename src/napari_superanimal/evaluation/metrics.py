"""How far predictions are from labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Floats = npt.NDArray[np.float64]

OKS_THRESHOLDS = np.arange(0.5, 0.96, 0.05)


def oks(truth: Floats, predicted: Floats, area: Floats, sigmas: Floats) -> Floats:
    """Object keypoint similarity of every labelled animal with every predicted one.

    Parameters
    ----------
    truth : (G, K, 2) px, NaN where not labelled; predicted : (P, K, 2), NaN where not predicted
    area : (G,) px^2
    sigmas : (K,)

    Returns
    -------
    (G, P): mean over labelled keypoints of exp(-d^2 / (2 area (2 sigma)^2)); a keypoint that was not
    predicted counts 0 (COCO; spec section 9).
    """
    labelled = np.asarray(np.isfinite(truth).all(-1))
    distance = np.square(truth[:, None] - predicted[None]).sum(-1)
    scale = 2 * np.maximum(area, 1.0)[:, None, None] * np.square(2 * sigmas)
    similar = np.where(np.isfinite(distance), np.exp(-np.nan_to_num(distance) / scale), 0.0)
    count = labelled.sum(-1)[:, None]
    return (similar * labelled[:, None]).sum(-1) / np.maximum(count, 1)


def match(similarity: Floats) -> list[tuple[int, int]]:
    """Pairs (labelled, predicted) that together have the highest similarity (Hungarian)."""
    rows, columns = linear_sum_assignment(-similarity)
    return [(int(g), int(p)) for g, p in zip(rows, columns, strict=True)]


def average_precision(similarities: list[Floats], scores: list[Floats]) -> float:
    """COCO's mean average precision over OKS 0.50 to 0.95, 101 recall points.

    Parameters
    ----------
    similarities : list of (G, P)
        Per image.
    scores : list of (P,)
        Confidence of the predicted animals.
    """
    total = sum(len(s) for s in similarities)
    if total == 0:
        return float("nan")
    values = []
    for threshold in OKS_THRESHOLDS:
        hits: list[tuple[float, bool]] = []
        for similarity, score in zip(similarities, scores, strict=True):
            taken: set[int] = set()
            for p in np.argsort(-score, kind="stable"):
                free = [g for g in range(len(similarity)) if g not in taken]
                best = max(free, key=lambda g: similarity[g, p], default=None)
                hit = best is not None and similarity[best, p] >= threshold
                if hit and best is not None:
                    taken.add(best)
                hits.append((float(score[p]), hit))
        order = sorted(hits, key=lambda h: -h[0])
        right = np.cumsum([h for _, h in order])
        if len(right) == 0:
            values.append(0.0)
            continue
        precision = right / np.arange(1, len(right) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        recall = right / total
        at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
        values.append(float(np.mean([precision[i] if i < len(precision) else 0.0 for i in at])))
    return float(np.mean(values))
