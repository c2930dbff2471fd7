"""The same animals at other sizes, rendered and real, always whole: what `pyramid.py` measures on.

Every picture starts as one in which the animal takes up the share that the model was trained on (the median of its
pictures; the longer side of the box relative to the longer side of the picture), or as large a share as fits with the
whole animal in it. From it come three kinds of other sizes:

share
    another share of the picture, pixels kept: the scene is widened by background, or cut around the animal. Where the
    animal would not fit, it fills the picture (`FILLED`) and what is missing is made up by enlarging it.
pixels
    the same picture with fewer or more pixels (antialiased): the share stays.
camera
    share and pixels at once, as if the camera had moved away: the wider scene in as many pixels as the picture had.
    For larger animals that would be `share` again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import evenly
from evaluate_minis import RECIPES
from PIL import Image
from unseen import horse_video

from napari_superanimal.demo.render import render_clip
from napari_superanimal.keypoints import load_space
from napari_superanimal.models.zoo import find_model
from napari_superanimal.poses import Poses, make_poses, with_boxes
from napari_superanimal.training.config import read_config
from napari_superanimal.training.datasets import load_datasets
from napari_superanimal.training.samples import FrameReader, read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from napari_superanimal.inference.frame_predictor import Frame

SIZES = (0.25, 0.5, 1.0, 2.0, 4.0)
KINDS = ("share", "pixels", "camera")
#: Sizes of each kind; 1x is the same picture in all, and belongs to each.
OTHERS = {"share": SIZES, "pixels": (0.25, 4.0), "camera": (0.25,)}
#: An animal that takes up so much of a side of the picture fills it: more would cut it off.
FILLED = 0.9
CAMERA = (640, 480)
SEEDS = (11, 12)
#: Frames between two rendered pictures.
APART = 60
#: Most pictures of a recording from which its background is made.
MEDIAN_OF = 25


@dataclass(frozen=True)
class Scene:
    """A picture (H, W, 3) with one labelled animal: keypoints (K, 2) px, box (4,) px."""

    frame: Frame
    xy: npt.NDArray[np.float64]
    box: npt.NDArray[np.float64]

    @property
    def share(self) -> float:
        return float(self.box[2:].max() / max(self.frame.shape[:2]))

    def resized(self, factor: float) -> Scene:
        """The whole picture made smaller (antialiased) or larger."""
        height, width = self.frame.shape[:2]
        size = max(round(width * factor), 1), max(round(height * factor), 1)
        if size == (width, height):
            return self
        ratio = np.array(size) / (width, height)
        frame = np.array(Image.fromarray(self.frame).resize(size, Image.Resampling.BICUBIC))
        corner = (self.box[:2] + 0.5) * ratio - 0.5
        return Scene(frame, (self.xy + 0.5) * ratio - 0.5, np.concatenate([corner, self.box[2:] * ratio]))

    def moved(self, frame: Frame, by: npt.NDArray[np.float64]) -> Scene:
        """Another picture in which everything lies `by` (x, y) farther."""
        return Scene(frame, self.xy + by, np.concatenate([self.box[:2] + by, self.box[2:]]))


@dataclass(frozen=True)
class Scenes:
    """Pictures and the truth about them."""

    frames: list[Frame]
    truth: Poses
    share: float
    pixels: float


def together(scenes: Sequence[Scene], space: Any) -> Scenes:
    """Scenes of one size, with the median share and length (px) of their animals."""
    truth = make_poses(
        space.keypoints,
        np.array([s.xy for s in scenes])[:, None],
        boxes=np.array([s.box for s in scenes])[:, None],
        image_sizes=np.array([s.frame.shape[1::-1] for s in scenes], np.int64),
        scorer="truth",
    )
    return Scenes(
        [s.frame for s in scenes],
        truth,
        float(np.median([s.share for s in scenes])),
        float(np.median([s.box[2:].max() for s in scenes])),
    )


def fitting(box: npt.NDArray, share: float, aspect: float) -> float:
    """Longer side (px) of a picture (width / height = aspect) with the box at a share of it, or filling it."""
    w, h = float(box[2]), float(box[3])
    least = max(w, h * aspect) if aspect >= 1 else max(h, w / aspect)
    return max(max(w, h) / share, least / FILLED)


def window(scene: Scene, longer: float, aspect: float, seed: int) -> Scene:
    """A part of the picture with the whole box somewhere in it."""
    height, width = scene.frame.shape[:2]
    w, h = (longer, longer / aspect) if aspect >= 1 else (longer * aspect, longer)
    size, full = np.minimum(np.round([w, h]).astype(int), (width, height)), np.array([width, height])
    centre = scene.box[:2] + scene.box[2:] / 2
    room = np.clip((size - scene.box[2:]) / 2 - 0.02 * size, 0, 0.1 * size)
    centre = centre + np.random.default_rng(seed).uniform(-1, 1, 2) * room
    left, top = np.round(np.clip(centre - size / 2, 0, full - size)).astype(int)
    part = np.ascontiguousarray(scene.frame[top : top + size[1], left : left + size[0]])
    return scene.moved(part, -np.array([left, top], np.float64))


def widened(scene: Scene, background: Frame, factor: float, seed: int) -> Scene:
    """The picture somewhere in a scene `factor` times larger.

    Around it lies the background, mirrored again and again; for a single photo, its own edges go on.
    """
    height, width = scene.frame.shape[:2]
    h, w = round(height * factor), round(width * factor)
    rng = np.random.default_rng(seed)
    top, left = int(rng.integers(0, h - height + 1)), int(rng.integers(0, w - width + 1))
    pad = ((top, h - height - top), (left, w - width - left), (0, 0))
    wide = np.pad(background, pad, mode="symmetric" if background is not scene.frame else "edge")
    wide[top : top + height, left : left + width] = scene.frame
    return scene.moved(wide, np.array([left, top], np.float64))


def at_share(scene: Scene, background: Frame, share: float, seed: int) -> Scene:
    """The animal at a share of the picture; what does not fit is made up by enlarging."""
    height, width = scene.frame.shape[:2]
    longer = fitting(scene.box, share, width / height)
    if longer > max(height, width):
        found = widened(scene, background, longer / max(height, width), seed)
    else:
        found = window(scene, longer, width / height, seed)
    return found.resized(max(share / found.share, 1.0)) if share > 1.02 * found.share else found


@dataclass(frozen=True)
class Subject:
    """Where animals come from; `scenes` takes a kind and a size."""

    name: str
    what: str
    model: str
    usual: float
    scenes: Callable[[str, float], Scenes]


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures of one animal each, and what lies around each of them: itself for a photo."""

    poses: Poses
    frames: list[Frame]
    backgrounds: list[Frame]


