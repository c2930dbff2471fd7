"""What memory replay keeps: a shipped model fine-tuned on another laboratory's few points.

The model knows nose, ears and tail base. It is fine-tuned on the open field test's NOSE, HEAD and TAIL, and then tried
on the ears of open field frames that it was never trained on, and on the mouse left out of the test. Two models
are tried: one trained on the open field data set and rendered mice alone, to which the other laboratory and HEAD are
new, and the shipped one, which has seen both.

python benchmarks/replay.py --data DATA --work WORK
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from common import IMAGES, number, table, write_result
from one_lab import start_without

from napari_superanimal.jobs.charts import Series, line_chart, save_chart
from napari_superanimal.jobs.compare import FIGURES, summarise
from napari_superanimal.jobs.trials import START, measure, prepare, run_one
from napari_superanimal.keypoints import load_table
from napari_superanimal.models.load import load_model
from napari_superanimal.poses.choose import images_matching
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from napari_superanimal.jobs.trials import Trials
    from napari_superanimal.poses import Poses

SHIPPED = "mouse-topview-mini"
OTHER_LAB = "oft"
#: Open field frames and the mouse that the model's recipe holds out.
HELD_FRAMES = "match:img00(6[6-9]|7|8)"
HELD_MOUSE = "match:labeled-data/7_"
WRONG = "match:7_D1/img00054"
ARMS = ("replay", "naive")


def labels(data: Path) -> tuple[Poses, Poses]:
    """The user's labels, and open field frames with ears."""
    mine = registry.read(data / "mouse_oft_dlc3")
    mine = mine.take([i for i in range(len(mine)) if mine.image_path(i).is_file()])
    mine = mine.take(~images_matching(mine.images, WRONG))
    ears = registry.read(data / "mouse_openfield_dlc")
    ears = ears.take([i for i in range(len(ears)) if ears.image_path(i).is_file()])
    return mine, ears.take(images_matching(ears.images, HELD_FRAMES))


def report(trials: Trials, rows: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    return {
        "model": trials.model.card.name,
        "steps": steps,
        "training_images": len(trials.training),
        "test_images": len(trials.test),
        "ear_images": len(trials.reference) if trials.reference is not None else 0,
        "keypoints": list(trials.known),
        "others": list(trials.others),
        "summary": summarise(rows),
        "runs": rows,
    }


def chart(rows: list[dict[str, Any]], figure: str, title: str, y_title: str) -> str:
    names = [START, *ARMS]
    series = [
        Series(
            name,
            [
                (float(names.index(name)), r[figure])
                for r in rows
                if r["mode"] == name and r[figure] is not None
            ],
        )
        for name in names
    ]
    return line_chart(series, title=title, x_title="", y_title=y_title, x_names=["start", *ARMS])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder of the model trained on one laboratory"
    )
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--starts", nargs="+", choices=("one lab", "shipped"), default=("one lab", "shipped"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    mine, ears = labels(args.data)
    found: dict[str, Any] = {}
    for name in args.starts:
        start = (
            load_model(SHIPPED)
            if name == "shipped"
            else start_without(OTHER_LAB, args.data, args.work / "start")
        )
        trials = prepare(
            mine, start, load_table("oft"), test=HELD_MOUSE, others=(ears, load_table("openfield"))
        )
        rows = compare(trials, args.seeds, args.steps)
        found[name] = report(trials, rows, args.steps)
        write_result("replay", {"starts": found})
        file = name.replace(" ", "_")
        save_chart(
            IMAGES / f"replay_forgotten_{file}.svg",
            chart(rows, "others_dropped", "The ears", "ears lost per mouse, of two"),
        )
    cells = [
        [
            name,
            mode,
            *(
                number(f.get(k, {}).get("median"), 3)
                for k in ("error_px", "pck", "new_error_px", "others_error_px", "others_pck")
            ),
            number(f.get("others_dropped", {}).get("median"), 3),
        ]
        for name, each in found.items()
        for mode, f in each["summary"].items()
    ]
    print(
        table(
            ["start", "", "user's px", "PCK@0.1", "new px", "ears px", "ears PCK@0.1", "ears lost per mouse"],
            cells,
        )
    )


def compare(trials: Trials, seeds: int, steps: int) -> list[dict[str, Any]]:
    """The starting model, and every arm with every seed."""
    rows: list[dict[str, Any]] = [
        {"mode": START, "seed": None, **measure(trials, trials.model, trials.table)}
    ]
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            for name in ARMS:
                started = time.process_time()
                out = Path(folder) / f"{name}-{seed}"
                row = run_one(trials, name, seed, out, steps=steps)
                rows.append({**row, "cpu_s": time.process_time() - started})
                print({k: rows[-1].get(k) for k in ("mode", "seed", *FIGURES)}, flush=True)
    for each in rows:
        each.pop("errors_px", None)
    return rows


if __name__ == "__main__":
    main()
