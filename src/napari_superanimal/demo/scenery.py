"""The empty arena under its light: everything in a rendered frame that does not move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from napari_superanimal.demo.motion import Arena

if TYPE_CHECKING:
    from napari_superanimal.demo.style import Color, Style

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scenery:
    """A lit, empty arena.

    Attributes
    ----------
    background : (H, W, C) float32
        Grey levels, C 1 for a monochrome camera, else 3.
    light : (H, W) float32
        Illumination that the background was multiplied with.
    arena : Arena
        The floor.
    """

    background: Floats
    light: Floats
    arena: Arena


def build_scenery(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> Scenery:
    """Paint the arena for frames of `size` (width, height)."""
    arena = _floor_plan(rng, style, size)
    image = Image.new("RGB", size, _rgb(style.surround))
    draw = ImageDraw.Draw(image)
    _walls(draw, rng, style, arena, size)
    base = np.asarray(image, np.float32)
    floor = _floor_mask(arena, size)[..., None]
    base = base * (1 - floor) + _floor(rng, style, size) * floor
    base *= 1 - 0.17 * _corner_shade(floor[..., 0], 0.012 * min(size))[..., None]
    image = Image.fromarray(np.clip(base, 0, 255).astype(np.uint8))
    _objects(image, rng, style, arena)
    base = np.asarray(image, np.float32)
    light = _light(rng, style, size)
    # walls and surround carry a coarse unevenness of their own, as painted board does
    base = base * (1 + 0.02 * _clouds(rng, size, 6)[..., None]) * light[..., None]
    if style.gray:
        base = base @ np.array([[0.299], [0.587], [0.114]], np.float32)
    sigma = max(0.3, 0.8 * style.blur)
    base = gaussian_filter(base, (sigma, sigma, 0))
    return Scenery(np.ascontiguousarray(base, np.float32), light, arena)


def to_camera(color: Color, gray: bool) -> Floats:
    """The colour as the camera's channels see it."""
    r, g, b = color
    return np.array([0.299 * r + 0.587 * g + 0.114 * b] if gray else [r, g, b], np.float32)


def _rgb(color: Color) -> tuple[int, int, int]:
    r, g, b = (int(max(0, min(255, v))) for v in color)
    return r, g, b


