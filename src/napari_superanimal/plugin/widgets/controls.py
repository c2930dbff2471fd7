"""Small pieces the forms are built from."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QComboBox, QGroupBox, QLabel, QPushButton, QSpinBox, QVBoxLayout, QWidget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.layers import Layer
    from napari.viewer import Viewer


class LayerCombo(QComboBox):
    """A combo box that follows the viewer's layers.

    Parameters
    ----------
    viewer : Viewer
    accepts : callable
        Which layers to offer.
    """

    layer_changed = Signal()

    def __init__(self, viewer: Viewer, accepts: Callable[[Layer], bool]) -> None:
        super().__init__()
        self._viewer = viewer
        self._accepts = accepts
        self._layers: list[weakref.ref[Layer]] = []
        self._shown: Layer | None = None
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(10)
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.connect(self.refresh)
        self.currentIndexChanged.connect(self._announce)
        self.refresh()

    @property
    def layer(self) -> Layer | None:
        """The layer chosen, None when there is none to choose."""
        index = self.currentIndex()
        return self._layers[index]() if 0 <= index < len(self._layers) else None

    def choose(self, layer: Layer) -> None:
        """Select `layer` if it is offered."""
        for i, ref in enumerate(self._layers):
            if ref() == layer:  # the viewer a plugin gets hands out layers in wrappers
                self.setCurrentIndex(i)

    def refresh(self, event: object = None) -> None:
        """Read the viewer's layers again, newest first; the choice stays where it was."""
        chosen = self.layer
        offered = [layer for layer in reversed(self._viewer.layers) if self._accepts(layer)]
        with QSignalBlocker(self):
            self.clear()
            self._layers = [weakref.ref(layer) for layer in offered]
            for layer in offered:
                self.addItem(layer.name)
            if chosen is not None and chosen in offered:
                self.setCurrentIndex(offered.index(chosen))
        self.setEnabled(bool(offered))
        self._announce()

    def disconnect_viewer(self) -> None:
        """Stop following the viewer; call it when the widget goes."""
        events = self._viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.disconnect(self.refresh)

    def _announce(self) -> None:
        if self.layer is not self._shown or self.layer is None:
            self._shown = self.layer
            self.layer_changed.emit()


def group(title: str, *widgets: QWidget) -> QGroupBox:
    """A titled box of widgets, one below the other."""
    box = QGroupBox(title)
    layout = QVBoxLayout(box)
    layout.setContentsMargins(8, 8, 8, 8)
    layout.setSpacing(6)
    for widget in widgets:
        layout.addWidget(widget)
    return box


def hint(name: str, text: str = "") -> QLabel:
    """A line that tells the user what to do next."""
    label = QLabel(text)
    label.setObjectName(name)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.RichText)
    return label


def button(text: str, name: str, tip: str) -> QPushButton:
    """A push button with an object name and a tooltip."""
    result = QPushButton(text)
    result.setObjectName(name)
    result.setToolTip(tip)
    return result


def choice(name: str, tip: str, items: Mapping[str, Any] | None = None) -> QComboBox:
    """A list to choose from, title -> value, that long titles do not widen."""
    result = QComboBox()
    result.setObjectName(name)
    result.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    result.setToolTip(tip)
    for title, value in (items or {}).items():
        result.addItem(title, value)
    return result


def spin(name: str, low: int, value: int, tip: str) -> QSpinBox:
    """A box for a whole number."""
    result = QSpinBox()
    result.setObjectName(name)
    result.setRange(low, 10**7)
    result.setValue(value)
    result.setToolTip(tip)
    return result
