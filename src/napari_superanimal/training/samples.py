"""Training samples in memory: one generous crop per animal, one small picture per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from napari_superanimal.errors import UserError
from napari_superanimal.inference.crops import cut, letterbox, square_crop, to_crop
from napari_superanimal.poses import UNDEFINED, Poses, facing, with_boxes

if TYPE_CHECKING:
    from napari_superanimal.keypoints import KeypointSpace

#: Stored crops reach this much further than the network sees, so that augmentation may turn and shrink them.
ROOM = 1.7


@dataclass(frozen=True)
class PoseSamples:
    """One crop per labelled animal.

    Attributes
    ----------
    crops : (N, 3, S, S) uint8
        S is `ROOM` times the network's input size; the animal is in the middle.
    xy : (N, K, 2) float32, px of the stored crop
        NaN where missing.
    visibility : (N, K) int8
    weight : (N,) float32
        How often a sample is drawn, relative to others.
    source : tuple of str
    rows : (N, 2) int64
        Row of the dataset and individual, for reports.
    pixel : (N,) float32
        Pixels of the frame per pixel of the crop.
    extent : (N,) float32, px of the frame
        Square root of the box's area, which PCK is relative to.
    hulls : tuple of (P, 2) float32, px of the stored crop
        Points that the animal's box is drawn around, as in `ImageSamples`.
    given : (N,) bool
        Boxes came with the dataset.
    silhouettes : (N, 1, S, S) uint8 or None
        255 on the animal, where augmentation needs to know.
    """

    crops: Tensor
    xy: npt.NDArray[np.float32]
    visibility: npt.NDArray[np.int8]
    weight: npt.NDArray[np.float32]
    source: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    pixel: npt.NDArray[np.float32]
    extent: npt.NDArray[np.float32]
    hulls: tuple[npt.NDArray[np.float32], ...]
    given: npt.NDArray[np.bool_]
    silhouettes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.crops)


@dataclass(frozen=True)
class ImageSamples:
    """One letterboxed picture per image, with the boxes of its animals.

    Attributes
    ----------
    images : (N, 3, S, S) uint8
    boxes : tuple of (M, 4) float32, px of the picture: x, y, width, height
    hulls : tuple of (M, P, 2) float32, px of the picture
        Points that each box is drawn around again when the picture was turned: the animal's keypoints where the
        box came from them, else an octagon in the given box.
    given : (N,) bool
        Boxes came with the dataset.
    weight : (N,) float32
    """

    images: Tensor
    boxes: tuple[npt.NDArray[np.float32], ...]
    hulls: tuple[npt.NDArray[np.float32], ...]
    given: npt.NDArray[np.bool_]
    weight: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.images)


def pick(samples: PoseSamples, index: npt.NDArray[np.int64]) -> PoseSamples:
    """Some of the samples."""
    return PoseSamples(
        samples.crops[torch.from_numpy(index)],
        samples.xy[index],
        samples.visibility[index],
        samples.weight[index],
        tuple(samples.source[i] for i in index),
        samples.rows[index],
        samples.pixel[index],
        samples.extent[index],
        tuple(samples.hulls[i] for i in index),
        samples.given[index],
        None if samples.silhouettes is None else samples.silhouettes[torch.from_numpy(index)],
    )


def read_image(poses: Poses, row: int) -> npt.NDArray[np.uint8]:
    """Image of a row, (H, W, 3) uint8 RGB.

    Raises
    ------
    UserError
        If the file is missing or no picture.
    """
    path = poses.image_path(row)
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise UserError(f"cannot read the labelled image ({error})", path=path) from error


FrameReader = Callable[[Poses, int], npt.NDArray[np.uint8]]
#: From a frame, left edge, top edge, side (px) and the crop's size to the crop and the exact left, top, side.
Cutter = Callable[[npt.NDArray[np.uint8], float, float, float, int], tuple[Tensor, float, float, float]]


def canonical_sides(
    xy: npt.NDArray[np.float64], visibility: npt.NDArray[np.int8], space: KeypointSpace
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int8]]:
    """Left/right keypoints (..., K, 2) renamed to near/far: the "left" channel becomes the side that is seen.

    In a side view a network can see which leg is nearer, and which way the animal faces, but left and right
    only follow from both. Of animals seen from the front or behind the paired keypoints become undefined.
    """
    side = facing(xy, space)
    swapped, codes = xy.copy(), visibility.copy()
    right = side > 0
    swapped[right] = xy[right][..., space.swap, :]
    codes[right] = visibility[right][..., space.swap]
    paired = space.swap != np.arange(len(space))
    unclear = (side == 0)[..., None] & paired
    swapped[unclear] = np.nan
    codes[unclear] = UNDEFINED
    return swapped, codes


def gather_pose_samples(
    poses: Poses,
    space: KeypointSpace,
    *,
    input_size: int,
    context: float,
    side_canonical: bool,
    weights: dict[str, float] | None = None,
    reader: FrameReader = read_image,
    on_row: Callable[[int, int], None] | None = None,
    aspect: float = 1.0,
    cutter: Cutter = cut,
) -> PoseSamples:
    """Cut one crop per labelled animal out of its image.

    Parameters
    ----------
    poses : Poses
        In `space`; boxes are derived from keypoints where none are given.
    weights : dict
        Relative frequency per source dataset (default 1 per animal).
    reader : callable
        Gives the pixels of a row.
    aspect : float
        Width of what the network sees relative to its height; stored crops are squares around all of it.
    cutter : callable
        Cuts and resamples, as `inference.crops.cut` does.
    """
    boxed = with_boxes(poses)
    size = round(ROOM * input_size)
    keep = np.argwhere(boxed.found.any(-1))
    crops = torch.empty((len(keep), 3, size, size), dtype=torch.uint8)
    xy = np.empty((len(keep), len(space), 2), np.float64)
    pixel, extent = np.empty(len(keep), np.float32), np.empty(len(keep), np.float32)
    sources, hulls = [], []
    given = np.asarray(np.isfinite(poses.boxes[keep[:, 0], keep[:, 1]]).all(-1))
    last, frame = -1, np.empty(0, np.uint8)
    for n, (row, animal) in enumerate(keep):
        if row != last:
            frame, last = reader(poses, int(row)), row
        box = boxed.boxes[row, animal]
        if aspect != 1.0:
            box = widened(box, aspect)
        crop, *square = cutter(frame, *square_crop(box, context * ROOM), size)
        crops[n] = crop
        pixel[n] = square[2] / size
        extent[n] = np.sqrt(np.prod(boxed.boxes[row, animal, 2:]))
        xy[n] = to_crop(boxed.xy[row, animal][None], np.array([square]), size)[0]
        hull = octagons(boxed.boxes[row, animal][None]) if given[n] else boxed.xy[row, animal][None]
        hulls.append(to_crop(hull, np.array([square]), size)[0].astype(np.float32))
        sources.append(poses.sources[row] if poses.sources else "")
        if on_row is not None:
            on_row(n + 1, len(keep))
    visibility = boxed.visibility[keep[:, 0], keep[:, 1]].copy()
    if side_canonical:
        xy, visibility = canonical_sides(xy, visibility, space)
    weight = np.array([(weights or {}).get(s, 1.0) for s in sources], np.float32)
    return PoseSamples(
        crops,
        xy.astype(np.float32),
        visibility,
        weight,
        tuple(sources),
        keep,
        pixel,
        extent,
        tuple(hulls),
        given,
    )


def widened(box: npt.NDArray[np.float64], aspect: float) -> npt.NDArray[np.float64]:
    """A box (4,) whose shorter side was widened until width / height is `aspect`."""
    x, y, w, h = box
    width, height = max(w, h * aspect), max(h, w / aspect)
    return np.array([x - (width - w) / 2, y - (height - h) / 2, width, height])


def gather_image_samples(
    poses: Poses,
    *,
    input_size: int,
    weights: dict[str, float] | None = None,
    reader: FrameReader = read_image,
) -> ImageSamples:
    """One small picture per image with boxes, for the detector."""
    boxed = with_boxes(poses)
    rows = np.flatnonzero(boxed.present.any(-1))
    images = torch.zeros((len(rows), 3, input_size, input_size), dtype=torch.uint8)
    boxes, hulls, given, weight = [], [], [], []
    for n, row in enumerate(rows):
        picture, scale = letterbox(reader(poses, int(row)), input_size, 1)
        images[n, :, : picture.shape[1], : picture.shape[2]] = picture
        animals = boxed.present[row]
        box = boxed.boxes[row, animals]
        boxes.append(scale_boxes(box, scale))
        given.append(bool(np.isfinite(poses.boxes[row, animals]).all()))
        hull = octagons(box) if given[-1] else boxed.xy[row, animals]
        hulls.append(((hull + 0.5) * scale - 0.5).astype(np.float32))
        source = poses.sources[row] if poses.sources else ""
        weight.append((weights or {}).get(source, 1.0))
    return ImageSamples(images, tuple(boxes), tuple(hulls), np.array(given), np.array(weight, np.float32))


def octagons(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Eight points (M, 8, 2) on each box (M, 4): they hug a turned animal better than the four corners."""
    a, b = 0.3, 0.7
    at = np.array([(a, 0), (b, 0), (1, a), (1, b), (b, 1), (a, 1), (0, b), (0, a)])
    return boxes[:, None, :2] + at * boxes[:, None, 2:]


def scale_boxes(boxes: npt.NDArray, scale: float) -> npt.NDArray[np.float32]:
    """Boxes (N, 4) of a frame in pixels of the frame scaled by `scale`."""
    out = np.asarray(boxes, np.float64).copy()
    out[:, :2] = (out[:, :2] + 0.5) * scale - 0.5
    out[:, 2:] *= scale
    return out.astype(np.float32)
