"""One top-view mouse: anatomy along a curved spine, painted into a small patch of the frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter, map_coordinates

from napari_superanimal.demo.motion import NODES
from napari_superanimal.demo.scenery import to_camera

if TYPE_CHECKING:
    from napari_superanimal.demo.style import Color, Style

Floats = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]

#: Half width of the body along the spine (snout 0, tail base 1), body lengths.
PROFILE = np.array(
    [
        (0.015, 0.014), (0.04, 0.034), (0.08, 0.058), (0.13, 0.080), (0.19, 0.098), (0.26, 0.108),
        (0.33, 0.116), (0.41, 0.136), (0.50, 0.162), (0.60, 0.186), (0.69, 0.199), (0.77, 0.196),
        (0.84, 0.174), (0.90, 0.132), (0.95, 0.082), (0.985, 0.046), (1.0, 0.034),
    ]
)  # fmt: skip
#: Keypoints on the midline: position along the spine.
MIDLINE = {
    "nose": 0.0, "head_midpoint": 0.225, "neck": 0.35, "mid_back": 0.49, "mouse_center": 0.60,
    "mid_backend": 0.75, "mid_backend2": 0.85, "mid_backend3": 0.93, "tail_base": 1.0,
    "tail1": 1 + 1 / 6, "tail2": 1 + 2 / 6, "tail3": 1.5, "tail4": 1 + 4 / 6,
    "tail5": 1 + 5 / 6, "tail_end": 2.0,
}  # fmt: skip
#: Keypoints on the flanks: position along the spine, share of the half width there.
FLANKS = {"shoulder": (0.38, 0.95), "midside": (0.60, 0.97), "hip": (0.80, 0.95)}
EAR_AT, EAR_OUT, EAR_BACK = 0.232, 0.118, 0.012
EYE_AT, EYE_OUT = 0.118, 0.062
_SPHERES = 44
_FULL_DETAIL = 130  # px of body length above which the body's shape is computed on a coarser grid
_S = np.linspace(PROFILE[0, 0], 1.0, _SPHERES)
_R = np.interp(_S, PROFILE[:, 0], PROFILE[:, 1])


def spine(nodes: Points) -> CubicSpline:
    """The curve through nodes (len(NODES), ...): position as a function of 0 (snout) to 2 (tail end)."""
    return CubicSpline(NODES, nodes, axis=0)


def keypoints(nodes: Points, stretch: Points, lengths: Points, style: Style) -> dict[str, Points]:
    """Where every keypoint is.

    Parameters
    ----------
    nodes : (T, A, len(NODES), 2) px
    stretch : (T, A)
    lengths : (A,) px

    Returns
    -------
    dict
        Name in the top-view mouse space -> (T, A, 2) px.
    """
    curve = spine(np.moveaxis(nodes, 2, 0))
    found = {name: curve(s) for name, s in MIDLINE.items()}

    def aside(s: float, out: Points | float, back: Points | float = 0.0) -> tuple[Points, Points]:
        """Points left and right of the spine at `s`, `out` px away, `back` px towards the tail."""
        center, forward = curve(s), -curve(s, 1)
        forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
        left = np.stack([forward[..., 1], -forward[..., 0]], -1)  # the animal's left, y pointing down
        reach = np.broadcast_to(out, stretch.shape)[..., None]
        center = center - np.broadcast_to(back, stretch.shape)[..., None] * forward
        return center + reach * left, center - reach * left

    width = lengths * style.stoutness * widening(stretch)
    for name, (s, share) in FLANKS.items():
        half = np.interp(s, PROFILE[:, 0], PROFILE[:, 1])
        found[f"left_{name}"], found[f"right_{name}"] = aside(s, share * half * width)
    found["left_ear"], found["right_ear"] = aside(EAR_AT, EAR_OUT * lengths, EAR_BACK * lengths)
    reach = EAR_OUT + 0.92 * style.ear_size * np.cos(_EAR_TILT)
    behind = EAR_BACK + 0.92 * style.ear_size * np.sin(_EAR_TILT)
    found["left_ear_tip"], found["right_ear_tip"] = aside(EAR_AT, reach * lengths, behind * lengths)
    found["left_eye"], found["right_eye"] = aside(EYE_AT, EYE_OUT * lengths)
    return found


_EAR_TILT = 0.45  # radians that the ears point backwards


def widening(stretch: Points) -> Points:
    """A mouse that shortens gets wider."""
    return stretch**-0.6


@dataclass
class Patch:
    """A part of a frame with premultiplied colour; `x`, `y` is its top-left pixel in the frame."""

    x: int
    y: int
    color: Floats
    alpha: Floats

    def over(self, mask: Floats, color: Floats | npt.NDArray, at: tuple[int, int] = (0, 0)) -> None:
        """Paint `color` ((C,) or like the mask) through `mask` (h, w) placed at (x, y) `at` in the patch."""
        x, y = at
        height, width = mask.shape
        x0, y0 = max(0, x), max(0, y)
        x1, y1 = min(self.alpha.shape[1], x + width), min(self.alpha.shape[0], y + height)
        if x0 >= x1 or y0 >= y1:
            return
        mask = mask[y0 - y : y1 - y, x0 - x : x1 - x]
        color = np.asarray(color, np.float32)
        if color.ndim == 3:
            color = color[y0 - y : y1 - y, x0 - x : x1 - x]
        part = self.color[y0:y1, x0:x1]
        part += (color - part) * mask[..., None]
        alpha = self.alpha[y0:y1, x0:x1]
        alpha += (1 - alpha) * mask

    def polygon(self, points: Points, color: npt.NDArray, opacity: float = 1.0, scale: int = 4) -> None:
        """Paint a polygon (N, 2) in frame pixels with soft edges."""
        low = np.floor(points.min(0)).astype(int) - 1
        high = np.ceil(points.max(0)).astype(int) + 2
        width, height = (int(v) for v in high - low)
        if width > 4000 or height > 4000:
            return
        image = Image.new("L", (width * scale, height * scale))
        corners = ((points - low + 0.5) * scale - 0.5).ravel().tolist()
        ImageDraw.Draw(image).polygon(corners, fill=255)
        mask = np.asarray(image.reduce(scale), np.float32) * (opacity / 255)
        self.over(mask, color, (int(low[0]) - self.x, int(low[1]) - self.y))


def paint_mouse(
    nodes: Points,
    *,
    length: float,
    stretch: float,
    gait: float,
    breath: float,
    style: Style,
    fur: Floats,
    light_from: tuple[float, float],
) -> Patch:
    """Paint one animal, unlit and sharp.

    Parameters
    ----------
    nodes : (len(NODES), 2) px
    length : float, px
        Body length at rest.
    stretch, gait, breath : float
        Relative body length now; phase of the steps; chest width relative to rest.
    fur : (h, w) float32
        Tileable texture of unit variance.
    light_from : (float, float)
        Direction of the light in the image plane, at most unit length.
    """
    curve = spine(nodes)
    wide = length * style.stoutness * float(widening(np.array(stretch)))
    centers = curve(_S)
    radii = _R * wide
    head = _S < 0.3  # the skull does not get wider when the animal shortens
    radii[head] = _R[head] * length * (0.35 + 0.65 * style.stoutness)
    radii[~head] *= 1 + (breath - 1) * np.clip((_S[~head] - 0.3) * 4, 0, 1)
    tail = curve(np.linspace(0.985, 2.0, 40))
    margin = 0.34 * length + 6  # body, ears and the soft shadow around them
    everything = np.concatenate([centers, tail])
    low = np.floor(everything.min(0) - margin).astype(int)
    high = np.ceil(everything.max(0) + margin).astype(int)
    width, height = (int(v) for v in high - low)
    channels = 1 if style.gray else 3
    patch = Patch(
        int(low[0]),
        int(low[1]),
        np.zeros((height, width, channels), np.float32),
        np.zeros((height, width), np.float32),
    )
    if style.feet:
        _feet(patch, curve, length, wide, gait, style)
    _tail(patch, tail, length, style)
    if style.whiskers:
        _whiskers(patch, curve, length, style)
    _body(patch, curve, centers, radii, length, style, fur, light_from)
    _head(patch, curve, length, style, light_from)
    if style.cable:
        _cable(patch, curve, length, style)
    return patch


def _frame_at(curve: CubicSpline, s: float) -> tuple[Points, Points, Points]:
    """Point, forward and left unit vectors at `s`."""
    point, forward = curve(s), -curve(s, 1)
    forward = forward / (np.linalg.norm(forward) + 1e-9)
    return point, forward, np.array([forward[1], -forward[0]])


def _camera(color: Color, style: Style) -> Floats:
    return to_camera(color, style.gray)


def _feet(patch: Patch, curve: CubicSpline, length: float, wide: float, gait: float, style: Style) -> None:
    """Hind and fore paws that peep out beside the body as it steps."""
    color = _camera(style.skin, style)
    for s, out, size, phase in ((0.80, 0.205, 0.05, 0.0), (0.36, 0.135, 0.03, np.pi)):
        point, forward, left = _frame_at(curve, s)
        for side, offset in ((1, 0.0), (-1, np.pi)):
            swing = np.sin(gait + phase + offset)
            base = (
                point
                + side * left * out * wide * (1.0 + 0.10 * swing)
                + forward * 0.06 * length * (swing + 0.5)
            )
            reach = size * length
            toes = [base - forward * 0.6 * reach]
            for angle in (0.9, 0.35, -0.1, -0.5):  # splayed toes
                turn = np.cos(angle) * forward + side * np.sin(angle) * left
                notch = np.cos(angle - 0.25) * forward + side * np.sin(angle - 0.25) * left
                toes += [base + turn * reach, base + notch * 0.55 * reach]
            toes.append(base - forward * 0.6 * reach - side * left * 0.3 * reach)
            patch.polygon(np.array(toes), color * 0.92, 0.85)


def _tail(patch: Patch, points: Points, length: float, style: Style) -> None:
    """A thin tapering band with a lit ridge."""
    share = np.linspace(0, 1, len(points))
    half = length * (style.tail_width * (1 - share) ** 0.75 + 0.006) + 0.25
    tangent = np.gradient(points, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)

    def band(scale: float) -> Points:
        side = normal * (half * scale)[:, None]
        return np.concatenate([points + side, (points - side)[::-1]])

    skin = _camera(style.skin, style)
    patch.polygon(band(1.0), skin * 0.82)
    patch.polygon(band(0.5), np.minimum(255, skin * 1.08), 0.8)


def _whiskers(patch: Patch, curve: CubicSpline, length: float, style: Style) -> None:
    point, forward, left = _frame_at(curve, 0.05)
    color = _camera(style.coat_tip, style)
    for side in (1, -1):
        for angle in (0.9, 1.25, 1.6):
            turn = np.cos(angle) * forward + side * np.sin(angle) * left
            start = point + side * left * 0.025 * length
            end = start + turn * 0.13 * length
            across = np.array([-turn[1], turn[0]]) * 0.3
            patch.polygon(np.array([start + across, end, start - across]), color, 0.35)


def _body(
    patch: Patch,
    curve: CubicSpline,
    centers: Points,
    radii: Points,
    length: float,
    style: Style,
    fur: Floats,
    light_from: tuple[float, float],
) -> None:
    """Union of spheres along the spine: its height gives the shading, its edge the outline."""
    low = np.floor((centers - radii[:, None]).min(0)).astype(int) - 3
    high = np.ceil((centers + radii[:, None]).max(0)).astype(int) + 4
    width, height = (int(v) for v in high - low)
    coarse = max(1.0, length / _FULL_DETAIL)
    columns, rows = max(2, round(width / coarse)), max(2, round(height / coarse))
    x = (low[0] + (np.arange(columns) + 0.5) * (width / columns) - 0.5).astype(np.float32)
    y = (low[1] + (np.arange(rows) + 0.5) * (height / rows) - 0.5).astype(np.float32)
    c, r = centers.astype(np.float32), radii.astype(np.float32)
    inside = (
        (r * r)[:, None, None]
        - ((x[None] - c[:, :1]) ** 2)[:, None, :]
        - ((y[None] - c[:, 1:]) ** 2)[:, :, None]
    )
    nearest = inside.argmax(0)
    value = np.take_along_axis(inside, nearest[None], 0)[0]
    radius = r[nearest]
    distance = np.sqrt(np.maximum(radius * radius - value, 0))
    edge = radius - distance  # px inside the outline
    relief = np.clip(edge / radius, 0, 1)
    tangent = curve(_S, 1).astype(np.float32)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    t = tangent[nearest]
    dx, dy = x[None, :] - c[nearest, 0], y[:, None] - c[nearest, 1]
    along = (_S.astype(np.float32) * length)[nearest] + dx * t[..., 0] + dy * t[..., 1]
    across = dx * t[..., 1] - dy * t[..., 0]
    if coarse > 1:
        edge, relief, along, across, radius, dx, dy = (
            _enlarge(a, (width, height)) for a in (edge, relief, along, across, radius, dx, dy)
        )
    # hair runs along the body: the texture is stretched that way and moves with the skin
    grain = 110.0 / length
    texture = map_coordinates(
        fur, [across * (1.6 * grain), along * (0.55 * grain)], order=1, mode="grid-wrap", prefilter=False
    )
    hairy = 0.25 + 0.006 * length
    mask = np.clip(edge + 0.5 + 0.5 * hairy * texture * style.fur, 0, 1)
    coat, flank, tip = (_camera(color, style) for color in (style.coat, style.coat_edge, style.coat_tip))
    dome = np.sqrt(np.clip(relief * (2 - relief), 0, 1))  # height of the sphere, 0 at the edge
    back = np.clip(dome * 1.25 - 0.1, 0, 1)[..., None]
    color = flank + (coat - flank) * back
    sheen = (light_from[0] * dx + light_from[1] * dy) / (radius + 1e-6)
    shade = 0.80 + 0.22 * dome + 0.16 * sheen
    color = color * shade[..., None]
    strength = np.clip(0.5 * style.fur * (texture * 0.5 + 0.35 + 0.5 * sheen), 0, 0.8)[..., None]
    color = color + (tip - color) * strength * (0.35 + 0.65 * dome[..., None])
    patch.over(
        mask.astype(np.float32), color.astype(np.float32), (int(low[0]) - patch.x, int(low[1]) - patch.y)
    )


def _enlarge(array: Floats, size: tuple[int, int]) -> Floats:
    image = Image.fromarray(np.ascontiguousarray(array, np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def _ellipse(center: Points, u: Points, v: Points, a: float, b: float, count: int = 18) -> Points:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)[:, None]
    return center + a * np.cos(angle) * u + b * np.sin(angle) * v


def _head(
    patch: Patch, curve: CubicSpline, length: float, style: Style, light_from: tuple[float, float]
) -> None:
    """Ears, eyes and the tip of the nose."""
    ear, coat = _camera(style.ear, style), _camera(style.coat, style)
    edge = _camera(style.coat_edge, style)
    center, forward, left = _frame_at(curve, EAR_AT)
    size = style.ear_size * length
    for side in (1, -1):
        axis = np.cos(_EAR_TILT) * side * left - np.sin(_EAR_TILT) * forward
        other = np.array([-axis[1], axis[0]])
        middle = center + side * left * EAR_OUT * length - forward * EAR_BACK * length
        lit = 1 + 0.12 * float(axis @ np.array(light_from))
        patch.polygon(
            _ellipse(middle - axis * 0.25 * size, axis, other, 1.05 * size, 0.98 * size), edge * 0.75, 0.55
        )
        patch.polygon(
            _ellipse(middle, axis, other, size, 0.92 * size), (0.62 * ear + 0.38 * edge) * lit, 0.95
        )
        patch.polygon(
            _ellipse(middle + (0.10 * axis + 0.12 * forward) * size, axis, other, 0.72 * size, 0.62 * size),
            ear * 1.06 * lit,
            0.8,
        )
        # hair of the head covers the root of the ear
        patch.polygon(_ellipse(middle - axis * 0.95 * size, axis, other, 0.55 * size, 0.8 * size), coat, 0.8)
    center, forward, left = _frame_at(curve, EYE_AT)
    eye, glint = _camera(style.eye, style), np.full_like(ear, 235.0)
    for side in (1, -1):
        middle = center + side * left * EYE_OUT * length
        patch.polygon(_ellipse(middle, forward, left, 0.021 * length, 0.013 * length, 10), eye, 0.9)
        patch.polygon(
            _ellipse(middle + side * left * 0.004 * length, forward, left, 0.006 * length, 0.005 * length, 6),
            glint,
            0.5,
        )
    center, forward, left = _frame_at(curve, 0.012)
    skin = _camera(style.skin, style)
    patch.polygon(_ellipse(center, forward, left, 0.015 * length, 0.018 * length, 10), skin * 0.9, 0.65)


def _cable(patch: Patch, curve: CubicSpline, length: float, style: Style) -> None:
    """A head stage, as recordings with implants show it."""
    center, forward, left = _frame_at(curve, 0.24)
    color = _camera((70, 72, 76), style)
    patch.polygon(_ellipse(center, forward, left, 0.05 * length, 0.05 * length), color)
    patch.polygon(_ellipse(center, forward, left, 0.028 * length, 0.028 * length), color * 1.7, 0.8)


def soften(patch: Patch, sigma: float, smear: tuple[float, float]) -> None:
    """Lens blur and motion blur (`smear` px of movement during the exposure), in place."""
    stack = np.concatenate([patch.color, patch.alpha[..., None]], -1)
    distance = float(np.hypot(*smear))
    if distance > 1.0:
        taps = min(9, 2 * int(np.ceil(distance / 2)) + 1)
        total = np.zeros_like(stack)
        for share in np.linspace(-0.5, 0.5, taps):
            total += np.roll(stack, (round(smear[1] * share), round(smear[0] * share)), (0, 1))
        stack = total / taps
    if sigma > 0.05:
        stack = gaussian_filter(stack, (sigma, sigma, 0), truncate=2.5)
    patch.color, patch.alpha = stack[..., :-1], stack[..., -1]
