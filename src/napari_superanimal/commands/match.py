"""``superanimal match``: which keypoints of a model a dataset's keypoints are, told from pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.commands.common import ProgressLine, cancellable, hint, new_command, positive

if TYPE_CHECKING:
    import argparse

    from napari_superanimal.keypoints.matching import Matching

_DESCRIPTION = """\
Propose a conversion table for a labelled data set from what a model sees in its pictures; the names of the
keypoints play no part. A keypoint that the model knows nothing of gets no match. Check the table before you
use it: it is a CSV `source,keypoint` with the evidence beside, and rejected rows have an empty keypoint."""

_EPILOG = """\
examples:
  superanimal match my-dlc-project --model mouse-topview-mini --out table.csv
  superanimal finetune my-dlc-project --model mouse-topview-mini --mode replay --table table.csv --out my-model"""


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = new_command(
        subparsers, "match", run, "propose a conversion table from pictures", _DESCRIPTION, _EPILOG
    )
    parser.add_argument("dataset", metavar="DATASET", type=Path, help="labelled images in any known format")
    parser.add_argument("--model", required=True, metavar="NAME|FOLDER", help="the model that looks")
    parser.add_argument("--out", type=Path, required=True, metavar="TABLE.csv", help="table to write")
    parser.add_argument(
        "--images", type=positive, default=100, metavar="N", help="images to look at, at most (default 100)"
    )
    parser.add_argument(
        "--batch-size", type=positive, default=16, metavar="N", help="animals per pass (default 16)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace TABLE.csv if it exists")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Match, write the table and print it."""
    from napari_superanimal.jobs.match import MatchOptions, match_dataset, write_matches
    from napari_superanimal.jobs.outputs import check_file, check_new

    check_file(args.out)
    if not args.overwrite:
        check_new([args.out])
    options = MatchOptions(args.model, args.images, args.device, args.batch_size)
    with cancellable() as token, ProgressLine("images") as line:
        result = match_dataset(args.dataset, options, on_progress=line, token=token)
    write_matches(result.matching, args.out, model=result.model, overwrite=args.overwrite)
    print(match_table(result.matching))
    for warning in result.matching.warnings:
        hint(f"warning: {warning}")
    report = result.to_json()
    if report["swapped_images"]:
        hint(f"look at: {', '.join(report['swapped_images'][:5])}")
    if not report["table"]:
        hint("no keypoint was matched; is this the model for these animals and this view?")
    hint(f"wrote {args.out}; check it before you use it with --table")
    return {"labels": str(args.dataset), "out": args.out, **report}


def match_table(matching: Matching) -> str:
    """Matches for a person: one row per keypoint."""
    width = max(18, *(len(m.source) + 2 for m in matching.matches))
    wide = max(18, *(len(m.target) + 4 for m in matching.matches))
    lines = [f"{'keypoint':<{width}}{'is':<{wide}}{'animals':>8}{'distance':>10}{'score':>8}{'margin':>8}  "]
    for m in matching.matches:
        target = m.target if m.accepted else "no match"
        numbers = f"{m.images:>8}{m.distance:>10.3f}{m.score:>8.2f}{m.margin:>8.2f}" if m.target else " " * 34
        note = f"{m.target}: {m.reason}" if m.target and not m.accepted else m.reason
        lines.append(f"{m.source:<{width}}{target:<{wide}}{numbers}  {note}".rstrip())
    lines.append("distance: median, in shares of the animal's size; score and margin: 0 to 1")
    return "\n".join(line.rstrip() for line in lines)
