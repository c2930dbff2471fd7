"""A small live plot: a few curves that grow while something trains."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFontMetricsF, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

#: More points than this are thinned when drawn; a plot is a few hundred pixels wide.
DRAWN = 600


@dataclass
class Curve:
    """One line of a `LivePlot`.

    Attributes
    ----------
    title : str
        Shown in the legend with the last value.
    color : str
        Any colour Qt understands.
    right : bool
        Drawn against the right axis instead of the left one.
    dots : bool
        Mark every value; for quantities that are measured now and then.
    form : str
        Format of the last value in the legend.
    """

    title: str
    color: str
    right: bool = False
    dots: bool = False
    form: str = "{:.3g}"
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)


class LivePlot(QWidget):
    """Curves over steps, one axis on each side; `add` a value and it is drawn.

    Parameters
    ----------
    curves : dict of str to Curve
    empty : str
        What to write while there is nothing to draw.
    """

    def __init__(self, curves: dict[str, Curve], *, empty: str = "") -> None:
        super().__init__()
        self.curves = curves
        self.empty = empty
        self.setMinimumHeight(150)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.MinimumExpanding)

    def sizeHint(self) -> QSize:
        return QSize(320, 180)

    def clear(self) -> None:
        """Forget all values."""
        for curve in self.curves.values():
            curve.x.clear()
            curve.y.clear()
        self.update()

    def add(self, name: str, x: float, y: float) -> None:
        """Append a value to a curve; values that are not finite are left out."""
        if not (math.isfinite(x) and math.isfinite(y)):
            return
        curve = self.curves[name]
        curve.x.append(x)
        curve.y.append(y)
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().color(self.foregroundRole())
        metrics = QFontMetricsF(self.font())
        line = metrics.height()
        if not any(c.x for c in self.curves.values()):
            painter.setPen(faded(ink, 160))
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(QRectF(self.rect()).adjusted(8, 8, -8, -8), int(flags), self.empty)
            return
        left_ticks = self._ticks(right=False)
        right_ticks = self._ticks(right=True)
        left_width = max((metrics.horizontalAdvance(f"{t:g}") for t in left_ticks), default=0.0) + 8
        right_width = max((metrics.horizontalAdvance(f"{t:g}") for t in right_ticks), default=0.0) + 8
        box = QRectF(self.rect()).adjusted(left_width, line * 1.5, -right_width, -line * 1.3)
        last_x = max(c.x[-1] for c in self.curves.values() if c.x)

        painter.setPen(QPen(faded(ink, 60), 1))
        painter.drawRect(box)
        self._draw_ticks(painter, box, left_ticks, ink, line, right=False)
        self._draw_ticks(painter, box, right_ticks, ink, line, right=True)
        painter.setPen(faded(ink, 200))
        below = QRectF(box.left(), box.bottom() + 1, box.width(), line * 1.2)
        painter.drawText(below, int(Qt.AlignmentFlag.AlignLeft), "0")
        painter.drawText(below, int(Qt.AlignmentFlag.AlignRight), f"step {last_x:g}")

        for curve in self.curves.values():
            if curve.x:
                draw_curve(painter, box, curve, last_x, right_ticks if curve.right else left_ticks)
        self._draw_legend(painter, metrics, line)

    def _ticks(self, *, right: bool) -> list[float]:
        values = [y for c in self.curves.values() if c.right == right for y in c.y]
        return nice_ticks(visible_range(values)) if values else []

    def _draw_ticks(
        self, painter: QPainter, box: QRectF, ticks: list[float], ink: QColor, line: float, *, right: bool
    ) -> None:
        for tick in ticks:
            y = height_of(tick, box, ticks)
            if not right:
                painter.setPen(QPen(faded(ink, 35), 1))
                painter.drawLine(QPointF(box.left(), y), QPointF(box.right(), y))
            owner = [c for c in self.curves.values() if c.right == right and c.x]
            painter.setPen(QColor(owner[0].color) if len(owner) == 1 else faded(ink, 200))
            if right:
                place = QRectF(box.right() + 4, y - line / 2, self.width() - box.right() - 4, line)
                painter.drawText(place, int(Qt.AlignmentFlag.AlignLeft), f"{tick:g}")
            else:
                place = QRectF(0, y - line / 2, box.left() - 4, line)
                painter.drawText(place, int(Qt.AlignmentFlag.AlignRight), f"{tick:g}")

    def _draw_legend(self, painter: QPainter, metrics: QFontMetricsF, line: float) -> None:
        x = 4.0
        for curve in self.curves.values():
            value = f" {curve.form.format(curve.y[-1])}" if curve.y else ""
            text = f"{curve.title}{value}"
            painter.setPen(QPen(QColor(curve.color), 3))
            painter.drawLine(QPointF(x, line * 0.65), QPointF(x + 12, line * 0.65))
            painter.drawText(QPointF(x + 16, line), text)
            x += 16 + metrics.horizontalAdvance(text) + 14


def faded(color: QColor, alpha: int) -> QColor:
    """`color` with an alpha of 0..255."""
    result = QColor(color)
    result.setAlpha(alpha)
    return result


def visible_range(values: list[float]) -> tuple[float, float]:
    """Zero to the largest value; the first, often huge values may be cut off once there are many."""
    ordered = sorted(values)
    top = ordered[-1] if len(ordered) < 20 else ordered[int(0.98 * (len(ordered) - 1))] * 1.1
    return 0.0, max(top, 1e-12)


def nice_ticks(limits: tuple[float, float], count: int = 4) -> list[float]:
    """Round numbers that cover `limits`, first and last outside or on them."""
    low, high = limits
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def height_of(value: float, box: QRectF, ticks: list[float]) -> float:
    """Pixel row of a value; what lies outside is drawn on the border."""
    share = (value - ticks[0]) / (ticks[-1] - ticks[0])
    return box.bottom() - min(max(share, 0.0), 1.0) * box.height()


def draw_curve(painter: QPainter, box: QRectF, curve: Curve, last_x: float, ticks: list[float]) -> None:
    """Draw one curve, thinned to what a screen can show."""
    stride = max(1, len(curve.x) // DRAWN)
    kept = sorted({*range(0, len(curve.x), stride), len(curve.x) - 1})
    points = [
        QPointF(
            box.left() + curve.x[i] / max(last_x, 1e-12) * box.width(),
            height_of(curve.y[i], box, ticks),
        )
        for i in kept
    ]
    painter.setPen(QPen(QColor(curve.color), 1.6))
    painter.drawPolyline(QPolygonF(points))
    if curve.dots:
        painter.setBrush(QColor(curve.color))
        for point in points:
            painter.drawEllipse(point, 2.5, 2.5)
        painter.setBrush(Qt.BrushStyle.NoBrush)
