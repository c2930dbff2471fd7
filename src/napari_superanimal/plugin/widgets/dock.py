"""What every dock widget of this plugin has: a scrolling form that tidies up when it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtWidgets import QFrame, QScrollArea, QStyle, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable


class Cleanup:
    """Calls functions once, when a widget goes; an object of its own, because it outlives the widget."""

    def __init__(self) -> None:
        self._functions: list[Callable[[], object]] = []

    def add(self, function: Callable[[], object]) -> None:
        self._functions.append(function)

    def __call__(self, *_: object) -> None:
        functions, self._functions = self._functions, []
        for function in functions:
            function()


class Area(QScrollArea):
    """A scroll area that is never narrower than what it holds."""

    def minimumSizeHint(self) -> QSize:
        hint = super().minimumSizeHint()
        inner = self.widget()
        if inner is None:
            return hint
        bar = self.style().pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent)
        return QSize(inner.minimumSizeHint().width() + bar, hint.height())

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        # Qt asks how narrow the form may be once, but rows come and go
        if watched is self.widget() and event is not None and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


class DockForm(QWidget):
    """A form in a scroll area, usable on small screens.

    Attributes
    ----------
    cleanup : Cleanup
        What to stop or disconnect when the dock is closed or the window goes.
    form : QVBoxLayout
        Where the controls go.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cleanup = Cleanup()
        self.destroyed.connect(self.cleanup)
        self._docked = False
        inner = QWidget()
        self.form = QVBoxLayout(inner)
        self.form.setContentsMargins(6, 6, 6, 6)
        self.form.setSpacing(8)
        area = self._area = Area()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)

    def scroll_to(self, part: QWidget) -> None:
        """Bring a part of the form into view, once it has its place."""
        timer = QTimer(self)  # the form's own, so that it goes with the form
        timer.setSingleShot(True)
        timer.timeout.connect(lambda: self._area.ensureWidgetVisible(part, 0, 20))
        timer.timeout.connect(timer.deleteLater)
        timer.start(50)

    def changeEvent(self, event: QEvent | None) -> None:
        # napari takes a closed dock's widget out of its parent and forgets it
        if event is not None and event.type() == QEvent.Type.ParentChange:
            if self.parentWidget() is not None:
                self._docked = True
            elif self._docked:
                self.cleanup()
        super().changeEvent(event)
