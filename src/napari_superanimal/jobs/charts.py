"""Small charts as SVG files: a browser shows them, a page embeds them, and no plotting library is needed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from napari_superanimal.jobs.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 55
#: Told apart also by those who do not see red and green alike (Okabe and Ito).
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass(frozen=True)
class Series:
    """One line of a chart: every measured point, joined through the medians of equal x.

    Attributes
    ----------
    title : str
    points : sequence of (x, y)
    """

    title: str
    points: Sequence[tuple[float, float]]

    def medians(self) -> list[tuple[float, float]]:
        """(x, median of y), by x."""
        out = []
        for x in sorted({x for x, _ in self.points}):
            ys = sorted(y for at, y in self.points if at == x)
            half = len(ys) // 2
            out.append((x, ys[half] if len(ys) % 2 else (ys[half - 1] + ys[half]) / 2))
        return out


@dataclass(frozen=True)
class Band:
    """A horizontal band with a line in it."""

    title: str
    low: float
    middle: float
    high: float


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_title: str,
    y_title: str,
    band: Band | None = None,
    x_names: Sequence[str] = (),
) -> str:
    """A chart as SVG text.

    Parameters
    ----------
    x_names : sequence of str
        Names of x = 0, 1, 2...; without them x is a logarithmic axis.
    """
    xs = [x for s in series for x, _ in s.points] or [1.0]
    ys = [y for s in series for _, y in s.points if math.isfinite(y)] + ([band.high] if band else [])
    top = nice_top(max(ys, default=1.0))
    low, high = (-0.5, len(x_names) - 0.5) if x_names else (math.log(min(xs)) - 0.1, math.log(max(xs)) + 0.1)
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def px(x: float) -> float:
        at = x if x_names else math.log(x)
        return LEFT + wide * (at - low) / (high - low)

    def py(y: float) -> float:
        return TOP + tall * (1 - min(y, top) / top)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, title, size=14, weight="bold"),
        text(LEFT + wide / 2, HEIGHT - 14, x_title, anchor="middle"),
        f'<g transform="translate(18 {TOP + tall / 2:.1f}) rotate(-90)">{text(0, 0, y_title, anchor="middle")}</g>',
    ]
    for n in range(6):
        y = top * n / 5
        out.append(
            f'<line x1="{LEFT}" x2="{LEFT + wide}" y1="{py(y):.1f}" y2="{py(y):.1f}" stroke="#dddddd"/>'
        )
        out.append(text(LEFT - 8, py(y) + 4, f"{y:g}", anchor="end"))
    for x, name in ticks(xs, x_names):
        out.append(
            f'<line x1="{px(x):.1f}" x2="{px(x):.1f}" y1="{TOP + tall}" y2="{TOP + tall + 5}" stroke="#444444"/>'
        )
        out.append(text(px(x), TOP + tall + 19, name, anchor="middle"))
    legend = TOP + 10
    if band is not None:
        out.append(
            f'<rect x="{LEFT}" width="{wide}" y="{py(band.high):.1f}" '
            f'height="{max(py(band.low) - py(band.high), 0):.1f}" fill="#999999" opacity="0.25"/>'
        )
        out.append(
            f'<line x1="{LEFT}" x2="{LEFT + wide}" y1="{py(band.middle):.1f}" y2="{py(band.middle):.1f}" '
            'stroke="#666666" stroke-dasharray="5 4"/>'
        )
        out += key(legend, "#666666", band.title)
        legend += 20
    for i, one in enumerate(series):
        color = COLORS[i % len(COLORS)]
        middle = one.medians()
        if not x_names:
            line = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in middle)
            out.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        else:
            out += [
                f'<line x1="{px(x) - 14:.1f}" x2="{px(x) + 14:.1f}" y1="{py(y):.1f}" y2="{py(y):.1f}" '
                f'stroke="{color}" stroke-width="3"/>'
                for x, y in middle
            ]
        out += [
            f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3.5" fill="{color}" opacity="0.7"/>'
            for x, y in one.points
        ]
        out += key(legend, color, one.title)
        legend += 20
    return "\n".join([*out, "</svg>"]) + "\n"


def nice_top(value: float) -> float:
    """The next round number, so that five steps of the axis are round as well."""
    if value <= 0:
        return 1.0
    unit = 10 ** math.floor(math.log10(value))
    return next(unit * m for m in (1, 1.5, 2, 2.5, 5, 10) if unit * m >= value)


def ticks(xs: Sequence[float], names: Sequence[str]) -> list[tuple[float, str]]:
    """Where the x axis is marked, and with what."""
    if names:
        return [(float(i), name) for i, name in enumerate(names)]
    return [(x, f"{x:g}") for x in sorted(set(xs))]


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, weight: str = "") -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{bold}>{escape(words)}</text>'


def key(y: float, color: str, words: str) -> list[str]:
    """One line of the legend."""
    x = WIDTH - RIGHT + 14
    return [
        f'<line x1="{x}" x2="{x + 22}" y1="{y}" y2="{y}" stroke="{color}" stroke-width="3"/>',
        text(x + 28, y + 4, words),
    ]


def save_chart(path: Path, svg: str) -> None:
    """Write a chart.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    write_text(path, svg)
