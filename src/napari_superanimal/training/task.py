"""What a fine-tuning learns: channels, samples and where each channel comes from, for every mode."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.errors import UserError
from napari_superanimal.training.head import head_of
from napari_superanimal.training.replay import ReplayCounts, replay_labels
from napari_superanimal.training.samples import FrameReader, PoseSamples, gather_pose_samples
from napari_superanimal.training.vocabulary import join_vocabularies, origin, restrict, user_space

if TYPE_CHECKING:
    from napari_superanimal.jobs.progress import CancelToken, ProgressCallback
    from napari_superanimal.keypoints import ConversionTable, KeypointSpace
    from napari_superanimal.models.trainable import TrainableModel
    from napari_superanimal.poses import Poses


@dataclass(frozen=True)
class Task:
    """What a fine-tuning learns.

    Attributes
    ----------
    space : KeypointSpace
        Of the new model.
    channels : tuple of str
        The new model's keypoints.
    come_from : tuple of (str or None)
        The old model's channel that each starts from.
    samples : PoseSamples
        Keypoints are `channels`.
    human : (N, K) bool
        Labelled by a person, not filled in.
    canonical : bool
        Paired channels mean near and far.
    labels : Poses
        What the samples were cut from.
    mapped : tuple of str
        Keypoints of the old model that the user labelled.
    table : ConversionTable or None
        What the user's names became; None where they stayed.
    counts : ReplayCounts or None
    agrees : (N,) bool or None
        Samples of animals on which the old model agrees with the labels; None where it was not asked.
    """

    space: KeypointSpace
    channels: tuple[str, ...]
    come_from: tuple[str | None, ...]
    samples: PoseSamples
    human: npt.NDArray[np.bool_]
    canonical: bool
    labels: Poses
    mapped: tuple[str, ...]
    table: ConversionTable | None = None
    counts: ReplayCounts | None = None
    agrees: npt.NDArray[np.bool_] | None = None


def labelled_part(poses: Poses, fewest: int = 2) -> Poses:
    """The images and the keypoints that have labels.

    Raises
    ------
    UserError
        If fewer images have any than `fewest`.
    """
    labelled = np.flatnonzero(poses.found.any((1, 2)))
    if len(labelled) < fewest:
        raise UserError(
            f"{len(labelled)} labelled image(s): too few to learn from and to check on",
            path=poses.root,
            remedy="label at least two frames, better ten or more",
        )
    poses = poses.take(labelled)
    kept = np.flatnonzero(poses.found.any((0, 1)))
    return replace(
        poses,
        keypoints=tuple(poses.keypoints[k] for k in kept),
        xy=poses.xy[:, :, kept],
        visibility=poses.visibility[:, :, kept],
        likelihood=poses.likelihood[:, :, kept],
        human=poses.human[:, :, kept],
    )


def _geometry(model: TrainableModel) -> dict[str, Any]:
    """How crops are cut for a model, as `gather_pose_samples` wants to know it."""
    head = head_of(model)
    return {"input_size": head.size, "aspect": head.aspect, "cutter": head.cutter}


def user_task(
    poses: Poses, model: TrainableModel, table: ConversionTable | None, mode: str, reader: FrameReader
) -> Task:
    """The user's keypoints alone, under their own names."""
    names = poses.keypoints
    source_of = origin(names, model.card.keypoints, table)
    space = user_space(names, source_of, model)
    canonical = model.card.side_canonical and bool(space.front) and bool(space.rear) and bool(space.pairs)
    samples = gather_pose_samples(
        poses,
        space,
        context=model.card.context,
        side_canonical=canonical,
        reader=reader,
        **_geometry(model),
    )
    come_from = tuple(source_of.get(k) if mode == "naive" else None for k in names)
    human = samples.visibility >= 0
    return Task(space, names, come_from, samples, human, canonical, poses, tuple(source_of.values()))


def replay_task(
    poses: Poses,
    model: TrainableModel,
    table: ConversionTable | None,
    threshold: float,
    absent: bool,
    reader: FrameReader,
    on_progress: ProgressCallback | None,
    token: CancelToken | None,
) -> Task:
    """The model's keypoints and the user's, labels and pseudo-labels."""
    vocabulary = join_vocabularies(poses.keypoints, model.space, table)
    replay = replay_labels(
        poses,
        model,
        vocabulary,
        threshold=threshold,
        absent=absent,
        reader=reader,
        on_progress=on_progress,
        token=token,
    )
    samples = gather_pose_samples(
        replay.poses,
        restrict(replay.space, replay.channels),
        context=model.card.context,
        side_canonical=False,  # the labels are in near and far already, where the model's are
        reader=reader,
        **_geometry(model),
    )
    known = model.card.keypoints
    return Task(
        space=replay.space,
        channels=replay.channels,
        come_from=tuple(k if k in known else None for k in replay.channels),
        samples=samples,
        human=replay.poses.human[samples.rows[:, 0], samples.rows[:, 1]],
        canonical=model.card.side_canonical,
        labels=replay.poses,
        mapped=tuple(origin(poses.keypoints, model.card.keypoints, table).values()),
        table=vocabulary.table,
        counts=replay.counts,
        agrees=replay.agrees[samples.rows[:, 0], samples.rows[:, 1]],
    )
