"""Keys of a pose layer: undo, redo, copy, paste, next and previous keypoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.plugin.session import session_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Points

#: Points copied last: (keypoint, individual, y, x); shared by all layers, as a clipboard is.
_clipboard: list[tuple[str, str, float, float]] = []


def undo(layer: Points) -> None:
    """Take back the last change of points."""
    _say(layer, "undone" if _on(layer, "undo") else "nothing to undo")


def redo(layer: Points) -> None:
    """Do again what was undone."""
    _say(layer, "done again" if _on(layer, "redo") else "nothing to redo")


def copy(layer: Points) -> None:
    """Copy the selected points with their names."""
    rows = sorted(layer.selected_data)
    features = layer.features
    _clipboard[:] = [
        (
            str(features["label"].iloc[i]),
            str(features["id"].iloc[i]),
            float(layer.data[i, 1]),
            float(layer.data[i, 2]),
        )
        for i in rows
    ]
    _say(layer, f"{len(rows)} points copied")


def paste(layer: Points) -> None:
    """Put the copied points on the present frame; keypoints that are there already move."""
    session = session_of(layer)
    if session is None or not _clipboard:
        return
    session.place(session.frame, list(_clipboard))
    _say(layer, f"{len(_clipboard)} points pasted")


def next_keypoint(layer: Points) -> None:
    """Choose the next keypoint for the point to be added."""
    _turn(layer, 1)


def previous_keypoint(layer: Points) -> None:
    """Choose the previous keypoint for the point to be added."""
    _turn(layer, -1)


KEYS: dict[str, Callable[[Any], None]] = {
    "Control-Z": undo,
    "Control-Shift-Z": redo,
    "Control-Y": redo,
    "Control-C": copy,
    "Control-V": paste,
    "E": next_keypoint,
    "Shift-E": previous_keypoint,
}


def bind(layer: Points) -> None:
    """Bind the keys on this layer only; other Points layers keep napari's."""
    for key, action in KEYS.items():
        layer.bind_key(key, action, overwrite=True)


def _on(layer: Points, what: str) -> bool:
    session = session_of(layer)
    return session is not None and bool(getattr(session, what)())


def _turn(layer: Points, step: int) -> None:
    session = session_of(layer)
    if session is None or not session.store.poses.keypoints:
        return
    names = session.store.poses.keypoints
    present = str(layer.feature_defaults["label"].iloc[0])
    at = names.index(present) if present in names else -step
    session.choose(names[int(np.mod(at + step, len(names)))])


def _say(layer: Points, text: str) -> None:
    session = session_of(layer)
    if session is not None:
        session.tell(text)
