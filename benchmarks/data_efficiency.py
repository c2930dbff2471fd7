"""How many labels a start from another laboratory saves: leave one lab out, then learn it from few frames.

A model is trained on the open field data set and rendered mice only. It is then fine-tuned on 2 to 100 frames of the
open field test, a laboratory that it has never seen, and compared with training from scratch on the same frames, which
takes several times as many steps to arrive anywhere. Measured on the mouse that is left out.

python benchmarks/data_efficiency.py --data DATA --work WORK
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from common import IMAGES, write_result
from one_lab import start_without
from replay import HELD_MOUSE, OTHER_LAB, labels

from napari_superanimal.jobs.charts import save_chart
from napari_superanimal.jobs.few_shot import chart, few_shot, table_of
from napari_superanimal.jobs.trials import prepare
from napari_superanimal.keypoints import load_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder of the models; what is there is not repeated"
    )
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--baseline-steps", type=int, default=2000, help="of training from scratch")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frames", type=int, nargs="+", default=(2, 5, 10, 25, 50, 100))
    parser.add_argument("--modes", nargs="+", default=("replay", "scratch"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = start_without(OTHER_LAB, args.data, args.work / "start")
    mine, _ = labels(args.data)
    trials = prepare(mine, start, load_table("oft"), test=HELD_MOUSE)
    found = few_shot(
        trials,
        args.work,
        modes=args.modes,
        seeds=args.seeds,
        steps=args.steps,
        baseline_steps=args.baseline_steps,
        frames=args.frames,
        on_progress=lambda p: print(p.message, p.done, flush=True) if p.done % 100 == 0 else None,
        resume=True,
    )
    write_result("data_efficiency", found)
    save_chart(IMAGES / "data_efficiency.svg", chart(found))
    print(table_of(found))


if __name__ == "__main__":
    main()
