"""A training in the background as a form shows it: its progress, how it ended, and those that can go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from napari.utils.notifications import show_error
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QApplication, QHBoxLayout, QWidget

from napari_superanimal.errors import UserError
from napari_superanimal.plugin import runs
from napari_superanimal.plugin.requests import Run
from napari_superanimal.plugin.widgets.controls import button, choice, group, hint
from napari_superanimal.plugin.widgets.progress import RunBar
from napari_superanimal.plugin.workers import TrainingProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_superanimal.jobs.progress import Progress


class BackgroundTraining(QObject, Generic[Run]):
    """One training at a time in a process of its own, and the list of those that were stopped.

    It is `running` from `begin` to `end`. `start` and the Resume button begin by themselves; what is cancelled or
    fails ends by itself. When `finished` is emitted, the form reads what came of it and calls `end` or `fail`.

    Parameters
    ----------
    name : str
        Prefix of the object names.
    what : str
        What a run is called ("training").
    unfinished : callable
        Runs that can go on, as `runs.resumable` finds them.
    parent : QWidget
        The form.

    Attributes
    ----------
    bar, hint, unfinished_box : QWidget
        For the form to place; it calls `list_unfinished` once they have their place.
    process : TrainingProcess or None
    """

    began = Signal()
    progressed = Signal(object)
    finished = Signal(object)
    ended = Signal()

    def __init__(self, name: str, what: str, unfinished: Callable[[], list[Run]], parent: QWidget) -> None:
        super().__init__(parent)
        self.running = False
        self.process: TrainingProcess[Run] | None = None
        self._what = what
        self._unfinished = unfinished
        self.bar = RunBar("steps", name)
        self.bar.button.setToolTip(f"Stops after this step; the {what} can be resumed later")
        self.hint = hint(f"{name}_hint")
        self.run_list = choice(f"{name}_unfinished", f"Every {what} that was stopped and can go on")
        self.resume_button = button("Resume", f"{name}_resume", f"Go on where this {what} was stopped")
        self.discard_button = button("Discard", f"{name}_discard", f"Delete this unfinished {what}")
        self.resume_button.clicked.connect(self.resume)
        self.discard_button.clicked.connect(self.discard)
        line = QWidget()
        row = QHBoxLayout(line)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.run_list, 1)
        row.addWidget(self.resume_button)
        row.addWidget(self.discard_button)
        self.unfinished_box = group(f"Unfinished {what}", line)

    def start(self, request: Run, *, resume: bool = False) -> None:
        """Train in the background; what goes wrong is shown."""
        # of the application, so that a form that goes does not kill what is writing its checkpoint
        process = TrainingProcess(request, QApplication.instance())
        process.progressed.connect(self._progressed)
        process.finished.connect(self._finished)
        process.cancelled.connect(self._cancelled)
        process.failed.connect(self.fail)
        self.process = process
        self.begin("Starting…")
        try:
            process.start(resume=resume)
        except UserError as error:
            self.fail(str(error))

    def resume(self) -> None:
        """Go on with the unfinished run that is chosen."""
        request = self.run_list.currentData()
        if request is not None and not self.running:
            self.start(request, resume=True)

    def discard(self) -> None:
        """Delete the unfinished run that is chosen."""
        request = self.run_list.currentData()
        if request is not None and not self.running:
            runs.discard_run(request)
            self.list_unfinished()

    def cancel(self) -> None:
        """Stop; what is done so far is kept for resuming."""
        if self.process is not None:
            self.process.stop()

    def begin(self, message: str) -> None:
        """Show that something runs; also what comes before a training."""
        self.running = True
        self.bar.start(message)
        self.hint.setText(
            f"You can go on working meanwhile; closing napari stops the {self._what}, resume it later."
        )
        self.hint.show()
        self.unfinished_box.hide()
        self.began.emit()

    def end(self, text: str) -> None:
        """Nothing runs any more; `text`, rich, tells what came of it."""
        if self.process is not None:
            self.process.deleteLater()
        self.process = None
        self.running = False
        self.bar.finish()
        self.hint.setText(text)
        self.hint.setVisible(bool(text))
        self.list_unfinished()
        self.ended.emit()

    def fail(self, message: str) -> None:
        """Show an error; nothing runs any more."""
        show_error(message)
        self.end(message)

    def list_unfinished(self) -> None:
        """Read anew which runs can go on; the box is there if there are any."""
        self.run_list.clear()
        for request in self._unfinished():
            self.run_list.addItem(request.title, request)
        self.unfinished_box.setVisible(self.run_list.count() > 0 and not self.running)

    def _progressed(self, progress: Progress) -> None:
        # first the form, which may know what is counted
        self.progressed.emit(progress)
        self.bar.report(progress)

    def _finished(self) -> None:
        assert self.process is not None
        self.finished.emit(self.process.request)

    def _cancelled(self) -> None:
        assert self.process is not None
        kept = self.process.request in self._unfinished()
        self.end(
            "Stopped. <b>Resume</b> goes on from here."
            if kept
            else "Stopped before there was anything to keep."
        )
