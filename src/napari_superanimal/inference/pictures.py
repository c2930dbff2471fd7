"""What pictures of animals are like for a model: size, brightness, contrast, familiarity.

The same figures are measured on the data that a model knows (they stand in its card, under
``calibration["pictures"]``) and on a user's video, so that they can be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_superanimal.inference.frame_predictor import Frame
    from napari_superanimal.models.load import LoadedModel

LEVELS = (0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98)
#: How much of a crop is looked at, relative to the box: light is judged on the animal and what is around it.
AROUND = 1.2


def animal_figures(frame: Frame, box: npt.ArrayLike) -> dict[str, float]:
    """Size and light of one animal.

    Parameters
    ----------
    frame : (H, W, 3) uint8 RGB
    box : x, y, width, height, px

    Returns
    -------
    dict
        ``animal_px``, the longer side of the box; ``animal_share``, that of the longer side of the picture;
        ``brightness`` and ``contrast``, mean and standard deviation of the grey values around the animal, 0..1.
    """
    x, y, w, h = (float(v) for v in np.asarray(box, np.float64))
    height, width = frame.shape[:2]
    longer = max(w, h)
    pad = (AROUND - 1) / 2 * longer
    xa, ya = max(int(x - pad), 0), max(int(y - pad), 0)
    xb, yb = min(int(x + w + pad) + 1, width), min(int(y + h + pad) + 1, height)
    part = frame[ya:yb, xa:xb] if xb > xa and yb > ya else frame
    return {"animal_px": longer, "animal_share": longer / max(height, width), **light(part)}


def light(picture: Frame) -> dict[str, float]:
    """``brightness`` and ``contrast`` of a picture (H, W, 3)."""
    grey = picture.astype(np.float32).mean(-1) / 255
    return {"brightness": float(grey.mean()), "contrast": float(grey.std())}


def novelty_of(
    model: LoadedModel, frames: Sequence[Frame], boxes: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """How far each animal (frame and box) is from all training pictures, (N,).

    The log of the squared distance of the pose network's features to the nearest training dataset, in deviations
    within that dataset: 0 on training pictures. NaN for a model without calibration.
    """
    import torch

    from napari_superanimal.inference.crops import cut_batch
    from napari_superanimal.inference.likelihood import novelty
    from napari_superanimal.models.networks import standardise

    if not model.calibration or not len(frames):
        return np.full(len(frames), np.nan)
    c = model.calibration
    found = []
    size = model.pose.config.input_size
    with torch.inference_mode():
        for i in range(0, len(frames), 16):
            crops, _ = cut_batch(list(frames[i : i + 16]), boxes[i : i + 16], model.card.context, size)
            embedding = model.pose(standardise(crops)).embedding.float()
            far = novelty(embedding, c["means"], c["deviations"], torch.ones_like(c["knows"]))
            found.append(far[:, 0].double().numpy())
    return np.concatenate(found)


def distribution(values: Iterable[float]) -> dict[str, float]:
    """Quantiles of some values by level, for a card; empty without values."""
    v = np.array([x for x in values if np.isfinite(x)], np.float64)
    if not len(v):
        return {}
    return {f"{level:g}": round(float(q), 5) for level, q in zip(LEVELS, np.quantile(v, LEVELS), strict=True)}
