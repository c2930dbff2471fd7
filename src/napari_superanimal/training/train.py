"""A model from labelled datasets: unify, mask, train the pose network and the detector, write the folder."""

from __future__ import annotations

import datetime
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from napari_superanimal.errors import UserError
from napari_superanimal.inference.pose_pass import symmetry_of
from napari_superanimal.jobs.progress import CancelToken, Progress, ProgressCallback
from napari_superanimal.keypoints import KeypointSpace, load_space
from napari_superanimal.models.card import ModelCard
from napari_superanimal.models.load import save_model
from napari_superanimal.models.networks import DetectorNet, PoseNet
from napari_superanimal.poses import Poses, merge
from napari_superanimal.training.calibration import embedding_statistics, fit, join, summary, try_on
from napari_superanimal.training.datasets import load_datasets
from napari_superanimal.training.detector_stage import detector_batches, detector_validator
from napari_superanimal.training.knowledge import held_out_figures, knowledge
from napari_superanimal.training.loop import run
from napari_superanimal.training.pose_stage import pose_batches, pose_validator
from napari_superanimal.training.pretrained import prepare
from napari_superanimal.training.rendered import rendered_dataset
from napari_superanimal.training.samples import (
    FrameReader,
    PoseSamples,
    gather_image_samples,
    gather_pose_samples,
    pick,
    read_image,
)
from napari_superanimal.training.scenery import Scenery, gather_scenery
from napari_superanimal.training.silhouettes import gather_silhouettes

if TYPE_CHECKING:
    from torch import Tensor

    from napari_superanimal.training.augment import Augmentation
    from napari_superanimal.training.config import TrainConfig

POSE_CHECKPOINT = "pose.checkpoint.pt"
DETECTOR_CHECKPOINT = "detector.checkpoint.pt"
#: Background pieces that are kept in memory.
SCENES = 600


def train(
    config: TrainConfig,
    data: Path,
    out: Path,
    *,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
    resume: bool = False,
) -> Path:
    """Train a model and write it to `out`.

    Parameters
    ----------
    config : TrainConfig
    data : Path
        Folder that the recipe's dataset paths are relative to.
    out : Path
        Model folder: card.json, pose.safetensors, detector.safetensors; checkpoints while running.
    resume : bool
        Continue from the checkpoints in `out`.

    Raises
    ------
    UserError
        If data cannot be read, tables do not fit, or `out` cannot be written.
    Cancelled
        When stopped; the checkpoint is kept.
    """
    tell = on_progress or (lambda _: None)
    space = load_space(config.space)
    tell(Progress(0, 0, message="reading labelled images"))
    training, validation = load_datasets(config, space, data)
    known = known_keypoints(training, space)
    reader: FrameReader = read_image
    real, rendered = training, []
    for number, each in enumerate(d for d in config.datasets if d.rendered):
        tell(Progress(0, 0, message="rendering pictures"))
        drawn, read_drawn = rendered_dataset(
            each.rendered, known, space, config.pose.loop.seed + number, each.name
        )
        training = _join(training, drawn)
        rendered.append(drawn)
        reader = _either(frozenset(drawn.images), read_drawn, reader)
    weights = {d.name: d.weight for d in config.datasets}

    samples = gather_pose_samples(
        training,
        space,
        input_size=config.pose.network.input_size,
        context=config.context,
        side_canonical=config.side_canonical,
        weights=weights,
        reader=reader,
    )
    samples, scenery = with_scenery(config, space, samples, training, reader, tell)
    held = None
    if validation.found.any():
        held = gather_pose_samples(
            validation,
            space,
            input_size=config.pose.network.input_size,
            context=config.context,
            side_canonical=config.side_canonical,
        )
    channels = [k for i, k in enumerate(space.keypoints) if (samples.visibility[:, i] > 0).any()]
    pose = train_pose(config, space, channels, samples, held, scenery, out, tell, token, resume)

    detector = None
    if config.detector is not None:
        size = config.detector.network.input_size
        images = gather_image_samples(training, input_size=size, weights=weights, reader=reader)
        check = None
        if held is not None:
            check = detector_validator(gather_image_samples(validation, input_size=size), 0.3)
        loop = config.detector.loop
        # also the weights at the start follow from the seed
        torch.manual_seed(loop.seed)
        network = DetectorNet(config.detector.network)
        prepare(network.trunk, config.detector, config.folder)
        trained = run(
            network,
            detector_batches(
                images,
                config.detector.network,
                config.detector.augmentation,
                loop.batch_size,
                loop.precision,
                samples,
                scenery,
            ),
            loop,
            validate=check,
            checkpoint=out / DETECTOR_CHECKPOINT,
            resume=resume,
            on_progress=tell,
            token=token,
            message="training the detector",
        )
        assert isinstance(trained, DetectorNet)
        detector = trained
    card = make_card(config, space, channels, training)
    tensors: dict[str, Tensor] = {}
    figures: dict[str, Any] = {}
    if config.leave_one_out and held is not None:
        tensors, figures = calibrate(config, space, channels, pose, samples, held, scenery, out, tell, token)
        card = replace(card, threshold=figures["threshold"])
    tell(Progress(0, 0, message="measuring what the model knows"))
    aside = None
    if held is not None:
        order = np.array([space.index(k) for k in channels])
        symmetry = symmetry_of(channels, space, config.side_canonical)
        aside = held_out_figures(pose, select(held, order), symmetry, flip=config.flip, calibration=tensors)
    knows = knowledge(real, space, card.view, reader=read_image, of=(real, *rendered), aside=aside)
    card = replace(card, calibration={**figures, **knows})
    save_model(card, pose, detector, out, calibration=tensors)
    return out


