"""One question, asked once: shall napari load the frames of long videos in the background?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.settings import get_settings
from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from napari_superanimal.plugin.image_source import is_video_layer, pixels
from napari_superanimal.plugin.live import store_of
from napari_superanimal.plugin.settings import remember, setting
from napari_superanimal.plugin.widgets.controls import button, hint
from napari_superanimal.video import Video

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.viewer import Viewer

#: Frames from which on people jump about in a video rather than step through it.
LONG = 500
QUESTION = (
    "<b>Smooth scrubbing?</b> napari can load frames in the background, so that its window does not wait "
    "for a long video when you jump. Points and picture then appear a moment after the slider."
)
WHERE = "Preferences ▸ Experimental ▸ Render Layers Asynchronously"


class SmoothQuestion(QWidget):
    """Asks whether to switch on napari's asynchronous slicing, when a long video and poses are open.

    Whatever the answer is, it is kept in the plugin's settings, and the question does not come again.

    Parameters
    ----------
    viewer : Viewer
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.text = hint("smooth_text", QUESTION)
        self.yes = button("Switch on", "smooth_yes", f"Sets {WHERE}")
        self.no = button("No, thanks", "smooth_no", f"Not asked again; the switch is in {WHERE}")
        self.yes.clicked.connect(lambda: self.answer(True))
        self.no.clicked.connect(lambda: self.answer(False))
        row = QHBoxLayout()
        row.addWidget(self.yes)
        row.addWidget(self.no)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addLayout(row)
        viewer.layers.events.inserted.connect(self.refresh)
        if not worth_asking(viewer):
            self.hide()  # else it is shown with the form that it becomes a part of

    def disconnect_viewer(self) -> None:
        """Stop following the viewer; call it when the form goes."""
        self._viewer.layers.events.inserted.disconnect(self.refresh)

    def refresh(self, event: object = None) -> None:
        """Ask if there is a reason to."""
        if self.isHidden() and worth_asking(self._viewer):
            self.show()

    def answer(self, switch_on: bool) -> None:
        """Keep the answer, and do it."""
        remember("display", "asked_smooth", True)
        if not switch_on:
            self.hide()
            return
        get_settings().experimental.async_ = True
        self.text.setText(f"Smooth scrubbing is on. Switch it off in {WHERE}.")
        self.yes.hide()
        self.no.hide()


def worth_asking(viewer: ViewerModel) -> bool:
    """Whether a long video and poses are open, and the question is neither answered nor pointless."""
    # where napari keeps no plugin settings, an answer could not be kept either: then never ask
    if setting("display", "asked_smooth", True) or get_settings().experimental.async_:
        return False
    layers = list(viewer.layers)
    return any(store_of(layer) is not None for layer in layers) and any(
        is_video_layer(layer) and isinstance(pixels(layer), Video) and len(pixels(layer)) >= LONG
        for layer in layers
    )
