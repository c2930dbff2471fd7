"""``superanimal adapt``: a model that gets used to your video, without labels."""

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
from napari_superanimal.commands.finetune import share

if TYPE_CHECKING:
    import argparse

    from napari_superanimal.adaptation.adapt import AdaptSettings

_DESCRIPTION = """\
Adapt a model to videos without labels: what it is sure of on sampled frames, from every side,
becomes what it learns. Then it is proved on frames that it did not learn from: jitter, dropped
keypoints, the body's size and proportions, motion, agreement with the starting model, and, with
--labels, the error.
If the proof fails, the adapted model is reverted: nothing of the starting model and of its
predictions is changed, and the folder says why. Ctrl-C saves a checkpoint, and --resume goes
on from it."""

_EPILOG = """\
examples:
  superanimal adapt clip.mp4 --model mouse-topview-mini --out my-adapted
  superanimal adapt a.mp4 b.mp4 --model my-model --also c.mp4 --out my-adapted
  superanimal predict clip.mp4 --model my-adapted"""


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = new_command(
        subparsers, "adapt", run, "adapt a model to videos, unlabelled", _DESCRIPTION, _EPILOG
    )
    parser.add_argument("videos", metavar="VIDEO", type=Path, nargs="+", help="videos to learn from")
    parser.add_argument("--model", required=True, metavar="NAME|FOLDER", help="the model to start from")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the new model and its proof"
    )
    parser.add_argument(
        "--also",
        type=Path,
        nargs="+",
        default=[],
        metavar="VIDEO",
        help="videos to prove it on, not to learn from",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="DATASET",
        help="labels of frames of a video: the proof measures errors on them",
    )
    parser.add_argument(
        "--table", metavar="FILE|NAME", help="conversion table of the labels `source,keypoint`"
    )
    parser.add_argument("--frames", type=positive, metavar="N", help="frames to learn from (default 240)")
    parser.add_argument(
        "--threshold",
        type=share,
        metavar="P",
        help="lowest likelihood of a pseudo-label (default: the model's own)",
    )
    parser.add_argument(
        "--max-individuals", type=positive, default=1, metavar="N", help="animals per frame (default 1)"
    )
    parser.add_argument("--detector", action="store_true", help="adapt the detector, too")
    parser.add_argument(
        "--keep-anyway", action="store_true", help="keep the adapted model even if its proof fails"
    )
    add_training_options(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Adapt, prove, tell."""
    from napari_superanimal.jobs.adapt import AdaptOptions, adapt_files

    options = AdaptOptions(
        model=args.model,
        out=args.out,
        settings=settings_of(args),
        others=tuple(args.also),
        labels=args.labels,
        table=args.table,
        keep_anyway=args.keep_anyway,
        resume=args.resume,
        device=args.device,
    )
    quiet = args.progress_lines
    with training_progress(args) as (report, token):
        outcome = adapt_files(
            args.videos, options, on_progress=report, token=token, say=None if quiet else hint
        )
    if not quiet:
        kept = outcome.kept
        print(f"{outcome.decision}: {'; '.join(outcome.reasons)}")
        if kept and not outcome.passes:
            print("the proof failed; the model was kept because you asked for it")
        print(f"wrote the proof into {args.out / 'proof.json'}, a table and a chart beside it")
        if kept:
            print(
                f"use it with --model {args.out}, or add it to the list: superanimal models import {args.out}"
            )
    return outcome.to_json()


def settings_of(args: argparse.Namespace) -> AdaptSettings:
    """The settings that the arguments ask for."""
    from napari_superanimal.adaptation.adapt import AdaptSettings

    given = {
        name: value
        for name, value in (("steps", args.steps), ("frames", args.frames), ("threshold", args.threshold))
        if value is not None
    }
    return AdaptSettings(
        seed=args.seed or 0, max_individuals=args.max_individuals, detector=args.detector, **given
    )
