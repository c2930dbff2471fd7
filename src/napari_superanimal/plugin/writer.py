"""Saving a Points layer from napari: DeepLabCut tables (h5 and csv) and COCO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.plugin import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_superanimal.plugin.saving import Saved

    Ask = Callable[[list[Path]], bool]


def write_points(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """napari's writer of one Points layer: ``.h5`` or ``.csv`` (both are written), or ``.json`` (COCO).

    Returns
    -------
    list of str
        Files written; in a window the path asked for after an error, which a notification tells in one line.

    Raises
    ------
    UserError
        Without a window, if nothing could be written.
    """
    try:
        return [str(p) for p in save_layer((data, attributes), Path(path)).paths]
    except UserError as error:
        if messages.window() is None:
            raise
        messages.complain(error)
        # napari takes an empty answer for a failure of its own and raises a second error, with a traceback
        return [path]


def save_layer(layer: Any, path: Path, *, ask: Ask | None = None) -> Saved:
    """Save a Points layer, its whole store and not only what is on screen.

    Labels of people are merged into a CollectedData file that exists, after a backup; any other existing file
    is replaced only if `ask` agrees.

    Parameters
    ----------
    layer : napari.layers.Points or (data, attributes)
    path : Path
        ``.h5``, ``.csv`` or ``.json``; without an extension, ``.h5``.
    ask : callable, optional
        Whether existing files may be replaced. Default: a question in the window; without a window, no.

    Raises
    ------
    UserError
        If nothing was written: no points, refused, unwritable or disk full. Existing files are as before.
    """
    from napari_superanimal.plugin.conventions import OURS
    from napari_superanimal.plugin.layers import layer_parts, layer_store
    from napari_superanimal.plugin.saving import save_store
    from napari_superanimal.plugin.store import PoseStore

    if ask is None:
        ask = messages.may_replace if messages.window() is not None else _refuse
    path = path if path.suffix else path.with_suffix(".h5")
    _, attributes = layer_parts(layer)
    living = ((attributes.get("metadata") or {}).get(OURS) or {}).get("store")
    store = layer_store(layer)
    saved = save_store(store, path.absolute(), ask=ask)
    if isinstance(living, PoseStore):
        living.saved.update(saved.stamps())
        if str(living.info.get("source") or "") in {str(p) for p in saved.paths}:
            living.settle()
    if saved.note:
        messages.inform(saved.note)
    return saved


def _refuse(paths: list[Path]) -> bool:
    return False
