"""``superanimal train``: a model from labelled data sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.commands.common import (
    add_training_options,
    new_command,
    positive,
    training_progress,
)
from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    import argparse

    from napari_superanimal.training.config import TrainConfig

_DESCRIPTION = """\
Train a model from scratch, either by a recipe (--config, how the shipped models were made) or from data
sets named here. Every data set is carried into the keypoint space by its conversion table; keypoints
that it does not define are masked. Several processes share the work when torchrun starts them.
Ctrl-C saves a checkpoint, and --resume goes on from it."""

_EPILOG = """\
examples:
  superanimal train mice/ other-lab/=other-lab.csv --space superanimal_topviewmouse \\
      --backbone mobilenetv4_conv_small --out my-model
  superanimal train --config recipe.yaml --data datasets/ --out my-model
  torchrun --nproc-per-node 2 --no-python superanimal train --config recipe.yaml --out my-model"""

_STEPS = 2000
#: Channels of the pose network's overview: few steps go further with it (docs/results.md, Choice of the backbone).
_OVERVIEW = 96
#: Learning rate of a pretrained backbone relative to the rest's.
_BACKBONE_RATE = 0.3


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = new_command(subparsers, "train", run, "train a model from scratch", _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "datasets",
        metavar="DATASET[=TABLE]",
        nargs="*",
        help="a labelled data set, with its conversion table where the names need one",
    )
    parser.add_argument("--config", type=Path, metavar="FILE.yaml", help="a recipe, instead of data sets")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder that the recipe's data sets are in")
    parser.add_argument("--space", metavar="NAME", help="keypoint space of the model")
    parser.add_argument("--backbone", metavar="NAME", help="a timm model")
    parser.add_argument(
        "--pretrained",
        type=Path,
        metavar="FILE",
        help="start the backbone from its published weights (.safetensors or .pth, as timm offers them)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the model")
    parser.add_argument("--name", help="the model's name (default: that of the folder)")
    parser.add_argument(
        "--no-masking", action="store_true", help="train undefined keypoints as absent (to compare)"
    )
    parser.add_argument("--no-detector", action="store_true", help="train the pose network only")
    parser.add_argument(
        "--balance", action="store_true", help="draw every data set equally often, however large it is"
    )
    parser.add_argument(
        "--accumulate", type=positive, metavar="N", help="batches per step, in the memory of one (default 1)"
    )
    add_training_options(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train."""
    from napari_superanimal.jobs.outputs import check_folder

    if bool(args.config) == bool(args.datasets):
        raise UserError("name data sets, or a recipe with --config", remedy="see `superanimal train --help`")
    if args.config:
        config, data = _from_recipe(args)
    else:
        config, data = _from_datasets(args)
    if args.steps:
        config = with_steps(config, args.steps)
    if args.seed is not None:
        config = with_seed(config, args.seed)
    if args.no_masking:
        config = replace(config, masking=False)
    if args.no_detector:
        config = replace(config, detector=None)

    from napari_superanimal.training.distributed import is_main, own_folder, together
    from napari_superanimal.training.sampling import balance_datasets
    from napari_superanimal.training.train import require_empty, train

    if args.accumulate:
        config = with_accumulation(config, args.accumulate)
    require_empty(args.out, args.resume)
    check_folder(args.out, 200_000_000)
    if args.balance:
        config = balance_datasets(config, data)
    with together():
        if not is_main():
            args.json = None
        with own_folder(args.out) as out, training_progress(args) as (report, token):
            train(config, data, out, on_progress=report, token=token, resume=args.resume)
        if not args.progress_lines:
            print(f"wrote the model {config.name} into {args.out}")
            print(
                f"use it with --model {args.out}, or add it to the list: superanimal models import {args.out}"
            )
    return {"model": config.name, "folder": args.out, "steps": config.pose.loop.steps}


