"""``superanimal check``: will it work on my video?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.commands.common import ProgressLine, cancellable, new_command

if TYPE_CHECKING:
    import argparse

    from napari_superanimal.jobs.check import CheckReport

_DESCRIPTION = """\
Try models on about 20 frames of a video and say what to expect, in under a minute: is the animal found, how
many are there, are their size and the light like what the model knows, how sure is it, do left and right
stay in place, do the points tremble, how long will the video take. Each finding comes with one next step.
Nothing is written."""

_EPILOG = """\
examples:
  superanimal check clip.mp4
  superanimal check clip.mp4 --model mouse-topview-mini --json check.json"""

_MARKS = {"good": "ok     ", "note": "note   ", "problem": "PROBLEM"}


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = new_command(subparsers, "check", run, "will it work on my video?", _DESCRIPTION, _EPILOG)
    parser.add_argument("video", type=Path, metavar="VIDEO", help="video or folder of images of one size")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME|FOLDER",
        help="model to try, may be given several times (default: all that are on this computer)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Try, print, return."""
    from napari_superanimal.jobs.check import check_file

    with cancellable() as token, ProgressLine("frames") as line:
        report = check_file(args.video, args.model, device=args.device, on_progress=line, token=token)
    print(report_text(report))
    return report.to_json()


def report_text(report: CheckReport) -> str:
    """The report for a person: models side by side, then the findings about the best, and those as good."""
    from napari_superanimal.jobs.check_advice import TIE

    width = max(len(m.model) for m in report.models)
    lines = [
        f"{Path(report.video).name}: {report.n_frames} frames of {report.size[0]}x{report.size[1]}; "
        f"{len(report.sampled)} looked at in {report.seconds:.0f} s",
        "",
        f"{'model':<{width}}  expected right  found in  sure points  frames/s",
    ]
    for m in report.models:
        f = m.figures
        note = "" if m.calibrated else "  (likelihood not calibrated)"
        lines.append(
            f"{m.model:<{width}}  {100 * m.expected_right:>12.0f} %  {100 * f['detection']['share']:>6.0f} %"
            f"  {100 * f['likelihood']['share_sure']:>9.0f} %  {f['speed']['fps']:>8.1f}{note}"
        )
    for m in report.models:
        if m.expected_right < report.best.expected_right - TIE:
            continue
        lines += ["", f"{m.model}:"]
        for advice in m.advice:
            lines.append(f"{_MARKS[advice.level]}  {advice.text}")
            if advice.step:
                lines.append(f"{'':7}  -> {advice.step}")
    return "\n".join(lines)
