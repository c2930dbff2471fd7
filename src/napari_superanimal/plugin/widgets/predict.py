"""Predict: choose a model and a video, press the button, watch the points appear."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QSignalBlocker, Qt, QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QSpinBox,
    QWidget,
)
from superqt import QLabeledDoubleSlider

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.progress import CancelToken, duration
from napari_superanimal.plugin.image_source import current_frame, frame_count, is_video_layer, open_source
from napari_superanimal.plugin.live import LivePredictions
from napari_superanimal.plugin.requests import PredictRequest
from napari_superanimal.plugin.session import session_of
from napari_superanimal.plugin.widgets.controls import LayerCombo, button, choice, group, hint, spin
from napari_superanimal.plugin.widgets.dock import DockForm
from napari_superanimal.plugin.widgets.model_card import ModelPicker
from napari_superanimal.plugin.widgets.progress import RunBar
from napari_superanimal.plugin.widgets.smooth import SmoothQuestion
from napari_superanimal.plugin.workers import Failed, Finished, PredictUpdate, predict_worker

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image
    from napari.viewer import Viewer

FINETUNE = "Fine-tune a model"
ALL, CURRENT, RANGE = "All frames", "Current frame", "A range"
DETECTORS = {"model": "The model's own", "whole-frame": "None, use the whole frame"}
SIZES = {"usual": "single", "small or huge (slower)": "auto"}
#: How often the detector looks; 0 asks for a number.
LOOKS: dict[str, int | str] = {"in every frame": 1, "automatic (faster)": "auto", "in every n-th frame": 0}
VIDEO_FILES = "Videos and images (*.mp4 *.avi *.mov *.mkv *.png *.jpg *.jpeg *.tif *.tiff);;All files (*)"

NO_VIDEO = (
    "<b>Open a video to start:</b> drag a file or a folder of images into the window, or press <b>Open…</b>"
)
READY = "Press <b>Predict</b>. Nothing needs to be labelled; points appear while it runs."


class PredictWidget(DockForm):
    """Dock widget that finds keypoints in a video or image.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.setObjectName("superanimal_predict")
        self._live: LivePredictions | None = None
        self._token: CancelToken | None = None

        self.models = ModelPicker("predict")
        self.models.changed.connect(self._model_changed)
        self.images = LayerCombo(napari_viewer, is_video_layer)
        self.images.setObjectName("predict_layer")
        self.images.setToolTip("The video or image to find animals in")
        self.images.layer_changed.connect(self._layer_changed)
        self.cleanup.add(self.images.disconnect_viewer)
        self.cleanup.add(self.cancel)
        self.open_button = button("Open…", "predict_open", "Choose a video or image file")
        self.open_button.clicked.connect(self._ask_for_video)

        self.frames = QComboBox()
        self.frames.setObjectName("predict_frames")
        self.frames.addItems([ALL, CURRENT, RANGE])
        self.frames.setToolTip("Which frames to predict")
        self.frames.currentTextChanged.connect(self._frames_changed)
        self.start, self.stop, self.step = (
            spin("predict_start", 0, 0, "First frame"),
            spin("predict_stop", 1, 1, "Stop before this frame"),
            spin("predict_step", 1, 1, "Take every n-th frame"),
        )
        self.range = QWidget()
        row = QHBoxLayout(self.range)
        row.setContentsMargins(0, 0, 0, 0)
        for widget in (self.start, self.stop, self.step):
            # three in a row: without the buttons there is room for the numbers
            widget.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
            row.addWidget(widget)
        self.start.setPrefix("from ")
        self.stop.setPrefix("to ")
        self.step.setPrefix("every ")

        self.animals = spin("predict_individuals", 1, 1, "How many animals are in the picture, at most")
        self.animals.setMaximum(100)
        self.detector = choice(
            "predict_detector", "How the animal is located before its keypoints are looked for"
        )
        self.animal_size = choice(
            "predict_size",
            "For animals that are much smaller or larger in the picture than the model knows: the detector looks at "
            "several scales, where some frames show that this helps. Check tells whether it is worth it",
            SIZES,
        )
        self.looks = choice(
            "predict_looks",
            "How often the detector looks for animals. In between, boxes follow the animals, and it looks wherever the "
            "keypoints do not fit: several times faster where the detector is slow, and boxes are slightly different",
            LOOKS,
        )
        self.every = spin("predict_every", 2, 8, "Frames from one look of the detector to the next")
        self.every.setMaximum(1000)
        self.every.setPrefix("n = ")
        self.looks.currentIndexChanged.connect(self._looks_changed)
        self.detector.currentIndexChanged.connect(self._detector_changed)
        self.threshold = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.threshold.setObjectName("predict_threshold")
        self.threshold.setRange(0.0, 1.0)
        self.threshold.setSingleStep(0.01)
        self.threshold.setDecimals(2)
        self.threshold.setToolTip(
            "Points below this likelihood are doubtful: drawn as rings, without skeleton. "
            "The default is the model's own"
        )
        self.threshold.valueChanged.connect(self._threshold_changed)
        # restyling takes longer the more points there are: once per pause, not once per pixel of the slider
        self._restyle = QTimer(self)
        self._restyle.setSingleShot(True)
        self._restyle.setInterval(120)
        self._restyle.timeout.connect(self._apply_threshold)

        self.run_button = button("Predict", "predict_run", "Find the keypoints in the frames chosen")
        self.run_button.clicked.connect(lambda: self.run())
        self.now_button = button(
            "This frame only", "predict_now", "Try the model on the frame you are looking at"
        )
        self.now_button.clicked.connect(lambda: self.run(CURRENT))
        self.bar = RunBar("frames", "predict")
        self.bar.cancel_clicked.connect(self.cancel)
        self.hint = hint("predict_hint")
        self.learn_button = button(
            "Learn from my corrections…",
            "predict_learn",
            "Opens Fine-tune, where the model learns from the points you moved",
        )
        self.learn_button.clicked.connect(self._open_finetune)
        self.learn_button.hide()

        self.smooth = SmoothQuestion(napari_viewer)
        self.cleanup.add(self.smooth.disconnect_viewer)

        source = QHBoxLayout()
        source.addWidget(self.images, 1)
        source.addWidget(self.open_button)
        fields = QFormLayout()
        fields.setContentsMargins(0, 0, 0, 0)
        fields.addRow("Video", source)
        fields.addRow("Frames", self.frames)
        fields.addRow("", self.range)
        fields.addRow("Animals", self.animals)
        fields.addRow("Detector", self.detector)
        looks = QHBoxLayout()
        looks.addWidget(self.looks, 1)
        looks.addWidget(self.every)
        fields.addRow("Look for animals", looks)
        fields.addRow("Animal size", self.animal_size)
        fields.addRow("Likelihood ≥", self.threshold)
        settings = QWidget()
        settings.setLayout(fields)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 1)
        buttons.addWidget(self.now_button, 1)
        self.form.addWidget(group("Model", self.models))
        self.form.addWidget(group("What to predict", settings))
        self.form.addLayout(buttons)
        self.form.addWidget(self.bar)
        self.form.addWidget(self.hint)
        self.form.addWidget(self.learn_button)
        self.form.addWidget(self.smooth)
        self.form.addStretch(1)
        self._frames_changed(ALL)
        self._looks_changed()
        self._model_changed()
        self._layer_changed()

    @property
    def running(self) -> bool:
        """Whether a prediction is under way."""
        return self._token is not None

    def open_video(self, path: Path | str) -> None:
        """Open a file in the viewer and choose it; a file that cannot be opened is said so."""
        before = set(self.viewer.layers)
        try:
            self.viewer.open(str(path), plugin="napari-superanimal")
        except UserError as error:
            show_error(str(error))
            return
        for layer in self.viewer.layers:
            if layer not in before and is_video_layer(layer):
                self.images.choose(layer)

    def run(self, frames: str | None = None) -> None:
        """Start predicting.

        Parameters
        ----------
        frames : str, optional
            One of the choices of the frames box; by default the one chosen there.
        """
        layer, card = self.images.layer, self.models.card
        if self.running or layer is None or card is None:
            return
        try:
            wanted = self._range(layer, frames or self.frames.currentText())
            request = PredictRequest(
                model=card.name,
                video=open_source(layer),
                frames=wanted,
                max_individuals=self.animals.value(),
                detector=self.detector.currentData(),
                scales=self.animal_size.currentData() if self.animal_size.isEnabled() else "single",
                detect_every=(self.looks.currentData() or self.every.value())
                if self.looks.isEnabled()
                else 1,
            )
        except UserError as error:
            show_error(str(error))
            return
        self._look_at(layer, wanted)
        self._live = LivePredictions(
            self.viewer, layer, card, self.threshold.value(), extend=len(wanted) == 1
        )
        self._token = CancelToken()
        worker = predict_worker(request, self._token)
        worker.yielded.connect(self._receive)
        worker.finished.connect(self._ended)
        self.bar.start("Loading the model…")
        self.hint.setText("")
        self.learn_button.hide()
        self._update_buttons()
        worker.start()

    def cancel(self) -> None:
        """Stop after the batch that is running; what is done stays."""
        if self._token is not None:
            self._token.cancel()

    def _range(self, layer: Image, choice: str) -> range:
        if choice == CURRENT:
            frame = current_frame(layer, self.viewer.dims.point)
            return range(frame, frame + 1)
        if choice == ALL:
            return range(frame_count(layer))
        wanted = range(self.start.value(), min(self.stop.value(), frame_count(layer)), self.step.value())
        if not wanted:
            raise UserError("the range contains no frame", remedy="let it end after its first frame")
        return wanted

    def _look_at(self, layer: Image, frames: range) -> None:
        """Go to the first of `frames` unless one of them is on screen: there the points will appear."""
        if layer.ndim < 3 or current_frame(layer, self.viewer.dims.point) in frames:
            return
        world = layer.data_to_world((frames.start, 0, 0))[0]
        self.viewer.dims.set_point(self.viewer.dims.ndim - layer.ndim, world)

    def _receive(self, message: PredictUpdate | Failed | Finished) -> None:
        """In the GUI thread: show what the worker has to tell."""
        if isinstance(message, PredictUpdate):
            self.bar.report(message.progress)
            if message.poses is not None and self._live is not None and not self._live.show(message.poses):
                self.cancel()  # the user removed the points or the video: no more of it
        elif isinstance(message, Failed):
            show_error(message.message)
            self.hint.setText(message.message)
        elif isinstance(message, Finished):
            self._conclude(message)

    def _conclude(self, result: Finished) -> None:
        name = self._live.name if self._live is not None else ""
        if not result.done:
            self.hint.setText("Stopped before the first frame was done.")
            return
        if self._live is not None and self._live.found and not self._live.shown:
            self.hint.setText("Stopped, because the layer was removed.")
            return
        rate = f", {result.fps:.1f} frames per second" if result.done > 1 else ""
        head = "Stopped; kept" if result.cancelled else "Done:"
        count = f"{result.done} frame" + ("s" if result.done != 1 else "")
        if self._live is not None and not self._live.found:
            self.hint.setText(
                f"{head} {count}, but <b>no animal was found</b>. Choose another model, or if the animal "
                "fills the picture, switch the detector off."
            )
            return
        self.hint.setText(
            f"{head} {count} in {duration(result.seconds)}{rate}.<br><b>Next:</b> select the layer “{name}”, "
            "press 3 and drag wrong points. Then save it (File ▸ Save Selected Layers…) or let the model "
            "learn from your corrections:"
        )
        self.learn_button.show()
        self.scroll_to(self.learn_button)
        if result.done > 1 and not result.cancelled:
            show_info(f"{count} predicted")

    def _ended(self) -> None:
        self._token = None
        if self._live is not None:
            self._live.finish()
        self.bar.finish()
        self._update_buttons()

    def _open_finetune(self) -> None:
        self.viewer.window.add_plugin_dock_widget("napari-superanimal", FINETUNE, tabify=True)

    def _ask_for_video(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a video or image", "", VIDEO_FILES)
        if path:
            self.open_video(path)

    def _model_changed(self) -> None:
        card = self.models.card
        self.detector.clear()
        for key, title in DETECTORS.items():
            if key != "model" or (card is not None and card.detector):
                self.detector.addItem(title, key)
        if card is not None:
            # the default of another model says nothing about the points that are there already
            with QSignalBlocker(self.threshold):
                self.threshold.setValue(card.threshold)
        self._update_buttons()

    def _layer_changed(self) -> None:
        layer = self.images.layer
        if layer is not None:
            count = frame_count(layer)
            self.start.setMaximum(count - 1)
            self.stop.setMaximum(count)
            self.stop.setValue(count)
            self.step.setMaximum(count)
        if not self.running:
            self.hint.setText(NO_VIDEO if layer is None else READY)
        self._update_buttons()

    def _detector_changed(self) -> None:
        """Without a detector there are no scales to search, and nothing that could look less often."""
        has_one = self.detector.currentData() == "model"
        for widget in (self.animal_size, self.looks, self.every):
            widget.setEnabled(has_one)

    def _looks_changed(self) -> None:
        self.every.setVisible(self.looks.currentData() == 0)

    def _frames_changed(self, choice: str) -> None:
        self.range.setVisible(choice == RANGE)

    def _threshold_changed(self) -> None:
        self._restyle.start()

    def _apply_threshold(self) -> None:
        """Restyle the pose layer that is selected, and the one that is being predicted."""
        value = self.threshold.value()
        if self._live is not None:
            self._live.set_threshold(value)
        active = self.viewer.layers.selection.active
        session = None if active is None else session_of(active)
        if session is not None and (self._live is None or active != self._live.layer):
            session.set_threshold(value)

    def _update_buttons(self) -> None:
        ready = self.images.layer is not None and self.models.card is not None and not self.running
        self.run_button.setEnabled(ready)
        self.now_button.setEnabled(ready)
