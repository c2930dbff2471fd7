"""What came of an adaptation, in words, as a small table, and drawn by keypoint."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_superanimal.plugin.widgets.live_plot import faded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_superanimal.plugin.adaptations import Finished

#: Predictions that a proof compares: title and colour. Those that must be told apart first come first.
ARMS = {
    "zero-shot": ("before", "#ff9f40"),
    "adapted": ("adapted", "#4ea1ff"),
    "median": ("median filter", "#9aa0a6"),
    "kalman": ("Kalman smoother", "#b58cd9"),
}
#: Figures of the table: title, format, factor.
FIGURES = {
    "jitter_px": ("jitter, px", "{:.2f}", 1.0),
    "dropped": ("dropped", "{:.0f} %", 100.0),
    "size_variation": ("size varies", "{:.1f} %", 100.0),
    "out_of_proportion": ("misplaced", "{:.0f} %", 100.0),
    "error_px": ("error, px", "{:.2f}", 1.0),
}
#: What they mean.
MEANING = {
    "jitter_px": "how much points tremble from frame to frame (mean change of speed)",
    "dropped": "points that are missing, or of which the model is not sure",
    "size_variation": "how much the outline's size changes from frame to frame",
    "out_of_proportion": "sure points that lie where no animal has them, judged by the rest of the body",
    "error_px": "mean distance from your labels",
}
TABLE_HELP = "On frames that the model did not learn from<br>" + "<br>".join(
    f"<b>{FIGURES[f][0].partition(',')[0]}</b>: {words}" for f, words in MEANING.items()
)


def verdict_text(found: Finished) -> str:
    """The decision and its reasons, as rich text."""
    out = found.outcome
    passes, by_user = bool(out["passes"]), out["by"] == "user"
    if found.kept:
        head = "The adapted model is kept." if passes else "Kept by you, although the proof failed."
        rest = f" “{escape(found.request.name)}” is in the list of models."
    elif not found.trained:
        head, rest = (
            "Nothing was learned.",
            f" “{escape(out['parent'])}” stays in use; nothing of it was changed.",
        )
    elif by_user:
        head, rest = (
            "Reverted by you.",
            f" “{escape(out['parent'])}” stays in use; nothing of it was changed.",
        )
    else:
        head = "The adapted model was reverted."
        rest = f" “{escape(out['parent'])}” stays in use; nothing of it was changed."
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in out["reasons"])
    frames = f"On {found.frames} frames that it did not learn from:"
    if not found.trained:
        frames = "Why:"
    return f"<b>{head}</b>{rest}<br>{frames}<ul style='margin:2px 0 2px -18px'>{reasons}</ul>"


def arms_of(found: Finished) -> dict[str, dict[str, Any]]:
    """Figures of the proof by arm; where nothing was trained, there is no adapted one."""
    arms = found.outcome["proofs"][0]["arms"]
    return {a: arms[a] for a in ARMS if a in arms and (found.trained or a != "adapted")}


def arms_table(arms: Mapping[str, Mapping[str, Any]]) -> str:
    """The arms of a proof side by side, as rich text; errors only where there are labels."""
    shown = [f for f in FIGURES if any(_is_number(arm.get(f)) for arm in arms.values())]
    head = "".join(f"<td align='right'>{FIGURES[f][0]}</td>" for f in shown)
    rows = ""
    for name, arm in arms.items():
        cells = ""
        for f in shown:
            _, form, factor = FIGURES[f]
            value = arm.get(f)
            text = form.format(factor * float(value)) if value is not None and _is_number(value) else "-"
            cells += f"<td align='right'>{text}</td>"
        title, color = ARMS[name]
        rows += f"<tr><td><span style='color:{color}'>●</span> {title}</td>{cells}</tr>"
    return f"<table cellspacing='0' cellpadding='3'><tr><td></td>{head}</tr>{rows}</table>"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


class JitterPlot(QWidget):
    """Jitter by keypoint: one row each, one dot per arm of the proof."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("adapt_plot")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip("Mean change of speed from frame to frame, px per frame², on the held-out frames")
        self.rows: list[tuple[str, dict[str, float]]] = []

    def show_arms(self, arms: Mapping[str, Mapping[str, Any]]) -> None:
        """Draw the arms of a proof."""
        self.rows = []
        for keypoint in arms.get("zero-shot", {}).get("per_keypoint", {}):
            values = {a: arms[a]["per_keypoint"][keypoint].get("jitter_px") for a in ARMS if a in arms}
            finite = {a: float(v) for a, v in values.items() if _is_number(v)}
            if finite:
                self.rows.append((keypoint.replace("_", " "), finite))
        self.updateGeometry()
        self.update()

    def _line(self) -> float:
        return QFontMetricsF(self.font()).height()

    def sizeHint(self) -> QSize:
        return QSize(300, round(self._line() * (1.25 * len(self.rows) + 2.2)) if self.rows else 0)

    def minimumSizeHint(self) -> QSize:
        return QSize(220, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent | None) -> None:
        if not self.rows:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink, metrics, line = (
            self.palette().color(self.foregroundRole()),
            QFontMetricsF(self.font()),
            self._line(),
        )
        left = max(metrics.horizontalAdvance(name) for name, _ in self.rows) + 10
        # one wild keypoint (a tail's end) must not squeeze the others
        values = sorted(v for _, row in self.rows for v in row.values())
        top = values[-1]
        wide = self.width() - left - metrics.horizontalAdvance("00.0") - 4

        def x(value: float) -> float:
            return left + wide * math.sqrt(value / top) if top > 0 else left

        step = 1.25 * line
        bottom = step * len(self.rows)
        for share in (0.0, 0.05, 0.25, 0.5, 1.0):
            painter.setPen(QPen(faded(ink, 50), 1))
            painter.drawLine(QPointF(x(share * top), 0), QPointF(x(share * top), bottom))
            painter.setPen(faded(ink, 180))
            box = QRectF(x(share * top) - 30, bottom, 60, line)
            painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), f"{share * top:.1f}")
        below = QRectF(left, bottom + line, wide, line)
        painter.drawText(below, int(Qt.AlignmentFlag.AlignCenter), "jitter, px per frame²")
        for i, (name, row) in enumerate(self.rows):
            y = step * (i + 0.5)
            painter.setPen(faded(ink, 220))
            painter.drawText(
                QRectF(0, y - line / 2, left - 8, line),
                int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter),
                name,
            )
            if {"zero-shot", "adapted"} <= row.keys():
                painter.setPen(QPen(faded(ink, 120), 1.5))
                painter.drawLine(QPointF(x(row["zero-shot"]), y), QPointF(x(row["adapted"]), y))
            painter.setPen(Qt.PenStyle.NoPen)
            for arm in ("median", "kalman", "zero-shot", "adapted"):
                if arm in row:
                    painter.setBrush(QColor(ARMS[arm][1]))
                    size = {"zero-shot": 5.0, "adapted": 4.0}.get(arm, 3.0)
                    painter.drawEllipse(QPointF(x(row[arm]), y), size, size)
