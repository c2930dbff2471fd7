"""Two sets of predictions of the same frames, and a slider from one to the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

from napari_superanimal.plugin.conventions import OURS
from napari_superanimal.plugin.live import file_of, lay_on, layers_of
from napari_superanimal.plugin.session import show_poses
from napari_superanimal.plugin.store import PoseStore
from napari_superanimal.plugin.widgets.controls import button

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from napari.layers import Image, Points
    from napari.viewer import Viewer

    from napari_superanimal.models.card import ModelCard
    from napari_superanimal.poses import Poses

#: End of the slider at which only the later predictions are seen.
END = 100


class BeforeAfter(QWidget):
    """A slider that fades from one layer of predictions to another, and a way through their frames.

    Parameters
    ----------
    viewer : Viewer
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.layers: tuple[Points, Points] | None = None
        self._frames: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._image: Image | None = None
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setObjectName("adapt_compare")
        self.slider.setRange(0, END)
        self.slider.setValue(END)
        self.slider.setToolTip("Left: the starting model's points only; right: the adapted model's only")
        self.slider.valueChanged.connect(self._blend)
        self.previous_button = button("◀ Held-out frame", "adapt_previous", "Go to the held-out frame before")
        self.next_button = button("Held-out frame ▶", "adapt_next", "Go to the next held-out frame")
        self.previous_button.clicked.connect(lambda: self.step(-1))
        self.next_button.clicked.connect(lambda: self.step(1))
        fade, walk = QHBoxLayout(), QHBoxLayout()
        fade.addWidget(QLabel("Before"))
        fade.addWidget(self.slider, 1)
        fade.addWidget(QLabel("Adapted"))
        walk.addWidget(self.previous_button, 1)
        walk.addWidget(self.next_button, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(fade)
        layout.addLayout(walk)

    def show_predictions(
        self, image: Image, predictions: Sequence[Poses], names: Sequence[str], card: ModelCard, model: str
    ) -> None:
        """Add the layers; other predictions on the video are hidden, never changed.

        Parameters
        ----------
        image : Image
            The video that was predicted.
        predictions : (Poses, Poses)
            Before and after.
        names : (str, str)
            Of the layers.
        card : ModelCard
            Of the starting model.
        model : str
            Name of the adapted model.
        """
        for layer in self.viewer.layers:
            ours = layer.metadata.get(OURS)
            store = ours.get("store") if isinstance(ours, dict) else None
            if isinstance(store, PoseStore) and store.info.get("image") == image.name:
                layer.visible = False
        added = []
        for poses, name, by in zip(predictions, names, (card.name, model), strict=True):
            points = show_poses(
                self.viewer,
                poses,
                name=name,
                space=card.space_name,
                model=by,
                video=file_of(image),
                kind="predictions",
                threshold=card.threshold,
            )
            lay_on(self.viewer, image, points)
            # predicting this frame again must not write into the proof
            points.metadata[OURS]["store"].info["image"] = ""
            added.append(points)
        self.layers = (added[0], added[1])
        self._image = image
        self._frames = np.asarray(predictions[0].frames)
        self.slider.setValue(END)
        self._blend()
        self.step(0)

    def clear(self) -> None:
        """Let go of the layers; they stay in the viewer."""
        self.layers, self._image = None, None

    def step(self, by: int) -> None:
        """Go to the nearest held-out frame, the next one (1) or the one before (-1)."""
        image = self._image
        if image is None or image not in self.viewer.layers or not len(self._frames):
            return
        here = float(image.world_to_data(self.viewer.dims.point[-image.ndim :])[0])
        row = int(np.abs(self._frames - here).argmin())
        if by:
            row = int(np.searchsorted(self._frames, round(here), "right" if by > 0 else "left")) - (by < 0)
        frame = int(self._frames[np.clip(row, 0, len(self._frames) - 1)])
        world = image.data_to_world((frame, 0, 0))[0]
        self.viewer.dims.set_point(self.viewer.dims.ndim - image.ndim, world)

    def _blend(self) -> None:
        """Both are seen in the middle; at an end, only one."""
        if self.layers is None:
            return
        share = self.slider.value() / END
        for points, opacity in zip(self.layers, (min(1.0, 2 - 2 * share), min(1.0, 2 * share)), strict=True):
            for layer in layers_of(self.viewer, points):
                layer.opacity = opacity
                if layer.metadata[OURS]["role"] != "boxes":
                    layer.visible = opacity > 0
