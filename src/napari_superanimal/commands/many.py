"""What is said of several inputs: a line as each one ends, a table of all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_superanimal.commands.common import ProgressLine, cancellable, hint
from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from napari_superanimal.jobs.many import Outcome
    from napari_superanimal.jobs.predict_plan import PredictOptions

#: Columns of the table that are numbers.
_RIGHT = (2, 3)


def run_many(args: argparse.Namespace, options: PredictOptions) -> dict[str, Any]:
    """Predict on several processes or machines."""
    from napari_superanimal.jobs.many import FAILED, predict_many

    outcomes: list[Outcome] = []
    with cancellable() as token, ProgressLine("frames") as line:

        def done(outcome: Outcome) -> None:
            line.close()
            hint(f"{outcome.input.name}: {outcome.error if outcome.status == FAILED else outcome.status}")

        outcomes = predict_many(
            args.inputs,
            options,
            workers=args.workers,
            scheduler=args.scheduler,
            on_progress=line,
            on_outcome=done,
            token=token,
        )
        cancelled = token.cancelled
    args.result["runs"] = [o.card | {"predictions": o.predictions} for o in outcomes if o.card]
    return conclude(args, outcomes, cancelled=cancelled)


def conclude(args: argparse.Namespace, outcomes: Sequence[Outcome], *, cancelled: bool) -> dict[str, Any]:
    """Print the table; what the command returns.

    Raises
    ------
    UserError
        If an input failed and nobody cancelled.
    """
    from napari_superanimal.jobs.many import FAILED

    args.result["videos"] = [outcome.to_json() for outcome in outcomes]
    print(overview(outcomes))
    failures = [outcome for outcome in outcomes if outcome.status == FAILED]
    if failures and not cancelled:
        raise UserError(
            f"{len(failures)} of {len(outcomes)} inputs failed, the others are done", remedy=failures[0].error
        )
    return {"status": "cancelled" if cancelled else "complete"}


def overview(outcomes: Sequence[Outcome]) -> str:
    """The table: input, status, frames, frames per second, file."""
    rows = [("input", "status", "frames", "fps", "output")]
    for outcome in outcomes:
        each = outcome.to_json()
        fps = "" if each["fps"] is None else f"{each['fps']:.1f}"
        rows.append((outcome.input.name, each["status"], str(each["frames"]), fps, each["output"] or "-"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in _RIGHT else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