def subject(name: str, what: str, model: str, usual: float, pictures: Pictures) -> Subject:
    """The same pictures at every size."""
    space = load_space(find_model(model).card.space_name)
    poses, frames = pictures.poses, pictures.frames
    originals = [Scene(f, poses.xy[i, 0], poses.boxes[i, 0]) for i, f in enumerate(frames)]

    def shares(size: float) -> list[Scene]:
        pairs = zip(originals, pictures.backgrounds, strict=True)
        return [at_share(scene, around, size * usual, i) for i, (scene, around) in enumerate(pairs)]

    def scenes(kind: str, size: float) -> Scenes:
        if kind == "share":
            return together(shares(size), space)
        if kind == "pixels":
            return together([s.resized(size) for s in shares(1.0)], space)
        return together([s.resized(size) for s in shares(size)], space)

    return Subject(name, what, model, usual, scenes)


def held_out(model: str, source: str, data: Path, count: int, *, arena: bool) -> Pictures:
    """Held-out labelled pictures of one data set of a model with one whole animal."""
    space = load_space(find_model(model).card.space_name)
    _, held = load_datasets(read_config(RECIPES / f"{model}.yaml"), space, data)
    return some(with_boxes(held.take(np.array(held.sources) == source)), 3, count, read_image, arena=arena)


def walking_horse(model: str, data: Path, count: int) -> Pictures:
    """A video that the model has never seen; frames in which most of the horse is labelled."""
    poses, reader = horse_video(data, load_space(find_model(model).card.space_name), every=1)
    return some(with_boxes(poses), 12, count, reader, arena=True)


def rendered(count: int) -> Pictures:
    """Mice with truth."""
    clips = [render_clip(24 * APART, CAMERA, seed=seed) for seed in SEEDS]
    rows = np.arange(0, 24 * APART, APART)
    truth = [clip.truth for clip in clips]
    poses = make_poses(
        truth[0].keypoints,
        np.concatenate([t.xy[rows] for t in truth]),
        boxes=np.concatenate([t.boxes[rows] for t in truth]),
        images=[f"{seed}/{row}.png" for seed in SEEDS for row in rows],
        scorer="truth",
    )

    def reader(part: Poses, row: int) -> Frame:
        clip, number = part.images[row].removesuffix(".png").split("/")
        return clips[SEEDS.index(int(clip))].frames[int(number)]

    return some(poses, 3, count, reader, arena=True)


def some(poses: Poses, least: int, count: int, reader: FrameReader, *, arena: bool) -> Pictures:
    """Pictures with one animal and so many labels at least, spread over the data set.

    With `arena`, what lies around is the median of their recording: the same place without an animal.
    """
    alone = np.flatnonzero(poses.found.any(-1).sum(1) == 1)
    alone = alone[np.asarray(poses.found[alone, 0].sum(-1)) >= least]
    chosen = poses.take(alone[evenly(len(alone), count)])
    frames = [reader(chosen, row) for row in range(len(chosen))]
    if not arena:
        return Pictures(chosen, frames, frames)
    recording = np.array([str(Path(image).parent) for image in poses.images])
    empty = {}
    for name in {str(Path(image).parent) for image in chosen.images}:
        rows = np.flatnonzero(recording == name)
        rows = rows[evenly(len(rows), MEDIAN_OF)]
        empty[name] = np.median(np.stack([reader(poses, int(row)) for row in rows]), axis=0).astype(np.uint8)
    return Pictures(chosen, frames, [empty[str(Path(image).parent)] for image in chosen.images])
