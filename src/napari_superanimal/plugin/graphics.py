"""The OpenGL context of a viewer's canvas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_superanimal.plugin.messages import window

if TYPE_CHECKING:
    from napari.components import ViewerModel


def use_canvas(viewer: ViewerModel) -> None:
    """Make the canvas's context the current one, before a layer leaves.

    napari 0.9 frees the shader programs of a layer right when it is removed, in whatever context is current. When
    the layer was hidden, that is Qt's own for the window, and with Mesa's drivers (seen with 22.3) the next frame
    then ends the process, and with it all that was not saved.
    """
    main = window(viewer)
    if main is None:
        return
    from qtpy.QtOpenGLWidgets import QOpenGLWidget

    for canvas in main.findChildren(QOpenGLWidget):
        canvas.makeCurrent()
