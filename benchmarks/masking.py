"""What masking undefined keypoints is worth: one dataset split into two labs that label different points.

Lab A keeps the labels of the first half of the frames for some keypoints, lab B those of the second half for the
others; the truth of everything is known. Laboratories look different, so lab B's pictures get a colour cast, as another
camera or lamp gives, or are inverted (a bright animal on a dark floor). Both train one network, once masked and once
with the undefined keypoints trained as absent. The last frames of each lab are held out. Backbone and decoder start
from the quadruped model, which never saw a mouse. Random colours, light and contrast in training would hide from the
network which lab it sees; they are off for the cast, and on for the inversion, as a second view.

python benchmarks/masking.py --data DATA
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from common import number, summary, table, write_result

from napari_superanimal.inference.pose_pass import symmetry_of
from napari_superanimal.keypoints import load_space, load_table
from napari_superanimal.models.load import load_model
from napari_superanimal.models.networks import PoseNet
from napari_superanimal.poses import UNDEFINED, project
from napari_superanimal.poses.formats import registry
from napari_superanimal.training.augment import Augmentation
from napari_superanimal.training.finetune import take_over
from napari_superanimal.training.loop import LoopConfig, run
from napari_superanimal.training.pose_stage import pose_batches, predict_samples
from napari_superanimal.training.samples import PoseSamples, gather_pose_samples, pick
from napari_superanimal.training.train import select

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Which keypoints each lab labels; partners stay together, since a mirrored left ear is a right one.
LABS = {"A": ("nose", "tail_base"), "B": ("left_ear", "right_ear")}
ARMS = ("masked", "zero-filled")
WITHIN_PX = 10.0
HELD_OUT = 0.25
START = "quadruped-sideview-mini"
INPUT = 64
#: How lab B differs, and the strength of random light and colour in training.
LOOKS = {"colour cast": 0.0, "inverted": 0.7}
#: Share of red, green and blue that the cast lets through.
CAST = (1.0, 0.55, 0.7)


def samples_of(data: Path) -> tuple[PoseSamples, list[str]]:
    """All frames of the open field data set with all their labels, and the names of the channels."""
    space = load_space("superanimal_topviewmouse")
    poses = project(registry.read(data / "mouse_openfield_dlc"), load_table("openfield"), space)
    rows = [i for i in range(len(poses)) if poses.found[i].any() and poses.image_path(i).is_file()]
    samples = gather_pose_samples(
        poses.take(np.array(rows)), space, input_size=INPUT, context=1.2, side_canonical=False
    )
    channels = [k for points in LABS.values() for k in points]
    return select(samples, np.array([space.index(k) for k in channels])), channels


def labs_of(count: int) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.bool_]]:
    """Lab of every sample (N,), halves in time, and whether it is held out: the last frames of each lab."""
    lab = np.where(np.arange(count) < count // 2, "A", "B")
    held = np.zeros(count, bool)
    for name in LABS:
        rows = np.flatnonzero(lab == name)
        held[rows[-round(HELD_OUT * len(rows)) :]] = True
    return lab, held


def hidden(samples: PoseSamples, lab: npt.NDArray[np.str_], channels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """(N, K) labels that the sample's lab does not make."""
    return np.array([[k not in LABS[name] for k in channels] for name in lab])


def with_look(samples: PoseSamples, lab: npt.NDArray[np.str_], look: str) -> PoseSamples:
    """Samples in which lab B's pictures look different; what lies outside the picture stays black."""
    crops = samples.crops.clone()
    other = torch.from_numpy(lab == "B")
    if look == "inverted":
        outside = (crops[other] == 0).all(1, keepdim=True)
        crops[other] = torch.where(outside, crops[other], 255 - crops[other])
    else:
        crops[other] = (crops[other].float() * torch.tensor(CAST)[:, None, None]).to(crops.dtype)
    return replace(samples, crops=crops)


