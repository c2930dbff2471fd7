"""A model from a user's own labels, starting from one that knows similar animals."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from napari_superanimal.errors import UserError
from napari_superanimal.inference.pose_pass import Symmetry, symmetry_of
from napari_superanimal.jobs.progress import CancelToken, Progress, ProgressCallback
from napari_superanimal.keypoints import ConversionTable, KeypointSpace, space_from_names
from napari_superanimal.keypoints.table import SIDE
from napari_superanimal.models.card import ModelCard
from napari_superanimal.models.load import LoadedModel, save_model
from napari_superanimal.models.networks import PoseNet, reset_head
from napari_superanimal.training.augment import Augmentation
from napari_superanimal.training.loop import LoopConfig, run
from napari_superanimal.training.modes import MODES
from napari_superanimal.training.pose_stage import pose_batches, predict_samples
from napari_superanimal.training.samples import (
    FrameReader,
    PoseSamples,
    gather_pose_samples,
    pick,
    read_image,
)
from napari_superanimal.training.train import POSE_CHECKPOINT, require_empty

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_superanimal.poses import Poses


def finetune(
    poses: Poses,
    model: LoadedModel,
    *,
    mode: str,
    out: Path,
    steps: int = 600,
    table: ConversionTable | None = None,
    name: str | None = None,
    validation: float = 0.2,
    batch_size: int = 8,
    seed: int = 0,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
    resume: bool = False,
    reader: FrameReader = read_image,
) -> Path:
    """Fine-tune on labelled images; writes a model folder whose keypoints are the user's.

    Parameters
    ----------
    poses : Poses
        Labelled images under the user's own keypoint names.
    model : LoadedModel
        The model to start from; its detector is taken over as it is.
    mode : {"naive", "backbone", "scratch"}
        Which weights are taken over: all, with the channels of keypoints that the table maps; all but the head;
        none (paper, Methods; spec section 5).
    table : ConversionTable, optional
        User's keypoint -> keypoint of the model's space; by default equal names.
    validation : float
        Share of labelled images held out for the error that is shown: the last ones in order, since neighbouring
        frames look alike.

    Raises
    ------
    UserError
        If the mode is unknown, too little is labelled, or `out` holds a finished model.
    Cancelled
        When stopped; the checkpoint is kept and `resume` continues.
    """
    if mode not in MODES:
        raise UserError(f"unknown fine-tuning mode {mode!r}", remedy=f"use one of {', '.join(MODES)}")
    require_empty(out, resume)
    tell = on_progress or (lambda _: None)
    labelled = np.flatnonzero(poses.found.any((1, 2)))
    if len(labelled) < 2:
        raise UserError(
            f"{len(labelled)} labelled image(s): too few to learn from and to check on",
            path=poses.root,
            remedy="label at least two frames, better ten or more",
        )
    poses = poses.take(labelled)
    names = [k for i, k in enumerate(poses.keypoints) if poses.found[..., i].any()]
    source_of = origin(names, model, table)
    space = user_space(names, source_of, model)
    kept = np.array([poses.keypoints.index(k) for k in names])
    poses = replace(
        poses,
        keypoints=tuple(names),
        xy=poses.xy[:, :, kept],
        visibility=poses.visibility[:, :, kept],
        likelihood=poses.likelihood[:, :, kept],
        human=poses.human[:, :, kept],
    )
    canonical = model.card.side_canonical and bool(space.front) and bool(space.rear) and bool(space.pairs)
    symmetry = symmetry_of(names, space, canonical)
    config = model.pose.config
    tell(Progress(0, steps, message="reading labelled images"))
    samples = gather_pose_samples(
        poses,
        space,
        input_size=config.input_size,
        context=model.card.context,
        side_canonical=canonical,
        reader=reader,
    )
    trained, held = split(samples, validation)

    # what starts anew starts the same for the same seed
    torch.manual_seed(seed)
    network = PoseNet(config, len(names))
    if mode != "scratch":
        take_over(
            network, model, [source_of.get(k) for k in names] if mode == "naive" else [None] * len(names)
        )
    augmentation = Augmentation(
        rotation=180.0 if "top" in model.card.view else 25.0,
        scale=1.25,
        shift=0.08,
        photometric=0.7,
        flip=not _one_sided(names, space),
    )
    loop = LoopConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=2e-3 if mode == "scratch" else 7e-4,
        average=0.99,
        validate_every=max(10, min(100, steps // 10)),
        seed=seed,
    )
    pose = run(
        network,
        pose_batches(
            trained,
            config,
            augmentation,
            batch_size,
            swap=None if canonical else np.array(symmetry.mirror),
        ),
        loop,
        validate=lambda net: validation_error(net, held, symmetry),
        checkpoint=out / POSE_CHECKPOINT,
        resume=resume,
        on_progress=tell,
        token=token,
        message="fine-tuning",
    )
    assert isinstance(pose, PoseNet)
    card = ModelCard(
        name=name or out.name,
        title=f"{name or out.name} (fine-tuned)",
        summary=f"Fine-tuned ({mode}) from {model.card.name} on {len(poses)} labelled images of the user's own.",
        space=space.to_json(),
        keypoints=tuple(names),
        species=model.card.species,
        view=model.card.view,
        licence="the user's own labels; the starting weights: " + model.card.licence,
        not_for="Recordings that differ from the labelled ones, until checked there.",
        trained_on=({"name": "user's labels", "images": len(poses), "licence": "the user's", "source": ""},),
        pose=config.to_json(),
        detector=model.card.detector,
        context=model.card.context,
        side_canonical=canonical,
        flip=model.card.flip,
        threshold=0.5,
        detector_threshold=model.card.detector_threshold,
        metrics={f"validation {k}": round(v, 4) for k, v in validation_error(pose, held, symmetry).items()},
        parent=model.card.name,
        created=datetime.date.today().isoformat(),
        recipe={
            "mode": mode,
            "steps": steps,
            "seed": seed,
            "batch_size": batch_size,
            "validation": validation,
        },
    )
    save_model(card, pose, model.detector, out)
    return out


def origin(names: Sequence[str], model: LoadedModel, table: ConversionTable | None) -> dict[str, str]:
    """The model's channel that each of the user's keypoints starts from; those that it never knew are absent."""
    found = {}
    for name in names:
        target = (table.target(name) if table else name) or ""
        first = target.partition(SIDE)[0]
        if first in model.card.keypoints:
            found[name] = first
    return found


def user_space(names: Sequence[str], source_of: dict[str, str], model: LoadedModel) -> KeypointSpace:
    """The user's keypoints as a space: pairs, skeleton, front and rear carried over through the mapping."""
    own = {target: name for name, target in source_of.items()}
    known = model.space
    pairs = [(own[a], own[b]) for a, b in known.pairs if a in own and b in own]
    paired = {n for pair in pairs for n in pair}
    pairs += [p for p in space_from_names(tuple(names)).pairs if not paired.intersection(p)]
    sigma = dict(zip(known.keypoints, known.oks_sigmas(), strict=True))
    color = dict(zip(known.keypoints, known.colors, strict=True)) if known.colors else {}
    colors = tuple(color.get(source_of.get(n, ""), (255, 255, 255)) for n in names)
    return KeypointSpace(
        name="custom",
        keypoints=tuple(names),
        skeleton=tuple((own[a], own[b]) for a, b in known.skeleton if a in own and b in own),
        pairs=tuple(pairs),
        sigmas=tuple(float(sigma.get(source_of.get(n, ""), 0.1)) for n in names),
        colors=colors if color else (),
        front=tuple(own[k] for k in known.front if k in own),
        rear=tuple(own[k] for k in known.rear if k in own),
    )


