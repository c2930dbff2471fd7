"""Poses drawn into pictures: annotated videos and contact sheets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Sequence

Frame = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

#: Colours that tell individuals apart, also for colour-blind readers (Okabe and Ito).
INDIVIDUAL_COLORS: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_CASING = (16, 16, 20)
_SCALE = 3  # drawn this much larger and reduced: smooth edges


def draw_poses(
    frame: Frame,
    xy: npt.ArrayLike,
    likelihood: npt.ArrayLike | None = None,
    edges: npt.ArrayLike = (),
    colors: npt.ArrayLike | None = None,
    threshold: float = 0.0,
    boxes: npt.ArrayLike | None = None,
    *,
    box_scores: npt.ArrayLike | None = None,
    names: Sequence[str] = (),
    radius: float | None = None,
) -> Frame:
    """A copy of the frame with keypoints, skeleton and boxes.

    The likelihood shows: sure points are solid, less sure ones more transparent, and those below the
    threshold only faint rings without skeleton.

    Parameters
    ----------
    frame : (H, W, 3) uint8
    xy : (A, K, 2) px
        NaN where missing.
    likelihood : (A, K) 0..1, optional
        Default: all 1.
    edges : (E, 2) int
        Skeleton as pairs of keypoint numbers.
    colors : (K, 3) 0..255, optional
        Default: a rainbow over the keypoints.
    threshold : float
        Likelihood below which a point counts as unsure.
    boxes : (A, 4) px, optional
        x, y, width, height; NaN where there is none.
    box_scores : (A,), optional
        Written at the boxes.
    names : sequence of str
        Individuals, written at the boxes.
    radius : float, optional
        Of a point, px; default by the size of the frame.

    Returns
    -------
    (H, W, 3) uint8
    """
    points = np.asarray(xy, np.float64)
    if points.ndim == 2:
        points = points[None]
    animals, count = points.shape[:2]
    sure = np.ones((animals, count)) if likelihood is None else np.asarray(likelihood, np.float64)
    sure = np.nan_to_num(sure.reshape(animals, count), nan=0.0)
    palette = default_colors(count) if colors is None else np.asarray(colors, np.int64)
    frames = np.full((animals, 4), np.nan) if boxes is None else np.asarray(boxes, np.float64).reshape(-1, 4)
    height, width = frame.shape[:2]
    size = radius or max(1.6, 0.0062 * min(height, width))
    window = _window(points, frames, (width, height), 4 * size + 4 + 18 * bool(len(names)))
    out = frame.copy()
    if window is None:
        return out
    x0, y0, x1, y1 = window
    overlay = Image.new("RGBA", ((x1 - x0) * _SCALE, (y1 - y0) * _SCALE), (0, 0, 0, 0))
    pen = _Pen(ImageDraw.Draw(overlay), (x0, y0))
    scores = [None] * animals if box_scores is None else list(np.asarray(box_scores, np.float64))
    for a in range(animals):
        if np.isfinite(frames[a]).all():
            tint = INDIVIDUAL_COLORS[a % len(INDIVIDUAL_COLORS)]
            title = names[a] if a < len(names) else ""
            if (score := scores[a]) is not None and np.isfinite(score):
                title = f"{title} {score:.2f}".strip()
            pen.box(frames[a], tint, 0.45 * size, title)
    found = np.asarray(np.isfinite(points).all(-1))
    solid = found & (sure >= threshold)
    for a in range(animals):
        for i, j in np.asarray(edges, np.int64).reshape(-1, 2):
            if solid[a, i] and solid[a, j]:
                tint = _mean(palette[i], palette[j])
                opacity = 0.25 + 0.6 * float(min(sure[a, i], sure[a, j]))
                pen.line(points[a, i], points[a, j], tint, 0.85 * size, opacity)
    for a in range(animals):
        for k in np.argsort(sure[a]):  # the surest on top
            if found[a, k]:
                pen.point(points[a, k], _color(palette[k]), size, float(sure[a, k]), bool(solid[a, k]))
    small = overlay.reduce(_SCALE)
    picture = Image.fromarray(out[y0:y1, x0:x1])
    picture.paste(small, (0, 0), small)
    out[y0:y1, x0:x1] = np.asarray(picture)
    return out


def default_colors(count: int) -> npt.NDArray[np.int64]:
    """(count, 3) RGB 0..255, a bright rainbow from violet to red."""
    hue = np.linspace(0.76, 0.0, max(count, 1))[:count]
    wheel = np.abs((hue[:, None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1
    return np.round(255 * (0.12 + 0.88 * np.clip(wheel, 0, 1))).astype(np.int64)


def contact_sheet(
    frames: Sequence[Frame],
    *,
    captions: Sequence[str] = (),
    legend: tuple[Sequence[str], npt.ArrayLike] | None = None,
    width: int = 1600,
) -> Frame:
    """Frames side by side on white, at most four, with captions and a legend of keypoints.

    Parameters
    ----------
    frames : sequence of (H, W, 3) uint8
        All of one size.
    captions : sequence of str
        One per frame.
    legend : (names, (K, 3) colours), optional
    width : int
        Of the sheet, px.

    Returns
    -------
    (H, W, 3) uint8

    Raises
    ------
    ValueError
        If there are no frames.
    """
    if not frames:
        raise ValueError("a contact sheet needs at least one frame")
    columns = min(4, len(frames), math.ceil(math.sqrt(len(frames))))
    gap, text = 12, 15
    font = _font(text)
    cell = (width - gap * (columns + 1)) // columns
    high = max(1, round(cell * frames[0].shape[0] / frames[0].shape[1]))
    rows = math.ceil(len(frames) / columns)
    line = text + 8 if captions else 0
    names, colors = legend if legend else ((), ())
    per_row = max(1, (width - 2 * gap) // _legend_cell(names, font))
    below = math.ceil(len(names) / per_row) * (text + 9) + (gap if names else 0)
    sheet = Image.new("RGB", (width, gap + rows * (high + line + gap) + below), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for n, frame in enumerate(frames):
        x = gap + (n % columns) * (cell + gap)
        y = gap + (n // columns) * (high + line + gap)
        sheet.paste(Image.fromarray(frame).resize((cell, high), Image.Resampling.LANCZOS), (x, y))
        if n < len(captions):
            draw.text((x, y + high + 3), captions[n], fill=(60, 60, 66), font=font)
    y = gap + rows * (high + line + gap)
    for n, (name, color) in enumerate(zip(names, np.asarray(colors).reshape(-1, 3), strict=True)):
        cx = gap + (n % per_row) * _legend_cell(names, font)
        cy = y + (n // per_row) * (text + 9)
        draw.ellipse([cx, cy + 3, cx + 11, cy + 14], fill=_color(color), outline=_CASING)
        draw.text((cx + 17, cy), name, fill=(40, 40, 46), font=font)
    return np.array(sheet)


def write_png(path: Path, image: Frame) -> None:
    """Write (H, W, 3) uint8 as PNG, atomically.

    Raises
    ------
    UserError
        If the folder cannot be written.
    """
    with atomic_path(Path(path)) as temporary:
        Image.fromarray(image).save(temporary, "png")


def read_image(path: Path) -> Frame:
    """An image file as (H, W, 3) uint8 RGB.

    Raises
    ------
    UserError
        If it is missing or no image.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError("is not an image that can be read", path=path, remedy="check the file") from error


