"""``superanimal convert``: labels and predictions from one format or keypoint space to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.commands.common import new_command

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = """\
Read labels or predictions in any known format and write them in another. With --space (and --table where
the names differ), the keypoints are carried into a keypoint space; what the data set does not define
becomes visibility -1, and source keypoints without a place in the space are named."""


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = new_command(subparsers, "convert", run, "change format or keypoint space", _DESCRIPTION)
    parser.add_argument("source", metavar="IN", type=Path, help="a DeepLabCut project, table, or COCO file")
    parser.add_argument("target", metavar="OUT", type=Path, help="file to write")
    parser.add_argument("--from", dest="from_", metavar="FORMAT", help="format of IN (default: found out)")
    parser.add_argument("--to", metavar="FORMAT", help="format of OUT (default: from its extension)")
    parser.add_argument("--space", metavar="NAME", help="keypoint space to carry the keypoints into")
    parser.add_argument("--table", metavar="FILE|NAME", help="conversion table `source,keypoint`")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Convert."""
    from napari_superanimal.poses.formats.convert import convert

    report = convert(
        args.source,
        args.target,
        from_=args.from_,
        to=args.to,
        table=args.table,
        space=args.space,
        overwrite=args.overwrite,
    )
    print("\n".join(report.lines()))
    return report.to_json()
