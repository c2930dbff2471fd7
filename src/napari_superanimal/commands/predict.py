"""``superanimal predict``: poses of the animals in videos and images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.commands.common import ProgressLine, cancellable, new_command, positive
from napari_superanimal.commands.many import conclude, run_many
from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    from napari_superanimal.jobs.inputs import Source
    from napari_superanimal.jobs.predict import PredictResult

_DESCRIPTION = """\
Predict the poses of the animals in videos, folders of images and images.

Per input, FILE_SCORER.h5 (DeepLabCut's layout) and the run card FILE_SCORER.run.json are written beside
the input or into --out; SCORER is the model's name, followed by the detector's where it is another one.
Images of one folder that are named one by one share one file of results. Predictions
are on the disk as soon as they are made (FILE_SCORER.chunks until the end): after Ctrl-C, a crash or a power cut
--resume goes on from there."""

_EPILOG = """\
examples:
  superanimal predict clip.mp4 --model mouse-topview-mini --out results
  superanimal predict a.mp4 b.mp4 --model mouse-topview-mini --max-individuals 2 --annotate
  superanimal predict photos/ --model quadruped-sideview-mini --format dlc-csv,coco
  superanimal predict clip.mp4 --model superanimal_quadruped_hrnet_w32
  superanimal predict clip.mp4 --model superanimal_topviewmouse_resnet_50:snapshot.pt --detector whole-frame"""


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = new_command(
        subparsers, "predict", run, "predict poses in videos and images", _DESCRIPTION, _EPILOG
    )
    parser.add_argument(
        "inputs",
        metavar="VIDEO|IMAGES",
        nargs="+",
        type=Path,
        help="videos, images, folders of images; a folder of videos stands for all of them",
    )
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME|FOLDER|NAME:FILE",
        help="see `superanimal models list`; NAME:FILE takes a snapshot of one of SuperAnimal's own models "
        "(DeepLabCut's .pt, or .safetensors)",
    )
    parser.add_argument(
        "--detector",
        default="model",
        metavar="NAME|FOLDER|NAME:FILE|whole-frame",
        help="where the boxes come from: the model's own detector (default), another model's, "
        "or the whole frame as one box",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the results (default: beside each input)"
    )
    parser.add_argument(
        "--frames",
        type=frame_slice,
        default=(None, None, None),
        metavar="START:STOP[:STEP]",
        help="frames to predict, as in a Python slice (default: all)",
    )
    parser.add_argument(
        "--max-individuals",
        type=positive,
        metavar="N",
        help="most animals per frame (default 1, or 10 with --reference)",
    )
    parser.add_argument(
        "--format",
        type=format_list,
        default=(),
        metavar="NAME,...",
        help="formats to write besides dlc-h5: dlc-csv, coco",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="of the networks' arithmetic; fp32 gives the reference's numbers. Default: auto, see --runtime",
    )
    parser.add_argument(
        "--runtime",
        choices=("auto", "torch", "openvino"),
        default="auto",
        help="what runs the networks; openvino is an extra. auto (default) tries what this computer has on the "
        "first frames and takes the fastest whose keypoints are those of torch in fp32; with the small models and "
        "for fewer than 100 frames it is torch in fp32. The run card tells what was taken",
    )
    parser.add_argument(
        "--detect-every",
        type=detector_steps,
        default=1,
        metavar="N|auto",
        help="look for animals in every N-th frame, and where the poses ask for it; boxes in between follow the "
        "animals. Several times faster where the detector is slow. Default: 1, every frame; auto is 8",
    )
    parser.add_argument(
        "--scales",
        type=scale_list,
        default="single",
        metavar="auto|single|N,...",
        help="for animals much smaller or larger in the picture than the model knows: look at several scales. 2 is "
        "overlapping windows of half the picture, 0.5 the picture made half as large, 1 the whole picture with a "
        "closer look at what is found. Slower; auto tries all of them on some frames and uses the fastest that see the "
        "same, the picture as it is if that does. "
        "Default: single, the picture as it is",
    )
    parser.add_argument(
        "--batch-size", type=positive, default=16, metavar="N", help="animals per pass (default 16)"
    )
    parser.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        help="average with the mirror image: slower, more accurate (default: as the model's card says)",
    )
    parser.add_argument(
        "--no-track", action="store_true", help="do not keep individuals in their columns over frames"
    )
    parser.add_argument(
        "--reference",
        action="store_true",
        help="for comparisons, SuperAnimal's models only: what DeepLabCut would write, faults included (-1 for "
        "missing animals, no tracks, no frames after the last animal)",
    )
    parser.add_argument("--annotate", action="store_true", help="also write a video with the poses drawn in")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with a run that was cancelled or killed, skip complete ones",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="predict N inputs at the same time, in processes that share the cores (needs the extra `cluster`)",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS|FILE",
        help="predict on the workers of a Dask scheduler that runs already, or of a cluster that FILE.yaml describes, "
        "such as jobs in a SLURM queue (needs the extra `cluster`)",
    )


def frame_slice(text: str) -> tuple[int | None, int | None, int | None]:
    """``START:STOP[:STEP]`` as three numbers; empty parts are None."""
    parts = text.split(":")
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3):
        raise argparse.ArgumentTypeError(f"{text!r} is not START:STOP or START:STOP:STEP")
    start, stop, step = (*numbers, None)[:3]
    return start, stop, step


def detector_steps(text: str) -> int:
    """How many frames from one look of the detector to the next: a number, or "auto"."""
    if text != "auto":
        return positive(text)
    from napari_superanimal.inference.keyframes import AUTO

    return AUTO


def scale_list(text: str) -> str | tuple[float, ...]:
    """See `jobs.scale_choice.parse_scales`."""
    from napari_superanimal.jobs.scale_choice import parse_scales

    try:
        return parse_scales(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def format_list(text: str) -> tuple[str, ...]:
    """Comma-separated names of formats that predictions can be written in."""
    known = ("dlc-h5", "dlc-csv", "coco")
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text!r}: use {', '.join(known)}, separated by commas")
    return names


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Predict every input."""
    from napari_superanimal.jobs.many import FAILED, Outcome, outcome_of
    from napari_superanimal.jobs.predict import predict_files
    from napari_superanimal.jobs.predict_plan import BrokenInput, PredictOptions
    from napari_superanimal.jobs.reference import MAX_INDIVIDUALS

    if args.reference and (args.detect_every > 1 or args.runtime == "openvino" or args.precision == "bf16"):
        raise UserError(
            "--reference computes every frame in fp32 by torch",
            remedy="leave out --reference, or --detect-every, --runtime and --precision",
        )
    if args.resume and args.overwrite:
        raise UserError("--resume and --overwrite exclude each other", remedy="give one of them")
    if args.workers and args.scheduler:
        raise UserError(
            "--workers and --scheduler exclude each other",
            remedy="give --workers for processes on this computer, --scheduler for a cluster",
        )
    options = PredictOptions(
        model=args.model,
        detector=args.detector,
        out=args.out,
        frames=args.frames,
        max_individuals=args.max_individuals or (MAX_INDIVIDUALS if args.reference else 1),
        formats=args.format,
        device=args.device,
        precision=args.precision,
        runtime=args.runtime,
        detect_every=args.detect_every,
        scales=args.scales,
        batch_size=args.batch_size,
        flip=args.flip,
        track=not args.no_track,
        annotate=args.annotate,
        overwrite=args.overwrite,
        resume=args.resume,
        measure_forward=args.json is not None,
        reference=args.reference,
        seed=args.seed or 0,
    )
    if args.workers or args.scheduler:
        return run_many(args, options)
    runs: list[dict[str, Any]] = []
    args.result["runs"] = runs
    outcomes: list[Outcome] = []

    with cancellable() as token, ProgressLine("frames") as line:

        def done(result: PredictResult) -> None:
            line.close()
            print(summary(result))
            runs.append({**result.card, "predictions": result.predictions})
            outcomes.append(outcome_of(result))

        def failed(source: Source, error: UserError) -> None:
            line.close()
            outcomes.append(Outcome(source.path, FAILED, error=str(error)))

        try:
            predict_files(
                args.inputs, options, on_progress=line, on_result=done, on_failure=failed, token=token
            )
        except BrokenInput:
            if len(outcomes) < 2:
                raise
        cancelled = token.cancelled
    if len(outcomes) > 1:
        return conclude(args, outcomes, cancelled=cancelled)
    if len(runs) == 1:
        # what most callers want: the fields of the only run at the top
        args.result |= {k: v for k, v in runs[0].items() if k not in args.result}
    return {"status": "cancelled" if cancelled else "complete"}


def summary(result: PredictResult) -> str:
    """What became of one input, in one line or two."""
    card = result.card
    name = result.source.path.name
    if not result.files:
        skipped = "complete already" if result.status == "complete" else "cancelled before the first frame"
        return f"{name}: {skipped}"
    empty = card["quality"]["frames_without_animal"]
    text = f"{name}: {card['frames']} of {card['frames_asked']} frames, {card['fps']:.1f} fps"
    text += f" -> {result.predictions}"
    if card.get("self_test"):
        text += f"\n  computed by {card['self_test']['summary']}"
    if card["scales"]["used"]:
        text += f"\n  looked at scales {', '.join(f'{s:g}' for s in card['scales']['used'])}"
    elif card["scales"]["asked"] == "auto":
        text += "\n  several scales would not have helped: looked at the picture as it is"
    if empty:
        text += f"\n  no animal was found in {empty} of {card['frames']} frames"
    if risky := card["swap_risk"]["frames"]:
        text += f"\n  individuals may have been exchanged in {risky} frames: see swap_risk in the run card"
    return text
