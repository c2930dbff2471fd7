"""The OpenGL context of the viewer's canvas."""

from __future__ import annotations

from napari_superanimal.plugin.messages import window


def use_canvas() -> None:
    """Make the context of the present viewer's canvas the current one, before a layer leaves.

    napari 0.9 frees the shader programs of a layer right when it is removed, in whatever context is current. When
    the layer was hidden, that is Qt's own for the window, and with Mesa's drivers (seen with 22.3) the next frame
    then ends the process, and with it all that was not saved.
    """
    main = window()
    if main is None:
        return
    from qtpy.QtOpenGLWidgets import QOpenGLWidget

    for canvas in main.findChildren(QOpenGLWidget):
        canvas.makeCurrent()
