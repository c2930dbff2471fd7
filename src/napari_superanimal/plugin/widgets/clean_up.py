"""Clean up: find swapped sides and stray points, look at them, mend them all at once; smooth. Always a new layer."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QListWidget, QListWidgetItem, QWidget

from napari_superanimal.errors import UserError
from napari_superanimal.plugin.check_worker import find_worker, mend_worker
from napari_superanimal.plugin.conventions import OURS
from napari_superanimal.plugin.live import store_of
from napari_superanimal.plugin.session import session_of, show_poses
from napari_superanimal.plugin.widgets.controls import LayerCombo, button, group, hint, spin
from napari_superanimal.plugin.widgets.dock import DockForm
from napari_superanimal.plugin.workers import Failed
from napari_superanimal.smoothing import METHODS, SmoothOptions

if TYPE_CHECKING:
    from napari.layers import Layer, Points
    from napari.viewer import Viewer

    from napari_superanimal.poses import Poses
    from napari_superanimal.smoothing import Finding

NO_LAYER = "<b>Predict a video first</b>, or open a file of predictions: its points appear here."
READY = "Press <b>Find problems</b>: left and right exchanged, points out of place."
#: Findings in the list; all are mended unless they are unchecked.
SHOWN = 2000


def shows_poses(layer: Layer) -> bool:
    """Whether a layer shows poses of a video."""
    store = store_of(layer)
    return store is not None and store.poses.is_video and session_of(layer) is not None


class CleanUpWidget(DockForm):
    """Dock widget that mends and smooths predictions; points that a person placed never change.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.setObjectName("superanimal_clean_up")
        self._found: list[Finding] = []
        self._of: Points | None = None
        self._made: list[tuple[Points, Points]] = []
        self.running = False
        self.layers = LayerCombo(napari_viewer, shows_poses)
        self.layers.setObjectName("clean_layer")
        self.layers.setToolTip("The predictions to look at; they stay as they are")
        self.layers.layer_changed.connect(self._layer_changed)
        self.find_button = button("Find problems", "clean_find", "Look for exchanged sides and stray points")
        self.find_button.clicked.connect(self.find)
        self.list = QListWidget()
        self.list.setObjectName("clean_findings")
        self.list.setToolTip("Click to go to the frame; unchecked findings are left as they are")
        self.list.currentItemChanged.connect(self._go)
        self.list.itemClicked.connect(self._go)
        self.apply_button = button(
            "Mend checked", "clean_apply", "Makes a new layer with the findings mended"
        )
        self.apply_button.clicked.connect(self.apply)
        self.method = QComboBox()
        self.method.setObjectName("clean_method")
        for name, title in METHODS.items():
            self.method.addItem(title, name)
        self.method.setCurrentIndex(self.method.findData("kalman"))
        self.method.setToolTip("Kalman finds out by itself how much to smooth each keypoint")
        self.method.currentIndexChanged.connect(self._method_changed)
        self.window = spin("clean_window", 3, 7, "Frames that are looked at together (odd)")
        self.window.setSingleStep(2)
        self.gaps = spin("clean_gaps", 0, 0, "Bridge gaps of up to so many frames; 0 leaves them")
        self.smooth_button = button("Smooth", "clean_smooth", "Makes a new, smoothed layer")
        self.smooth_button.clicked.connect(self.smooth)
        self.before = QCheckBox("Show before")
        self.before.setObjectName("clean_before")
        self.before.setToolTip("Shows the layer that the newest one was made from")
        self.before.toggled.connect(self._compare)
        self.undo_button = button("Undo", "clean_undo", "Removes the newest layer and shows the one before")
        self.undo_button.clicked.connect(self.undo)
        self.hint = hint("clean_hint")
        self.cleanup.add(self.layers.disconnect_viewer)
        settings = QWidget()
        fields = QFormLayout(settings)
        fields.setContentsMargins(0, 0, 0, 0)
        fields.addRow("Method", self.method)
        fields.addRow("Window", self.window)
        fields.addRow("Fill gaps", self.gaps)
        self.form.addWidget(group("Predictions", self.layers))
        self.form.addWidget(group("Problems", self.find_button, self.list, self.apply_button))
        self.form.addWidget(group("Smoothing", settings, self.smooth_button))
        self.form.addWidget(self.hint)
        self.form.addWidget(self.before)
        self.form.addWidget(self.undo_button)
        self.form.addStretch(1)
        self._method_changed()
        self._layer_changed()

    def find(self, *_: Any) -> None:
        """Look for problems in the chosen layer."""
        layer = self.layers.layer
        poses = self._poses(layer)
        if poses is None or self.running:
            return
        self._of = layer  # type: ignore[assignment]
        worker = find_worker(poses)
        worker.returned.connect(self._list)
        self._start(worker, "Looking…")

    def apply(self, *_: Any) -> None:
        """Mend what is checked, in a new layer."""
        layer = self._of
        if layer is None or layer not in self.viewer.layers:
            return
        chosen = [
            self._found[i]
            for i in range(len(self._found))
            if i >= self.list.count() or self.list.item(i).checkState() == Qt.CheckState.Checked
        ]
        self._mend(layer, chosen, None, "cleaned")

    def smooth(self, *_: Any) -> None:
        """Smooth the chosen layer into a new one."""
        layer = self.layers.layer
        if layer is None:
            return
        options = SmoothOptions(
            method=self.method.currentData(),
            window=self.window.value() | 1,
            fill=self.gaps.value(),
            fps=self._fps(),
        )
        try:
            options.check()
        except UserError as error:
            show_error(str(error))
            return
        self._mend(layer, [], options, f"smoothed ({METHODS[options.method]})")

    def undo(self, *_: Any) -> None:
        """Take the newest layer away and show the one it was made from."""
        while self._made:
            before, after = self._made.pop()
            if after in self.viewer.layers:
                store = store_of(after)
                for layer in [x for x in self.viewer.layers if _same_store(x, store)]:
                    self.viewer.layers.remove(layer)
                _show(self.viewer, before, True)
                self.layers.choose(before)
                self.hint.setText("Undone; the layer before is shown.")
                break
        self._update()

    def _mend(self, layer: Any, findings: list[Finding], options: SmoothOptions | None, what: str) -> None:
        poses = self._poses(layer)
        store = store_of(layer)
        if poses is None or store is None or self.running:
            return
        worker = mend_worker(poses, findings, options, store.removed.copy())
        worker.returned.connect(lambda result: self._made_new(layer, result, what, options))
        self._start(worker, "Working…")

    def _poses(self, layer: Layer | None) -> Poses | None:
        """The layer's poses with what a person did to them."""
        session = session_of(layer) if layer is not None else None
        if session is None:
            return None
        session.flush()
        return session.store.copy().poses

    def _start(self, worker: Any, message: str) -> None:
        self.running = True
        self.hint.setText(message)
        worker.finished.connect(self._ended)
        self._update()
        worker.start()

    def _list(self, result: list[Finding] | Failed) -> None:
        if isinstance(result, Failed):
            self._fail(result)
            return
        self._found = result
        self.list.clear()
        for finding in result[:SHOWN]:
            item = QListWidgetItem(finding.text)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(Qt.CheckState.Checked)
            self.list.addItem(item)
        more = f" ({SHOWN} are listed)" if len(result) > SHOWN else ""
        self.hint.setText(
            f"{len(result)} findings{more}. Click one to see it, uncheck what is right, then <b>Mend checked</b>."
            if result
            else "Nothing found: sides stay in place and no point strays."
        )

    def _made_new(
        self, layer: Points, result: Poses | Failed, what: str, options: SmoothOptions | None
    ) -> None:
        if isinstance(result, Failed):
            self._fail(result)
            return
        store = store_of(layer)
        if store is None or layer not in self.viewer.layers:
            return
        scale, shift = layer.scale, layer.translate
        info = store.info
        added = show_poses(
            self.viewer,
            result,
            name=f"{layer.name} {what}",
            space=str(info.get("space", "")),
            model=str(info.get("model", "")),
            video=info.get("video") or None,
            kind="predictions",
            threshold=store.threshold,
        )
        fresh = store_of(added)
        assert fresh is not None  # show_poses has just made it
        done = {"method": "clean up"} if options is None else options.used()
        fresh.info |= {"image": info.get("image", ""), "made_from": layer.name, "smoothing": done}
        added.metadata[OURS].update({"made_from": layer.name, "smoothing": done})
        for other in self.viewer.layers:
            if _same_store(other, fresh):
                other.scale, other.translate = scale, shift
        _show(self.viewer, layer, False)
        self._made.append((layer, added))
        self.layers.choose(added)
        self.hint.setText(f"New layer “{html.escape(added.name)}”; the one before is hidden, not changed.")
        self._update()

    def _fail(self, failed: Failed) -> None:
        show_error(failed.message)
        self.hint.setText(html.escape(failed.message))

    def _go(self, *_: Any) -> None:
        """Show the frame in the middle of the finding."""
        row = self.list.currentRow()
        layer = self._of
        if layer is None or not 0 <= row < len(self._found) or self.viewer.dims.ndim < 3:
            return
        frames = self._found[row].frames
        frame = float(frames[len(frames) // 2])
        self.viewer.dims.set_point(self.viewer.dims.ndim - 3, frame * layer.scale[0] + layer.translate[0])

    def _compare(self, before: bool) -> None:
        if self._made:
            old, new = self._made[-1]
            _show(self.viewer, old, before)
            _show(self.viewer, new, not before)

    def _fps(self) -> float:
        """Of the video under the points; 30 where it is not known."""
        for layer in self.viewer.layers:
            if (rate := float(getattr(layer.data, "fps", 0.0) or 0.0)) > 0:
                return rate
        return 30.0

    def _ended(self) -> None:
        self.running = False
        self._update()

    def _method_changed(self) -> None:
        self.window.setEnabled(self.method.currentData() in ("median", "savgol"))

    def _layer_changed(self) -> None:
        if not self.running and not self._made:
            self.hint.setText(NO_LAYER if self.layers.layer is None else READY)
        self._update()

    def _update(self) -> None:
        ready = self.layers.layer is not None and not self.running
        self.find_button.setEnabled(ready)
        self.smooth_button.setEnabled(ready)
        self.apply_button.setEnabled(ready and bool(self._found))
        self.undo_button.setEnabled(bool(self._made) and not self.running)
        self.before.setEnabled(bool(self._made))


def _same_store(layer: Layer, store: Any) -> bool:
    ours = layer.metadata.get(OURS)
    return isinstance(ours, dict) and store is not None and ours.get("store") is store


def _show(viewer: Viewer, points: Points, visible: bool) -> None:
    """Show or hide points together with their skeleton; boxes stay hidden."""
    store = store_of(points)
    for layer in viewer.layers:
        if _same_store(layer, store) and layer.metadata[OURS].get("role") != "boxes":
            layer.visible = visible
