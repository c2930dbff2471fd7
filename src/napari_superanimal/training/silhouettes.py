"""Which pixels of a labelled crop are the animal: enough to put it before another background."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial import ConvexHull, QhullError
from skimage.draw import line, polygon
from skimage.segmentation import random_walker
from torch import Tensor

if TYPE_CHECKING:
    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.training.samples import PoseSamples

#: Silhouettes are found in pictures this many times smaller: colours, not hairs, decide.
SHRINK = 2
#: Around trunk and lines, relative to the animal's size: surely animal; as far as this from the trunk, surely not.
SURE, NEVER = 0.03, 0.30


@dataclass(frozen=True)
class Outline:
    """How keypoints draw an animal.

    Attributes
    ----------
    body : tuple of str
        Keypoints whose convex hull is inside the trunk.
    lines : tuple of tuple of str
        Chains of keypoints along limbs and head; missing ones are skipped.
    reach : float
        How far from these lines the animal may reach, relative to its size (square root of its box's area).
    """

    body: tuple[str, ...] = ()
    lines: tuple[tuple[str, ...], ...] = ()
    reach: float = 0.16

    @staticmethod
    def from_json(data: dict[str, Any]) -> Outline:
        lines = tuple(tuple(each) for each in data.get("lines", ()))
        return Outline(tuple(data.get("body", ())), lines, float(data.get("reach", Outline.reach)))


def gather_silhouettes(
    samples: PoseSamples,
    space: KeypointSpace,
    outline: Outline,
) -> Tensor:
    """Silhouettes (N, 1, S, S) uint8, 255 on the animal, of samples whose keypoints are the whole space."""
    size = samples.crops.shape[-1]
    found = torch.empty((len(samples), 1, size, size), dtype=torch.uint8)
    for n in range(len(samples)):
        small = samples.crops[n, :, ::SHRINK, ::SHRINK].numpy().transpose(1, 2, 0)
        at = {k: samples.xy[n, i] / SHRINK for i, k in enumerate(space.keypoints)}
        share = silhouette(small, at, outline, float(samples.extent[n] / samples.pixel[n] / SHRINK))
        whole = torch.nn.functional.interpolate(
            torch.from_numpy(share)[None, None], size=(size, size), mode="bilinear", align_corners=False
        )
        found[n] = (whole[0] * 255).round().to(torch.uint8)
    return found


def silhouette(
    picture: npt.NDArray[np.uint8],
    at: dict[str, npt.NDArray[np.float32]],
    outline: Outline,
    extent: float,
) -> npt.NDArray[np.float32]:
    """Share of the animal in each pixel (H, W), 0..1.

    What the keypoints draw is the animal, what is far from it is not, and a random walker (Grady 2006) decides
    between the two by colour.

    Parameters
    ----------
    picture : (H, W, 3) uint8
    at : dict
        Keypoints (x, y) px of the picture, NaN where missing.
    extent : float
        The animal's size in pixels of the picture.
    """
    shape = picture.shape[:2]
    seen = {k: p for k, p in at.items() if np.isfinite(p).all()}
    limbs = np.zeros(shape, bool)
    for chain in outline.lines:
        points = [seen[k] for k in chain if k in seen]
        for a, b in pairwise(points):
            _draw(limbs, a, b)
    trunk = _hull(shape, [seen[k] for k in outline.body if k in seen])
    if not (limbs.any() or trunk.any()):
        return np.ones(shape, np.float32)
    from_trunk = distance_transform_edt(~trunk) if trunk.any() else np.full(shape, np.inf)
    from_limbs = distance_transform_edt(~limbs) if limbs.any() else np.full(shape, np.inf)
    seeds = np.zeros(shape, np.int32)
    seeds[(from_trunk > NEVER * extent) & (from_limbs > outline.reach * extent)] = 2
    inside = distance_transform_edt(trunk) > SURE * extent if trunk.any() else trunk
    seeds[inside | limbs] = 1
    sure = np.minimum(from_trunk, from_limbs) <= SURE * extent
    if not (seeds == 2).any():
        return np.ones(shape, np.float32)
    with warnings.catch_warnings():
        # shares slightly outside 0..1 are cut off below
        warnings.simplefilter("ignore", UserWarning)
        share = random_walker(
            picture / 255.0,
            seeds,
            beta=600,
            mode="cg_j",
            tol=1e-2,
            channel_axis=-1,
            return_full_prob=True,
        )[0]
    return np.where(sure, 1.0, np.clip(share, 0.0, 1.0)).astype(np.float32)


def _draw(canvas: npt.NDArray[np.bool_], a: npt.NDArray, b: npt.NDArray) -> None:
    rows, columns = line(round(float(a[1])), round(float(a[0])), round(float(b[1])), round(float(b[0])))
    inside = (rows >= 0) & (rows < canvas.shape[0]) & (columns >= 0) & (columns < canvas.shape[1])
    canvas[rows[inside], columns[inside]] = True


def _hull(shape: tuple[int, int], points: list[npt.NDArray]) -> npt.NDArray[np.bool_]:
    canvas = np.zeros(shape, bool)
    if len(points) < 3:
        return canvas
    corners = np.stack(points)
    try:
        corners = corners[ConvexHull(corners).vertices]
    except QhullError:  # all on one line
        return canvas
    rows, columns = polygon(corners[:, 1], corners[:, 0], shape)
    canvas[rows, columns] = True
    return canvas
