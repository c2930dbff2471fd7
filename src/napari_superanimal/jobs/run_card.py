"""The run card: how a file of predictions came about, in JSON beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.environment import versions
from napari_superanimal.jobs.plain_json import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from napari_superanimal.poses import Poses

COMPLETE = "complete"
CANCELLED = "cancelled"

#: Fields that must agree before a cancelled run may be continued: they change the numbers.
IDENTITY = (
    "input_bytes",
    "input_content",
    "model",
    "detector",
    "weights_sha256",
    "frame_range",
    "max_individuals",
    "options",
)


def card_path(predictions: Path) -> Path:
    """Where the run card of a predictions file lies."""
    return predictions.with_name(f"{predictions.stem}.run.json")


def read_card(path: Path) -> dict[str, Any]:
    """Read a run card.

    Raises
    ------
    UserError
        If it is absent or not a run card.
    """
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read the run card ({error})", path=path, remedy="start anew with --overwrite"
        ) from error
    if not isinstance(card, dict) or card.get("status") not in (COMPLETE, CANCELLED):
        raise UserError("not a run card", path=path, remedy="start anew with --overwrite")
    return card


def identity(card: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a card that decides whether two runs are the same work, as it is read from a file."""
    return {name: plain(card.get(name)) for name in IDENTITY}


def quality(parts: Iterable[Poses], threshold: float) -> dict[str, float | int | None]:
    """What a reader wants to know first about predictions; None where there is nothing to average.

    Parameters
    ----------
    parts : iterable of Poses
        All frames, part by part.
    threshold : float
        Likelihood from which on a keypoint counts as good.
    """
    empty = count = above = 0
    total = 0.0
    for poses in parts:
        scores = poses.likelihood[poses.found]
        empty += int((~poses.present.any(1)).sum())
        count += scores.size
        above += int((scores >= threshold).sum())
        total += float(scores.sum())
    return {
        "frames_without_animal": empty,
        "share_of_keypoints_above_threshold": above / count if count else None,
        "mean_likelihood": total / count if count else None,
    }


def provenance() -> dict[str, Any]:
    """Fields that every run card has, whatever ran."""
    return {"kind": "napari-superanimal run card", "versions": versions()}
