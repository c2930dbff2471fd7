"""Predictions against labels: one report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.evaluation.metrics import average_precision, match, oks
from napari_superanimal.poses import Poses, with_boxes

if TYPE_CHECKING:
    from napari_superanimal.keypoints import KeypointSpace

PCK_THRESHOLDS = (0.05, 0.1)


@dataclass(frozen=True)
class Report:
    """Figures of one evaluation.

    Attributes
    ----------
    errors : (N,) float64, px
        Distance of every labelled keypoint that was predicted.
    sizes : (M,) float64, px
        Square root of the box area, per labelled keypoint (predicted or not).
    relative : (M,) float64
        Distance divided by that size; infinite where nothing was predicted.
    likelihood : (M,) float64
        0 where nothing was predicted.
    keypoint : (M,) int64
        Index into `keypoints`.
    missed : int
        Labelled keypoints without a prediction.
    """

    keypoints: tuple[str, ...]
    n_images: int
    n_individuals: int
    errors: npt.NDArray[np.float64]
    relative: npt.NDArray[np.float64]
    likelihood: npt.NDArray[np.float64]
    keypoint: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.float64]
    missed: int
    map: float
    notes: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The fields of the headless contract (`superanimal evaluate --json`)."""
        per = {}
        for k in np.unique(self.keypoint):
            chosen = self.keypoint == k
            per[self.keypoints[k]] = {
                "n": int(chosen.sum()),
                **_figures(self.pixels[chosen], self.relative[chosen]),
                "mean_likelihood": _mean(self.likelihood[chosen]),
            }
        return {
            "n_images": self.n_images,
            "n_individuals": self.n_individuals,
            "n_keypoints": len(self.relative),
            "missed": self.missed,
            **_figures(self.pixels, self.relative),
            "map": self.map,
            "per_keypoint": per,
            **self.notes,
        }


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def _figures(pixels: npt.NDArray[np.float64], relative: npt.NDArray[np.float64]) -> dict[str, Any]:
    found = pixels[np.isfinite(pixels)]
    return {
        "mean_error_px": _mean(found),
        "rmse_px": float(np.sqrt(np.mean(found**2))) if len(found) else None,
        "median_error_px": float(np.median(found)) if len(found) else None,
        "pck": {f"{t:g}": _mean((relative <= t).astype(np.float64)) for t in PCK_THRESHOLDS},
    }


def evaluate_predictions(truth: Poses, predicted: Poses, space: KeypointSpace) -> Report:
    """Compare predictions with labels, row by row.

    Animals are matched by OKS (Hungarian). Distances are in pixels; PCK is relative to the square root of the
    labelled box's area (given boxes, else around the keypoints). A labelled keypoint that the model knows and did
    not predict is missed: it counts against PCK and mAP, not in the mean error.
    Keypoints that were never predicted for any animal are left out and listed in ``notes["never_predicted"]``,
    unless nothing was predicted at all: then everything is missed.

    Parameters
    ----------
    truth, predicted : Poses
        Same rows, both in `space`.

    Raises
    ------
    ValueError
        If rows or keypoints differ.
    """
    if truth.keypoints != predicted.keypoints or len(truth) != len(predicted):
        raise ValueError("labels and predictions must have the same rows and keypoints")
    predicted_ever = np.asarray(predicted.found.any((0, 1)))
    never = ~predicted_ever & np.asarray(truth.found.any((0, 1))) & predicted_ever.any()
    boxed = with_boxes(truth)
    sigmas = space.oks_sigmas()
    labelled_xy = np.where((truth.visibility > 0)[..., None] & ~never[:, None], truth.xy, np.nan)
    wanted = np.asarray(np.isfinite(labelled_xy).all(-1))
    pixels, relative, sure, which = [], [], [], []
    similarities, scores = [], []
    individuals = images = 0
    for t in range(len(truth)):
        animals = np.flatnonzero(wanted[t].any(-1))
        if not len(animals):
            continue
        images += 1
        individuals += len(animals)
        real = labelled_xy[t, animals]
        area = np.prod(boxed.boxes[t, animals, 2:], axis=-1)
        seen = np.flatnonzero(predicted.found[t].any(-1))
        guess = predicted.xy[t, seen]
        confidence = predicted.likelihood[t, seen]
        similarity = oks(real, guess, area, sigmas)
        similarities.append(similarity)
        scores.append(np.nan_to_num(np.nanmean(confidence, axis=-1)) if len(seen) else np.empty(0))
        partner = dict(match(similarity)) if len(seen) else {}
        for g in range(len(animals)):
            keys = np.flatnonzero(wanted[t, animals[g]])
            p = partner.get(g)
            distance = np.full(len(keys), np.nan)
            trust = np.zeros(len(keys))
            if p is not None:
                distance = np.linalg.norm(guess[p, keys] - real[g, keys], axis=-1)
                trust = np.nan_to_num(confidence[p, keys])
            pixels.append(distance)
            relative.append(np.where(np.isfinite(distance), distance, np.inf) / max(np.sqrt(area[g]), 1.0))
            sure.append(trust)
            which.append(keys)
    all_pixels = np.concatenate(pixels) if pixels else np.empty(0)
    return Report(
        keypoints=space.keypoints,
        n_images=images,
        n_individuals=individuals,
        errors=all_pixels[np.isfinite(all_pixels)],
        relative=np.concatenate(relative) if relative else np.empty(0),
        likelihood=np.concatenate(sure) if sure else np.empty(0),
        keypoint=np.concatenate(which).astype(np.int64) if which else np.empty(0, np.int64),
        pixels=all_pixels,
        missed=int((~np.isfinite(all_pixels)).sum()),
        map=average_precision(similarities, scores),
        notes={"never_predicted": [space.keypoints[k] for k in np.flatnonzero(never)]},
    )
