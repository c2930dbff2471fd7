"""Bounding boxes of animals: x, y, width, height in pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari_superanimal.poses.poses import Poses

#: Margin around the keypoints on each side, as a share of the longer side of their bounding rectangle.
#: 0.25 equals the reference's fixed 20 px (spec section 3) for a mouse of 80 px, and scales with the animal.
KEYPOINT_MARGIN = 0.25


def boxes_from_keypoints(
    xy: npt.NDArray[np.float64],
    image_sizes: npt.NDArray[np.int64] | None = None,
    margin: float = KEYPOINT_MARGIN,
) -> npt.NDArray[np.float64]:
    """Boxes (..., 4) around keypoints (..., K, 2), px; NaN where no keypoint is finite.

    `image_sizes` (..., 2), width and height, clips the boxes to the image; zeros mean unknown. Without `margin`
    boxes are tight.
    """
    finite = np.isfinite(xy).all(-1, keepdims=True)
    low = np.where(finite, xy, np.inf).min(-2)
    high = np.where(finite, xy, -np.inf).max(-2)
    nothing = ~finite.any(-1).any(-1)
    low[nothing], high[nothing] = np.nan, np.nan
    # at least a few pixels, so that one lone keypoint still has a box
    pad = np.maximum(margin * (high - low).max(-1, keepdims=True), 4.0) if margin > 0 else 0.0
    low, high = low - pad, high + pad
    if image_sizes is not None:
        limit = np.where(image_sizes > 0, image_sizes - 1.0, np.inf)
        # keypoints outside the image leave a box without width, never a negative one
        low, high = np.clip(low, 0.0, limit), np.clip(high, 0.0, limit)
    return np.concatenate([low, high - low], axis=-1)


def with_boxes(poses: Poses) -> Poses:
    """`poses` with a box for every individual that has keypoints; given boxes are kept."""
    from dataclasses import replace

    derived = boxes_from_keypoints(poses.xy, poses.image_sizes[:, None, :])
    given = np.isfinite(poses.boxes).all(-1, keepdims=True)
    return replace(poses, boxes=np.where(given, poses.boxes, derived))


def box_iou(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Intersection over union of boxes (N, 4) with boxes (M, 4), (N, M); 0 where a box is not finite."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=-1)
    area = np.prod(a[:, None, 2:], axis=-1) + np.prod(b[None, :, 2:], axis=-1) - both
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(both / area)
