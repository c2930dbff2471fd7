"""What tests do with a form as a user would: click its buttons, read what it says went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot
    from qtpy.QtWidgets import QWidget


def click(qtbot: QtBot, widget: QWidget, name: str) -> None:
    """A real click on the button of that name."""
    button = widget.findChild(QPushButton, name)
    assert button.isEnabled(), name
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def errors() -> list[str]:
    """What the user was told went wrong."""
    return [str(n.message) for n in notification_manager.records if n.severity.value == "error"]
