"""What a rendered recording looks like: animal, arena, light and camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Style:
    """Looks of a rendered clip; the defaults are a black mouse in a bright open field.

    Colours are RGB 0..255; lengths are in body lengths (snout to tail base) unless said otherwise.

    Attributes
    ----------
    body_length : float
        Share of the arena's shorter side.
    stoutness : float
        Scales the body's width.
    tail_length, tail_width, ear_size : float
        `tail_width` is the half width at the base.
    coat, coat_edge, coat_tip : Color
        Back, flanks, and the tips of hairs that the fur texture mixes in.
    skin, ear, eye : Color
        Tail, feet and nose; inside of the ears; eyes.
    fur : float
        Strength of the fur texture, 0..1.
    whiskers, feet, cable : bool
    arena : "square" or "round"
    floor : "plain", "stains", "bedding" or "grid"
    floor_color, wall_color, surround : Color
    bedding_color : Color
    wall : float
        Visible height of the walls as a share of the frame.
    objects : int
    gradient : (float, float)
        Relative change of the light across the frame, in x and y.
    spot, vignette : float
        Strength of a bright spot and of the darker corners.
    shadow, reflection : float
        Opacity of the animal's soft shadow and of its mirror image in the walls.
    blur : float, px
    exposure : float
        Share of the frame interval in which motion smears.
    noise : float
        Standard deviation of the sensor's noise, grey levels.
    compression : int
        JPEG quality that each frame went through; 0 for none.
    gain, gamma : float
    gray : bool
        A monochrome camera.
    activity : float
        Scales speed and turning.
    """

    body_length: float = 0.25
    stoutness: float = 1.0
    tail_length: float = 0.95
    tail_width: float = 0.028
    ear_size: float = 0.062
    coat: Color = (30, 29, 30)
    coat_edge: Color = (44, 42, 42)
    coat_tip: Color = (62, 59, 57)
    skin: Color = (150, 122, 116)
    ear: Color = (118, 100, 96)
    eye: Color = (8, 8, 10)
    fur: float = 0.35
    whiskers: bool = True
    feet: bool = True
    cable: bool = False
    arena: Literal["square", "round"] = "square"
    floor: Literal["plain", "stains", "bedding", "grid"] = "stains"
    floor_color: Color = (206, 203, 196)
    wall_color: Color = (150, 148, 143)
    surround: Color = (72, 72, 74)
    bedding_color: Color = (205, 170, 120)
    wall: float = 0.065
    objects: int = 0
    gradient: tuple[float, float] = (0.10, -0.06)
    spot: float = 0.12
    vignette: float = 0.18
    shadow: float = 0.35
    reflection: float = 0.25
    blur: float = 0.8
    exposure: float = 0.35
    noise: float = 3.0
    compression: int = 0
    gain: float = 1.0
    gamma: float = 1.0
    gray: bool = False
    activity: float = 1.0


def _jitter(rng: np.random.Generator, color: Color, amount: float) -> Color:
    """The colour made lighter or darker as a whole and a little by channel."""
    values = np.array(color) * rng.normal(1, amount) + rng.normal(0, 8 * amount + 1.5, 3)
    r, g, b = np.clip(values, 0, 255)
    return (float(r), float(g), float(b))


_COATS: dict[str, dict[str, Color]] = {
    "black": {
        "coat": (28, 27, 28),
        "coat_edge": (42, 40, 40),
        "coat_tip": (66, 62, 60),
        "skin": (150, 122, 116),
        "ear": (120, 102, 98),
        "eye": (6, 6, 8),
    },
    "agouti": {
        "coat": (84, 68, 52),
        "coat_edge": (120, 102, 82),
        "coat_tip": (160, 132, 96),
        "skin": (172, 138, 126),
        "ear": (168, 138, 126),
        "eye": (8, 6, 6),
    },
    "grey": {
        "coat": (108, 106, 106),
        "coat_edge": (140, 138, 138),
        "coat_tip": (165, 163, 162),
        "skin": (190, 158, 150),
        "ear": (190, 160, 152),
        "eye": (10, 8, 8),
    },
    "white": {
        "coat": (226, 222, 214),
        "coat_edge": (190, 184, 176),
        "coat_tip": (246, 244, 240),
        "skin": (222, 168, 160),
        "ear": (224, 170, 162),
        "eye": (120, 40, 44),
    },
    "brown": {
        "coat": (66, 48, 38),
        "coat_edge": (90, 70, 58),
        "coat_tip": (118, 92, 74),
        "skin": (176, 136, 126),
        "ear": (150, 116, 106),
        "eye": (6, 5, 5),
    },
}


def random_style(rng: np.random.Generator) -> Style:
    """A style drawn for training: wide variation, always an animal that a person would see.

    Parameters
    ----------
    rng : numpy.random.Generator

    Returns
    -------
    Style
    """
    kind = str(rng.choice(["black", "agouti", "grey", "white", "brown"], p=[0.5, 0.14, 0.08, 0.2, 0.08]))
    coat = {name: _jitter(rng, color, 0.12) for name, color in _COATS[kind].items()}
    if kind == "black" and rng.random() < 0.4:  # infrared and weak light: ears hardly paler than the coat
        share = float(rng.uniform(0.2, 0.8))
        coat["ear"] = _mix(coat["coat_tip"], coat["ear"], share)
    brightness = (
        float(rng.uniform(150, 240)) if kind not in ("white", "grey") else float(rng.uniform(25, 120))
    )
    tint = rng.normal(0, 0.045, 3)
    floor_color = tuple(float(v) for v in np.clip(brightness * (1 + tint), 5, 250))
    walls = float(np.clip(brightness * rng.uniform(0.35, 1.1), 5, 245))
    wall_color = tuple(float(v) for v in np.clip(walls * (1 + tint + rng.normal(0, 0.03, 3)), 5, 250))
    floor = str(rng.choice(["plain", "stains", "bedding", "grid"], p=[0.32, 0.38, 0.22, 0.08]))
    bedding = _jitter(rng, ((205, 170, 120), (190, 186, 178), (150, 120, 80))[rng.integers(3)], 0.12)
    bedding = _apart(bedding, coat["coat"], 75.0)
    floor_color = _apart(floor_color, coat["coat"], 60.0)  # type: ignore[arg-type]
    surround = float(rng.uniform(15, 190))
    return Style(
        body_length=float(np.exp(rng.uniform(np.log(0.10), np.log(0.34)))),
        stoutness=float(rng.normal(1, 0.09)),
        tail_length=float(rng.uniform(0.75, 1.1)),
        tail_width=float(rng.uniform(0.02, 0.034)),
        ear_size=float(rng.uniform(0.05, 0.075)),
        **coat,
        fur=float(rng.uniform(0.1, 0.7)),
        whiskers=bool(rng.random() < 0.5),
        feet=bool(rng.random() < 0.75),
        cable=bool(rng.random() < 0.07),
        arena="round" if rng.random() < 0.3 else "square",
        floor=floor,  # type: ignore[arg-type]
        floor_color=floor_color,
        wall_color=wall_color,  # type: ignore[arg-type]
        surround=_jitter(rng, (surround, surround, surround), 0.05),
        bedding_color=bedding,
        wall=float(rng.uniform(0.01, 0.13)),
        objects=int(rng.choice([0, 1, 2, 3], p=[0.6, 0.15, 0.15, 0.1])),
        gradient=(float(rng.normal(0, 0.18)), float(rng.normal(0, 0.18))),
        spot=float(rng.uniform(0, 0.4)),
        vignette=float(rng.uniform(0, 0.5)),
        shadow=float(rng.uniform(0, 0.6)),
        reflection=float(rng.choice([0.0, rng.uniform(0.1, 0.5)])),
        blur=float(rng.uniform(0.4, 1.7)),
        exposure=float(rng.uniform(0, 0.9)),
        noise=float(rng.uniform(0.5, 9)),
        compression=int(rng.integers(25, 90)) if rng.random() < 0.5 else 0,
        gain=float(rng.uniform(0.65, 1.2)),
        gamma=float(np.exp(rng.normal(0, 0.18))),
        gray=bool(rng.random() < 0.45),
        activity=float(rng.uniform(0.6, 1.6)),
    )


def _mix(a: Color, b: Color, share: float) -> Color:
    """`a` with a `share` of `b`."""
    r, g, c = (x + (y - x) * share for x, y in zip(a, b, strict=True))
    return (r, g, c)


def _apart(ground: Color, coat: Color, distance: float) -> Color:
    """The ground made lighter (or darker, under a light coat) until a person would see the animal on it."""
    below, above = sum(ground) / 3, sum(coat) / 3
    if abs(below - above) >= distance:
        return ground
    aim = above + distance if above < 130 else above - distance
    r, g, b = (min(255.0, v * aim / max(below, 1.0)) for v in ground)
    return (r, g, b)
