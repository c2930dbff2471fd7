"""A model adapted to videos without labels: what it is sure of from every side, it learns to see steadily."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_superanimal.adaptation.bursts import Bursts, choose_bursts
from napari_superanimal.adaptation.heading import headings
from napari_superanimal.adaptation.pseudo import (
    PseudoCounts,
    PseudoLabels,
    join_samples,
    pseudo_labels,
    to_samples,
)
from napari_superanimal.adaptation.teacher import Looks, look
from napari_superanimal.errors import UserError
from napari_superanimal.inference.likelihood import logit
from napari_superanimal.inference.pose_pass import symmetry_of
from napari_superanimal.models.networks import PoseNet
from napari_superanimal.training.augment import mild
from napari_superanimal.training.loop import LoopConfig, run
from napari_superanimal.training.pose_stage import pose_batches, predict_samples

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from napari_superanimal.inference.pose_pass import Symmetry
    from napari_superanimal.jobs.progress import CancelToken, ProgressCallback
    from napari_superanimal.models.load import LoadedModel
    from napari_superanimal.training.samples import PoseSamples
    from napari_superanimal.video import Video

#: Fewer pseudo-labels than this teach nothing ...
FEWEST_LABELS = 100
#: ... nor do fewer of one keypoint.
FEWEST_OF_ONE = 12


@dataclass(frozen=True)
class AdaptSettings:
    """How to adapt.

    Attributes
    ----------
    steps, batch_size : int
    learning_rate : float
    threshold : float or None
        Lowest likelihood of a pseudo-label; None takes the card's.
    frames : int
        Frames to learn from, over all videos.
    views : int
        Looks at every animal, of which a pseudo-label is made.
    temporal : bool
        Steady pseudo-labels over neighbouring frames.
    detector : bool
        Train the detector, too.
    max_individuals : int
    seed : int
    """

    steps: int = 200
    batch_size: int = 8
    learning_rate: float = 3e-4
    threshold: float | None = None
    frames: int = 240
    views: int = 6
    temporal: bool = True
    detector: bool = False
    max_individuals: int = 1
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Lesson:
    """What is learned from one video.

    Attributes
    ----------
    name : str
    bursts : Bursts
    looks : Looks
    labels : PseudoLabels
    """

    name: str
    bursts: Bursts
    looks: Looks
    labels: PseudoLabels

    @property
    def counts(self) -> PseudoCounts:
        return self.labels.counts


def plan(videos: Mapping[str, Video], settings: AdaptSettings) -> dict[str, Bursts]:
    """Frames to learn from and to prove on, per video.

    Raises
    ------
    UserError
        If a video is too short to be split.
    """
    each = max(settings.frames // len(videos), 24)
    held = max(144 // len(videos), 48)
    bursts = {}
    for name, video in videos.items():
        try:
            bursts[name] = choose_bursts(len(video), learn_frames=each, held_frames=held, seed=settings.seed)
        except UserError as error:
            raise UserError(error.problem, path=name, remedy=error.remedy) from error
    return bursts


def prepare(
    model: LoadedModel,
    name: str,
    video: Video,
    bursts: Bursts,
    settings: AdaptSettings,
    *,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> Lesson:
    """Look at a video with the starting model and make pseudo-labels.

    Only crops of the animals are kept, in memory; nothing is written.

    Raises
    ------
    Cancelled
        Between two bursts.
    """
    looks = look(
        model,
        video,
        bursts.learn,
        max_individuals=settings.max_individuals,
        views=settings.views,
        seed=settings.seed,
        on_progress=on_progress,
        token=token,
    )
    back = headings(looks, model.card, model.space) < 0
    labels = pseudo_labels(looks, threshold_of(model, settings), backwards=back, temporal=settings.temporal)
    return Lesson(name, bursts, looks, labels)


def threshold_of(model: LoadedModel, settings: AdaptSettings) -> float:
    """Lowest likelihood of a pseudo-label."""
    return model.card.threshold if settings.threshold is None else settings.threshold


def too_little(lessons: list[Lesson]) -> str:
    """Why nothing can be learned from these pseudo-labels, as a sentence; empty if something can."""
    labels = sum(lesson.counts.labels for lesson in lessons)
    if labels >= FEWEST_LABELS:
        return ""
    return f"the model is sure of {labels} keypoints on all sampled frames together: too little to learn from"


def gather(lessons: list[Lesson]) -> PoseSamples:
    """The training samples of all videos; see `too_little` first."""
    return join_samples([to_samples(lesson.looks, lesson.labels, lesson.name) for lesson in lessons])


def train(
    model: LoadedModel,
    samples: PoseSamples,
    settings: AdaptSettings,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> PoseNet:
    """Train a copy of the model's pose network on pseudo-labels.

    Batch norm keeps its running statistics and learns its affine part (paper, Methods). Crops are shifted, scaled,
    turned and lit differently while the target stays, so that the network learns not to depend on them. Keypoints that
    hardly have a pseudo-label grow no surer (`no_surer`).

    Raises
    ------
    Cancelled
        When stopped; the checkpoint is kept and `resume` continues.
    """
    card = model.card
    symmetry = symmetry_of(card.keypoints, model.space, card.side_canonical)
    trained = run(
        copy.deepcopy(model.pose),
        pose_batches(
            samples,
            model.pose.config,
            mild(card.view, flip=True),
            settings.batch_size,
            swap=None if card.side_canonical else np.array(symmetry.mirror),
        ),
        LoopConfig(
            steps=settings.steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            average=0.99,
            validate_every=max(10, settings.steps // 5),
            seed=settings.seed,
            frozen_statistics=True,
        ),
        validate=lambda _: {},
        checkpoint=checkpoint,
        resume=resume,
        on_progress=on_progress,
        token=token,
        message="adapting",
    )
    assert isinstance(trained, PoseNet)
    rare = (samples.visibility > 0).sum(0) < FEWEST_OF_ONE
    if rare.any():
        no_surer(trained, model.pose, samples, symmetry, rare)
    return trained


def no_surer(
    trained: PoseNet,
    start: PoseNet,
    samples: PoseSamples,
    symmetry: Symmetry,
    channels: npt.NDArray[np.bool_],
) -> None:
    """Take back the confidence that the `trained` network gained in some `channels`, (K,), by their heatmaps' bias.

    What has no pseudo-labels moves along with what has, and may grow sure of anything. Afterwards the network is, in
    the median over the animals, no surer of these channels than `start`.
    """
    before, after = (
        logit(torch.from_numpy(predict_samples(network, samples, symmetry)[1]))
        for network in (start, trained)
    )
    gained = (after - before).median(0).values.clamp_min(0)
    bias = trained.heatmaps.bias
    assert bias is not None
    with torch.no_grad():
        bias -= torch.where(torch.from_numpy(channels), gained, 0.0)
