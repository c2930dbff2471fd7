"""How a running job looks: a bar, speed, time left, and a button that stops it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_superanimal.jobs.progress import duration

if TYPE_CHECKING:
    from napari_superanimal.jobs.progress import Progress


class RunBar(QWidget):
    """Progress bar with speed, time left and a Cancel button; hidden until a job runs.

    Parameters
    ----------
    unit : str
        What is counted, plural ("frames").
    name : str
        Prefix of the object names.
    """

    cancel_clicked = Signal()

    def __init__(self, unit: str, name: str) -> None:
        super().__init__()
        self.unit = unit
        self.bar = QProgressBar()
        self.bar.setObjectName(f"{name}_progress")
        self.text = QLabel()
        self.text.setObjectName(f"{name}_progress_text")
        self.text.setWordWrap(True)
        self.button = QPushButton("Cancel")
        self.button.setObjectName(f"{name}_cancel")
        self.button.setToolTip("Stops after the current batch; what is done so far is kept")
        self.button.clicked.connect(self._cancel)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.text)
        self.hide()

    def start(self, message: str) -> None:
        """Show the bar, busy until the first count arrives."""
        self.bar.setRange(0, 0)
        self.text.setText(message)
        self.button.setEnabled(True)
        self.button.setText("Cancel")
        self.show()

    def report(self, progress: Progress) -> None:
        """Show where the job stands."""
        # a bar paints itself at once, and the whole window with it where napari draws with OpenGL: paint once
        self.setUpdatesEnabled(False)
        self.bar.setRange(0, max(progress.total, 0))
        self.bar.setValue(progress.done)
        if self.button.isEnabled():
            self.text.setText(describe(progress, self.unit))
        self.setUpdatesEnabled(True)

    def finish(self) -> None:
        """The job has ended."""
        self.hide()

    def _cancel(self) -> None:
        self.button.setEnabled(False)
        self.text.setText("Stopping; what is done so far is kept…")
        self.cancel_clicked.emit()


def describe(progress: Progress, unit: str) -> str:
    """One line for a person: how far, how fast, how long still."""
    if not progress.total:
        return progress.message or "Starting…"
    parts = [f"{progress.done} of {progress.total} {unit}"]
    if progress.rate > 0:
        parts.append(speed(progress.rate, unit))
    if math.isfinite(progress.eta_s) and progress.done < progress.total:
        parts.append(f"{duration(progress.eta_s)} left")
    line = ", ".join(parts)
    return f"{progress.message}: {line}" if progress.message else line


def speed(rate: float, unit: str) -> str:
    """Units per second, or seconds per unit when it is slow."""
    if unit == "frames":
        return f"{rate:.1f} frames per second"
    return f"{rate:.1f} {unit} per second" if rate >= 1 else f"{1 / rate:.1f} s per {unit.rstrip('s')}"
