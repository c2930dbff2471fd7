"""``superanimal benchmark``: what a model is worth on your own labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.commands.common import (
    add_training_options,
    hint,
    new_command,
    positive,
    training_progress,
)
from napari_superanimal.commands.finetune import (
    NEEDED_BYTES,
    STEPS,
    add_comparison_options,
    share,
    table_of,
    trials_of,
)
from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = """\
few-shot: how many labelled frames does a model need? Fine-tunes on 1, 5, 10, 50 and 100 % of your
labels, with several seeds and in several modes, and measures all of them on the same held-back images.
Writes few_shot.json after each run and the curve few_shot.svg at the end. Ctrl-C keeps what is
finished, and --resume goes on."""

_EPILOG = """\
example:
  superanimal benchmark few-shot my-dlc-project --model mouse-topview-mini \\
      --test match:session3 --frames 2 5 10 20 50 --out curve"""

MODES = ("replay", "naive", "backbone", "scratch")


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = new_command(
        subparsers, "benchmark", run, "measure how many labels a model needs", _DESCRIPTION, _EPILOG
    )
    parser.add_argument("what", choices=("few-shot",), help="what to measure")
    parser.add_argument(
        "dataset", metavar="DATASET", type=Path, help="a DeepLabCut project, table, or COCO file"
    )
    parser.add_argument("--model", required=True, metavar="NAME|FOLDER", help="the model to start from")
    parser.add_argument("--table", metavar="FILE|NAME", help="conversion table `source,keypoint`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the results")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--shares", type=share, nargs="+", metavar="P", help="of the labels (default 0.01 0.05 0.1 0.5 1)"
    )
    sizes.add_argument("--frames", type=positive, nargs="+", metavar="N", help="numbers of frames instead")
    parser.add_argument(
        "--scratch-steps",
        type=positive,
        metavar="N",
        help="steps of the mode scratch, which needs more of them than the others (default: as many)",
    )
    add_comparison_options(parser, MODES)
    add_training_options(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure."""
    from napari_superanimal.jobs.labels import read_labels
    from napari_superanimal.jobs.outputs import check_folder
    from napari_superanimal.models.zoo import find_model

    model = find_model(args.model)
    poses = read_labels(args.dataset)
    check_folder(args.out, NEEDED_BYTES)
    table = table_of(args, poses, model)
    if args.shares is not None and min(args.shares) == 0:
        raise UserError("a share of 0 leaves no frames", remedy="give shares above 0")

    from napari_superanimal.jobs.few_shot import SHARES, few_shot
    from napari_superanimal.jobs.few_shot import table_of as printed

    trials = trials_of(args, poses, model, table)
    if not args.progress_lines:
        hint(f"{len(trials.training)} images to learn from, {len(trials.test)} to measure on")
    with training_progress(args) as (report, token):
        found = few_shot(
            trials,
            args.out,
            modes=args.modes,
            seeds=args.seeds,
            steps=args.steps or STEPS,
            baseline_steps=args.scratch_steps,
            frames=args.frames or (),
            shares=args.shares or SHARES,
            first_seed=args.seed or 0,
            on_progress=report,
            token=token,
            resume=args.resume,
        )
    if not args.progress_lines:
        print(printed(found))
        print(f"wrote {args.out / 'few_shot.json'} and {args.out / 'few_shot.svg'}")
    return {"folder": args.out, **found}