def train(
    samples: PoseSamples, channels: list[str], masking: bool, light: float, steps: int, seed: int
) -> PoseNet:
    space = load_space("superanimal_topviewmouse")
    torch.manual_seed(seed)
    start = load_model(START)
    config = replace(start.pose.config, input_size=INPUT)
    network = PoseNet(config, len(channels))
    take_over(network, start, [None] * len(channels))
    loss = pose_batches(
        samples,
        config,
        Augmentation(photometric=light),
        8,
        swap=np.array(symmetry_of(channels, space, False).mirror),
        masking=masking,
    )
    loop = LoopConfig(steps=steps, batch_size=8, learning_rate=1e-3, average=0.99, seed=seed)
    trained = run(network, loss, loop)
    assert isinstance(trained, PoseNet)
    return trained


def score(
    network: PoseNet, samples: PoseSamples, chosen: npt.NDArray[np.bool_], channels: list[str]
) -> dict[str, Any]:
    """PCK within `WITHIN_PX` and the mean error, px of the frame, over the labels chosen (N, K)."""
    space = load_space("superanimal_topviewmouse")
    at, _, _, truth = predict_samples(network, samples, symmetry_of(channels, space, False))
    error = np.linalg.norm(at - truth, axis=-1) * samples.pixel[:, None]
    error = error[chosen & np.isfinite(error)]
    return {"n": len(error), "pck": float((error <= WITHIN_PX).mean()), "error_px": float(error.mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--looks", nargs="+", choices=tuple(LOOKS), default=list(LOOKS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    full, channels = samples_of(args.data)
    lab, held = labs_of(len(full))
    unseen = hidden(full, lab, channels)
    codes = np.where(unseen, UNDEFINED, full.visibility).astype(np.int8)
    blind = np.where(unseen[..., None], np.nan, full.xy).astype(np.float32)
    runs: list[dict[str, Any]] = []
    for look, light in ((k, LOOKS[k]) for k in args.looks):
        seen = with_look(full, lab, look)
        training = pick(replace(seen, xy=blind, visibility=codes), np.flatnonzero(~held))
        test = pick(seen, np.flatnonzero(held))
        for seed in range(args.seeds):
            for arm in ARMS:
                started = time.process_time()
                network = train(training, channels, arm == "masked", light, args.steps, seed)
                row = {
                    "look": look,
                    "arm": arm,
                    "seed": seed,
                    "never labelled": score(network, test, unseen[held], channels),
                    "labelled": score(network, test, ~unseen[held], channels),
                    "cpu_s": time.process_time() - started,
                }
                runs.append(row)
                print(row, flush=True)
                found = report(runs, len(training), len(test), args.steps)
                write_result("masking", found)
    rows = [
        [look, arm, what, number(f["pck"]["median"], 3), f"{f['pck']['min']:.3f} to {f['pck']['max']:.3f}"]
        for look, arms in found["looks"].items()
        for arm, kinds in arms.items()
        for what, f in kinds.items()
    ]
    print(table(["lab B", "training", "keypoints", f"PCK@{WITHIN_PX:g} px, median", "over the seeds"], rows))


def report(runs: list[dict[str, Any]], training: int, test: int, steps: int) -> dict[str, Any]:
    def figures(look: str, arm: str, what: str) -> dict[str, Any]:
        chosen = [r[what] for r in runs if (r["look"], r["arm"]) == (look, arm)]
        return {figure: summary((r[figure] for r in chosen), 4) for figure in ("pck", "error_px")}

    pairs = dict.fromkeys((r["look"], r["arm"]) for r in runs)
    return {
        "labs": LABS,
        "training_frames": training,
        "held_out_frames": test,
        "steps": steps,
        "start": START,
        "within_px": WITHIN_PX,
        "cast": CAST,
        "looks": {
            look: {
                arm: {what: figures(look, arm, what) for what in ("never labelled", "labelled")}
                for at, arm in pairs
                if at == look
            }
            for look, _ in pairs
        },
        "runs": runs,
    }


if __name__ == "__main__":
    main()