@torch.no_grad()
def take_over(network: PoseNet, model: LoadedModel, channels: Sequence[str | None]) -> None:
    """Fill a network with a model's weights; channels without an origin start anew."""
    old = model.pose
    network.trunk.load_state_dict(old.trunk.state_dict())
    network.mix.load_state_dict(old.mix.state_dict())
    reset_head(network.heatmaps, network.offsets)
    order = {k: i for i, k in enumerate(model.card.keypoints)}
    for i, name in enumerate(channels):
        if name is None:
            continue
        j = order[name]
        for new, known, width in ((network.heatmaps, old.heatmaps, 1), (network.offsets, old.offsets, 2)):
            to, come = slice(width * i, width * (i + 1)), slice(width * j, width * (j + 1))
            new.weight[to] = known.weight[come]
            assert new.bias is not None
            assert known.bias is not None
            new.bias[to] = known.bias[come]


def split(samples: PoseSamples, share: float) -> tuple[PoseSamples, PoseSamples]:
    """Training samples and the last `share` of the images for validation; at least one image each."""
    rows = np.unique(samples.rows[:, 0])
    count = min(max(1, round(share * len(rows))), len(rows) - 1)
    held = np.isin(samples.rows[:, 0], rows[-count:])
    return pick(samples, np.flatnonzero(~held)), pick(samples, np.flatnonzero(held))


def validation_error(network: nn.Module, held: PoseSamples, symmetry: Symmetry) -> dict[str, float]:
    """Mean error in pixels of the user's frames on the held-out images."""
    assert isinstance(network, PoseNet)
    at, _, _, truth = predict_samples(network, held, symmetry)
    error = np.linalg.norm(at - truth, axis=-1) * held.pixel[:, None]
    return {"val_error_px": float(np.nanmean(error))}


def _one_sided(names: Sequence[str], space: KeypointSpace) -> bool:
    """Some keypoint says left or right and has no partner: a mirror image would teach it wrong."""
    paired = {n for pair in space.pairs for n in pair}
    return any(n not in paired and ("left" in n.lower() or "right" in n.lower()) for n in names)
