"""Check: will it work on my video? Models side by side, and one next step per finding."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.progress import CancelToken
from napari_superanimal.plugin.check_worker import Latest, check_worker
from napari_superanimal.plugin.image_source import is_video_layer, open_source
from napari_superanimal.plugin.widgets.controls import LayerCombo, button, group, hint
from napari_superanimal.plugin.widgets.dock import DockForm
from napari_superanimal.plugin.widgets.progress import RunBar
from napari_superanimal.plugin.workers import Failed

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_superanimal.jobs.check import CheckReport, ModelCheck

PREDICT = "Predict animal poses"
NO_VIDEO = "<b>Open a video to start:</b> drag a file or a folder of images into the window."
READY = "Press <b>Check</b>: the models on this computer are tried on about 20 frames. Nothing is changed."
#: Columns of the table, and what they mean.
COLUMNS = {
    "Model": "The most promising first",
    "Expected right": "Keypoints that are expected to lie where they should, within a tenth of the animal's size",
    "Found in": "Share of the frames looked at in which the model finds an animal",
    "Frames/s": "Frames that this computer predicts in a second",
}
MARKS = {"good": "✓", "note": "•", "problem": "✗"}
#: How often the window looks where the check stands.
POLL_MS = 200


class CheckWidget(DockForm):
    """Dock widget that tries models on a few frames of a video.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.setObjectName("superanimal_check")
        self.report: CheckReport | None = None
        self._token: CancelToken | None = None
        self._latest = Latest()
        self.images = LayerCombo(napari_viewer, is_video_layer)
        self.images.setObjectName("check_layer")
        self.images.setToolTip("The video to look at")
        self.images.layer_changed.connect(self._layer_changed)
        self.run_button = button("Check", "check_run", "Try the models on a few frames of the video")
        self.run_button.clicked.connect(self.run)
        self.bar = RunBar("frames", "check")
        self.bar.cancel_clicked.connect(self.cancel)
        self.hint = hint("check_hint")
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setObjectName("check_models")
        self.table.setToolTip("The most promising model first; choose one to read about it")
        for column, (title, meaning) in enumerate(COLUMNS.items()):
            header = QTableWidgetItem(title)
            header.setToolTip(meaning)
            self.table.setHorizontalHeaderItem(column, header)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.setMaximumHeight(150)
        self.table.itemSelectionChanged.connect(self._show_findings)
        self.findings = hint("check_findings")
        self.findings.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.next_button = button(
            "Predict with this model…", "check_next", "Opens Predict with the model chosen"
        )
        self.next_button.clicked.connect(self._open_predict)
        self._poll = QTimer(self)
        self._poll.setInterval(POLL_MS)
        self._poll.timeout.connect(lambda: self.bar.report(self._latest.progress))
        self.cleanup.add(self.images.disconnect_viewer)
        self.cleanup.add(self.cancel)
        self.form.addWidget(group("Video", self.images))
        self.form.addWidget(self.run_button)
        self.form.addWidget(self.bar)
        self.form.addWidget(self.hint)
        self.form.addWidget(self.table)
        self.form.addWidget(self.findings)
        self.form.addWidget(self.next_button)
        self.form.addStretch(1)
        self.table.hide()
        self.next_button.hide()
        self._layer_changed()

    @property
    def running(self) -> bool:
        """Whether a check is under way."""
        return self._token is not None

    @property
    def chosen(self) -> ModelCheck | None:
        """The model whose findings are shown."""
        rows = {index.row() for index in self.table.selectionModel().selectedRows()}
        return self.report.models[rows.pop()] if self.report is not None and rows else None

    def run(self, *_: Any, models: tuple[str, ...] = ()) -> None:
        """Start; by default with all models on this computer."""
        layer = self.images.layer
        if self.running or layer is None:
            return
        try:
            video = open_source(layer)
        except UserError as error:
            show_error(str(error))
            return
        self._token, self._latest = CancelToken(), Latest()
        worker = check_worker(video, models, self._latest, self._token)
        worker.returned.connect(self._receive)
        worker.finished.connect(self._ended)
        self.bar.start("Loading the models…")
        self.hint.setText("")
        self.run_button.setEnabled(False)
        self._poll.start()
        worker.start()

    def cancel(self) -> None:
        """Stop after the step that is running."""
        if self._token is not None:
            self._token.cancel()

    def _receive(self, result: CheckReport | Failed | None) -> None:
        if isinstance(result, Failed):
            show_error(result.message)
            self.hint.setText(html.escape(result.message))
        elif result is None:
            self.hint.setText("Stopped.")
        else:
            self._show(result)

    def _show(self, report: CheckReport) -> None:
        self.report = report
        self.table.setRowCount(len(report.models))
        for row, model in enumerate(report.models):
            figures = model.figures
            cells = (
                model.model,
                f"{100 * model.expected_right:.0f} %",
                f"{100 * figures['detection']['share']:.0f} %",
                f"{figures['speed']['fps']:.1f}",
            )
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text)
                item.setToolTip(model.title)
                self.table.setItem(row, column, item)
        self.table.show()
        self.next_button.show()
        self.table.selectRow(0)
        self.hint.setText(f"{len(report.sampled)} of {report.n_frames} frames looked at.")

    def _show_findings(self) -> None:
        chosen = self.chosen
        if chosen is None:
            self.findings.setText("")
            return
        lines = []
        for advice in chosen.advice:
            line = f"{MARKS[advice.level]} {html.escape(advice.text)}"
            if advice.step:
                line += f"<br>&nbsp;&nbsp;<b>→ {html.escape(advice.step)}</b>"
            lines.append(line)
        self.findings.setText("<br>".join(lines))

    def _open_predict(self) -> None:
        chosen = self.chosen
        _, widget = self.viewer.window.add_plugin_dock_widget("napari-superanimal", PREDICT, tabify=True)
        if chosen is not None:
            widget.models.choose(chosen.model)
            wanted = any(a.action == "scales" and a.values.get("scales") for a in chosen.advice)
            widget.animal_size.setCurrentIndex(widget.animal_size.findData("auto" if wanted else "single"))
        if self.images.layer is not None:
            widget.images.choose(self.images.layer)

    def _ended(self) -> None:
        self._token = None
        self._poll.stop()
        self.bar.finish()
        self.run_button.setEnabled(self.images.layer is not None)

    def _layer_changed(self) -> None:
        layer = self.images.layer
        if not self.running:
            self.hint.setText(NO_VIDEO if layer is None else READY)
            self.run_button.setEnabled(layer is not None)
