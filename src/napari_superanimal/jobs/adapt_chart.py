"""Jitter by keypoint, before and after, beside the filters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_superanimal.jobs.charts import COLORS, nice_top, text

if TYPE_CHECKING:
    from napari_superanimal.adaptation.proof import Proof

WIDTH, LEFT, RIGHT, TOP, ROW = 680, 150, 30, 70, 22
#: Predictions in the order of the legend.
ARMS = {"zero-shot": "before", "adapted": "adapted", "median": "median filter", "kalman": "Kalman smoother"}


def keypoint_chart(proof: Proof) -> str:
    """One row per keypoint, one dot per set of predictions, as SVG text."""
    rows = [
        k for k in proof.before.per_keypoint if math.isfinite(proof.before.per_keypoint[k]["jitter_px"])
    ] or list(proof.before.per_keypoint)
    arms = [arm for arm in ARMS if arm in proof.arms]
    values = {(a, k): proof.arms[a].per_keypoint[k]["jitter_px"] for a in arms for k in rows}
    top = nice_top(max((v for v in values.values() if math.isfinite(v)), default=1.0))
    wide, height = WIDTH - LEFT - RIGHT, TOP + ROW * len(rows) + 50

    def px(value: float) -> float:
        return LEFT + wide * min(value, top) / top

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        text(20, 22, "Jitter on held-out frames, by keypoint", size=14, weight="bold"),
    ]
    for i, arm in enumerate(arms):
        left = 20 + 150 * i
        out.append(f'<circle cx="{left}" cy="44" r="5" fill="{COLORS[i]}"/>')
        out.append(text(left + 12, 48, ARMS[arm]))
    bottom = TOP + ROW * len(rows)
    for n in range(6):
        x = px(top * n / 5)
        out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{bottom}" stroke="#dddddd"/>')
        out.append(text(x, bottom + 16, f"{top * n / 5:g}", anchor="middle"))
    out.append(text(LEFT + wide / 2, bottom + 38, "px per frame², mean of the same points", anchor="middle"))
    for row, keypoint in enumerate(rows):
        y = TOP + ROW * (row + 0.5)
        out.append(text(LEFT - 10, y + 4, keypoint.replace("_", " "), anchor="end"))
        both = [values[a, keypoint] for a in ("zero-shot", "adapted") if (a, keypoint) in values]
        if len(both) == 2 and all(math.isfinite(v) for v in both):
            out.append(
                f'<line x1="{px(both[0]):.1f}" x2="{px(both[1]):.1f}" y1="{y}" y2="{y}" stroke="#999999" '
                'stroke-width="2"/>'
            )
        for i, arm in enumerate(arms):
            value = values[arm, keypoint]
            if math.isfinite(value):
                radius = 5 if arm in ("zero-shot", "adapted") else 3.5
                out.append(f'<circle cx="{px(value):.1f}" cy="{y}" r="{radius}" fill="{COLORS[i]}"/>')
    return "\n".join([*out, "</svg>"]) + "\n"
