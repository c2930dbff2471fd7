"""``superanimal evaluate``: how far predictions are from labels."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from napari_superanimal.commands.common import ProgressLine, cancellable, hint, new_command, positive
from napari_superanimal.errors import UserError

_DESCRIPTION = """\
Compare a model, or a file of predictions, with labels. The labels are carried into the model's keypoint
space by a conversion table (found out from the names where --table does not say); keypoints that only one
side knows are left out. Errors are pixels of the full image; PCK is the share of keypoints nearer than a
fraction of the square root of the animal's box area."""

_EPILOG = """\
examples:
  superanimal evaluate --labels my-dlc-project --model mouse-topview-mini --boxes labels
  superanimal evaluate --labels labels.json --predictions clip_mouse-topview-mini.h5 --json report.json"""


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = new_command(
        subparsers, "evaluate", run, "compare predictions with labels", _DESCRIPTION, _EPILOG
    )
    parser.add_argument(
        "--labels", required=True, type=Path, metavar="DATASET", help="labels in any known format"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", metavar="NAME|FOLDER", help="predict the labelled images with this model")
    what.add_argument("--predictions", type=Path, metavar="FILE", help="compare these predictions")
    parser.add_argument(
        "--boxes",
        choices=("detector", "labels"),
        default="detector",
        help="where the model's boxes come from: its detector (default) or the labels",
    )
    parser.add_argument("--table", metavar="FILE|NAME", help="conversion table of the labels")
    parser.add_argument(
        "--only",
        metavar="RULE",
        help="images to use: `match:REGEX` on their paths, or a file of image names, one per line",
    )
    parser.add_argument(
        "--batch-size", type=positive, default=16, metavar="N", help="animals per pass (default 16)"
    )
    parser.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        help="average with the mirror image (default: as the model's card says)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate and print a table."""
    from napari_superanimal.jobs.evaluate import EvaluateOptions, evaluate_files

    if args.predictions is not None and args.boxes == "labels":
        raise UserError("--boxes labels needs --model", remedy="predictions have their boxes already")
    options = EvaluateOptions(
        model=args.model,
        predictions=args.predictions,
        boxes=args.boxes,
        table=args.table,
        only=args.only or "",
        device=args.device,
        batch_size=args.batch_size,
        flip=args.flip,
    )
    with cancellable() as token, ProgressLine("images") as line:
        report = evaluate_files(args.labels, options, on_progress=line, say=hint, token=token)
    print(report_table(report))
    return report


def report_table(report: dict[str, Any]) -> str:
    """The figures for a person: totals, then one row per keypoint."""
    shares = sorted(report["pck"], key=float)
    lines = [
        f"{report['n_images']} images, {report['n_individuals']} animals; "
        f"mean error {number(report['mean_error_px'])} px, median {number(report['median_error_px'])} px, "
        f"RMS {number(report['rmse_px'])} px, "
        f"mAP {number(report['map'], 3)}",
        "",
        f"{'keypoint':<24}{'labelled':>10}{'mean px':>10}{'median px':>11}"
        + "".join(f"{'PCK@' + share:>10}" for share in shares),
    ]
    for name, row in report["per_keypoint"].items():
        lines.append(
            f"{name:<24}{row['n']:>10}{number(row['mean_error_px']):>10}"
            f"{number(row['median_error_px']):>11}"
            + "".join(f"{number(row['pck'].get(share), 3):>10}" for share in shares)
        )
    lines.append(
        f"{'all':<24}{report['n_keypoints']:>10}{number(report['mean_error_px']):>10}{number(report['median_error_px']):>11}"
        + "".join(f"{number(report['pck'][share], 3):>10}" for share in shares)
    )
    return "\n".join(lines)


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
