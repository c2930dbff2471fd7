"""Other backgrounds and neighbours for labelled animals: a network must not learn where the camera stood."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_superanimal.inference.crops import as_tensor
from napari_superanimal.poses import with_boxes
from napari_superanimal.training.augment import (
    Affines,
    Augmentation,
    draw_affines,
    warp_boxes,
    warp_images,
)

if TYPE_CHECKING:
    from napari_superanimal.poses import Poses
    from napari_superanimal.training.samples import FrameReader, PoseSamples

#: Side of the stored background patches, px.
PATCH = 112
#: How much of a patch may be covered by labelled animals.
MOST_ANIMAL = 0.15
#: How many animals a composed scene has, and their size relative to the picture.
ANIMALS, SMALLEST, LARGEST = (1, 1, 1, 2, 3), 0.12, 0.8
#: An animal of which less than this is left behind others has no box.
LEAST_SEEN = 0.35
#: Of the backgrounds, this share is drawn instead of taken from pictures.
DRAWN = 0.4


@dataclass(frozen=True)
class Scenery:
    """Pieces of training pictures without an animal, to put animals before.

    Attributes
    ----------
    patches : (P, 3, PATCH, PATCH) uint8
        P may be 0.
    source : tuple of str
        The dataset of each.
    """

    patches: Tensor
    source: tuple[str, ...]

    def without(self, name: str) -> Scenery:
        """All but those of one dataset."""
        keep = [i for i, source in enumerate(self.source) if source != name]
        return Scenery(self.patches[keep], tuple(self.source[i] for i in keep))


def gather_scenery(poses: Poses, reader: FrameReader, count: int, seed: int) -> Scenery:
    """At most `count` pieces of labelled pictures, beside their animals."""
    rng = np.random.default_rng(seed)
    boxed = with_boxes(poses)
    rows = np.flatnonzero(boxed.present.any(-1))
    found, sources = [], []
    for row in rng.permutation(np.resize(rows, count) if len(rows) else rows):
        frame = reader(poses, int(row))
        height, width = frame.shape[:2]
        boxes = boxed.boxes[row, boxed.present[row]]
        for _ in range(12):
            side = int(rng.uniform(0.25, 0.7) * min(height, width))
            left, top = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
            if side >= 16 and _covered(boxes, left, top, side) < MOST_ANIMAL:
                piece = as_tensor(frame[top : top + side, left : left + side])[None]
                found.append(F.interpolate(piece, (PATCH, PATCH), mode="bilinear", antialias=True)[0])
                sources.append(poses.sources[row] if poses.sources else "")
                break
    patches = torch.stack(found) if found else torch.empty((0, 3, PATCH, PATCH), dtype=torch.uint8)
    return Scenery(patches, tuple(sources))


def _covered(boxes: np.ndarray, left: int, top: int, side: int) -> float:
    """Share of a square that boxes (M, 4) cover, overlaps counted twice."""
    x = np.minimum(boxes[:, 0] + boxes[:, 2], left + side) - np.maximum(boxes[:, 0], left)
    y = np.minimum(boxes[:, 1] + boxes[:, 3], top + side) - np.maximum(boxes[:, 1], top)
    return float((x.clip(0) * y.clip(0)).sum() / side**2)


def warp_into_scenes(
    crops: Tensor,
    silhouettes: Tensor,
    scenery: Scenery,
    affines: Affines,
    out_size: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Tensor:
    """`warp_images` of crops, of which a share gets another background, or another animal behind it.

    Parameters
    ----------
    crops : (n, 3, S, S) uint8
    silhouettes : (n, 1, S, S) uint8

    Returns
    -------
    (n, 3, out_size, out_size) float32, 0..255
    """
    n = len(crops)
    shown = warp_images(torch.cat([crops, silhouettes], 1), affines, out_size)
    pictures, animal = shown[:, :3], shown[:, 3:] / 255.0
    behind = pictures.clone()
    for i in np.flatnonzero(rng.random(n) < augmentation.background):
        behind[i] = background(scenery.patches, out_size, rng)
    for i in np.flatnonzero(rng.random(n) < augmentation.neighbour):
        other = int(rng.integers(n))
        away = rng.uniform(0.35, 0.65) * out_size * rng.choice([-1, 1])
        offset = (round(away), round(rng.uniform(-0.2, 0.2) * out_size))
        picture, mask = _moved(pictures[other], *offset), _moved(animal[other], *offset)
        behind[i] = torch.lerp(behind[i], picture, mask)
    # an animal is not lit like the picture it was put into
    light = torch.from_numpy(rng.uniform(0.7, 1.3, (n, 1, 1, 1)).astype(np.float32))
    return torch.lerp(behind, (pictures * light).clamp(0, 255), animal)


def compose_scenes(
    samples: PoseSamples,
    scenery: Scenery,
    chance: npt.NDArray[np.float64],
    count: int,
    size: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[Tensor, list[Tensor]]:
    """Pictures of one to three cut-out animals on other backgrounds, for the detector.

    Parameters
    ----------
    samples : PoseSamples
        With silhouettes.
    chance : (N,)
        Probability of each sample.

    Returns
    -------
    images : (count, 3, size, size) float32, 0..255
    boxes : list of (M, 4) float32, px: x, y, width, height
    """
    assert samples.silhouettes is not None
    images, boxes = torch.empty(count, 3, size, size), []
    numbers = rng.choice(ANIMALS, count)
    index = rng.choice(len(samples), int(numbers.sum()), p=chance)
    extent = samples.extent[index] / samples.pixel[index]
    share = np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST), len(index)))
    pose = replace(augmentation, scale=1.0, shift=0.42)
    affines = draw_affines(len(index), size, pose, rng, zoom=share * size / extent)
    chosen = torch.from_numpy(index)
    shown = warp_images(torch.cat([samples.crops[chosen], samples.silhouettes[chosen]], 1), affines, size)
    first, stored = 0, samples.crops.shape[-1]
    for n, number in enumerate(numbers):
        scene = background(scenery.patches, size, rng)
        # what stands in front is larger
        order = first + np.argsort(share[first : first + number])
        seen: dict[int, Tensor] = {}
        for i in order:
            mask = shown[i, 3:] / 255.0
            scene = torch.lerp(scene, (shown[i, :3] * float(rng.uniform(0.7, 1.3))).clamp(0, 255), mask)
            seen = {j: m * (1 - mask) for j, m in seen.items()} | {i: mask}
        images[n] = scene
        visible = [
            i
            for i in order
            if seen[i].sum() > LEAST_SEEN * float(shown[i, 3:].sum()) / 255.0 and seen[i].any()
        ]
        found = [
            warp_boxes(samples.hulls[index[i]][None], bool(samples.given[index[i]]), affines, i, stored, size)
            for i in visible
        ]
        boxes.append(torch.cat(found) if found else torch.empty(0, 4))
        first += number
    return images, boxes


def background(patches: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """One background (3, size, size), 0..255: a turned piece of a patch, or colours and textures drawn at random."""
    if len(patches) and rng.random() >= DRAWN:
        patch = patches[int(rng.integers(len(patches)))][None]
        pose = Augmentation(rotation=20, scale=1.3, shift=0.1, flip=True)
        # reflected and large enough that the turned patch fills the picture
        wide = F.pad(patch.float(), (PATCH // 2,) * 4, mode="reflect")
        return warp_images(wide, draw_affines(1, size, pose, rng, zoom=1.6 * size / PATCH), size)[0]
    texture = torch.zeros(3, size, size)
    for cells in (2, 4, 8, 16, 32, 64):
        grain = torch.from_numpy(rng.standard_normal((1, 3, cells, cells), dtype=np.float32))
        grain = torch.lerp(grain, grain.mean(1, keepdim=True), float(rng.random()))
        strength = float(rng.uniform(0, 1) ** 2)
        texture += strength * F.interpolate(grain, (size, size), mode="bilinear", align_corners=False)[0]
    scene = _colour(30, 225, rng) + float(rng.uniform(5, 50)) * texture
    if rng.random() < 0.5:  # ground below a horizon
        top = int(rng.uniform(0.1, 0.9) * size)
        scene[:, top:] += _colour(-120, 120, rng)
    return scene.clamp(0, 255)


def _colour(low: float, high: float, rng: np.random.Generator) -> Tensor:
    """A colour (3, 1, 1), seldom a strong one."""
    colour = torch.from_numpy(rng.uniform(low, high, (3, 1, 1)).astype(np.float32))
    return torch.lerp(colour.mean().expand_as(colour), colour, float(rng.random() ** 1.5))


def _moved(picture: Tensor, right: int, down: int) -> Tensor:
    """A picture (C, H, W) moved by whole pixels, zeros where nothing is left."""
    moved = torch.zeros_like(picture)
    height, width = picture.shape[1:]
    moved[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = picture[
        :, max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
    ]
    return moved
