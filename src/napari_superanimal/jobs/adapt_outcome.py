"""What came of an adaptation: the proof as files, and keeping or reverting it by hand."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.adapt_chart import keypoint_chart
from napari_superanimal.jobs.charts import save_chart
from napari_superanimal.jobs.files import unwritable, write_text
from napari_superanimal.jobs.plain_json import write_json
from napari_superanimal.models.card import CARD_FILE, read_card, write_card
from napari_superanimal.models.zoo import models_home

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_superanimal.adaptation.proof import Proof

KEPT, REVERTED = "kept", "reverted"
OUTCOME, TABLE, CHART = "proof.json", "proof.csv", "jitter.svg"
#: Where a model lies that must not be used.
REJECTED = "rejected"
NOTE = "REVERTED.txt"


@dataclass(frozen=True)
class Outcome:
    """A finished adaptation.

    Attributes
    ----------
    folder : Path
    decision : {"kept", "reverted"}
    passes : bool
        What the proof says, whatever was decided.
    trained : bool
        False where the starting model's predictions were not fit to learn from.
    by : {"proof", "user"}
        Who decided.
    reasons : tuple of str
        Sentences: what got better, or everything that speaks against the adapted model.
    model, parent : str
    proofs : tuple of Proof
        Per video, those learned from first.
    trust, pseudo_labels : dict
        Per video that was learned from: `adaptation.trust.Trust` and `PseudoCounts` as JSON.
    settings : dict
    files : tuple of Path
        Predictions on held-out frames before and after, figures.
    """

    folder: Path
    decision: str
    passes: bool
    trained: bool
    by: str
    reasons: tuple[str, ...]
    model: str
    parent: str
    proofs: tuple[Proof, ...]
    trust: dict[str, Any]
    pseudo_labels: dict[str, Any]
    settings: dict[str, Any]
    files: tuple[Path, ...] = ()

    @property
    def kept(self) -> bool:
        return self.decision == KEPT

    def metrics(self) -> dict[str, Any]:
        """The figures that belong on the card."""
        found: dict[str, Any] = {}
        for proof in self.proofs:
            before, after = proof.before, proof.after
            name = proof.video.replace("\\", "/").rsplit("/", 1)[-1]
            text = (
                f"held-out frames: {proof.frames}, jitter {before.jitter_px:.2f} to {after.jitter_px:.2f} px, "
                f"dropped {100 * before.dropped:.0f} to {100 * after.dropped:.0f} %"
            )
            if before.labels:
                text += f", error {before.error_px:.2f} to {after.error_px:.2f} px on {before.labels} labels"
            found[f"adaptation to {name}"] = text
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "decision": self.decision,
            "passes": self.passes,
            "trained": self.trained,
            "by": self.by,
            "reasons": list(self.reasons),
            "model": self.model,
            "parent": self.parent,
            "proofs": [proof.to_json() for proof in self.proofs],
            "trust": self.trust,
            "pseudo_labels": self.pseudo_labels,
            "settings": self.settings,
            "files": [file.name for file in self.files],
        }


def read_outcome(folder: Path) -> dict[str, Any]:
    """``proof.json`` of a finished adaptation.

    Raises
    ------
    UserError
        If there is none.
    """
    try:
        found: dict[str, Any] = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"no finished adaptation can be read here ({error})",
            path=folder,
            remedy="run `superanimal adapt` first",
        ) from error
    return found


def revert(folder: Path) -> None:
    """Put an adapted model out of use: it moves to the subfolder ``rejected``, and out of the list of models.

    What was predicted with it, and everything of the starting model, stays as it is. Does nothing to one that is
    reverted already.

    Raises
    ------
    UserError
        If the folder holds no adaptation or cannot be written.
    """
    outcome = read_outcome(folder)
    if not (folder / CARD_FILE).exists():
        return
    card = read_card(folder)
    listed = models_home() / card.name
    if listed.is_dir() and listed.resolve() != folder.resolve() and read_card(listed).sha256 == card.sha256:
        _remove(listed)
    _move(folder, folder / REJECTED)
    _mark(folder / REJECTED, REVERTED)
    mark_reverted(folder, ("reverted by hand",))
    write_json(folder / OUTCOME, {**outcome, "decision": REVERTED, "by": "user"})


def keep(folder: Path) -> None:
    """Put a reverted model back into use, by the user's own decision; its card keeps the proof's reasons.

    Raises
    ------
    UserError
        If the folder holds no adaptation or cannot be written.
    """
    outcome = read_outcome(folder)
    if (folder / CARD_FILE).exists():
        return
    if not (folder / REJECTED / CARD_FILE).exists():
        raise UserError(
            "there is no adapted model to keep: nothing was trained",
            path=folder,
            remedy="run `superanimal adapt` with --keep-anyway if you want to see what comes of it",
        )
    _move(folder / REJECTED, folder)
    _mark(folder, KEPT)
    (folder / NOTE).unlink(missing_ok=True)
    write_json(folder / OUTCOME, {**outcome, "decision": KEPT, "by": "user"})


def mark_reverted(folder: Path, reasons: Sequence[str], *, trained: bool = True) -> None:
    """Say in the folder why there is no model in it."""
    lines = [
        "The adaptation was reverted: the starting model stays in use, and nothing of it was changed.",
        *(f"- {reason}" for reason in reasons),
        f"The adapted model lies in {REJECTED}/ for those who want to look at it."
        if trained
        else "Nothing was trained.",
    ]
    write_text(folder / NOTE, "\n".join(lines) + "\n")


def _mark(folder: Path, status: str) -> None:
    card = read_card(folder)
    write_card(replace(card, recipe={**card.recipe, "status": status}), folder)


def _move(source: Path, target: Path) -> None:
    """Weights first, the card last: half a model is never found."""
    card = read_card(source)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in card.sha256:
            shutil.copyfile(source / name, target / name)
        shutil.copyfile(source / CARD_FILE, target / CARD_FILE)
        for name in (CARD_FILE, *card.sha256):
            (source / name).unlink()
    except OSError as error:
        raise unwritable(target, error) from error


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def write_figures(outcome: Outcome) -> tuple[Path, ...]:
    """``proof.csv`` and ``jitter.svg``, then ``proof.json``, which says that all is done.

    Raises
    ------
    UserError
        If a file cannot be written.
    """
    folder = outcome.folder
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    names = ("jitter_px", "jitter_fixed_px", "dropped", "error_px")
    out.writerow(["video", "predictions", "keypoint", *names])
    for proof in outcome.proofs:
        for arm, figures in proof.arms.items():
            for keypoint, values in figures.per_keypoint.items():
                row = ["" if values[n] != values[n] else f"{values[n]:.4f}" for n in names]
                out.writerow([proof.video, arm, keypoint, *row])
    write_text(folder / TABLE, text.getvalue())
    save_chart(folder / CHART, keypoint_chart(outcome.proofs[0]))
    paths = (folder / TABLE, folder / CHART, folder / OUTCOME)
    write_json(folder / OUTCOME, replace(outcome, files=(*outcome.files, *paths)).to_json())
    return paths
