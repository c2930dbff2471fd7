"""Keypoint matching with hidden names: is the right table found, and is nothing matched that has no counterpart?

`python benchmarks/match_keypoints.py --data DATA` writes results/match_keypoints.json. Every data set is looked at
once; few pictures are then drawn from it with several seeds. The pictures of data sets that a shipped model was
trained on are known to it: `seen` says which.
"""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import write_result

from napari_superanimal.evaluation.run import output_keypoints
from napari_superanimal.inference.frame_predictor import OWN_DETECTOR, WHOLE_FRAME
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.jobs.match import observe, spread
from napari_superanimal.keypoints import ConversionTable, load_table
from napari_superanimal.keypoints.matching import Matching, Observations, match_keypoints
from napari_superanimal.keypoints.table import SIDE
from napari_superanimal.models.load import load_model
from napari_superanimal.poses.formats import registry
from napari_superanimal.training.samples import read_image

MOUSE, QUADRUPED = "mouse-topview-mini", "quadruped-sideview-mini"
#: Name, file, model, true table (empty: the names are the space's own), whether the model was trained on it.
SETS = (
    ("open field", "mouse_openfield_dlc", MOUSE, "openfield", True),
    ("OFT", "mouse_oft_dlc3", MOUSE, "oft", True),
    ("mice of the paper", "superanimal_topview_gt/annotations/test.json", MOUSE, "", False),
    ("horse", "quad_livestock_pool/annotations/horse.json", QUADRUPED, "livestock", True),
    ("cattle", "quad_livestock_pool/annotations/cattle.json", QUADRUPED, "livestock_cattle", True),
    ("sheep", "quad_livestock_pool/annotations/sheep.json", QUADRUPED, "livestock", True),
    ("dogs", "dog_stanfordextra/StanfordExtra_sample.json", QUADRUPED, "stanfordextra", True),
)
FEW = (3, 5, 10, 20)


def judge(found: Matching, names: tuple[str, ...], right: dict[str, str], known: set[str]) -> dict[str, Any]:
    """Right and wrong pairs, keypoints missed, and what was matched although it has no counterpart."""
    counts = {"right": 0, "wrong": 0, "missed": 0, "no_counterpart": 0, "matched_without_counterpart": 0}
    wrong = []
    for name, match in zip(names, found.matches, strict=True):
        if match.reason == "never labelled":
            continue
        target = right.get(name, "")
        reachable = bool(target) and set(target.split(SIDE)) <= known
        counts["no_counterpart"] += not reachable
        if match.accepted and not reachable:
            counts["matched_without_counterpart"] += 1
            wrong.append(f"{name} -> {match.target}")
        elif match.accepted and match.target != target:
            counts["wrong"] += 1
            wrong.append(f"{name} -> {match.target}")
        elif reachable:
            counts["right" if match.accepted else "missed"] += 1
    return {**counts, "mistakes": wrong}


def some(seen: Observations, count: int, seed: int) -> Observations:
    """A few animals, at random."""
    rows = np.random.default_rng(seed).permutation(len(seen))[:count]
    return Observations(*(getattr(seen, f.name)[rows] for f in fields(seen)))


def exchanged(
    seen: Observations, names: tuple[str, ...], right: dict[str, str], space: Any, share: float
) -> Any:
    """Some animals with left and right labels exchanged, and which."""
    source = {t: i for i, n in enumerate(names) if (t := right.get(n))}
    order = np.arange(len(names))
    for left, other in space.pairs:
        if left in source and other in source:
            order[source[left]], order[source[other]] = source[other], source[left]
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(len(seen))[: max(1, round(share * len(seen)))])
    labels = seen.labels.copy()
    labels[rows] = labels[rows][:, order]
    return replace(seen, labels=labels), rows, bool((order != np.arange(len(names))).any())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    predictors: dict[str, Predictor] = {}
    rows = []
    for title, file, model, table, trained in SETS:
        if not (args.data / file).exists():
            print(f"{title}: not there, left out")
            continue
        poses = spread(registry.read(args.data / file), args.images)
        if model not in predictors:
            loaded = load_model(model)
            own = OWN_DETECTOR if loaded.detector is not None else WHOLE_FRAME
            predictors[model] = Predictor(loaded, detector=own, max_individuals=4, device="cpu")
        predictor = predictors[model]
        space, known = predictor.space, output_keypoints(predictor)
        right = dict(load_table(table).rows) if table else {k: k for k in poses.keypoints}
        ConversionTable(title, tuple(right.items()), space.name).check(poses.keypoints, space)
        seen, _, _ = observe(poses, predictor, read_image)
        names = poses.keypoints
        hidden = tuple(f"p{i}" for i in range(len(names)))
        whole = judge(match_keypoints(seen, hidden, space, known), names, right, set(known))
        few = {}
        for count in FEW:
            drawn = [
                judge(match_keypoints(some(seen, count, s), hidden, space, known), names, right, set(known))
                for s in range(args.seeds)
            ]
            few[str(count)] = {
                key: float(np.mean([d[key] for d in drawn]))
                for key in ("right", "wrong", "missed", "matched_without_counterpart")
            }
        before = set(match_keypoints(seen, hidden, space, known).swapped)
        turned, at, possible = exchanged(seen, names, right, space, 0.2)
        after = set(match_keypoints(turned, hidden, space, known).swapped)
        swaps = {
            "exchanged": len(at),
            "found": len(after & set(at.tolist())),
            "flagged_before": len(before),
        }
        row = {
            "dataset": title,
            "model": model,
            "seen": trained,
            "images": len(poses),
            "animals": len(seen),
            **whole,
            "few": few,
            "left_right": swaps if possible else None,
        }
        rows.append(row)
        print({k: v for k, v in row.items() if k != "few"}, flush=True)
    write_result("match_keypoints", {"seeds": args.seeds, "rows": rows})


if __name__ == "__main__":
    main()
