"""Where a fine-tuning learns from: a points layer with corrections, or a data set on disk."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from napari_superanimal.errors import UserError
from napari_superanimal.plugin.image_source import is_video_layer, open_source
from napari_superanimal.plugin.layers import layer_store
from napari_superanimal.plugin.live import store_of
from napari_superanimal.plugin.session import session_of
from napari_superanimal.plugin.training_data import count_labels, training_labels
from napari_superanimal.plugin.widgets.controls import LayerCombo, hint
from napari_superanimal.plugin.widgets.dataset_field import DatasetField

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer

    from napari_superanimal.plugin.image_source import ArrayVideo
    from napari_superanimal.poses import Poses
    from napari_superanimal.video import Video

#: Fewer labelled frames than this can work, but more help a lot.
FEW = 5

NO_POINTS = (
    "<b>Nothing to learn from yet.</b> Predict a video and drag wrong points to where they belong, or open a "
    "labelled data set (File ▸ Open, or “A data set on disk” above)."
)


class LabelsSource(QWidget):
    """Form part that answers: which labels?

    Parameters
    ----------
    viewer : Viewer
    """

    changed = Signal()

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.from_layer = QRadioButton("Points I corrected or placed")
        self.from_layer.setObjectName("finetune_from_layer")
        self.from_layer.setChecked(True)
        self.from_disk = QRadioButton("A data set on disk")
        self.from_disk.setObjectName("finetune_from_disk")
        self.from_disk.setToolTip("A DeepLabCut project, CollectedData file, COCO keypoints file, ...")
        self.points = LayerCombo(viewer, is_points)
        self.points.setObjectName("finetune_points")
        self.points.setToolTip("The points layer with your corrections or labels")
        self.images = LayerCombo(viewer, is_video_layer)
        self.images.setObjectName("finetune_images")
        self.images.setToolTip("The video that the points lie on")
        self.accept = QCheckBox("Points I left alone in a frame I edited are correct")
        self.accept.setObjectName("finetune_accept_untouched")
        self.accept.setChecked(True)
        self.accept.setToolTip(
            "When you correct a frame you have seen all its points: those above the likelihood threshold "
            "that you did not move count as labels too. Untick it to learn from moved points only."
        )
        dataset = DatasetField("finetune")
        self.path = dataset.path
        self.count = hint("finetune_labels")
        self._watched: Layer | None = None
        # counting waits for a pause in the editing
        self._recount = QTimer(self)
        self._recount.setSingleShot(True)
        self._recount.setInterval(300)
        self._recount.timeout.connect(self.refresh)

        self.layer_part = QWidget()
        fields = QFormLayout(self.layer_part)
        fields.setContentsMargins(16, 0, 0, 0)
        fields.addRow("Points", self.points)
        fields.addRow("Video", self.images)
        fields.addRow(self.accept)
        self.disk_part = QWidget()
        row = QHBoxLayout(self.disk_part)
        row.setContentsMargins(16, 0, 0, 0)
        row.addWidget(dataset)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (self.from_layer, self.layer_part, self.from_disk, self.disk_part, self.count):
            layout.addWidget(widget)

        self.from_layer.toggled.connect(self.refresh)
        self.accept.toggled.connect(self.refresh)
        self.path.textChanged.connect(self.refresh)
        dataset.browsed.connect(self._dataset_browsed)
        self.images.layer_changed.connect(self.refresh)
        self.points.layer_changed.connect(self._points_changed)
        self._points_changed()

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        self.points.disconnect_viewer()
        self.images.disconnect_viewer()
        self._watch(None)

    @property
    def on_disk(self) -> bool:
        """The labels are a data set on disk."""
        return self.from_disk.isChecked()

    @property
    def title(self) -> str:
        """What the user calls the labels."""
        if self.on_disk:
            return Path(self.path.text()).name
        return self.points.layer.name if self.points.layer is not None else ""

    @property
    def subject(self) -> str:
        """What the labels are about: the video's or the data set's name."""
        if self.on_disk or self.images.layer is None:
            return Path(self.title).stem
        return self.images.layer.name

    @property
    def model(self) -> str:
        """The model whose predictions were corrected, empty when unknown."""
        store = store_of(self.points.layer) if self.points.layer is not None else None
        return str(store.info.get("model", "")) if store is not None and not self.on_disk else ""

    @property
    def keypoints(self) -> tuple[str, ...]:
        """Keypoints that the labels have; empty where they cannot be read."""
        try:
            if self.on_disk:
                return keypoints_of(self.dataset())
            return () if self.points.layer is None else self.labels().keypoints
        except UserError:
            return ()

    def dataset(self) -> Path:
        """The data set on disk.

        Raises
        ------
        UserError
            If there is none, or no reader knows it.
        """
        from napari_superanimal.poses.formats import registry

        path = Path(self.path.text().strip()).expanduser()
        if not self.path.text().strip() or not path.exists():
            raise UserError("there is no such data set", path=path, remedy="choose one with Browse…")
        if registry.sniff(path) is None:
            raise UserError(
                "not a data set that can be read",
                path=path,
                remedy="choose a DeepLabCut project, CollectedData h5 or csv, or COCO keypoints json",
            )
        return path

    def labels(self) -> Poses:
        """What the points layer vouches for; empty when nothing does.

        Raises
        ------
        UserError
            If the layer's points cannot be read as poses.
        """
        layer = self.points.layer
        if layer is None:
            raise UserError(
                "there is no points layer", remedy="predict a video and correct some points first"
            )
        session = session_of(layer)
        if session is not None:
            session.flush()
        store = layer_store(layer) if session is None else session.store
        return training_labels(
            store.poses, accept_untouched=self.accept.isChecked(), threshold=store.threshold
        )

    def video(self) -> Video | ArrayVideo | None:
        """Frames the points lie on, with a decoder of their own; None when there is no image layer."""
        return None if self.images.layer is None else open_source(self.images.layer)

    def refresh(self) -> None:
        """Count the labels again."""
        self.layer_part.setVisible(not self.on_disk)
        self.disk_part.setVisible(self.on_disk)
        self.count.setText(self._describe())
        self.changed.emit()

    def _describe(self) -> str:
        if self.on_disk:
            return (
                "" if self.path.text() else "Choose the folder of a DeepLabCut project or a file with labels."
            )
        if self.points.layer is None:
            return NO_POINTS
        try:
            labels = self.labels()
        except UserError as error:
            return str(error)
        count = count_labels(labels)
        if not count.points:
            return (
                "<b>No point of this layer was placed or moved by you.</b> Select the layer, press 3, and "
                "drag wrong points to where they belong, in 10 to 20 different frames."
            )
        line = (
            f"<b>{count.frames} labelled frame{'s' if count.frames != 1 else ''}</b>, "
            f"{count.points} points of {len(labels.keypoints)} keypoints."
        )
        if count.frames < FEW:
            line += " More frames make a better model: 10 to 20, as different as possible."
        return line

    def _points_changed(self) -> None:
        layer = self.points.layer
        self._watch(layer)
        store = store_of(layer) if layer is not None else None
        for i in range(self.images.count()):
            if store is not None and self.images.itemText(i) == store.info.get("image"):
                self.images.setCurrentIndex(i)
        self.refresh()

    def _watch(self, layer: Layer | None) -> None:
        """Count again whenever a point of this layer is changed by hand."""
        if self._watched is not None:
            self._watched.events.data.disconnect(self._data_changed)
        self._watched = layer
        if layer is not None:
            layer.events.data.connect(self._data_changed)

    def _data_changed(self, event: object) -> None:
        if str(getattr(event, "action", "")) in ("added", "changed", "removed"):
            self._recount.start()

    def _dataset_browsed(self) -> None:
        try:
            self.dataset()
        except UserError as error:
            show_error(str(error))


def keypoints_of(dataset: Path) -> tuple[str, ...]:
    """Keypoints of a data set on disk, read once for as long as it does not change.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    return _keypoints_of(dataset, dataset.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _keypoints_of(dataset: Path, changed: int) -> tuple[str, ...]:
    from napari_superanimal.poses.formats import registry

    return registry.read(dataset).keypoints


def is_points(layer: Layer) -> bool:
    """Whether a layer holds points."""
    from napari.layers import Points

    return isinstance(layer, Points)
