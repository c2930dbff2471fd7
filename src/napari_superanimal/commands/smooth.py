"""``superanimal smooth``: swaps and outliers mended, tracks smoothed, into a new file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from napari_superanimal.commands.common import hint, new_command, positive

_DESCRIPTION = """\
Mend and smooth the predictions of a video. The result is a new file; the predictions stay as they are, and
keypoints that a person placed or moved do not change. First, with --fix, left/right swaps are exchanged back
and outliers are taken out (bridged over up to five frames, else missing). Then the tracks are smoothed:
kalman (constant velocity, Rauch-Tung-Striebel; how much is estimated per keypoint), savgol, one-euro
(forwards and backwards, so without delay) or median."""

_EPILOG = """\
examples:
  superanimal smooth clip_mouse-topview-mini.h5 --fix swaps,outliers --method kalman --out clip_smooth.h5
  superanimal smooth clip_mouse-topview-mini.h5 --method savgol --window 11 --order 3 --out clip_smooth.csv"""

#: What the user calls it, what the engine calls it.
FIXES = {"swaps": "swap", "outliers": "outlier"}
#: How many findings are printed; --json has all.
PRINTED = 20


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = new_command(
        subparsers, "smooth", run, "mend and smooth predictions of a video", _DESCRIPTION, _EPILOG
    )
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="predictions of a video")
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FILE",
        help="new file: .h5, .csv (DeepLabCut) or .json (COCO)",
    )
    parser.add_argument(
        "--method",
        choices=("kalman", "savgol", "one-euro", "median", "none"),
        default="kalman",
        help="how to smooth (default kalman)",
    )
    parser.add_argument(
        "--fix", type=fix_list, default=(), metavar="WHAT,...", help="mend first: swaps, outliers or both"
    )
    parser.add_argument(
        "--window", type=positive, metavar="N", help="median, savgol: frames, an odd number (default 7)"
    )
    parser.add_argument(
        "--order", type=positive, metavar="N", help="savgol: degree of the polynomial (default 2)"
    )
    parser.add_argument(
        "--min-cutoff", type=float, metavar="HZ", help="one-euro: cutoff of an animal that rests (default 2)"
    )
    parser.add_argument(
        "--beta",
        type=float,
        metavar="HZ",
        help="one-euro: more cutoff per body length per second (default 2)",
    )
    parser.add_argument(
        "--noise-ratio",
        type=float,
        metavar="R",
        help="kalman: noise of the motion over noise of the keypoints, smaller is smoother (default: estimated)",
    )
    parser.add_argument(
        "--fill-gaps",
        type=int,
        default=0,
        metavar="N",
        help="bridge gaps of up to N frames (default 0: none)",
    )
    parser.add_argument(
        "--fps",
        type=float,
        metavar="F",
        help="of the video, for one-euro (default: from the run card, else 30)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")


def fix_list(text: str) -> tuple[str, ...]:
    """Comma-separated names of what to mend."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or any(name not in FIXES for name in names):
        raise argparse.ArgumentTypeError(f"{text!r}: use swaps, outliers or both, separated by a comma")
    return tuple(FIXES[name] for name in dict.fromkeys(names))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Mend, smooth, write and say what changed."""
    from napari_superanimal.jobs.smooth import NONE, smooth_file
    from napari_superanimal.smoothing import SmoothOptions

    given = {
        "window": args.window,
        "order": args.order,
        "min_cutoff": args.min_cutoff,
        "beta": args.beta,
        "noise_ratio": args.noise_ratio,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    options = None
    if args.method != NONE:
        options = SmoothOptions(method=args.method, fill=args.fill_gaps, **chosen)
        options.check()
        for name in chosen.keys() - options.used().keys():
            hint(f"--{name.replace('_', '-')} means nothing to {args.method} and is ignored")
    result = smooth_file(
        args.predictions, args.out, options, fix=args.fix, fps=args.fps, overwrite=args.overwrite
    )
    for finding in result.findings[:PRINTED]:
        print(finding.text)
    if (more := len(result.findings) - PRINTED) > 0:
        print(f"... and {more} more (all with --json)")
    before, after = result.report["before"], result.report["after"]
    if args.fix:
        print(f"{len(result.findings)} findings mended")
    if before["jitter_px"] is not None and after["jitter_px"] is not None:
        print(
            f"jitter {before['jitter_px']:.2f} -> {after['jitter_px']:.2f} px per frame^2 -> {result.files[0]}"
        )
    else:
        print(f"-> {result.files[0]}")
    return result.report