def _floor_plan(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> Arena:
    width, height = size
    wall = style.wall * min(size)
    gap = rng.uniform(0.005, 0.05) * min(size)
    half_x, half_y = width / 2 - wall - gap, height / 2 - wall - gap
    if style.arena == "round" or rng.random() < 0.25:  # square box in a wide frame
        half_x = min(half_x, half_y * rng.uniform(1.0, 1.25))
    if style.arena == "round":
        half_x = half_y = min(half_x, half_y)
    slack = width / 2 - wall - gap - half_x
    cx = width / 2 + rng.uniform(-0.4, 0.4) * slack
    cy = height / 2 + rng.uniform(-0.3, 0.3) * gap
    return Arena(style.arena, (cx, cy), (half_x, half_y))


def _walls(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, style: Style, arena: Arena, size: tuple[int, int]
) -> None:
    """Inner faces of the walls, each at its own angle to the light, and the rim."""
    (cx, cy), (hx, hy) = arena.center, arena.half
    wall = max(1.0, style.wall * min(size))
    rim = max(1, round(0.012 * min(size)))
    shift = rng.normal(0, 0.12, 2) * wall  # the camera hangs slightly off centre
    rim_color = _rgb(tuple(min(255.0, v * 1.18) for v in style.wall_color))  # type: ignore[arg-type]
    if arena.kind == "round":
        steps = 24
        for i in range(steps):
            share = 1 - i / steps
            dx, dy = hx + wall * share, hy + wall * share
            shade = 0.72 + 0.34 * share
            color = _rgb(tuple(v * shade for v in style.wall_color))  # type: ignore[arg-type]
            x, y = cx + shift[0] * share, cy + shift[1] * share
            if i == 0:
                draw.ellipse([x - dx - rim, y - dy - rim, x + dx + rim, y + dy + rim], fill=rim_color)
            draw.ellipse([x - dx, y - dy, x + dx, y + dy], fill=color)
        return
    inner = [(cx - hx, cy - hy), (cx + hx, cy - hy), (cx + hx, cy + hy), (cx - hx, cy + hy)]
    outer = [
        (cx - hx - wall, cy - hy - wall),
        (cx + hx + wall, cy - hy - wall),
        (cx + hx + wall, cy + hy + wall),
        (cx - hx - wall, cy + hy + wall),
    ]
    outer = [(x + shift[0], y + shift[1]) for x, y in outer]
    (x0, y0), (x1, y1) = outer[0], outer[2]
    draw.rectangle([x0 - rim, y0 - rim, x1 + rim, y1 + rim], fill=rim_color)
    for i in range(4):
        j = (i + 1) % 4
        shade = rng.uniform(0.72, 1.08)
        bands = 10
        for k in range(bands):
            a, b = k / bands, (k + 1) / bands + 0.02
            tone = shade * (1.04 - 0.15 * a)  # darker towards the floor
            quad = [
                _between(outer[i], inner[i], a),
                _between(outer[j], inner[j], a),
                _between(outer[j], inner[j], b),
                _between(outer[i], inner[i], b),
            ]
            draw.polygon(quad, fill=_rgb(tuple(v * tone for v in style.wall_color)))  # type: ignore[arg-type]


def _between(p: tuple[float, float], q: tuple[float, float], share: float) -> tuple[float, float]:
    return p[0] + (q[0] - p[0]) * share, p[1] + (q[1] - p[1]) * share


def _floor_mask(arena: Arena, size: tuple[int, int]) -> Floats:
    width, height = size
    (cx, cy), (hx, hy) = arena.center, arena.half
    scale = 2
    mask = Image.new("L", (width * scale, height * scale))
    box = [scale * (cx - hx), scale * (cy - hy), scale * (cx + hx), scale * (cy + hy)]
    draw = ImageDraw.Draw(mask)
    if arena.kind == "round":
        draw.ellipse(box, fill=255)
    else:
        draw.rounded_rectangle(box, radius=scale * 0.02 * min(size), fill=255)
    return np.asarray(mask.reduce(scale), np.float32) / np.float32(255)


def _corner_shade(floor: Floats, sigma: float) -> Floats:
    """Darkening where walls meet the floor."""
    soft = gaussian_filter(floor, max(0.6, sigma))
    return np.clip(1 - 2 * np.abs(soft - 0.5), 0, 1)


def _clouds(rng: np.random.Generator, size: tuple[int, int], cells: int) -> Floats:
    """Smooth noise of unit variance with about `cells` blobs across the shorter side."""
    width, height = size
    step = min(size) / cells
    small = rng.standard_normal((max(3, round(height / step) + 3), max(3, round(width / step) + 3)))
    image = Image.fromarray(small.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    field = np.asarray(image, np.float32)
    return (field - field.mean()) / (field.std() + 1e-6)


def _floor(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> Floats:
    """(H, W, 3) albedo of the floor."""
    width, height = size
    color = np.array(style.floor_color, np.float32)
    if style.floor == "bedding":
        return _bedding(rng, style, size)
    floor = np.broadcast_to(color, (height, width, 3)).astype(np.float32)
    texture = 0.008 * _clouds(rng, size, 5) + 0.006 * _clouds(rng, size, 40)
    texture += 0.006 * rng.standard_normal((height, width), dtype=np.float32)
    floor = floor * (1 + texture[..., None])
    if style.floor == "plain":
        return floor
    image = Image.fromarray(np.clip(floor, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image, "RGBA")
    unit = min(size)
    if style.floor == "grid":
        n = int(rng.integers(3, 7))
        line = _rgb(tuple(v * rng.uniform(0.6, 0.85) for v in style.floor_color))  # type: ignore[arg-type]
        for i in range(1, n):
            draw.line([width * i / n, 0, width * i / n, height], fill=line, width=max(1, unit // 240))
            draw.line([0, height * i / n, width, height * i / n], fill=line, width=max(1, unit // 240))
    for _ in range(int(rng.integers(2, 9))):  # droppings, stains, scratches
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        kind = rng.random()
        if kind < 0.5:
            r = unit * rng.uniform(0.002, 0.006)
            draw.ellipse([x - r, y - r, x + r, y + r * 0.7], fill=(40, 32, 26, 200))
        elif kind < 0.8:
            r = unit * rng.uniform(0.01, 0.05)
            q = r * rng.uniform(0.4, 1)
            draw.ellipse([x - r, y - q, x + r, y + q], fill=(110, 95, 50, int(rng.uniform(8, 26))))
        else:
            angle, reach = rng.uniform(0, np.pi), unit * rng.uniform(0.03, 0.3)
            end = (x + reach * np.cos(angle), y + reach * np.sin(angle))
            draw.line([x, y, *end], fill=(60, 60, 60, int(rng.uniform(15, 50))), width=1)
    return np.asarray(image, np.float32)


def _bedding(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> Floats:
    """Wood chips: many small overlapping flakes, each at its own angle and tone."""
    width, height = size
    unit = min(size)
    chip = unit * rng.uniform(0.008, 0.016)
    base = np.array(style.bedding_color)
    image = Image.new("RGB", size, _rgb(tuple(base * 0.6)))
    draw = ImageDraw.Draw(image)
    count = int(min(15000, 2.6 * width * height / (chip * chip)))
    x, y = rng.uniform(0, width, count), rng.uniform(0, height, count)
    angle = rng.uniform(0, np.pi, count)
    long, short = chip * rng.uniform(0.5, 1.1, count), chip * rng.uniform(0.25, 0.6, count)
    tone = np.clip(rng.normal(1, 0.16, count), 0.5, 1.5)
    ux, uy = long * np.cos(angle), long * np.sin(angle)
    vx, vy = -short * np.sin(angle), short * np.cos(angle)
    corners = np.stack([x + ux, y + uy, x + vx, y + vy, x - ux, y - uy, x - vx, y - vy], -1)
    colors = np.clip(base * tone[:, None] + rng.normal(0, 4, (count, 3)), 0, 255).astype(int)
    for quad, color in zip(corners.tolist(), colors.tolist(), strict=True):
        draw.polygon(quad, fill=tuple(color))
    field = np.asarray(image, np.float32)
    return field * (1 + 0.05 * _clouds(rng, size, 6)[..., None])


def _objects(image: Image.Image, rng: np.random.Generator, style: Style, arena: Arena) -> None:
    """Bottles, blocks and dishes along the walls, each with a soft shadow."""
    unit = min(image.size)
    (cx, cy), (hx, hy) = arena.center, arena.half
    for _ in range(style.objects):
        angle = rng.uniform(0, 2 * np.pi)
        x, y = cx + 0.86 * hx * np.cos(angle), cy + 0.86 * hy * np.sin(angle)
        r = unit * rng.uniform(0.02, 0.055)
        color = rng.uniform(20, 235, 3) if not style.gray else np.repeat(rng.uniform(20, 235), 3)
        draw = ImageDraw.Draw(image, "RGBA")
        for k in range(5):
            g = r * (1.25 - 0.05 * k)
            draw.ellipse(
                [x - g + r * 0.2, y - g + r * 0.2, x + g + r * 0.2, y + g + r * 0.2], fill=(0, 0, 0, 16)
            )
        box = [x - r, y - r, x + r, y + r]
        inner = [x - 0.7 * r, y - 0.7 * r, x + 0.7 * r, y + 0.7 * r]
        fill, top = _rgb(tuple(color)), _rgb(tuple(np.minimum(255, color * 1.2 + 8)))
        if rng.random() < 0.6:
            draw.ellipse(box, fill=fill)
            draw.ellipse(inner, fill=top)
        else:
            draw.rounded_rectangle(box, radius=0.15 * r, fill=fill)
            draw.rounded_rectangle(inner, radius=0.1 * r, fill=top)


def _light(rng: np.random.Generator, style: Style, size: tuple[int, int]) -> Floats:
    """(H, W) illumination around 1."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = x / width - 0.5, y / height - 0.5
    light = 1 + style.gradient[0] * u + style.gradient[1] * v
    su, sv = rng.uniform(-0.35, 0.35, 2)
    light += style.spot * np.exp(-((u - su) ** 2 + (v - sv) ** 2) / 0.08)
    light *= 1 - style.vignette * 1.6 * (u * u + v * v)
    return np.clip(light, 0.15, 2.0).astype(np.float32)
