"""``superanimal merge``: several data sets, labelled differently, as one in a keypoint space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.commands.common import ProgressLine, cancellable, hint, new_command

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = """\
Carry any number of labelled data sets into one keypoint space and write them as one. Each has its own
conversion table, because the same name may mean another point elsewhere: IN=TABLE, where TABLE is a CSV
`source,keypoint`, one column of a wider table (FILE.csv:COLUMN), or a shipped table. Without =TABLE, a table
saved with the data set counts, then its DeepLabCut config, then the names. What a data set does not define
becomes visibility -1. A report tells what deserves a look.

OUT may be a COCO file (.json), a DeepLabCut table (.h5, .csv) or a new DeepLabCut project (a folder)."""

_EPILOG = """\
examples:
  superanimal merge all.json lab1/config.yaml=openfield lab2=my-table.csv --space superanimal_topviewmouse
  superanimal merge all-project lab1 lab2/labels.json=paper:EPM --space superanimal_topviewmouse --pictures link"""


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = new_command(
        subparsers, "merge", run, "unite data sets in one keypoint space", _DESCRIPTION, _EPILOG
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="file or project folder to write")
    parser.add_argument(
        "inputs",
        metavar="IN[=TABLE]",
        nargs="+",
        help="a DeepLabCut project, table, COCO file, or folder with annotations/train.json, test.json, ...",
    )
    parser.add_argument("--space", required=True, metavar="NAME|FILE", help="keypoint space of the result")
    parser.add_argument("--to", metavar="FORMAT", help="format of OUT (default: from its name)")
    parser.add_argument(
        "--names",
        metavar="A,B,...",
        help="what the data sets are called in the result (default: their files')",
    )
    parser.add_argument(
        "--pictures",
        choices=("copy", "link", "none"),
        default="copy",
        help="pictures of a DeepLabCut project: copy them (default), link to them, or leave them",
    )
    parser.add_argument(
        "--keep-unmapped",
        action="store_true",
        help="append keypoints that have no place in the space under DATASET:NAME, instead of leaving them out",
    )
    parser.add_argument("--check", action="store_true", help="only report, write nothing")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Merge and print the report."""
    from napari_superanimal.jobs.merge import merge_files, parse_input

    names = [n.strip() for n in args.names.split(",")] if args.names else None
    with cancellable() as token, ProgressLine("data sets") as line:
        report, files = merge_files(
            [parse_input(text) for text in args.inputs],
            None if args.check else args.out,
            args.space,
            to=args.to,
            names=names,
            pictures=args.pictures,
            keep_unmapped=args.keep_unmapped,
            overwrite=args.overwrite,
            on_progress=line,
            token=token,
        )
    print("\n".join(report.lines()))
    hint("nothing was written (--check)" if args.check else f"wrote {args.out}")
    return {"out": None if args.check else args.out, "files": files, **report.to_json()}
