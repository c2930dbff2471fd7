"""What a fine-tuning learned and what it forgot, in words for the form."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from napari_superanimal.training.modes import MODES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_superanimal.models.card import ModelCard

#: Below this share of keypoints found as before, forgetting is worth a warning.
WORRYING = 0.8


def outcome_text(card: ModelCard) -> str:
    """What became of the user's keypoints and of the others, as rich text; empty for a card that does not tell."""
    parts = []
    error = card.metrics.get("validation val_error_px")
    if isinstance(error, int | float):
        parts.append(f"Your keypoints: {error:.2f} px from your labels on held-back frames.")
    before, now = (card.metrics.get(f"validation {k}_error_px") for k in ("start", "known"))
    if isinstance(before, int | float) and isinstance(now, int | float):
        line = f"Those that the old model knew: {before:.2f} px before, {now:.2f} px now."
        parts.append(line if now <= before else f"<b>{line}</b> Label more frames, or train for longer.")
    kept = card.metrics.get("others kept")
    if isinstance(kept, int | float):
        line = f"The other keypoints: {100 * kept:.0f}% are found as before."
        parts.append(
            line if kept >= WORRYING else f"<b>{line}</b> Label some of them, or train for less long."
        )
    if lost := card.metrics.get("forgotten"):
        parts.append(f"<b>No longer predicted:</b> {', '.join(map(spoken, lost))}.")
    replay = card.recipe.get("replay")
    if isinstance(replay, dict) and replay.get("unmatched"):
        parts.append(
            f"{replay['unmatched']} of {replay['animals']} labelled animals are other than the old model sees them: "
            "of these, only your keypoints were learned."
        )
    return " ".join(parts)


def matches_text(names: Sequence[str], known: Mapping[str, str], came_from: str) -> str:
    """Which of the user's keypoints a model knows, and by what that was found; empty where names are the model's.

    Parameters
    ----------
    known : mapping
        The model's keypoint for each of the user's that it knows.
    came_from : {"given", "saved", "names", "layer"}
    """
    new = [n for n in names if n not in known]
    if came_from == "layer" and not new:
        return ""
    how = {
        "given": "By the table",
        "saved": "By the table saved with the data set",
        "names": "By their names",
    }
    pairs = [f"{escape(n)} is {spoken(known[n])}" for n in names if n in known]
    parts = [f"{how.get(came_from, 'By their names')}: {', '.join(pairs)}."] if pairs else []
    if new:
        line = f"<b>New to the model:</b> {', '.join(map(escape, new))}, learned from your labels alone."
        parts.append(
            line + (" If it may know them by another name, match them." if came_from == "names" else "")
        )
    return " ".join(parts)


def expected_text(mode: str, card: ModelCard | None, known: tuple[str, ...] | None) -> str:
    """What choosing a mode means for the keypoints that the labels lack.

    Parameters
    ----------
    known : tuple of str or None
        Keypoints of the model that the user labels; None when that is not known yet.
    """
    if card is None or known is None or mode not in MODES:
        return ""
    others = [k for k in card.keypoints if k not in known]
    if not others:
        return ""
    names = ", ".join(map(spoken, others[:6])) + (f" and {len(others) - 6} more" if len(others) > 6 else "")
    if MODES[mode].keeps:
        return f"Kept besides yours: {names}."
    return f"<b>Will be forgotten:</b> {names}."


def comparison_text(found: dict[str, Any], folder: Path) -> str:
    """A finished comparison as a small table."""
    rows = []
    for mode, figures in found["summary"].items():
        title = MODES[mode].title if mode in MODES else "The model as it is"
        cells = [_cell(figures, "error_px", "{:.1f} px"), _cell(figures, "others_dropped", "{:.1f}")]
        rows.append(
            f"<tr><td>{escape(title)}</td>" + "".join(f"<td align='right'>{c}</td>" for c in cells) + "</tr>"
        )
    return (
        "<b>The ways compared</b>, on frames that none has learned from:"
        "<table cellspacing='6'><tr><td></td><td>error on your keypoints</td><td>others lost per animal</td></tr>"
        + "".join(rows)
        + f"</table>Charts and figures are in {escape(str(folder))}."
    )


def _cell(figures: dict[str, Any], name: str, form: str) -> str:
    return form.format(figures[name]["median"]) if name in figures else "-"


def spoken(keypoint: object) -> str:
    """A keypoint's name as people say it."""
    return escape(str(keypoint).replace("_", " "))
