"""``superanimal doctor``: is this installation fit for work?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_superanimal.commands.common import new_command
from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    import argparse

_MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


def add(subparsers: Any) -> None:
    """Add the command."""
    new_command(
        subparsers,
        "doctor",
        run,
        "look at the installation and say what is wrong",
        "Versions, devices, video codecs, models, disk and display. Exit code 0 when predictions can run.",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Examine and print."""
    from napari_superanimal.jobs.doctor import examine

    findings = examine(args.device)
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{_MARKS[finding.state]}  {finding.name:<{width}}  {finding.text}")
        if finding.remedy:
            print(f"{'':9}{'':<{width}}  -> {finding.remedy}")
    problems = [finding for finding in findings if finding.state == "problem"]
    args.result["findings"] = [finding.to_json() for finding in findings]
    if problems:
        raise UserError(
            f"not usable: {', '.join(f'{p.name} ({p.text})' for p in problems)}",
            remedy="see the list above",
        )
    print("\nusable")
    return {"usable": True}
