"""Talking to the user: one line in a notification, one question before a file is replaced."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def window() -> Any:
    """The Qt window of the present viewer; None without a viewer or without Qt."""
    if "qtpy.QtWidgets" not in sys.modules:
        return None
    import napari
    from qtpy.QtWidgets import QApplication

    viewer = napari.current_viewer()
    if viewer is None or QApplication.instance() is None:
        return None
    try:
        # napari offers no public way to parent a dialog on its window
        return viewer.window._qt_window
    except (AttributeError, RuntimeError):
        return None


def inform(text: str) -> None:
    """Tell something that went well."""
    from napari.utils.notifications import show_info

    show_info(text)


def warn(text: str) -> None:
    """Tell something that needs the user's attention."""
    from napari.utils.notifications import show_warning

    show_warning(text)


def complain(error: Exception) -> None:
    """Show an error as one line, without a traceback."""
    from napari.utils.notifications import show_error

    show_error(" ".join(str(error).split()))


def may_replace(paths: list[Path]) -> bool:
    """Ask whether existing files may be replaced. Needs a window."""
    from qtpy.QtWidgets import QMessageBox

    box = QMessageBox(window())
    box.setObjectName("napari-superanimal-replace")
    box.setIcon(QMessageBox.Icon.Question)
    names = ", ".join(p.name for p in paths)
    box.setWindowTitle("Replace files?")
    box.setText(f"{names} {'exists' if len(paths) == 1 else 'exist'} already in {paths[0].parent}.")
    box.setInformativeText("The present content is lost when you replace it.")
    replace = box.addButton("Replace", QMessageBox.ButtonRole.DestructiveRole)
    keep = box.addButton("Keep", QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(keep)
    box.setEscapeButton(keep)
    box.exec()
    return box.clickedButton() is replace