class _Pen:
    """Draws enlarged, in frame coordinates."""

    def __init__(self, draw: ImageDraw.ImageDraw, origin: tuple[int, int]) -> None:
        self._draw, self._origin = draw, origin

    def _at(self, point: npt.NDArray[np.float64]) -> tuple[float, float]:
        x = (float(point[0]) - self._origin[0] + 0.5) * _SCALE - 0.5
        return x, (float(point[1]) - self._origin[1] + 0.5) * _SCALE - 0.5

    def point(
        self, at: npt.NDArray[np.float64], color: Color, radius: float, likelihood: float, sure: bool
    ) -> None:
        x, y = self._at(at)
        r, rim = radius * _SCALE, max(1, round(0.3 * radius * _SCALE))
        if sure:
            alpha = round(255 * (0.35 + 0.65 * min(1.0, max(0.0, likelihood))))
            self._draw.ellipse([x - r - rim, y - r - rim, x + r + rim, y + r + rim], fill=(*_CASING, alpha))
            self._draw.ellipse([x - r, y - r, x + r, y + r], fill=(*color, alpha))
        else:
            self._draw.ellipse([x - r, y - r, x + r, y + r], outline=(*color, 130), width=rim)

    def line(
        self,
        start: npt.NDArray[np.float64],
        end: npt.NDArray[np.float64],
        color: Color,
        width: float,
        opacity: float,
    ) -> None:
        ends = [*self._at(start), *self._at(end)]
        alpha = round(255 * opacity)
        thick = max(1, round(width * _SCALE))
        self._draw.line(ends, fill=(*_CASING, alpha), width=thick + max(2, thick // 2))
        self._draw.line(ends, fill=(*color, alpha), width=thick)

    def box(self, box: npt.NDArray[np.float64], color: Color, width: float, title: str) -> None:
        (x0, y0), (x1, y1) = self._at(box[:2]), self._at(box[:2] + box[2:])
        if x1 <= x0 or y1 <= y0:
            return
        thick = max(1, round(width * _SCALE))
        corner = min(6 * thick, (x1 - x0) / 2, (y1 - y0) / 2)
        self._draw.rounded_rectangle([x0, y0, x1, y1], radius=corner, outline=(*color, 210), width=thick)
        if title:
            font = _font(12 * _SCALE)
            left, upper, right, lower = self._draw.textbbox((0, 0), title, font=font)
            high, pad = lower - upper, 2 * _SCALE
            y = y0 - high - 3 * pad
            self._draw.rounded_rectangle(
                [x0, y, x0 + right - left + 2 * pad, y + high + 2 * pad], radius=2 * pad, fill=(*color, 220)
            )
            self._draw.text((x0 + pad - left, y + pad - upper), title, fill=(*_CASING, 255), font=font)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _legend_cell(names: Sequence[str], font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return 34 + max((math.ceil(font.getbbox(n)[2]) for n in names), default=0)


def _color(values: npt.NDArray) -> Color:
    r, g, b = (int(v) for v in values)
    return r, g, b


def _mean(a: npt.NDArray, b: npt.NDArray) -> Color:
    return _color((np.asarray(a, np.int64) + np.asarray(b, np.int64)) // 2)


def _window(
    points: npt.NDArray[np.float64], boxes: npt.NDArray[np.float64], size: tuple[int, int], margin: float
) -> tuple[int, int, int, int] | None:
    """Smallest part of the frame that holds everything drawn; None if nothing is inside."""
    corners = np.concatenate([points.reshape(-1, 2), boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
    corners = corners[np.isfinite(corners).all(-1)]
    if not len(corners):
        return None
    low = np.floor(corners.min(0) - margin).astype(int)
    high = np.ceil(corners.max(0) + margin).astype(int)
    x0, y0 = max(0, int(low[0])), max(0, int(low[1]))
    x1, y1 = min(size[0], int(high[0])), min(size[1], int(high[1]))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