def calibrate(
    config: TrainConfig,
    space: KeypointSpace,
    channels: list[str],
    pose: PoseNet,
    samples: PoseSamples,
    held: PoseSamples,
    scenery: Scenery | None,
    out: Path,
    tell: ProgressCallback,
    token: CancelToken | None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Fit likelihood on held-out animals and, through models trained without one dataset each, on unseen datasets.

    Returns
    -------
    tensors for `inference.likelihood`, figures for the card
    """
    order = np.array([space.index(k) for k in channels])
    real = [d.name for d in config.datasets if not d.rendered]
    symmetry = symmetry_of(channels, space, config.side_canonical)
    statistics = embedding_statistics(pose, select(samples, order), real, symmetry)
    trials = [try_on(pose, statistics, select(held, order), symmetry, flip=config.flip, unseen=False)]
    sources, held_sources = np.array(samples.source), np.array(held.source)
    for name in config.leave_out or real:
        rest = pick(samples, np.flatnonzero(sources != name))
        away = pick(samples, np.flatnonzero(sources == name))
        if not len(away) or set(rest.source) <= {d.name for d in config.datasets if d.rendered}:
            continue
        kept = pick(held, np.flatnonzero(held_sources != name))
        loop = replace(config.pose.loop, steps=config.leave_one_out, validate_every=config.leave_one_out)
        fold = replace(config, pose=replace(config.pose, loop=loop))
        network = train_pose(
            fold,
            space,
            channels,
            rest,
            kept if len(kept) else None,
            scenery.without(name) if scenery is not None else None,
            out / f"without-{name}",
            tell,
            token,
            True,
        )
        rest_names = [n for n in real if n != name]
        others = embedding_statistics(network, select(rest, order), rest_names, symmetry)
        trials.append(try_on(network, others, select(away, order), symmetry, flip=config.flip, unseen=True))
    together = join(trials)
    weights = fit(together)
    return {**statistics, "weights": weights}, summary(together, weights, channels)


def train_pose(
    config: TrainConfig,
    space: KeypointSpace,
    channels: list[str],
    samples: PoseSamples,
    held: PoseSamples | None,
    scenery: Scenery | None,
    out: Path,
    tell: ProgressCallback,
    token: CancelToken | None,
    resume: bool,
) -> PoseNet:
    """The pose stage on samples in the whole space, for the channels that are trained."""
    chosen = np.array([space.index(k) for k in channels])
    symmetry = symmetry_of(channels, space, config.side_canonical)
    loop = config.pose.loop
    torch.manual_seed(loop.seed)
    network = PoseNet(config.pose.network, len(channels))
    prepare(network.trunk, config.pose, config.folder)
    trained = run(
        network,
        pose_batches(
            select(samples, chosen),
            config.pose.network,
            config.pose.augmentation,
            loop.batch_size,
            swap=None if config.side_canonical else np.array(symmetry.mirror),
            masking=config.masking,
            scenery=scenery,
            precision=loop.precision,
        ),
        loop,
        validate=None if held is None else pose_validator(select(held, chosen), config.context, symmetry),
        checkpoint=out / POSE_CHECKPOINT,
        resume=resume,
        on_progress=tell,
        token=token,
        message="training the pose network",
    )
    assert isinstance(trained, PoseNet)
    return trained


def with_scenery(
    config: TrainConfig,
    space: KeypointSpace,
    samples: PoseSamples,
    training: Poses,
    reader: FrameReader = read_image,
    tell: ProgressCallback = lambda _: None,
) -> tuple[PoseSamples, Scenery | None]:
    """Samples with silhouettes, and backgrounds, where the recipe's augmentation asks for them.

    Raises
    ------
    UserError
        If it does, and the recipe has no outline.
    """
    if not any(a.changes_scene for a in augmentations(config)):
        return samples, None
    if config.outline is None:
        raise UserError(
            f"recipe {config.name!r} asks for other backgrounds, but does not say how keypoints draw the animal",
            remedy="add `outline`, see docs/training.md",
        )
    tell(Progress(0, 0, message="cutting the animals out"))
    cut_out = replace(samples, silhouettes=gather_silhouettes(samples, space, config.outline))
    return cut_out, gather_scenery(training, reader, SCENES, config.pose.loop.seed)


def augmentations(config: TrainConfig) -> list[Augmentation]:
    """Of the pose network and, if there is one, of the detector."""
    return [stage.augmentation for stage in (config.pose, config.detector) if stage is not None]


def known_keypoints(poses: Poses, space: KeypointSpace) -> set[str]:
    """Keypoints that are labelled somewhere."""
    return {k for i, k in enumerate(space.keypoints) if poses.found[..., i].any()}


def select(samples: PoseSamples, channels: npt.NDArray[np.int64]) -> PoseSamples:
    """Samples with the keypoints given."""
    return replace(samples, xy=samples.xy[:, channels], visibility=samples.visibility[:, channels])


def make_card(config: TrainConfig, space: KeypointSpace, channels: list[str], training: Poses) -> ModelCard:
    """The card of a trained model; figures are added by its evaluation."""
    counts = {name: sum(s == name for s in training.sources) for name in dict.fromkeys(training.sources)}
    trained_on: tuple[dict[str, Any], ...] = tuple(
        {"name": d.name, "images": counts.get(d.name, 0), "licence": d.licence, "source": d.source}
        for d in config.datasets
    )
    stages = [config.pose, *([config.detector] if config.detector else [])]
    for start in dict.fromkeys(s.pretrained for s in stages if s.pretrained):
        row = {"name": f"{Path(start.file).name}: the backbone's start"}
        trained_on += ({**row, "licence": start.licence, "source": start.source},)
    return ModelCard(
        name=config.name,
        space=space.to_json(),
        keypoints=tuple(channels),
        trained_on=trained_on,
        pose=config.pose.network.to_json(),
        detector=config.detector.network.to_json() if config.detector else {},
        context=config.context,
        side_canonical=config.side_canonical,
        flip=config.flip,
        created=datetime.date.today().isoformat(),
        recipe=recipe_of(config),
        **config.card,
    )


def recipe_of(config: TrainConfig) -> dict[str, Any]:
    """Settings for the card, without paths of one machine."""
    data = asdict(config)
    for key in ("folder", "card", "datasets"):
        data.pop(key)
    for stage in (data["pose"], data["detector"] or {}):
        if stage.get("pretrained"):
            stage["pretrained"]["file"] = Path(stage["pretrained"]["file"]).name
    return data


def _join(training: Poses, drawn: Poses) -> Poses:
    names = [*training.sources, *drawn.sources]
    return replace(merge([training, drawn], ["real", "rendered"]), sources=tuple(names))


def _either(drawn: frozenset[str], read_drawn: FrameReader, read_others: FrameReader) -> FrameReader:
    def read(poses: Poses, row: int) -> npt.NDArray[np.uint8]:
        return (read_drawn if poses.images[row] in drawn else read_others)(poses, row)

    return read


def require_empty(out: Path, resume: bool) -> None:
    """Refuse to train into a folder that holds a finished model.

    Raises
    ------
    UserError
        If it does and `resume` was not asked for.
    """
    if (out / "card.json").exists() and not resume:
        raise UserError(
            "there is a trained model in this folder already",
            path=out,
            remedy="choose another --out, or pass --resume to continue it",
        )
