"""Going on with a prediction that was cancelled or killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.chunks import chunks_path, read_header
from napari_superanimal.jobs.run_card import CANCELLED, COMPLETE, card_path, identity, read_card

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_ANEW = "start anew with --overwrite, or give another --out"


def unfinished(predictions: Path, card: Mapping[str, Any]) -> str | None:
    """State of the earlier run that made `predictions`: "complete", "cancelled", or None if there was none.

    A run that was killed has left no predictions, but its chunks; it counts as cancelled.

    Parameters
    ----------
    card : mapping
        The run card of the work that is wanted now.

    Raises
    ------
    UserError
        If the earlier run had another video, model or other settings, or left nothing to go on from.
    """
    chunks = chunks_path(predictions)
    if chunks.exists():
        _refuse_other(read_header(chunks).work, card, chunks)
        return CANCELLED
    path = card_path(predictions)
    if not path.exists():
        if predictions.exists():
            raise UserError("has no run card, so it cannot be resumed", path=predictions, remedy=_ANEW)
        return None
    earlier = read_card(path)
    _refuse_other(identity(earlier), card, predictions)
    if not predictions.exists():
        return None
    if earlier["status"] != COMPLETE:
        raise UserError(
            f"is not complete, and {chunks.name}, from which it could be, is not beside it",
            path=predictions,
            remedy=_ANEW,
        )
    return COMPLETE


def _refuse_other(was: Mapping[str, Any], card: Mapping[str, Any], path: Path) -> None:
    differing = [name for name, value in identity(card).items() if was.get(name) != value]
    if not differing:
        return
    inputs = [name for name in differing if name.startswith("input_")]
    what = "of another input" if inputs else "with other settings"
    names = ", ".join(name for name in differing if name not in inputs)
    raise UserError(
        f"was made {what}{f' ({names})' if names else ''}, so it cannot be resumed",
        path=path,
        remedy="use the same input and settings as before, or start anew with --overwrite",
    )
