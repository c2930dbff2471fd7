"""``superanimal finetune``: a model adapted to your own labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.commands.common import (
    add_training_options,
    hint,
    new_command,
    positive,
    training_progress,
)
from napari_superanimal.training.modes import MODES

if TYPE_CHECKING:
    from napari_superanimal.keypoints import ConversionTable
    from napari_superanimal.models.zoo import ModelRef
    from napari_superanimal.poses import Poses

_DESCRIPTION = """\
Fine-tune a model on your own labels.

modes:
  replay    learn your keypoints and keep all the others: what you did not label is filled
            in by the starting model wherever it is sure (memory replay)
  naive     start from all of the model's weights, end with your keypoints only
  backbone  start from the model's backbone, learn your keypoints with new heads
  scratch   start from random weights, to compare

--compare runs the modes on the same split, with several seeds, and tells what each learned
and what it forgot. Several processes share the work when torchrun starts them. Ctrl-C saves
a checkpoint, and --resume goes on from it."""

_EPILOG = """\
examples:
  superanimal finetune my-dlc-project --model mouse-topview-mini --mode replay --out my-model
  superanimal finetune my-dlc-project --model mouse-topview-mini --compare --out comparison
  torchrun --nproc-per-node 2 --no-python superanimal finetune my-dlc-project \\
      --model mouse-topview-mini --mode replay --out my-model"""

#: Free space that weights and checkpoints may take.
NEEDED_BYTES = 200_000_000
#: SuperAnimal's networks are larger: weights, their average and the optimiser's two copies.
NEEDED_BYTES_OFFICIAL = 1_200_000_000
STEPS = 600


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = new_command(subparsers, "finetune", run, "adapt a model to your labels", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "dataset", metavar="DATASET", type=Path, help="a DeepLabCut project, table, or COCO file"
    )
    parser.add_argument("--model", required=True, metavar="NAME|FOLDER", help="the model to start from")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--mode", choices=tuple(MODES), help="what is kept of the model")
    what.add_argument(
        "--compare", action="store_true", help="run the modes on the same split and compare them"
    )
    parser.add_argument("--table", metavar="FILE|NAME", help="conversion table `source,keypoint`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new model")
    parser.add_argument(
        "--replay-threshold",
        type=share,
        metavar="P",
        help="replay: likelihood from which the starting model's keypoints are taken over (default 0.7)",
    )
    parser.add_argument(
        "--absent",
        action="store_true",
        help="replay: a keypoint without a position is not there, rather than not labelled",
    )
    parser.add_argument(
        "--balance", action="store_true", help="draw every source data set equally often, however large it is"
    )
    parser.add_argument(
        "--batch-size", type=positive, default=8, metavar="N", help="animals per batch (default 8)"
    )
    parser.add_argument(
        "--accumulate",
        type=positive,
        default=1,
        metavar="N",
        help="batches per step, in the memory of one (default 1)",
    )
    parser.add_argument("--keep-detector", action="store_true", help="never train the detector")
    add_comparison_options(parser, tuple(MODES))
    add_training_options(parser)


def add_comparison_options(parser: argparse.ArgumentParser, modes: tuple[str, ...]) -> None:
    """Options of what compares fine-tunings."""
    group = parser.add_argument_group("comparing")
    group.add_argument(
        "--modes", nargs="+", choices=tuple(MODES), metavar="MODE", default=modes, help="modes to compare"
    )
    group.add_argument("--seeds", type=positive, default=3, metavar="N", help="runs per mode (default 3)")
    group.add_argument(
        "--test",
        default="",
        metavar="RULE",
        help="images to measure on: `match:REGEX` on their paths, or a file of image names "
        "(default: the last 30 %%); choose another animal or session",
    )
    group.add_argument(
        "--others",
        metavar="DATASET[=TABLE]",
        help="labels of keypoints that DATASET lacks, to measure what is forgotten "
        "(default: what the starting model is sure of on the images measured)",
    )


def share(text: str) -> float:
    """An argument between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune, or compare fine-tunings."""
    from napari_superanimal.jobs.fetch import ensure_here, refuse_detector_as_model
    from napari_superanimal.jobs.labels import read_labels
    from napari_superanimal.jobs.outputs import check_folder
    from napari_superanimal.models.zoo import find_model

    model = find_model(args.model)
    refuse_detector_as_model(model)
    poses = read_labels(args.dataset)
    check_folder(args.out, NEEDED_BYTES_OFFICIAL if model.official else NEEDED_BYTES)
    if not model.here:
        if not args.progress_lines:
            hint(f"licence of the weights: {model.card.licence}")
        with training_progress(args) as (report, token):
            model = ensure_here(model, on_progress=report, token=token)
    if not args.progress_lines:
        hint(f"{len(poses)} labelled images; starting from {model.card.name}")
    table = table_of(args, poses, model)
    if args.compare:
        return _compare(args, poses, model, table)
    return _finetune(args, poses, model, table)


def _finetune(
    args: argparse.Namespace, poses: Poses, model: ModelRef, table: ConversionTable | None
) -> dict[str, Any]:
    from napari_superanimal.models.trainable import load_trainable
    from napari_superanimal.models.zoo import find_model
    from napari_superanimal.training.distributed import is_main, own_folder, together
    from napari_superanimal.training.finetune import finetune

    options: dict[str, Any] = {} if args.steps is None else {"steps": args.steps}
    if args.replay_threshold is not None:
        options["replay_threshold"] = args.replay_threshold
    with together():
        if not is_main():
            args.json = None
        with own_folder(args.out) as out, training_progress(args) as (report, token):
            folder = finetune(
                poses,
                load_trainable(model),
                mode=args.mode,
                out=out,
                name=args.out.resolve().name,
                table=table,
                absent=args.absent,
                balance=args.balance,
                batch_size=args.batch_size,
                accumulate=args.accumulate,
                train_detector=not args.keep_detector,
                on_progress=report,
                token=token,
                resume=args.resume,
                seed=args.seed or 0,
                **options,
            )
            card = find_model(folder).card
        if not args.progress_lines:
            for line in told_of(card.metrics, card.recipe):
                print(line)
            print(f"wrote the model into {args.out}")
            print(
                f"use it with --model {args.out}, or add it to the list: superanimal models import {args.out}"
            )
    return {
        "folder": args.out,
        "parent": model.card.name,
        "mode": args.mode,
        "keypoints": list(card.keypoints),
        "metrics": card.metrics,
        "recipe": card.recipe,
    }


def told_of(metrics: dict[str, Any], recipe: dict[str, Any]) -> list[str]:
    """What became of the labels and of the other keypoints, a line each."""
    lines = []
    if (error := metrics.get("validation val_error_px")) is not None:
        line = f"your keypoints: {error:.2f} px from the labels on held-back images"
        if (start := metrics.get("validation start_error_px")) is not None:
            now = metrics["validation known_error_px"]
            line += f"; those that the starting model knew: {start:.2f} px before, {now:.2f} px now"
        lines.append(line)
    if replay := recipe.get("replay"):
        lines.append(
            f"memory replay: {replay['pseudo']} keypoints filled in above a likelihood of {replay['threshold']:g}; "
            f"{replay['unmatched']} of {replay['animals']} animals could not be matched and keep their labels only"
        )
    if (kept := metrics.get("others kept")) is not None:
        lines.append(f"the other keypoints: {100 * kept:.0f} % found as before on held-back images")
    if lost := metrics.get("forgotten"):
        lines.append(f"no longer predicted: {', '.join(lost)}")
    if kept_because := recipe.get("detector", {}).get("kept"):
        lines.append(f"its detector is the starting model's, unchanged: {kept_because}")
    return lines


def _compare(
    args: argparse.Namespace, poses: Poses, model: ModelRef, table: ConversionTable | None
) -> dict[str, Any]:
    from napari_superanimal.jobs.compare import compare
    from napari_superanimal.jobs.compare import table_of as printed

    trials = trials_of(args, poses, model, table)
    with training_progress(args) as (report, token):
        found = compare(
            trials,
            args.out,
            modes=args.modes,
            seeds=args.seeds,
            steps=args.steps or STEPS,
            first_seed=args.seed or 0,
            on_progress=report,
            token=token,
            resume=args.resume,
        )
    if not args.progress_lines:
        print(printed(found))
        print(
            f"wrote {args.out / 'compare.json'}, charts beside it, and the models into {args.out / 'models'}"
        )
    return {"folder": args.out, **found}


def trials_of(args: argparse.Namespace, poses: Poses, model: ModelRef, table: ConversionTable | None) -> Any:
    """The split and the reference that `--test` and `--others` ask for."""
    from napari_superanimal.commands.train import split_dataset
    from napari_superanimal.jobs.labels import read_labels
    from napari_superanimal.jobs.trials import prepare
    from napari_superanimal.keypoints import KeypointSpace, table_for
    from napari_superanimal.models.trainable import load_trainable

    others = None
    if args.others:
        path, name = split_dataset(args.others)
        labels = read_labels(path)
        space = KeypointSpace.from_json(model.card.space)
        others = labels, table_for(labels.keypoints, space, name or None, path=path)
    return prepare(poses, load_trainable(model), table, test=args.test, others=others)


def table_of(args: argparse.Namespace, poses: Poses, model: ModelRef) -> ConversionTable | None:
    """`look_up_table` for the dataset; says which table it is, and what it leaves out."""
    from napari_superanimal.keypoints import KeypointSpace, look_up_table

    space = KeypointSpace.from_json(model.card.space)
    table, came_from = look_up_table(poses.keypoints, space, args.table, path=args.dataset)
    unmapped = table.check(poses.keypoints, space) if table is not None and came_from != "names" else ()
    if not args.progress_lines:
        if came_from == "saved":
            hint("conversion table saved with the data set")
        elif came_from == "names":
            hint(f"conversion table found from the keypoint names: {table.name if table else 'none'}")
        if unmapped:
            hint(f"keypoints without a place in {space.name}, learned anew: {', '.join(unmapped)}")
    return table
