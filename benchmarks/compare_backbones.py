"""Train several backbones for the same number of steps on the same split and write what came out.

python benchmarks/compare_backbones.py benchmarks/recipes/mouse-topview-mini.yaml --data DATA --steps 1000 \
    --out benchmarks/results/backbones_mouse.json
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

from napari_superanimal.keypoints import load_space
from napari_superanimal.models.networks import NetworkConfig, PoseNet
from napari_superanimal.training.config import TrainConfig, read_config
from napari_superanimal.training.datasets import load_datasets
from napari_superanimal.training.samples import gather_pose_samples
from napari_superanimal.training.train import known_keypoints, train_pose, with_scenery

if TYPE_CHECKING:
    from napari_superanimal.jobs.progress import Progress

NARROW = {"channels": [24, 48, 96, 192]}
#: What differs from the recipe's network; only the one that says so has an overview.
CANDIDATES: dict[str, dict[str, Any]] = {
    "resnet10t-narrow": {
        "backbone": "resnet10t",
        "backbone_args": {**NARROW, "stem_width": 16},
    },
    "resnet18-narrow": {"backbone": "resnet18", "backbone_args": NARROW},
    "mobilenetv4_conv_small": {"backbone": "mobilenetv4_conv_small", "backbone_args": {}},
    "hrnet_w18_small": {"backbone": "hrnet_w18_small", "backbone_args": {}},
    "resnet18-narrow, overview": {"backbone": "resnet18", "backbone_args": NARROW, "overview": 96},
}


def milliseconds_per_crop(network: PoseNet, size: int) -> float:
    """CPU milliseconds of one thread per crop, best of five batches of 16."""
    crops = torch.randn(16, 3, size, size).to(memory_format=torch.channels_last)
    network = network.eval().to(memory_format=torch.channels_last)
    best = np.inf
    with torch.inference_mode():
        for _ in range(5):
            started = time.process_time()
            network(crops)
            best = min(best, time.process_time() - started)
    return 1000 * float(best) / 16


def compare(config: TrainConfig, data: Path, names: list[str], steps: int) -> list[dict[str, Any]]:
    """One row per backbone: parameters, speed, validation figures after `steps`."""
    space = load_space(config.space)
    real = replace(config, datasets=tuple(d for d in config.datasets if not d.rendered))
    training, validation = load_datasets(real, space, data)
    known = known_keypoints(training, space)
    channels = [k for k in space.keypoints if k in known]
    size = config.pose.network.input_size
    weights = {d.name: d.weight for d in config.datasets}
    cut = {"input_size": size, "context": config.context, "side_canonical": config.side_canonical}
    samples = gather_pose_samples(training, space, weights=weights, **cut)
    held = gather_pose_samples(validation, space, **cut)
    samples, scenery = with_scenery(real, space, samples, training)
    rows = []
    for name in names:
        network = NetworkConfig(**{**config.pose.network.to_json(), "overview": 0, **CANDIDATES[name]})
        loop = replace(config.pose.loop, steps=steps, validate_every=steps)
        stage = replace(config.pose, network=network, loop=loop)
        figures: dict[str, Any] = {}

        def tell(progress: Progress, figures: dict[str, Any] = figures) -> None:
            figures.update(progress.values)

        started = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            trial = replace(real, pose=stage)
            net = train_pose(trial, space, channels, samples, held, scenery, Path(folder), tell, None, False)
        row = {
            "backbone": name,
            "parameters_m": sum(p.numel() for p in net.parameters()) / 1e6,
            "cpu_s": time.process_time() - started,
            "ms_per_crop": milliseconds_per_crop(net, size),
            **figures,
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--backbones", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES))
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = compare(read_config(args.recipe), args.data, args.backbones, args.steps)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(
        json.dumps({"recipe": args.recipe.stem, "steps": args.steps, "rows": rows}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
