"""`superanimal check` on four public videos: how long it takes, what it says, and what comes of doing as it says.

    python benchmarks/check_videos.py --data DATA [--only VIDEO ...] [--no-follow] [--actions ...]

Where a video is labelled, the share of keypoints that is really right stands beside what check expects (both within a
tenth of the animal's size, own detector, the frames of `follow_advice`). Then every piece of advice for the best model
is followed, and for the others the first one; figures before and after are of the same frames.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from common import RESULTS, load_average, number, table, write_result
from follow_advice import TRUTHS, Follower, paid

from napari_superanimal.jobs.check import check_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_superanimal.jobs.check import CheckReport

VIDEOS = ("m3v1mp4.mp4", "EGS8X2MN4SSUGFWAV976.mp4", "BrownHorseinShadow.mp4", "DogRun.mp4")


def timed(path: Path) -> tuple[CheckReport, dict[str, Any]]:
    """The check as a user runs it, and what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    report = check_file(path)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    return report, {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "frames": len(report.sampled),
        "models": {
            m.model: {
                "expected_right": m.expected_right,
                "found_in": m.figures["detection"]["share"],
                "novelty": m.figures["novelty"],
                "advice": [[a.level, a.text, a.step] for a in m.advice],
            }
            for m in report.models
        },
        "best": report.best.model,
    }


def measured(follower: Follower, report: CheckReport) -> dict[str, Any]:
    """By model: what its predictions on the labelled frames are worth; empty without labels."""
    if follower.truth is None:
        return {}
    return {m.model: follower.plain(m.model)[1] for m in report.models}


def followed(
    follower: Follower,
    report: CheckReport,
    old: list[dict[str, Any]],
    actions: list[str] | None,
    tell: Callable[[list[dict[str, Any]]], None],
) -> None:
    """All advice for the best model, the first for the others; `tell` gets what is done so far, in their order.

    With `actions`, only such advice is followed, and `old` results stand for the rest.
    """
    asked = [
        (m.model, advice)
        for i, m in enumerate(report.models)
        for advice in m.advice[: None if i == 0 else 1]
        if advice.step
    ]
    found: dict[int, dict[str, Any]] = {}
    # fine-tuning takes longest
    for n in sorted(range(len(asked)), key=lambda n: asked[n][1].action == "label"):
        model, advice = asked[n]
        if actions is not None and advice.action not in actions:
            same = [f for f in old if (f["model"], f["step"], f["text"]) == (model, advice.step, advice.text)]
            if same:
                found[n] = {**same[0], "paid": paid(same[0], follower.known)}
                tell([found[k] for k in sorted(found)])
            continue
        result = follower.follow(advice, model)
        if result is None:
            continue
        said = {"model": model, "level": advice.level, "text": advice.text, "step": advice.step}
        found[n] = {**said, "action": advice.action, **result}
        found[n]["paid"] = paid(found[n], follower.known)
        print(
            f"  {model}: {advice.step} -> {result['did'] or result['why_not']}: {found[n]['paid']}",
            flush=True,
        )
        tell([found[k] for k in sorted(found)])


def write(results: dict[str, Any]) -> None:
    """What is measured so far."""
    result = {
        "command": "python benchmarks/check_videos.py --data DATA",
        "load_average": load_average(),
        "videos": {name: results[name] for name in VIDEOS if name in results},
    }
    write_result("check_videos", result)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--only", nargs="+", default=VIDEOS, choices=VIDEOS)
    parser.add_argument(
        "--no-follow", action="store_true", help="only check; what was followed before is kept"
    )
    parser.add_argument("--actions", nargs="+", help="follow only such advice; the rest is kept, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    file = RESULTS / "check_videos.json"
    earlier = json.loads(file.read_text(encoding="utf-8"))["videos"] if file.is_file() else {}
    results: dict[str, Any] = {name: earlier[name] for name in VIDEOS if name in earlier}
    for name in args.only:
        path = args.data / "videos" / name
        if not path.is_file():
            print(f"left out: {name}")
            continue
        report, found = timed(path)
        print(f"{name}: {found['seconds']:.1f} s, best {found['best']}", flush=True)
        follower = Follower(path, args.data)
        found["measured"] = measured(follower, report)
        found["labels"] = TRUTHS[name].what if name in TRUTHS else ""
        old = earlier.get(name, {}).get("followed", [])
        found["followed"] = [{**f, "paid": paid(f, follower.known)} for f in old] if args.no_follow else []
        results[name] = found

        def keep(done: list[dict[str, Any]], name: str = name) -> None:
            results[name]["followed"] = done
            write(results)

        write(results)
        if not args.no_follow:
            followed(follower, report, old, args.actions, keep)
    rows = [
        [
            name,
            r["best"],
            f"{100 * r['models'][r['best']]['expected_right']:.0f} %",
            number(r["measured"].get(r["best"], {}).get("right")) if r.get("measured") else "",
            f"{r['seconds']:.0f} s",
            f"{r['cpu_seconds']:.1f} s",
        ]
        for name, r in results.items()
    ]
    print(table(["video", "best model", "expected right", "measured right", "wall", "CPU"], rows))


if __name__ == "__main__":
    main()
