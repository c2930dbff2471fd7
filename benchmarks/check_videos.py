"""`superanimal check` on four public videos: how long it takes, what it says, and what is true.

    python benchmarks/check_videos.py --data DATA

Where a video is labelled, the share of keypoints that is really right stands beside what check expects (both within a
tenth of the animal's size, own detector).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from common import RESULTS, load_average, table, write_result

from napari_superanimal.jobs.check import check_file

VIDEOS = ("m3v1mp4.mp4", "EGS8X2MN4SSUGFWAV976.mp4", "BrownHorseinShadow.mp4", "DogRun.mp4")
#: Video to the dataset of evaluation.json that its labels make.
LABELLED = {"BrownHorseinShadow.mp4": ("quadruped-sideview-mini", "walking horse")}


def truth(video: str) -> dict[str, Any] | None:
    """PCK@0.1 measured on the labels of a video, by evaluate_minis.py."""
    file = RESULTS / "evaluation.json"
    if video not in LABELLED or not file.is_file():
        return None
    model, dataset = LABELLED[video]
    entry = json.loads(file.read_text(encoding="utf-8"))["models"][model]["datasets"].get(dataset)
    return None if entry is None else {"model": model, "right": entry["detector"]["pck"]["0.1"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    args = parser.parse_args()
    results: dict[str, Any] = {}
    for name in VIDEOS:
        path = args.data / "videos" / name
        if not path.is_file():
            print(f"left out: {name}")
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        report = check_file(path)
        results[name] = {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
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
            "measured": truth(name),
        }
    rows = [
        [
            name,
            r["best"],
            f"{100 * r['models'][r['best']]['expected_right']:.0f} %",
            f"{100 * r['measured']['right']:.0f} %" if r["measured"] else "",
            f"{r['seconds']:.0f} s",
            f"{r['cpu_seconds']:.1f} s",
        ]
        for name, r in results.items()
    ]
    print(table(["video", "best model", "expected right", "measured right", "wall", "CPU"], rows))
    result = {
        "command": "python benchmarks/check_videos.py --data DATA",
        "load_average": load_average(),
        "videos": results,
    }
    print(f"written {write_result('check_videos', result).name}")


if __name__ == "__main__":
    main()
