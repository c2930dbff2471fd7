"""Fine-tune: let a model learn from corrected points, and watch it learn."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QLineEdit, QWidget

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.progress import CancelToken, duration
from napari_superanimal.models import zoo
from napari_superanimal.plugin import runs
from napari_superanimal.plugin.requests import FinetuneRequest
from napari_superanimal.plugin.widgets.background_training import BackgroundTraining
from napari_superanimal.plugin.widgets.controls import button, choice, group, hint, spin
from napari_superanimal.plugin.widgets.dock import DockForm
from napari_superanimal.plugin.widgets.finetune_outcome import (
    comparison_text,
    expected_text,
    matches_text,
    outcome_text,
)
from napari_superanimal.plugin.widgets.labels_source import LabelsSource
from napari_superanimal.plugin.widgets.live_plot import Curve, LivePlot
from napari_superanimal.plugin.widgets.model_card import ModelPicker
from napari_superanimal.plugin.widgets.table_field import TableField
from napari_superanimal.plugin.workers import Failed, write_labels_worker
from napari_superanimal.training.modes import MODES
from napari_superanimal.training.pace import expected_pace

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_superanimal.jobs.progress import Progress

#: What a user may choose from: steps of training.
LENGTHS = {"Quick try": 200, "Normal": 1000, "Long": 4000, "Other": 0}
#: The form that matches keypoints, as the manifest calls it.
MATCH = "Match keypoints"


class FinetuneWidget(DockForm):
    """Dock widget that makes a new model from labels.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.setObjectName("superanimal_finetune")
        self.training: BackgroundTraining[FinetuneRequest] = BackgroundTraining(
            "finetune", "training", runs.unfinished_runs, self
        )
        self.hint = self.training.hint
        self._token: CancelToken | None = None
        self._speeds = runs.known_speeds()
        self._rate = 0.0

        self.source = LabelsSource(napari_viewer)
        self.cleanup.add(self.source.disconnect_viewer)
        self.cleanup.add(self.cancel)
        self.models = ModelPicker("finetune", with_card=False)
        modes = {mode.title: key for key, mode in MODES.items()}
        self.mode = choice("finetune_mode", "What the new model takes over from the old one", modes)
        self.mode_text = hint("finetune_mode_text")
        self.table = TableField("finetune")
        self.matches = hint("finetune_matches")
        self.match_button = button(
            "Match keypoints…",
            "finetune_match",
            "See on your pictures which of the model's keypoints yours are, put it right and come back",
        )
        self.length = QComboBox()
        self.length.setObjectName("finetune_length")
        self.length.addItems(list(LENGTHS))
        self.length.setCurrentText("Normal")
        self.length.setToolTip("Longer is better up to a point: watch the error on held-back frames")
        self.steps = spin("finetune_steps", 1, LENGTHS["Normal"], "Number of training steps")
        self.steps.setSuffix(" steps")
        self.steps.setSingleStep(100)
        self.estimate = hint("finetune_estimate")
        self.name = QLineEdit()
        self.name.setObjectName("finetune_name")
        self.name.setToolTip("What the new model is called in the list of models")
        self.start_button = button("Start training", "finetune_start", "Train in the background")
        self.compare_button = button(
            "Compare all ways…",
            "finetune_compare",
            "Train in every way on most of your frames and measure on the rest: what is learned, what is forgotten",
        )
        self.plot = LivePlot(
            {
                "loss": Curve("loss", "#4ea1ff"),
                "val_error_px": Curve("error on held-back frames, px", "#ff9f40", right=True, dots=True),
            },
            empty="Loss and error on held-back frames are drawn here while the model learns.",
        )
        self.plot.setObjectName("finetune_plot")
        self._lay_out()

        self.models.changed.connect(self._describe)
        self.mode.currentIndexChanged.connect(self._describe)
        self.length.currentTextChanged.connect(self._length_chosen)
        self.steps.valueChanged.connect(self._steps_chosen)
        self.start_button.clicked.connect(self.start)
        self.compare_button.clicked.connect(self.compare)
        self.table.changed.connect(self._describe)
        self.match_button.clicked.connect(self._open_match)
        self.training.bar.cancel_clicked.connect(self.cancel)
        self.training.began.connect(self._began)
        self.training.progressed.connect(self._progressed)
        self.training.finished.connect(self._finished)
        self.training.ended.connect(self._ended)
        self.source.changed.connect(self._source_changed)
        self._source_changed()
        self._describe()
        self.training.list_unfinished()

    def _lay_out(self) -> None:
        how = QWidget()
        fields = QFormLayout(how)
        fields.setContentsMargins(0, 0, 0, 0)
        fields.addRow("Start from", self.models)
        fields.addRow("How", self.mode)
        fields.addRow(self.mode_text)
        fields.addRow("Table", self.table)
        fields.addRow(self.matches)
        fields.addRow(self.match_button)
        long = QHBoxLayout()
        long.addWidget(self.length)
        long.addWidget(self.steps)
        fields.addRow("How long", long)
        fields.addRow(self.estimate)
        fields.addRow("New model", self.name)
        self.form.addWidget(group("Learn from", self.source))
        self.form.addWidget(group("Training", how))
        self.form.addWidget(self.start_button)
        self.form.addWidget(self.compare_button)
        self.form.addWidget(self.training.bar)
        self.form.addWidget(self.plot)
        self.form.addWidget(self.hint)
        self.form.addWidget(self.training.unfinished_box)
        self.form.addStretch(1)

    @property
    def running(self) -> bool:
        """Whether labels are being written or a model is being trained."""
        return self.training.running

    def start(self) -> None:
        """Write the labels out and train on them."""
        self._begin_run(compare=False)

    def compare(self) -> None:
        """Write the labels out and train on them in every way, to compare."""
        self._begin_run(compare=True)

    def _begin_run(self, *, compare: bool) -> None:
        card = self.models.card
        if self.running or card is None:
            return
        folder = runs.runs_folder() / self.name.text()
        try:
            runs.check_name(self.name.text())
            dataset = self.source.dataset() if self.source.on_disk else folder / "data" / "labels.json"
            request = FinetuneRequest(
                name=self.name.text(),
                folder=str(folder),
                dataset=str(dataset),
                model=card.name,
                mode=self.mode.currentData(),
                steps=self.steps.value(),
                labels=self.source.title,
                table=self.table.table(),
                # in corrected predictions a point that is gone was deleted
                absent=not self.source.on_disk,
                compare=compare,
            )
            if self.source.on_disk:
                runs.new_run(request)
                self.training.start(request)
            else:
                labels, video = self.source.labels(), self.source.video()
                runs.new_run(request)
                self._write_labels(request, labels, video)
        except UserError as error:
            self.training.fail(str(error))

    def cancel(self) -> None:
        """Stop; a checkpoint is kept."""
        if self._token is not None:
            self._token.cancel()
        self.training.cancel()

    def _write_labels(self, request: FinetuneRequest, labels: object, video: object) -> None:
        self._token = CancelToken()
        outcome: list[Failed] = []
        token = self._token

        def received(message: Progress | Failed) -> None:
            if isinstance(message, Failed):
                outcome.append(message)
            else:
                self.training.bar.report(message)

        def ended() -> None:
            self._token = None
            if outcome:
                self.training.fail(outcome[0].message)
            elif token.cancelled:
                runs.discard_run(request)
                self.training.end("Stopped before the training began.")
            else:
                self.training.start(request)

        worker = write_labels_worker(labels, video, Path(request.folder) / "data", token)
        worker.yielded.connect(received)
        worker.finished.connect(ended)
        self.training.begin("Writing the labelled frames…")
        worker.start()

    def _began(self) -> None:
        self._rate = 0.0
        self.plot.clear()
        self.scroll_to(self.hint)
        self._update_buttons()

    def _progressed(self, progress: Progress) -> None:
        if "step" in progress.values:
            self._rate = progress.rate or self._rate
        for name in self.plot.curves:
            value = progress.values.get(name)
            if value is not None:
                self.plot.add(name, float(progress.values.get("step", progress.done)), float(value))

    def _finished(self, request: FinetuneRequest) -> None:
        if request.compare:
            self._compared(request)
            return
        try:
            card = zoo.import_model(request.out).card
            runs.finish_run(request)
        except UserError as error:
            self.training.fail(str(error))
            return
        if self._rate > 0:
            runs.remember_speed(request.model, self._rate)
            self._speeds = runs.known_speeds()
        self.models.refresh()
        self.training.end(
            f"<b>“{request.name}” is ready.</b> {outcome_text(card)} It is in the list of models of Predict now, "
            "with its card. <b>Next:</b> choose it there and predict a video that it has not learned from."
        )
        show_info(f"Training finished: {request.name}")

    def _compared(self, request: FinetuneRequest) -> None:
        try:
            found = runs.keep_comparison(request)
        except UserError as error:
            self.training.fail(str(error))
            return
        self.training.end(comparison_text(found, Path(request.folder)))
        show_info("The ways of training have been compared")

    def _ended(self) -> None:
        self.name.setText(runs.free_name(self._proposal()))
        self._update_buttons()
        box = self.training.unfinished_box
        self.scroll_to(box if box.isVisible() else self.hint)

    def _proposal(self) -> str:
        return f"{self.source.subject or 'my'}-model"

    def _source_changed(self) -> None:
        if self.source.model:
            self.models.choose(self.source.model)
        if not self.running and not self.name.isModified():
            self.name.setText(runs.free_name(self._proposal()))
        self._describe()

    def _describe(self) -> None:
        mode = MODES.get(self.mode.currentData())
        meaning = expected_text(self.mode.currentData(), self.models.card, self._show_matches())
        self.mode_text.setText(" ".join(t for t in (mode.explanation if mode else "", meaning) if t))
        self._show_estimate()
        self._update_buttons()

    def _show_matches(self) -> tuple[str, ...] | None:
        """Say which of the user's keypoints the model knows; gives what they are to the model, None if unknown."""
        from napari_superanimal.keypoints import KeypointSpace, look_up_table
        from napari_superanimal.keypoints.table import SIDE
        from napari_superanimal.training.vocabulary import origin

        card, names = self.models.card, self.source.keypoints
        self.matches.setText("")
        self.matches.setVisible(False)
        if card is None or not names:
            return None
        try:
            path = self.source.dataset() if self.source.on_disk else None
            space = KeypointSpace.from_json(card.space)
            table, came_from = look_up_table(names, space, self.table.table(), path=path)
        except UserError:
            return None
        known = origin(names, card.keypoints, table)
        self.matches.setText(matches_text(names, known, came_from if self.source.on_disk else "layer"))
        self.matches.setVisible(bool(self.matches.text()))
        meant = {part for n in known for part in ((table.target(n) if table else n) or "").split(SIDE)}
        return tuple(k for k in card.keypoints if k in meant)

    def _open_match(self) -> None:
        """The Match form for these labels and this model; its table comes back here."""
        _, widget = self.viewer.window.add_plugin_dock_widget("napari-superanimal", MATCH, tabify=True)
        if self.models.card is not None:
            widget.models.choose(self.models.card.name)
        if not widget.running:
            widget.path.setText(self.source.path.text())
        with contextlib.suppress(TypeError, RuntimeError):
            widget.saved.disconnect(self._matched)
        widget.saved.connect(self._matched)

    def _matched(self, path: str) -> None:
        """A table was saved in the Match form."""
        self.table.path.setText(path)
        # the same path may hold other pairs now
        self._describe()
        if (dock := self.parentWidget()) is not None:
            dock.raise_()

    def _length_chosen(self, choice: str) -> None:
        if LENGTHS[choice]:
            self.steps.setValue(LENGTHS[choice])

    def _steps_chosen(self, steps: int) -> None:
        fitting = [title for title, count in LENGTHS.items() if count == steps]
        self.length.setCurrentText(fitting[0] if fitting else "Other")
        self._show_estimate()

    def _show_estimate(self) -> None:
        ref = self.models.ref
        if ref is None:
            self.estimate.setText("")
            return
        speed = self._speeds.get(ref.card.name)
        seconds = self.steps.value() / (speed or expected_pace(ref.card, self.mode.currentData()))
        if speed:
            text = f"About {duration(seconds)}, measured on this computer."
        else:
            text = f"Perhaps {duration(seconds)}; the first training measures it."
        if ref.official and not ref.here:
            text += (
                " <b>Not on this computer yet:</b> the weights are downloaded first; using them means accepting "
                "their licence, for research only."
            )
        self.estimate.setText(text)

    def _update_buttons(self) -> None:
        for each in (self.start_button, self.compare_button):
            each.setEnabled(not self.running and self.models.card is not None)
        # corrected predictions have the model's own names
        self.match_button.setVisible(self.source.on_disk)
        self.match_button.setEnabled(bool(self.source.keypoints))
