"""What fine-tuning SuperAnimal's own networks costs, and that what it learns is found again.

    python benchmarks/official_finetune.py --data DATA [--steps 200] [--only cost|learning] [--work DIR]

The released weights are not needed for either, and were not used: networks have random weights.

- Cost: CPU seconds per crop of a training step (forward, loss, backward, update), without and with the rehearsal of
  memory replay, by network. One thread.
- Learning: HRNet-w32 learns the keypoints of the open field from nothing (`scratch`), on crops of 96 px instead of
  256, so that it is quick, and the written model is measured on the last fifth of the frames, which it has not seen.
  With random weights this tests targets, losses, crops and decoding together; it says nothing about fine-tuning
  released weights. Beside it: the error of who always says where a keypoint lies in the box on average.
- Keeping: that network then learns on from the labels of two of its keypoints alone, with replay; how well does it
  still find the others?

Writes results/official_finetune.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from common import RESULTS, load_average, number, summary, table, write_result

from napari_superanimal.evaluation.run import predict_images
from napari_superanimal.inference.build import build_predictor
from napari_superanimal.keypoints import KeypointSpace
from napari_superanimal.models.official.build import build_pose
from napari_superanimal.models.official.catalogue import card_of, find_release
from napari_superanimal.models.official.load import OfficialPose
from napari_superanimal.models.official.networks import HRNetPose
from napari_superanimal.models.trainable import load_trainable
from napari_superanimal.models.zoo import find_model
from napari_superanimal.poses import with_boxes
from napari_superanimal.poses.formats import registry
from napari_superanimal.training.finetune import finetune
from napari_superanimal.training.head import head_of
from napari_superanimal.training.pose_stage import Batch
from napari_superanimal.training.rehearsal import Rehearsal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.jobs.progress import Progress
    from napari_superanimal.poses import Poses

NETWORKS = (
    "superanimal_topviewmouse_hrnet_w32",
    "superanimal_topviewmouse_resnet_50",
    "superanimal_quadruped_rtmpose_s",
    "superanimal_humanbody_rtmpose_x",
)
#: Crops per step when learning, crops per step when the cost is measured, and repeats of that.
BATCH, FEW, REPEATS = 8, 2, 2
#: Side of the crops that are learned from, px, and keypoints that are labelled when the others are to be kept.
CROP = 96
MINE = ("snout", "tailbase")


def untrained(name: str, seed: int = 0) -> OfficialPose:
    """A released network with random weights."""
    torch.manual_seed(seed)
    release = find_release(name)
    assert release is not None
    card = card_of(release)
    network = build_pose(release).eval().requires_grad_(False)
    return OfficialPose(card, KeypointSpace.from_json(card.space), network)


def cost(name: str) -> dict[str, Any]:
    """CPU seconds per crop of a step, without and with rehearsal."""
    model = untrained(name)
    head, count = head_of(model), len(model.card.keypoints)
    network = head.build(count).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-5)
    side = head.size
    asked = torch.ones(FEW, count, dtype=torch.bool)
    batch = Batch(
        torch.rand(FEW, 3, side, side) * 255,
        torch.rand(FEW, count, 2) * side,
        torch.full((FEW, count), 2),
        asked,
        torch.ones(FEW),
    )
    figures = {}
    for what, rehearsal in (
        ("plain", None),
        ("rehearsed", Rehearsal(model.network, list(range(count)), asked.numpy())),
    ):
        seconds = []
        for _ in range(1 + REPEATS):
            began = time.process_time()
            optimiser.zero_grad()
            head.loss(network, batch, rehearsal).backward()
            optimiser.step()
            seconds.append((time.process_time() - began) / FEW)
        figures[what] = summary(seconds[1:])
    return {"parameters": sum(p.numel() for p in network.parameters()), **figures}


def open_field(data: Path) -> tuple[Poses, Poses]:
    """Labelled frames of the open field: those to learn from, and the last fifth."""
    poses = registry.read(data / "mouse_openfield_dlc")
    rows = [i for i in range(len(poses)) if poses.found[i].any() and poses.image_path(i).is_file()]
    poses = with_boxes(poses.take(np.array(rows)))
    held = max(1, round(0.2 * len(poses)))
    return poses.take(np.arange(len(poses) - held)), poses.take(np.arange(len(poses) - held, len(poses)))


def errors(folder: Path, truth: Poses, names: Sequence[str]) -> tuple[float, float]:
    """Mean distance from the labels, px, of some keypoints as a written model predicts them, and their mean score."""
    predictor = build_predictor(find_model(folder), detector="whole-frame", device="cpu")
    seen = predict_images(truth, predictor, boxes="labels")
    theirs, ours = ([each.keypoints.index(k) for k in names] for each in (predictor.space, truth))
    apart = np.linalg.norm(seen.xy[:, :1, theirs] - truth.xy[:, :, ours], axis=-1)
    there = np.isfinite(apart)
    return float(apart[there].mean()), float(seen.likelihood[:, :1, theirs][there].mean())


def learning(data: Path, steps: int, work: Path) -> dict[str, Any]:
    """Error on held-back frames of a network that learned from nothing."""
    training, truth = open_field(data)
    curve: list[dict[str, float]] = []

    def told(progress: Progress) -> None:
        if "step" in progress.values and progress.values["step"] % 20 == 0:
            curve.append({k: progress.values[k] for k in ("step", "loss")})
            print(curve[-1], flush=True)

    out = finetune(
        training,
        untrained(NETWORKS[0]),
        mode="scratch",
        out=work / "scratch",
        steps=steps,
        batch_size=BATCH,
        hold_out=False,
        resume=True,
        on_progress=told,
    )
    error, score = errors(out, truth, truth.keypoints)
    # where keypoints lie in the box on average, in the frames that were learned from
    place = (training.xy - training.boxes[..., None, :2]) / training.boxes[..., None, 2:]
    mean = np.nanmean(place, axis=(0, 1))
    guess = np.linalg.norm(truth.boxes[..., None, :2] + mean * truth.boxes[..., None, 2:] - truth.xy, axis=-1)
    return {
        "crop_px": CROP,
        "images": len(training),
        "held_back": len(truth),
        "keypoints": list(truth.keypoints),
        "steps": steps,
        "error_px": error,
        "score": score,
        "error_of_the_mean_place_px": float(np.nanmean(guess)),
        "curve": curve,
    }


def keeping(data: Path, steps: int, work: Path) -> dict[str, Any]:
    """What a model that learned all keypoints still knows of some when it learns on from labels of the others."""
    training, truth = open_field(data)
    start = work / "scratch"
    rest = [k for k in training.keypoints if k not in MINE]
    keep = [training.keypoints.index(k) for k in MINE]
    labels = replace(
        training,
        keypoints=MINE,
        xy=training.xy[:, :, keep],
        visibility=training.visibility[:, :, keep],
        likelihood=training.likelihood[:, :, keep],
        human=training.human[:, :, keep],
        skeleton=(),
    )
    found: dict[str, Any] = {"mine": list(MINE), "others": rest, "steps": steps}
    replayed = finetune(
        labels,
        load_trainable(start),
        mode="replay",
        out=work / "replay",
        steps=steps,
        batch_size=BATCH,
        hold_out=False,
        resume=True,
    )
    found["pseudo"] = find_model(replayed).card.recipe["replay"]["pseudo"]
    folders = {"before": start, "replay": replayed}
    for name, folder in folders.items():
        mine, others = errors(folder, truth, MINE), errors(folder, truth, rest)
        found[name] = {
            "error_px": mine[0],
            "others_error_px": others[0],
            "others_score": others[1],
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", choices=("cost", "learning"))
    parser.add_argument("--work", type=Path, help="keep models and checkpoints here, and go on from them")
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "official_finetune.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if args.only != "learning":
        before = load_average()
        result["cost"] = {name: cost(name) for name in NETWORKS}
        result["load"] = [before, load_average()]
        rows = [
            (name, number(f["plain"]["median"], 2), number(f["rehearsed"]["median"], 2))
            for name, f in result["cost"].items()
        ]
        print(table(("network", "CPU s per crop", "with rehearsal"), rows))
        write_result("official_finetune", result)
    if args.only != "cost":
        HRNetPose.input_size = (CROP, CROP)
        with tempfile.TemporaryDirectory() as folder:
            work = args.work or Path(folder)
            result["learning"] = learning(args.data, args.steps, work)
            write_result("official_finetune", result)
            result["keeping"] = keeping(args.data, max(1, args.steps // 4), work)
            print(result["keeping"], flush=True)
            write_result("official_finetune", result)


if __name__ == "__main__":
    main()
