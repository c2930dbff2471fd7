"""A labelled data set as a path: a project's folder, or a file with labels."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QMenu, QToolButton, QWidget


class DatasetField(QWidget):
    """A line for a data set's path, with a button that looks for a folder or a file.

    Attributes
    ----------
    browsed : Signal
        After a path was chosen with the button.
    """

    browsed = Signal()

    def __init__(self, name: str) -> None:
        super().__init__()
        self.path = QLineEdit()
        self.path.setObjectName(f"{name}_path")
        self.path.setPlaceholderText("project folder, or a file with labels")
        self.path.setToolTip("DeepLabCut project folder or config.yaml, CollectedData h5 or csv, COCO json")
        browse = QToolButton()
        browse.setText("Browse…")
        browse.setObjectName(f"{name}_browse")
        browse.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(browse)
        menu.addAction("Folder (DeepLabCut project)…", self._ask_folder)
        menu.addAction("File…", self._ask_file)
        browse.setMenu(menu)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.path, 1)
        row.addWidget(browse)

    def _ask_folder(self) -> None:
        self._take(QFileDialog.getExistingDirectory(self, "Choose a labelled project"))

    def _ask_file(self) -> None:
        kinds = "Labels (*.h5 *.csv *.json *.yaml);;All files (*)"
        self._take(QFileDialog.getOpenFileName(self, "Choose a file with labels", "", kinds)[0])

    def _take(self, path: str) -> None:
        if path:
            self.path.setText(path)
            self.browsed.emit()
