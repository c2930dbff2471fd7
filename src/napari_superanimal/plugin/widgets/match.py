"""Match: see which of the model's keypoints a data set's keypoints are, put it right, keep the table."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtGui import QColor, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_superanimal.errors import UserError
from napari_superanimal.plugin import messages
from napari_superanimal.plugin.conventions import OURS
from napari_superanimal.plugin.widgets.controls import button, group, hint, spin
from napari_superanimal.plugin.widgets.dataset_field import DatasetField
from napari_superanimal.plugin.widgets.dock import DockForm
from napari_superanimal.plugin.widgets.model_card import ModelPicker
from napari_superanimal.plugin.widgets.progress import RunBar
from napari_superanimal.plugin.workers import Failed

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_superanimal.jobs.match import MatchResult
    from napari_superanimal.jobs.progress import CancelToken, Progress
    from napari_superanimal.keypoints.matching import Match, Matching
    from napari_superanimal.plugin.match_view import MatchView

NO_MATCH = "no match"
COLUMNS = ("your keypoint", "is the model's", "distance")
START = (
    "Choose a labelled data set and a model. The model looks at the pictures and proposes which of its keypoints "
    "each of yours is; names play no part."
)
HOW = (
    "Squares are your labels, rings are what the model sees, in the same colour where they belong together. "
    "<b>Click a label</b> (or a row) to look at one pair, then <b>click a ring</b> to choose another keypoint "
    "(with Shift where another label lies on it), or use the list in the row."
)


class _Teller(QObject):
    """Carries progress out of the thread."""

    told = Signal(object)


class MatchWidget(DockForm):
    """Dock widget that proposes a conversion table and lets the user correct it.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    #: The table was saved; the path.
    saved = Signal(str)

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.setObjectName("superanimal_match")
        self._token: CancelToken | None = None
        self._view: MatchView | None = None
        self._matching: Matching | None = None
        self._dataset: Path | None = None
        self._layers: dict[str, Any] = {}
        self._stay = False
        self._known_file: Path | None = None
        self.dataset_field = DatasetField("match")
        self.path = self.dataset_field.path
        self.models = ModelPicker("match", with_card=False)
        self.images = spin(
            "match_images", 1, 100, "At most so many pictures are looked at, spread over the data"
        )
        self.start_button = button(
            "Match keypoints", "match_start", "Let the model look at the labelled pictures"
        )
        self.bar = RunBar("images", "match")
        self.bar.button.setToolTip("Stops after this image; nothing is changed")
        self.hint = hint("match_hint", START)
        self.warnings = hint("match_warnings")
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setObjectName("match_table")
        self.table.setHorizontalHeaderLabels(list(COLUMNS))
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setMinimumHeight(260)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        # the model's keypoint takes what the others leave
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.verticalHeader().hide()
        self.notes = hint("match_notes")
        self.accept_button = button("Accept", "match_accept", "This pair is right")
        self.reject_button = button("No match", "match_reject", "The model has no such keypoint")
        self.all_button = button("Show all", "match_show_all", "Look at all pairs again")
        self.save_button = button(
            "Save with the data set", "match_save", "Write the table where fine-tuning and merging find it"
        )
        self._lay_out()
        self.cleanup.add(self.cancel)
        self.cleanup.add(self._forget_layers)
        self.start_button.clicked.connect(self.start)
        self.bar.cancel_clicked.connect(self.cancel)
        self.table.itemSelectionChanged.connect(self._row_chosen)
        self.accept_button.clicked.connect(self._accept)
        self.reject_button.clicked.connect(lambda: self._choose(self.looked_at, ""))
        self.all_button.clicked.connect(self.table.clearSelection)
        self.save_button.clicked.connect(self.save)
        self.models.changed.connect(self._update_buttons)
        self._prefill()
        self._update_buttons()

    def _lay_out(self) -> None:
        what = QWidget()
        fields = QFormLayout(what)
        fields.setContentsMargins(0, 0, 0, 0)
        fields.addRow("Data set", self.dataset_field)
        fields.addRow("Model", self.models)
        fields.addRow("Images", self.images)
        buttons = QWidget()
        line = QHBoxLayout(buttons)
        line.setContentsMargins(0, 0, 0, 0)
        for one in (self.accept_button, self.reject_button, self.all_button):
            line.addWidget(one)
        self.form.addWidget(group("Compare", what))
        self.form.addWidget(self.start_button)
        self.form.addWidget(self.bar)
        self.form.addWidget(self.hint)
        self.form.addWidget(self.warnings)
        self.form.addWidget(self.table)
        self.form.addWidget(self.notes)
        self.form.addWidget(buttons)
        self.form.addWidget(self.save_button)
        self.form.addStretch(1)

    @property
    def running(self) -> bool:
        """Whether the model is looking at pictures."""
        return self._token is not None

    @property
    def matching(self) -> Matching | None:
        """The matches as they stand, corrections included."""
        return self._matching

    @property
    def looked_at(self) -> str:
        """The keypoint of the data set that is selected; empty when none is."""
        rows = {item.row() for item in self.table.selectedItems()}
        return "" if not rows or self._matching is None else self._matching.matches[rows.pop()].source

    @property
    def choices(self) -> dict[str, str]:
        """Target per keypoint of the data set, empty for no match."""
        if self._matching is None:
            return {}
        return {m.source: m.target if m.accepted else "" for m in self._matching.matches}

    def start(self) -> None:
        """Look at the pictures in the background."""
        from napari_superanimal.jobs.match import MatchOptions
        from napari_superanimal.jobs.progress import CancelToken
        from napari_superanimal.plugin.match_view import match_worker

        card = self.models.card
        if self.running or card is None:
            return
        words = self.path.text().strip()
        dataset = Path(words).expanduser()
        if not words or not dataset.exists():
            show_error(f"{words or 'No data set'}: there is no such data set; choose one with Browse…")
            return
        if dataset.name == "config.yaml":
            dataset = dataset.parent
        self._dataset, self._known_file = dataset, None
        self._token = CancelToken()
        teller = _Teller(self)
        teller.told.connect(self._progressed)
        options = MatchOptions(card.name, self.images.value())
        worker = match_worker(dataset, options, self._token, teller.told.emit)
        worker.returned.connect(self._returned)
        self.bar.start("Starting…")
        self._update_buttons()
        worker.start()

    def cancel(self) -> None:
        """Stop looking."""
        if self._token is not None:
            self._token.cancel()

    def save(self) -> None:
        """Write the table beside the data set."""
        from napari_superanimal.jobs.match import write_matches
        from napari_superanimal.keypoints.many import saved_table_path

        if self._matching is None or self._dataset is None or self._view is None:
            return
        path = saved_table_path(self._dataset, self._matching.space)
        if path.exists() and path != self._known_file and not messages.may_replace([path]):
            return
        try:
            write_matches(self._matching, path, model=self._view.result.model, overwrite=True)
        except UserError as error:
            show_error(str(error))
            return
        self._known_file = path
        self.hint.setText(f"<b>Saved as {path.name}</b> in {path.parent}. Merging finds it there by itself.")
        show_info(f"Conversion table saved: {path}")
        self.saved.emit(str(path))

    def _progressed(self, progress: Progress) -> None:
        self.bar.report(progress)

    def _returned(self, result: MatchResult | Failed | None) -> None:
        self._token = None
        self.bar.finish()
        if isinstance(result, Failed):
            show_error(result.message)
            self.hint.setText(result.message)
        elif result is None:
            self.hint.setText("Stopped; nothing was changed.")
        else:
            self._show(result)
        self._update_buttons()

    def _show(self, result: MatchResult) -> None:
        from napari_superanimal.plugin.match_view import MatchView

        self._forget_layers()
        self._view = MatchView(result)
        self._matching = result.matching
        self._add_layers(result)
        self._fill()
        accepted = sum(bool(t) for t in self.choices.values())
        self.hint.setText(
            f"<b>{accepted} of {len(self.choices)} keypoints matched</b> on {len(result.poses)} images. {HOW}"
        )
        self.warnings.setText("<br>".join(f"⚠ {w}" for w in result.matching.warnings))
        self.scroll_to(self.table)

    def _add_layers(self, result: MatchResult) -> None:
        from napari_superanimal.plugin.reader import stack_layer

        assert self._view is not None
        data, attrs, _ = stack_layer(result.poses, "matched images")
        self._layers["images"] = self.viewer.add_image(data, **attrs)
        for data, attrs, kind in self._view.layers(self.choices):
            layer = getattr(self.viewer, f"add_{kind}")(data, **attrs)
            self._layers[attrs["name"]] = layer
            if kind == "points":
                layer.editable = False
                layer.mouse_drag_callbacks.append(self._clicked)
        self.viewer.reset_view()
        self.viewer.layers.selection.active = self._layers["your labels"]

    def _clicked(self, layer: Any, event: Any) -> None:
        """A label selects its row; a ring becomes the target of the row that is selected."""
        from napari_superanimal.plugin.match_view import clicked

        label = clicked(self._layers["your labels"], event)
        seen = clicked(self._layers["what the model sees"], event)
        looked_at = self.looked_at
        # a ring under another label mostly means that label
        meant = "Shift" in event.modifiers or label in ("", looked_at)
        if seen and looked_at and meant and seen not in self.choices[looked_at].split("|"):
            self._choose(looked_at, seen)
        elif label:
            self._select(label)

    def _select(self, source: str) -> None:
        """Choose a row without leaving the picture: the user is looking at it."""
        if self._matching is not None:
            self._stay = True
            self.table.selectRow([m.source for m in self._matching.matches].index(source))
            self._stay = False

    def _accept(self) -> None:
        """Accept the proposal of the selected row as it stands."""
        if self._matching is None or not self.looked_at:
            return
        match = next(m for m in self._matching.matches if m.source == self.looked_at)
        if match.target:
            self._choose(match.source, match.target)

    def _choose(self, source: str, target: str) -> None:
        """Take over a choice of the user."""
        if self._matching is None or not source:
            return
        self._matching = self._matching.revise(source, target)
        self._fill()
        self._select(source)
        self._draw()

    def _fill(self) -> None:
        """The table from the matching."""
        assert self._matching is not None
        selected = self.looked_at
        self.table.blockSignals(True)
        self.table.setRowCount(len(self._matching.matches))
        for row, match in enumerate(self._matching.matches):
            self._fill_row(row, match)
        self.table.blockSignals(False)
        if selected:
            self._select(selected)
        self._show_notes()

    def _fill_row(self, row: int, match: Match) -> None:
        assert self._matching is not None
        assert self._view is not None
        name = QTableWidgetItem(match.source)
        red, green, blue = (int(255 * c) for c in self._view.colors[match.source][:3])
        square = QPixmap(10, 10)
        square.fill(QColor(red, green, blue))
        name.setData(Qt.ItemDataRole.DecorationRole, square)
        far = f"{100 * match.distance:.0f} %" if match.images else ""
        for column, item in ((0, name), (2, QTableWidgetItem(far))):
            item.setToolTip(evidence(match))
            self.table.setItem(row, column, item)
        box = self.table.cellWidget(row, 1)
        if not isinstance(box, QComboBox):
            box = QComboBox()
            box.setObjectName(f"match_target_{match.source}")
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(14)
            box.addItem(NO_MATCH, "")
            for target in sorted(self._matching.candidates):
                box.addItem(target, target)
            box.activated.connect(
                lambda _, source=match.source, box=box: self._choose(source, box.currentData())
            )
            self.table.setCellWidget(row, 1, box)
        box.setCurrentIndex(max(box.findData(match.target if match.accepted else ""), 0))

    def _show_notes(self) -> None:
        """Why pairs are doubtful or were left out: of the selected row, or of all."""
        matches = self._matching.matches if self._matching is not None else ()
        lines = []
        for match in matches:
            if match.reason and self.looked_at in ("", match.source):
                doubt = f"{escape(match.target)}? " if match.target and not match.accepted else ""
                lines.append(f"<b>{escape(match.source)}</b>: {doubt}{escape(match.reason)}")
        self.notes.setText("<br>".join(lines))
        self.notes.setVisible(bool(lines))

    def _row_chosen(self) -> None:
        if self._view is None or self._matching is None:
            return
        source = self.looked_at
        if source and not self._stay:
            match = next(m for m in self._matching.matches if m.source == source)
            row = self._view.best_row(source, match.target)
            if row is not None:
                self.viewer.dims.set_current_step(0, row)
        self._draw()
        self._show_notes()
        self._update_buttons()

    def _draw(self) -> None:
        """Colours and connections of the layers, after a choice."""
        if self._view is None or not self._layers:
            return
        looked_at = self.looked_at
        links, colors = self._view.links(self.choices, looked_at)
        pairs, seen, labels = (self._layers[n] for n in ("pairs", "what the model sees", "your labels"))
        pairs.data = links
        if len(links):
            pairs.edge_color = colors
        seen.face_color, seen.border_color = self._view.seen_colors(self.choices, looked_at)
        faces = self._view.label_colors(looked_at)
        labels.face_color = faces
        rims = np.ones_like(faces)
        rims[:, 3] = faces[:, 3]
        labels.border_color = rims

    def _forget_layers(self) -> None:
        for layer in self._layers.values():
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self._layers = {}
        self._view = self._matching = None
        self.table.setRowCount(0)
        self._show_notes()

    def _update_buttons(self) -> None:
        ready = self._matching is not None and not self.running
        self.start_button.setEnabled(not self.running and self.models.card is not None)
        self.save_button.setEnabled(ready)
        self.all_button.setEnabled(ready)
        for one in (self.accept_button, self.reject_button):
            one.setEnabled(ready and bool(self.looked_at))

    def _prefill(self) -> None:
        """The file of a labels layer that is open already."""
        for layer in reversed(self.viewer.layers):
            ours = layer.metadata.get(OURS) if isinstance(layer.metadata, dict) else None
            if isinstance(ours, dict) and ours.get("kind") == "labels" and ours.get("source"):
                self.path.setText(str(ours["source"]))
                return


def evidence(match: Match) -> str:
    """What speaks for a match, for a tooltip."""
    if not match.images:
        return match.reason
    lines = [
        f"{match.target} on {match.images} animals",
        f"median distance {100 * match.distance:.1f} % of the animal's size",
        f"hits {match.hits:.0%}, promised {match.promised:.0%}",
        f"score {match.score:.2f}, margin {match.margin:.2f}",
    ]
    if match.runner_up:
        lines.append(f"next best: {match.runner_up}")
    return "\n".join(lines)
