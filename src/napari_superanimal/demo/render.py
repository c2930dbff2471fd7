"""Rendered recordings of top-view mice, with the truth: for the demo, for tests and for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import overload

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from napari_superanimal.demo.motion import Motion, simulate
from napari_superanimal.demo.mouse import Patch, keypoints, paint_mouse, soften
from napari_superanimal.demo.scenery import Scenery, build_scenery
from napari_superanimal.demo.style import Style, random_style
from napari_superanimal.keypoints import load_space
from napari_superanimal.poses.boxes import boxes_from_keypoints
from napari_superanimal.poses.poses import LABELLED, OCCLUDED, UNLABELLED, Poses, make_poses

__all__ = ["Clip", "Frames", "Style", "random_style", "render_clip"]

SPACE = "superanimal_topviewmouse"


class Frames(Sequence[npt.NDArray[np.uint8]]):
    """Frames (H, W, 3) uint8 RGB, rendered when they are asked for; the same index gives the same pixels."""

    def __init__(self, scenery: Scenery, motion: Motion, style: Style, seed: int, fps: float) -> None:
        self._scenery, self._motion, self._style = scenery, motion, style
        self._seed, self._fps = seed, fps
        rng = np.random.default_rng((seed, 1))
        height, width, channels = scenery.background.shape
        self._noise = rng.standard_normal((height + 61, width + 67, channels), dtype=np.float32)
        self._noise = gaussian_filter(self._noise, (0.35, 0.35, 0)) * (1.15 * style.noise)
        texture = rng.standard_normal((160, 160), dtype=np.float32)
        texture = gaussian_filter(texture, (0.6, 2.2), mode="wrap")
        self._fur = texture / texture.std()
        angle = rng.uniform(0, 2 * np.pi)
        self._light_from = (0.8 * float(np.cos(angle)), 0.8 * float(np.sin(angle)))
        self._levels = _tone_curve(style)

    def __len__(self) -> int:
        return len(self._motion.nodes)

    @overload
    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> list[npt.NDArray[np.uint8]]: ...
    def __getitem__(self, index: int | slice) -> npt.NDArray[np.uint8] | list[npt.NDArray[np.uint8]]:
        if isinstance(index, slice):
            return [self._render(i) for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        return self._render(position)

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        for i in range(len(self)):
            yield self._render(i)

    def _render(self, index: int) -> npt.NDArray[np.uint8]:
        style, motion, scenery = self._style, self._motion, self._scenery
        rng = np.random.default_rng((self._seed, 2, index))
        image = scenery.background.copy()
        height, width, channels = image.shape
        for a in range(motion.nodes.shape[1]):
            patch = paint_mouse(
                motion.nodes[index, a],
                length=float(motion.lengths[a]),
                stretch=float(motion.stretch[index, a]),
                gait=float(motion.gait[index, a]),
                breath=1 + 0.015 * float(np.sin(2 * np.pi * 2.6 * index / self._fps + a)),
                style=style,
                fur=np.roll(self._fur, 37 * a, 1),
                light_from=self._light_from,
            )
            vx, vy = motion.velocity[index, a] * style.exposure
            soften(patch, style.blur, (float(vx), float(vy)))
            self._shadow(image, patch, float(motion.lengths[a]))
            self._reflect(image, patch)
            self._composite(image, patch, 1.0)
        x, y = int(rng.integers(0, 67)), int(rng.integers(0, 61))
        image += self._noise[y : y + height, x : x + width]
        np.clip(image, 0, 255, out=image)
        frame = self._levels[image.astype(np.uint8)]
        if channels == 1:
            frame = np.repeat(frame, 3, -1)
        return _compress(frame, style.compression) if style.compression else frame

    def _window(self, patch: Patch) -> tuple[slice, slice, slice, slice] | None:
        """Rows and columns of the frame that the patch covers, and the same part of the patch."""
        height, width = self._scenery.background.shape[:2]
        x0, y0 = max(0, patch.x), max(0, patch.y)
        x1 = min(width, patch.x + patch.alpha.shape[1])
        y1 = min(height, patch.y + patch.alpha.shape[0])
        if x0 >= x1 or y0 >= y1:
            return None
        rows, columns = slice(y0, y1), slice(x0, x1)
        return rows, columns, slice(y0 - patch.y, y1 - patch.y), slice(x0 - patch.x, x1 - patch.x)

    def _composite(self, image: npt.NDArray[np.float32], patch: Patch, opacity: float) -> None:
        if (window := self._window(patch)) is None:
            return
        rows, columns, ph, pw = window
        light = self._scenery.light[rows, columns, None]
        part = image[rows, columns]
        part *= 1 - opacity * patch.alpha[ph, pw, None]
        part += opacity * light * patch.color[ph, pw]

    def _shadow(self, image: npt.NDArray[np.float32], patch: Patch, length: float) -> None:
        """A soft shadow on the side away from the light."""
        if self._style.shadow <= 0 or (window := self._window(patch)) is None:
            return
        rows, columns, ph, pw = window
        small = np.asarray(patch.alpha, np.float32)[::2, ::2]
        soft = gaussian_filter(small, max(0.5, 0.022 * length), truncate=2.5)
        shift = (-self._light_from[1] * 0.02 * length, -self._light_from[0] * 0.02 * length)
        soft = np.roll(soft, (round(shift[0]), round(shift[1])), (0, 1))
        full = np.asarray(
            Image.fromarray(soft).resize(patch.alpha.shape[::-1], Image.Resampling.BILINEAR), np.float32
        )
        image[rows, columns] *= 1 - self._style.shadow * full[ph, pw, None]

    def _reflect(self, image: npt.NDArray[np.float32], patch: Patch) -> None:
        """The animal's faint mirror image in smooth, straight walls."""
        style, arena = self._style, self._scenery.arena
        if style.reflection <= 0 or arena.kind != "square":
            return
        height, width = image.shape[:2]
        (cx, cy), (hx, hy) = arena.center, arena.half
        h, w = patch.alpha.shape
        for horizontal, wall, sign in (
            (True, cx - hx, -1),
            (True, cx + hx, 1),
            (False, cy - hy, -1),
            (False, cy + hy, 1),
        ):
            near = patch.x if horizontal else patch.y
            far = near + (w if horizontal else h)
            if (sign < 0 and near > wall) or (sign > 0 and far < wall):
                continue
            edge, depth = round(wall), max(1, round(style.wall * min(height, width)))
            first, last = (max(0, edge - depth), max(0, edge)) if sign < 0 else (edge, edge + depth)
            if horizontal:
                mirror = Patch(2 * edge - patch.x - w, patch.y, patch.color[:, ::-1], patch.alpha[:, ::-1])
                region = (slice(None), slice(first, last))
            else:
                mirror = Patch(patch.x, 2 * edge - patch.y - h, patch.color[::-1], patch.alpha[::-1])
                region = (slice(first, last), slice(None))
            kept = image.copy()
            self._composite(kept, mirror, style.reflection)
            image[region] = kept[region]


