"""A conversion table as a file: which of the user's keypoints is which of the model's."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QToolButton, QWidget

from napari_superanimal.errors import UserError


class TableField(QWidget):
    """A line for a table's file, with a button that looks for it."""

    changed = Signal()

    def __init__(self, name: str) -> None:
        super().__init__()
        self.path = QLineEdit()
        self.path.setObjectName(f"{name}_table")
        self.path.setPlaceholderText("not needed where names are equal")
        self.path.setToolTip(
            "A CSV file with the header source,keypoint: which of your keypoints is which of the model's. "
            "Without one, equal names are the same keypoint."
        )
        browse = QToolButton()
        browse.setText("Browse…")
        browse.setObjectName(f"{name}_table_browse")
        browse.setToolTip("Choose a conversion table")
        browse.clicked.connect(self._ask)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.path, 1)
        row.addWidget(browse)
        self.path.textChanged.connect(self.changed)

    def table(self) -> str:
        """The file chosen, empty when there is none.

        Raises
        ------
        UserError
            If there is no such file, or it is no conversion table.
        """
        from napari_superanimal.keypoints import load_table

        words = self.path.text().strip()
        if not words:
            return ""
        path = Path(words).expanduser()
        if not path.is_file():
            raise UserError("there is no such conversion table", path=path, remedy="choose one with Browse…")
        load_table(path)
        return str(path)

    def _ask(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Choose a conversion table", "", "Tables (*.csv);;All files (*)"
        )
        if path:
            self.path.setText(path)
