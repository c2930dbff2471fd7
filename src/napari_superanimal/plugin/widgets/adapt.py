"""Adapt: a model gets used to a video without labels, proves that it got better, and is kept or reverted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_error, show_info
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QLineEdit, QWidget

from napari_superanimal.errors import UserError
from napari_superanimal.models.zoo import find_model
from napari_superanimal.plugin import adaptations
from napari_superanimal.plugin.image_source import is_video_layer
from napari_superanimal.plugin.live import file_of
from napari_superanimal.plugin.requests import AdaptRequest
from napari_superanimal.plugin.widgets.adapt_outcome import (
    TABLE_HELP,
    JitterPlot,
    arms_of,
    arms_table,
    verdict_text,
)
from napari_superanimal.plugin.widgets.background_training import BackgroundTraining
from napari_superanimal.plugin.widgets.before_after import BeforeAfter
from napari_superanimal.plugin.widgets.controls import LayerCombo, button, choice, group, hint, spin
from napari_superanimal.plugin.widgets.dock import DockForm
from napari_superanimal.plugin.widgets.model_card import ModelPicker

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Image
    from napari.viewer import Viewer

    from napari_superanimal.jobs.progress import Progress
    from napari_superanimal.plugin.adaptations import Finished

#: What a user may choose from: steps of training, and frames to learn from.
LENGTHS = {"Quick try": (60, 80), "Normal": (300, 240), "Thorough": (800, 480)}
NO_VIDEO = "<b>Open a video to start:</b> drag a file or a folder of images into the window."
NO_FILE = "This layer is no file: save it as a video and open that."
READY = (
    "The model learns from what it is sure of in this video, without labels. Frames that it did not learn from then "
    "tell whether it got better; if not, it is reverted by itself."
)


class AdaptWidget(DockForm):
    """Dock widget that adapts a model to a video and shows the proof.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.setObjectName("superanimal_adapt")
        self.finished: Finished | None = None
        self.training: BackgroundTraining[AdaptRequest] = BackgroundTraining(
            "adapt", "adaptation", adaptations.unfinished, self
        )
        self.hint = self.training.hint
        self.images = LayerCombo(napari_viewer, is_video_layer)
        self.images.setObjectName("adapt_layer")
        self.images.setToolTip("The video to adapt to")
        self.models = ModelPicker("adapt", with_card=False, official=False)
        self.animals = spin("adapt_individuals", 1, 1, "How many animals are in the picture, at most")
        self.animals.setMaximum(100)
        lengths = {
            f"{title}: {steps} steps, {frames} frames": title for title, (steps, frames) in LENGTHS.items()
        }
        self.length = choice("adapt_length", "How long it learns, and from how many frames", lengths)
        self.length.setCurrentIndex(self.length.findData("Normal"))
        self.name = QLineEdit()
        self.name.setObjectName("adapt_name")
        self.name.setToolTip("What the adapted model is called in the list of models")
        self.start_button = button("Adapt", "adapt_start", "Learn in the background, then prove it")
        self.verdict = hint("adapt_verdict")
        self.table = hint("adapt_table")
        self.table.setToolTip(TABLE_HELP)
        self.plot = JitterPlot()
        self.compare = BeforeAfter(napari_viewer)
        self.keep_button = button("Keep", "adapt_keep", "Put the adapted model into the list of models")
        self.revert_button = button(
            "Revert",
            "adapt_revert",
            "Take the adapted model out of use; the starting model was never changed",
        )
        self._lay_out()
        self.images.layer_changed.connect(self._layer_changed)
        self.models.changed.connect(self._propose)
        self.start_button.clicked.connect(self.start)
        self.keep_button.clicked.connect(self.keep)
        self.revert_button.clicked.connect(self.revert)
        self.cleanup.add(self.images.disconnect_viewer)
        self.cleanup.add(self.training.cancel)
        self.training.bar.cancel_clicked.connect(self.training.cancel)
        self.training.began.connect(self._began)
        self.training.progressed.connect(self._progressed)
        self.training.finished.connect(self._concluded)
        self.training.ended.connect(self._ended)
        self._layer_changed()
        self.training.list_unfinished()
        self._show_outcome()

    def _lay_out(self) -> None:
        how = QWidget()
        fields = QFormLayout(how)
        fields.setContentsMargins(0, 0, 0, 0)
        fields.addRow("Video", self.images)
        fields.addRow("Start from", self.models)
        fields.addRow("Animals", self.animals)
        fields.addRow("How long", self.length)
        fields.addRow("New model", self.name)
        self.choice = QWidget()
        buttons = QHBoxLayout(self.choice)
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.addWidget(self.keep_button, 1)
        buttons.addWidget(self.revert_button, 1)
        self.outcome_box = group("Proof", self.verdict, self.choice, self.compare, self.table, self.plot)
        self.form.addWidget(group("Adapt", how))
        self.form.addWidget(self.start_button)
        self.form.addWidget(self.training.bar)
        self.form.addWidget(self.hint)
        self.form.addWidget(self.outcome_box)
        self.form.addWidget(self.training.unfinished_box)
        self.form.addStretch(1)

    @property
    def running(self) -> bool:
        """Whether a model is being adapted."""
        return self.training.running

    def start(self) -> None:
        """Adapt the chosen model to the chosen video."""
        card, image = self.models.card, self.images.layer
        video = None if image is None else file_of(image)
        if self.running or card is None or image is None or video is None:
            return
        steps, frames = LENGTHS[self.length.currentData()]
        name = self.name.text()
        request = AdaptRequest(
            name=name,
            folder=str(adaptations.home() / name),
            video=str(video),
            model=card.name,
            steps=steps,
            frames=frames,
            max_individuals=self.animals.value(),
            layer=image.name,
        )
        try:
            adaptations.start(request)
        except UserError as error:
            self.training.fail(str(error))
        else:
            self.training.start(request)

    def keep(self) -> None:
        """Use the adapted model, whatever the proof says."""
        self._decide(adaptations.keep_it)

    def revert(self) -> None:
        """Do not use the adapted model."""
        self._decide(adaptations.revert_it)

    def _decide(self, how: Callable[[Finished], Finished]) -> None:
        if self.finished is None or self.running:
            return
        try:
            self.finished = how(self.finished)
        except UserError as error:
            show_error(str(error))
            return
        self.models.refresh()
        self._show_outcome()

    def _began(self) -> None:
        self.finished = None
        self._show_outcome()
        self._update_buttons()

    def _progressed(self, progress: Progress) -> None:
        self.training.bar.unit = "steps" if progress.message.startswith("adapting") else "frames"

    def _concluded(self, request: AdaptRequest) -> None:
        try:
            self.finished = adaptations.conclude(request)
            self._show_predictions(self.finished)
        except UserError as error:
            self.training.fail(str(error))
            return
        self.models.refresh(select=request.model)
        self.training.end("")
        self._show_outcome()
        self.scroll_to(self.outcome_box)
        show_info(f"{request.name}: {'kept' if self.finished.kept else 'reverted'}")

    def _show_predictions(self, found: Finished) -> None:
        """Before and after as two layers of their own, if the video is still open."""
        image = self._image_of(found.request)
        if image is None or not found.trained:
            return
        card = find_model(found.request.model).card
        names = (
            f"{image.name} before ({found.request.model})",
            f"{image.name} adapted ({found.request.name})",
        )
        self.compare.show_predictions(image, found.predictions(), names, card, found.request.name)

    def _image_of(self, request: AdaptRequest) -> Image | None:
        for layer in self.viewer.layers:
            if is_video_layer(layer) and (path := file_of(layer)) is not None and str(path) == request.video:
                found: Image = layer
                return found
        return None

    def _ended(self) -> None:
        self.name.setModified(False)
        self._propose()

    def _show_outcome(self) -> None:
        found = self.finished
        self.outcome_box.setVisible(found is not None)
        self.compare.setVisible(found is not None and self.compare.layers is not None)
        if found is None:
            self.compare.clear()
            return
        arms = arms_of(found)
        self.verdict.setText(verdict_text(found))
        self.table.setText(arms_table(arms))
        self.plot.show_arms(arms)
        self.choice.setVisible(found.trained)
        self.keep_button.setEnabled(not found.kept)
        self.keep_button.setText("Keep" if found.outcome["passes"] else "Keep anyway")
        self.revert_button.setEnabled(found.kept)
        # what is not in use is not shown first
        self.compare.slider.setValue(self.compare.slider.maximum() if found.kept else 0)

    def _layer_changed(self) -> None:
        image = self.images.layer
        if not self.running and self.finished is None:
            self.hint.setText(NO_VIDEO if image is None else READY if file_of(image) else NO_FILE)
        self._propose()

    def _propose(self) -> None:
        image, card = self.images.layer, self.models.card
        video = None if image is None else file_of(image)
        if not self.running and not self.name.isModified() and card is not None and video is not None:
            self.name.setText(adaptations.free_name(card.name, str(video)))
        self._update_buttons()

    def _update_buttons(self) -> None:
        image = self.images.layer
        ready = image is not None and file_of(image) is not None and self.models.card is not None
        self.start_button.setEnabled(ready and not self.running)
