"""``superanimal finetune``: a model adapted to your own labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.commands.common import add_training_options, hint, new_command, training_progress

if TYPE_CHECKING:
    import argparse

if TYPE_CHECKING:
    from napari_superanimal.keypoints import ConversionTable
    from napari_superanimal.models.zoo import ModelRef
    from napari_superanimal.poses import Poses

_DESCRIPTION = """\
Fine-tune a model on your own labels.

modes:
  backbone  start from the model's backbone, learn your keypoints with new heads
  naive     start from all of the model's weights, keep its keypoints; those that your
            labels lack may be forgotten
  scratch   start from random weights, to compare

Ctrl-C saves a checkpoint, and --resume goes on from it."""

_EPILOG = """\
example:
  superanimal finetune my-dlc-project --model mouse-topview-mini --mode naive --out my-model"""

#: Free space that weights and checkpoints may take.
NEEDED_BYTES = 200_000_000


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = new_command(subparsers, "finetune", run, "adapt a model to your labels", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "dataset", metavar="DATASET", type=Path, help="a DeepLabCut project, table, or COCO file"
    )
    parser.add_argument("--model", required=True, metavar="NAME|FOLDER", help="the model to start from")
    parser.add_argument(
        "--mode", choices=("scratch", "backbone", "naive"), required=True, help="what is kept of the model"
    )
    parser.add_argument("--table", metavar="FILE|NAME", help="conversion table `source,keypoint`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new model")
    add_training_options(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune."""
    from napari_superanimal.jobs.labels import read_labels
    from napari_superanimal.jobs.outputs import check_folder
    from napari_superanimal.models.zoo import find_model

    model = find_model(args.model)
    poses = read_labels(args.dataset)
    check_folder(args.out, NEEDED_BYTES)
    if not args.progress_lines:
        hint(f"{len(poses)} labelled images; starting from {model.card.name}")

    from napari_superanimal.models.load import load_model
    from napari_superanimal.training.finetune import finetune

    options: dict[str, Any] = {} if args.steps is None else {"steps": args.steps}
    with training_progress(args) as (report, token):
        folder = finetune(
            poses,
            load_model(model),
            mode=args.mode,
            out=args.out,
            table=_table(args, poses, model),
            on_progress=report,
            token=token,
            resume=args.resume,
            seed=args.seed or 0,
            **options,
        )
    if not args.progress_lines:
        print(f"wrote the model into {folder}")
        print(f"use it with --model {folder}, or add it to the list: superanimal models import {folder}")
    return {"folder": folder, "parent": model.card.name, "mode": args.mode}


def _table(args: argparse.Namespace, poses: Poses, model: ModelRef) -> ConversionTable | None:
    """The table given, or the one that the keypoint names call for; None where names tell nothing."""
    from napari_superanimal.keypoints import KeypointSpace, find_table, load_table

    if args.table:
        return load_table(args.table)
    found = find_table(poses.keypoints, KeypointSpace.from_json(model.card.space))
    if not args.progress_lines:
        hint(f"conversion table found from the keypoint names: {found.name if found else 'none'}")
    return found