@dataclass(frozen=True)
class Clip:
    """A rendered recording.

    Attributes
    ----------
    frames : Frames
        A sequence of (H, W, 3) uint8 RGB, rendered lazily.
    truth : Poses
        Every keypoint of the top-view mouse space; visibility 1 where another mouse lies above it, 0
        where it is outside the frame. Boxes are drawn around the body without the tail.
    fps : float
    size : (int, int)
        Width, height.
    style : Style
    """

    frames: Frames
    truth: Poses
    fps: float
    size: tuple[int, int]
    style: Style


def render_clip(
    n_frames: int,
    size: tuple[int, int] = (640, 480),
    n_mice: int = 1,
    seed: int = 0,
    style: Style | None = None,
    fps: float = 30.0,
) -> Clip:
    """A recording of mice in an open field with known keypoints.

    Parameters
    ----------
    n_frames : int
    size : (int, int)
        Width, height in pixels.
    n_mice : int
    seed : int
        The same arguments give the same clip, pixel for pixel.
    style : Style, optional
        Default: a black mouse in a bright arena.
    fps : float
        Frames per second; movement per frame scales with it.

    Returns
    -------
    Clip

    Raises
    ------
    ValueError
        If a count or size is not positive.
    """
    if n_frames < 1 or n_mice < 1 or min(size) < 32 or fps <= 0:
        raise ValueError("n_frames, n_mice and fps must be positive and the frame at least 32 pixels wide")
    style = style or Style()
    rng = np.random.default_rng((seed, 0))
    scenery = build_scenery(rng, style, size)
    side = 2 * min(scenery.arena.half)
    lengths = np.maximum(14.0, style.body_length * side * rng.uniform(0.94, 1.06, n_mice))
    motion = simulate(
        rng, n_frames, scenery.arena, lengths, fps=fps, tail_length=style.tail_length, activity=style.activity
    )
    truth = _truth(motion, style, size)
    return Clip(Frames(scenery, motion, style, seed, fps), truth, fps, size, style)


def _truth(motion: Motion, style: Style, size: tuple[int, int]) -> Poses:
    space = load_space(SPACE)
    found = keypoints(motion.nodes, motion.stretch, motion.lengths, style)
    xy = np.stack([found[name] for name in space.keypoints], 2)
    width, height = size
    outside = (xy < -0.5).any(-1) | (xy[..., 0] > width - 0.5) | (xy[..., 1] > height - 0.5)
    visibility = np.where(_covered(motion, xy, style), OCCLUDED, LABELLED)
    visibility[outside] = UNLABELLED
    xy[outside] = np.nan
    body = [i for i, name in enumerate(space.keypoints) if name == "tail_base" or not name.startswith("tail")]
    sizes = np.tile(np.array(size, np.int64), (len(xy), 1))
    boxes = boxes_from_keypoints(xy[:, :, body], np.repeat(sizes[:, None], xy.shape[1], 1))
    return make_poses(
        space.keypoints,
        xy,
        visibility=visibility,
        boxes=boxes,
        image_sizes=sizes,
        scorer="rendered",
        skeleton=space.skeleton,
        metadata={"space": space.name},
    )


def _covered(motion: Motion, xy: npt.NDArray[np.float64], style: Style) -> npt.NDArray[np.bool_]:
    """(T, A, K) keypoints that lie under the body of a mouse painted later."""
    covered = np.zeros(xy.shape[:-1], bool)
    count = xy.shape[1]
    for upper in range(1, count):
        # the simulated nodes of neck to rump as circles are a good enough outline
        circles = motion.nodes[:, upper, 2:9]
        radius = 0.15 * motion.lengths[upper] * style.stoutness
        for lower in range(upper):
            gap = np.linalg.norm(xy[:, lower, :, None] - circles[:, None], axis=-1)
            covered[:, lower] |= (gap < radius).any(-1)
    return covered


def _tone_curve(style: Style) -> npt.NDArray[np.uint8]:
    levels = np.arange(256) / 255
    return np.clip(255 * style.gain * levels**style.gamma, 0, 255).astype(np.uint8)


def _compress(frame: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    buffer = BytesIO()
    Image.fromarray(frame).save(buffer, "jpeg", quality=quality)
    return np.array(Image.open(buffer).convert("RGB"))
