"""Choosing a model, with what a user must know about it before trusting it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from qtpy.QtCore import QFileSystemWatcher, QObject, Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QTextBrowser,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_superanimal.models import zoo

if TYPE_CHECKING:
    from napari_superanimal.models.card import ModelCard
    from napari_superanimal.models.zoo import ModelRef

#: Keypoint names written out in the compact card; the full card has them all.
NAMED = 6


class ModelPicker(QWidget):
    """Combo box of the installed models with the chosen one's card below it.

    Parameters
    ----------
    name : str
        Prefix of the object names.
    with_card : bool
        Show the card; otherwise only the box and the buttons.
    official : bool
        Offer SuperAnimal's own models too, and those fine-tuned from them.
    """

    changed = Signal()

    def __init__(self, name: str, *, with_card: bool = True, official: bool = True) -> None:
        super().__init__()
        self._official = official
        self._models: dict[str, ModelRef] = {}
        self.combo = QComboBox()
        self.combo.setObjectName(f"{name}_model")
        self.combo.setToolTip("The model that finds the keypoints; your fine-tuned models appear here too")
        self.combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.combo.setMinimumContentsLength(10)
        self.combo.currentIndexChanged.connect(self._show)
        self.reload = QToolButton()
        self.reload.setText("↻")
        self.reload.setObjectName(f"{name}_reload_models")
        self.reload.setToolTip("Look for new models again")
        self.reload.clicked.connect(lambda: self.refresh())
        self.text = QLabel()
        self.text.setObjectName(f"{name}_card")
        self.text.setTextFormat(Qt.TextFormat.RichText)
        self.text.setWordWrap(True)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.full = QPushButton("Card…")
        self.full.setObjectName(f"{name}_full_card")
        self.full.setToolTip(
            "Everything about this model: training data, keypoints, measured errors, licence"
        )
        self.full.clicked.connect(self.open_card)

        row = QHBoxLayout()
        row.addWidget(self.combo, 1)
        row.addWidget(self.reload)
        row.addWidget(self.full)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.text)
        self.text.setVisible(with_card)
        self._home = watch_models(self)
        self._home.directoryChanged.connect(lambda: self.refresh())
        self.refresh()

    @property
    def ref(self) -> ModelRef | None:
        """The chosen model, None when no model is installed."""
        return self._models.get(self.combo.currentData() or "")

    @property
    def card(self) -> ModelCard | None:
        """Card of the chosen model, None when no model is installed."""
        return None if self.ref is None else self.ref.card

    def refresh(self, select: str | None = None) -> None:
        """Read the list of models again and keep, or change, the choice.

        Parameters
        ----------
        select : str, optional
            Name of the model to choose, e.g. one that was just trained.
        """
        wanted = select or self.combo.currentData()
        offered = [ref for ref in zoo.list_models() if self._official or not ref.official]
        self._models = {ref.card.name: ref for ref in offered}
        self.combo.blockSignals(True)
        self.combo.clear()
        for name, ref in self._models.items():
            self.combo.addItem(name, name)
            self.combo.setItemData(self.combo.count() - 1, ref.card.title, Qt.ItemDataRole.ToolTipRole)
        found = self.combo.findData(wanted)
        self.combo.setCurrentIndex(found if found >= 0 else 0)
        self.combo.blockSignals(False)
        self._show()

    def choose(self, name: str) -> None:
        """Choose a model if it is installed."""
        found = self.combo.findData(name)
        if found >= 0:
            self.combo.setCurrentIndex(found)

    def open_card(self) -> None:
        """Show the full card in a window of its own."""
        if self.card is not None:
            CardDialog(self.card, self).open()

    def _show(self) -> None:
        card = self.card
        self.full.setEnabled(card is not None)
        absent = ABSENT if self.ref is not None and not self.ref.here else ""
        self.text.setText(NO_MODEL if card is None else compact(card) + absent)
        self.changed.emit()


def watch_models(parent: QObject) -> QFileSystemWatcher:
    """Tells when a model is added to the user's models, by this window, another one or the command line."""
    watcher = QFileSystemWatcher(parent)
    home = zoo.models_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        return watcher  # nothing can be added there either
    watcher.addPath(str(home))
    return watcher


#: Said below the card of one of SuperAnimal's models before its first use.
ABSENT = (
    "<br><b>Not on this computer yet:</b> predicting downloads the weights once, and those of its detector; "
    "using them means accepting their licence."
)
NO_MODEL = (
    "<b>No model is installed.</b> Reinstall napari-superanimal, or import a model folder with "
    "<code>superanimal models import FOLDER</code>, then press ↻."
)


def compact(card: ModelCard) -> str:
    """The card's essentials as rich text: what it finds, where it comes from, when not to use it."""
    names = ", ".join(card.keypoints[:NAMED])
    if (more := len(card.keypoints) - NAMED) > 0:
        names += f" and {more} more"
    rows = [
        ("Finds", f"{len(card.keypoints)} keypoints: {names}"),
        ("Trained on", trained_on(card)),
        ("Do not use for", card.not_for),
        ("Licence", card.licence),
    ]
    lines = [f"<b>{html.escape(card.title or card.name)}</b>"]
    lines += [f"<b>{title}:</b> {html.escape(value)}" for title, value in rows if value]
    return "<br>".join(lines)


def trained_on(card: ModelCard) -> str:
    """One line: data sets with their numbers of images, and the model it started from."""
    parts = []
    for source in card.trained_on:
        images = source.get("images")
        parts.append(
            f"{source.get('name', '?')} ({images} images)" if images else str(source.get("name", "?"))
        )
    line = ", ".join(parts)
    return f"{line}; started from {card.parent}" if card.parent else line


class CardDialog(QDialog):
    """The whole card, scrollable."""

    def __init__(self, card: ModelCard, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setObjectName("card_dialog")
        self.setWindowTitle(f"Model card: {card.name}")
        self.resize(620, 640)
        self.text = QTextBrowser()
        self.text.setMarkdown(card.markdown())
        # links leave napari for the browser, they never replace the card
        self.text.setOpenLinks(False)
        self.text.anchorClicked.connect(open_link)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(self.text)
        layout.addWidget(buttons)


def open_link(url: QUrl) -> None:
    """Open a web link of a card in the browser; other kinds of links do nothing."""
    if url.scheme() in ("http", "https"):
        QDesktopServices.openUrl(url)