def _from_recipe(args: argparse.Namespace) -> tuple[TrainConfig, Path]:
    from napari_superanimal.training.config import read_config

    for name in ("space", "backbone", "pretrained"):
        if getattr(args, name):
            raise UserError(
                f"--{name} is the recipe's business", remedy=f"edit the recipe, or leave --{name} out"
            )
    config = read_config(args.config)
    if args.name:
        config = replace(config, name=args.name)
    return config, args.data or args.config.parent


def _from_datasets(args: argparse.Namespace) -> tuple[TrainConfig, Path]:
    from napari_superanimal.jobs.outputs import file_safe
    from napari_superanimal.models.networks import NetworkConfig
    from napari_superanimal.training.augment import Augmentation
    from napari_superanimal.training.config import DatasetConfig, StageConfig, Start, TrainConfig
    from napari_superanimal.training.loop import LoopConfig

    for name in ("space", "backbone"):
        if not getattr(args, name):
            raise UserError(f"--{name} is missing", remedy="see `superanimal train --help`")
    datasets, names = [], set()
    for text in args.datasets:
        path, table = split_dataset(text)
        name, number = path.resolve().name, 2
        while name in names:
            name, number = f"{path.resolve().name}-{number}", number + 1
        names.add(name)
        absolute_table = str(Path(table).resolve()) if table and Path(table).is_file() else table
        datasets.append(DatasetConfig(name=name, path=str(path.resolve()), table=absolute_table))
    top = args.space == "superanimal_topviewmouse"
    start = Start(str(args.pretrained.resolve())) if args.pretrained else None
    loop = LoopConfig(steps=_STEPS, backbone_rate=_BACKBONE_RATE if start else 1.0)
    config = TrainConfig(
        name=args.name or file_safe(args.out.resolve().name),
        space=args.space,
        datasets=tuple(datasets),
        pose=StageConfig(
            NetworkConfig(args.backbone, overview=_OVERVIEW),
            Augmentation(rotation=180.0 if top else 25.0),
            loop,
            start,
        ),
        detector=StageConfig(
            NetworkConfig(args.backbone, stride=8, input_size=256),
            Augmentation(rotation=180.0 if top else 10.0),
            replace(loop, steps=loop.steps // 2),
            start,
        ),
        side_canonical=args.space == "superanimal_quadruped",
    )
    return config, Path()


def split_dataset(text: str) -> tuple[Path, str]:
    """``DATASET=TABLE`` in its two parts; a path may contain ``=`` itself.

    Raises
    ------
    UserError
        If there is no such data set.
    """
    if Path(text).exists():
        return Path(text), ""
    path, _, table = text.rpartition("=")
    if path and Path(path).exists():
        return Path(path), table
    raise UserError("no such data set", path=path or text, remedy="check the path")


def with_steps(config: TrainConfig, steps: int) -> TrainConfig:
    """`steps` for the pose network, and the detector's in proportion."""
    share = steps / config.pose.loop.steps
    config = replace(config, pose=replace(config.pose, loop=replace(config.pose.loop, steps=steps)))
    if config.detector is not None:
        loop = config.detector.loop
        loop = replace(loop, steps=max(round(loop.steps * share), 1))
        config = replace(config, detector=replace(config.detector, loop=loop))
    return config


def with_seed(config: TrainConfig, seed: int) -> TrainConfig:
    """`seed` for both stages."""
    config = replace(config, pose=replace(config.pose, loop=replace(config.pose.loop, seed=seed)))
    if config.detector is not None:
        loop = replace(config.detector.loop, seed=seed)
        config = replace(config, detector=replace(config.detector, loop=loop))
    return config


def with_accumulation(config: TrainConfig, parts: int) -> TrainConfig:
    """`parts` batches per step for both stages."""
    config = replace(config, pose=replace(config.pose, loop=replace(config.pose.loop, accumulate=parts)))
    if config.detector is not None:
        loop = replace(config.detector.loop, accumulate=parts)
        config = replace(config, detector=replace(config.detector, loop=loop))
    return config
