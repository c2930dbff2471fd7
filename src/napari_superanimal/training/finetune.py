"""A model from a user's own labels, starting from one that knows similar animals."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from napari_superanimal.errors import UserError
from napari_superanimal.inference.pose_pass import Symmetry, symmetry_of
from napari_superanimal.jobs.progress import CancelToken, Progress, ProgressCallback
from napari_superanimal.keypoints import write_table
from napari_superanimal.models.card import TABLE_FILE, ModelCard
from napari_superanimal.models.load import LoadedModel, save_model
from napari_superanimal.models.networks import DetectorNet, PoseNet, reset_head
from napari_superanimal.models.official.catalogue import OWN_RELEASE
from napari_superanimal.models.official.load import OfficialPose
from napari_superanimal.models.official.tuned import save_tuned
from napari_superanimal.training import distributed
from napari_superanimal.training.anchor import no_further_than_needed
from napari_superanimal.training.augment import mild, turning
from napari_superanimal.training.channels import take_over_channels
from napari_superanimal.training.detector_update import update_detector
from napari_superanimal.training.head import Head, head_of
from napari_superanimal.training.knowledge import bodies, inherited, knowledge, relative_errors, tried
from napari_superanimal.training.loop import LoopConfig, run
from napari_superanimal.training.modes import MODES
from napari_superanimal.training.new_channels import learn_new_first
from napari_superanimal.training.official_detector import update_released
from napari_superanimal.training.pose_stage import Batch, draw_batches
from napari_superanimal.training.rehearsal import Rehearsal
from napari_superanimal.training.replay import THRESHOLD
from napari_superanimal.training.samples import FrameReader, PoseSamples, pick, read_image
from napari_superanimal.training.sampling import balanced
from napari_superanimal.training.task import Task, labelled_part, replay_task, user_task
from napari_superanimal.training.train import POSE_CHECKPOINT, require_empty
from napari_superanimal.training.vocabulary import one_sided, origin, others, restrict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_superanimal.keypoints import ConversionTable
    from napari_superanimal.models.trainable import TrainableModel
    from napari_superanimal.poses import Poses

#: Every channel.
ALL = slice(None)
#: A keypoint that the starting model was sure of is kept if the new model finds it with this confidence ...
SURE = 0.5
#: ... within this distance, in units of the animal's size.
KEPT_WITHIN = 0.1


def finetune(
    poses: Poses,
    model: TrainableModel,
    *,
    mode: str,
    out: Path,
    steps: int = 600,
    table: ConversionTable | None = None,
    name: str | None = None,
    validation: float = 0.2,
    batch_size: int = 8,
    accumulate: int = 1,
    seed: int = 0,
    replay_threshold: float = THRESHOLD,
    absent: bool = False,
    balance: bool = False,
    train_detector: bool = True,
    hold_out: bool = True,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
    resume: bool = False,
    reader: FrameReader = read_image,
) -> Path:
    """Fine-tune on labelled images; writes a model folder.

    Parameters
    ----------
    poses : Poses
        Labelled images under the user's own keypoint names.
    model : LoadedModel or OfficialPose
        The model to start from, of either family.
    mode : {"replay", "naive", "backbone", "scratch"}
        "replay" keeps the model's keypoints and adds those that it never knew; the others give a model of the
        user's keypoints, from all weights of the channels that the table maps, from all but the head, or from
        none (paper, Methods; spec section 5).
    table : ConversionTable, optional
        User's keypoint -> keypoint of the model's space; by default equal names.
    validation : float
        Share of labelled images held out for the error that is shown: the last ones in order, since neighbouring
        frames look alike.
    accumulate : int
        Batches per step.
    replay_threshold, absent
        As in `training.replay.replay_labels`.
    balance : bool
        Draw every source dataset equally often.
    train_detector : bool
        Train the detector, too, where it finds less than 90 % of the labelled animals; False takes it over as it is.
    hold_out : bool
        False learns from every image and checks on none, for those who measure elsewhere.

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
    poses = labelled_part(poses, 2 if hold_out else 1)
    head = head_of(model)
    tell(Progress(0, steps, message="reading labelled images"))
    if mode == "replay":
        task = replay_task(poses, model, table, replay_threshold, absent, reader, on_progress, token)
    else:
        task = user_task(poses, model, table, mode, reader)
    samples = balanced(task.samples) if balance else task.samples
    symmetry = symmetry_of(task.channels, task.space, task.canonical)
    away = held_out(samples, validation) if hold_out else np.zeros(len(samples), bool)
    trained = pick(samples, np.flatnonzero(~away)) if hold_out else samples
    held, human = pick(samples, np.flatnonzero(away)), task.human[away]
    rehearsal = None
    if task.agrees is not None:
        # only what the old model is sure of, on animals where it is not contradicted by the labels
        asked = ~task.human & (samples.visibility > 0) & task.agrees[:, None]
        order = {k: i for i, k in enumerate(model.card.keypoints)}
        rehearsal = Rehearsal(
            model.pose.eval(),
            [None if k is None else order[k] for k in task.come_from],
            asked[~away],
            ~task.human[~away],
        )
    check = replace(held, xy=np.where(human[..., None], held.xy, np.nan).astype(np.float32))

    # what starts anew starts the same for the same seed
    torch.manual_seed(seed)
    network = head.build(len(task.channels))
    if mode != "scratch":
        take_over(network, model, task.come_from)
    start = {k: v.clone() for k, v in network.state_dict().items()}
    known = np.array([k is not None for k in task.come_from])
    before = None
    if hold_out and known.any():
        at, _, truth = head.predict(network, check, symmetry)
        before = _mean_error(check, at, truth, known)
    augmentation = mild(
        model.card.view,
        # near and far stay what they are in a mirror
        flip=(task.canonical and task.counts is not None) or not one_sided(task.channels, task.space),
    )
    swap = None if task.canonical else np.array(symmetry.mirror)
    loop = LoopConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=head.rates[mode],
        average=0.99,
        validate_every=max(10, min(100, steps // 10)),
        seed=seed,
        accumulate=accumulate,
        frozen_statistics=mode in ("replay", "naive") or (head.keeps_statistics and mode != "scratch"),
    )

    def batches(rehearsal: Rehearsal | None) -> Callable[[nn.Module, np.random.Generator], Tensor]:
        def learn(network: nn.Module, batch: Batch) -> Tensor:
            return head.loss(network, batch, rehearsal)

        asked = None if rehearsal is None else rehearsal.asked
        return draw_batches(trained, head.size, augmentation, batch_size, learn, swap=swap, asked=asked)

    new = [i for i, k in enumerate(task.come_from) if k is None]
    if new and mode != "scratch" and not (resume and (out / POSE_CHECKPOINT).is_file()):
        learn_new_first(network, head.rows, new, batches(None), loop, on_progress=tell, token=token)
    pose = run(
        network,
        batches(rehearsal),
        loop,
        validate=(lambda net: validation_error(head, net, check, symmetry)) if hold_out else None,
        checkpoint=out / POSE_CHECKPOINT,
        resume=resume,
        on_progress=tell,
        token=token,
        message="fine-tuning",
    )
    gone = 1.0
    if mode == "replay":
        pose, gone = no_further_than_needed(
            start,
            pose,
            new,
            (lambda net: validation_error(head, net, check, symmetry).get("val_error_px", float("nan")))
            if hold_out
            else None,
            rows=head.rows,
        )
    detector: nn.Module | None = model.detector if isinstance(model.detector, DetectorNet) else None
    found: dict[str, Any] = {}
    if train_detector:
        update = update_detector if isinstance(model, LoadedModel) else update_released
        detector, found = update(
            model,  # type: ignore[arg-type]
            task.labels.take(np.unique(trained.rows[:, 0])),
            out,
            steps=max(1, steps // 3),
            seed=seed,
            turning=turning(model.card.view),
            resume=resume,
            reader=reader,
            on_progress=tell,
            token=token,
        )
    recipe: dict[str, Any] = {
        "mode": mode,
        "steps": steps,
        "seed": seed,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "balance": balance,
        "validation": validation,
        **({"way": gone} if mode == "replay" else {}),
        **({"detector": found} if found else {}),
        **({"replay": task.counts.to_json()} if task.counts else {}),
    }
    metrics: dict[str, Any] = {}
    aside: dict[str, Any] = {}
    if hold_out:
        at, confidence, everything = head.predict(pose, held, symmetry)
        truth = np.where(human[..., None], everything, np.nan).astype(np.float32)
        errors = {
            "val_error_px": _mean_error(held, at, truth),
            "start_error_px": before,
            "known_error_px": _mean_error(held, at, truth, known),
        }
        metrics = {f"validation {k}": round(v, 4) for k, v in errors.items() if v is not None}
        metrics |= memory(model, task, held, human, at, confidence, everything)
        # raw confidence says little, so only errors are told
        aside = tried((), (), relative_errors(held, at, truth))
    knows = _knows(model, task, table, mode, reader, aside)
    card = _card(name or out.name, model, task, len(poses), recipe, metrics, knows)
    _save(card, model, pose, detector, out)
    if task.table is not None and distributed.is_main():
        write_table(task.table, out / TABLE_FILE)
    return out


def _save(
    card: ModelCard, model: TrainableModel, pose: nn.Module, detector: nn.Module | None, out: Path
) -> None:
    """Write the new model's folder, of the family of the model that it comes from."""
    if isinstance(model, LoadedModel):
        assert isinstance(pose, PoseNet)
        assert detector is None or isinstance(detector, DetectorNet)
        save_model(card, pose, detector, out)
        return
    old = model.detector
    if detector is not None:
        assert old is not None
        released = old.card.detector.get(OWN_RELEASE) or old.card.official
        card = replace(card, detector={"architecture": old.network.architecture, OWN_RELEASE: released})
    elif OWN_RELEASE in card.detector:
        # the starting model has a detector of its own, which goes along
        assert old is not None
        detector = old.network
    save_tuned(card, pose, detector, out)


def memory(
    model: TrainableModel,
    task: Task,
    held: PoseSamples,
    human: npt.NDArray[np.bool_],
    at: npt.NDArray[np.float32],
    confidence: npt.NDArray[np.float32],
    truth: npt.NDArray[np.float32],
) -> dict[str, Any]:
    """What became of the keypoints that the labels lack, for the card, from what `Head.predict` gave for `held`.

    Keypoints that the new model no longer gives are ``forgotten``. Of those that it kept, the share of what the
    starting model was sure of on the held-out images and the new one still finds there.
    """
    if task.counts is None:
        lost = others(model.card, task.mapped)
        return {"forgotten": list(lost)} if lost else {}
    filled = ~human & (held.visibility > 0) & np.isfinite(truth).all(-1)
    if not filled.any():
        return {}
    near = np.linalg.norm(at - truth, axis=-1) * held.pixel[:, None] <= KEPT_WITHIN * held.extent[:, None]
    return {"others kept": round(float((near & (confidence >= SURE))[filled].mean()), 4)}


def _knows(
    model: TrainableModel,
    task: Task,
    table: ConversionTable | None,
    mode: str,
    reader: FrameReader,
    aside: dict[str, Any],
) -> dict[str, Any]:
    """What the new model knows, for its card: the user's animals, and what it has from the starting model."""
    space = restrict(task.space, task.channels)
    people = task.labels
    if task.counts is None:
        names = origin(task.channels, model.card.keypoints, table)
    else:
        people = replace(people, xy=np.where(people.human[..., None], people.xy, np.nan))
        names = {k: k for k in task.channels}
    own = knowledge(task.labels, space, model.card.view, reader=reader, of=(people,), aside=aside)
    return inherited(own, model.card, names, bodies(people), space, features=mode != "scratch")


def _card(
    name: str,
    model: TrainableModel,
    task: Task,
    images: int,
    recipe: dict[str, Any],
    metrics: dict[str, Any],
    knows: dict[str, Any],
) -> ModelCard:
    old = model.card
    summary = f"Fine-tuned ({recipe['mode']}) from {old.name} on {images} labelled images of the user's own."
    if task.counts is not None:
        summary += (
            f" Memory replay: {task.counts.pseudo} keypoints that were not labelled were filled in by {old.name} "
            f"where its likelihood was at least {task.counts.threshold:g}."
        )
    not_for = "Recordings that differ from the labelled ones, until checked there."
    official = isinstance(model, OfficialPose)
    return ModelCard(
        name=name,
        title=f"{name} (fine-tuned)",
        summary=summary,
        space=task.space.to_json(),
        keypoints=task.channels,
        species=old.species,
        view=old.view,
        licence="the user's own labels; the starting weights: " + _starting(old.licence),
        not_for=f"{_starting(old.not_for)}. {not_for}" if official else not_for,
        trained_on=({"name": "user's labels", "images": images, "licence": "the user's", "source": ""},),
        pose=old.pose,
        detector=old.detector,
        context=old.context,
        side_canonical=task.canonical,
        flip=old.flip,
        threshold=old.threshold if official else 0.5,
        detector_threshold=old.detector_threshold,
        calibration=knows,
        metrics=metrics,
        parent=old.name,
        created=datetime.date.today().isoformat(),
        recipe={**recipe, "starting weights": old.sha256} if official else recipe,
        official=old.official,
    )


def _starting(text: str) -> str:
    """A card's words on its weights without what an earlier fine-tuning put around them."""
    text = text.split("the starting weights: ")[-1]
    return text.split(". Recordings that differ")[0]


@torch.no_grad()
def take_over(network: nn.Module, model: TrainableModel, channels: Sequence[str | None]) -> None:
    """Fill a fresh network with a model's weights; channels without an origin start anew."""
    if isinstance(network, PoseNet):
        reset_head(network.heatmaps, network.offsets)
    head = head_of(model)
    order = {k: i for i, k in enumerate(model.card.keypoints)}
    take_over_channels(
        network,
        model.pose,
        [None if name is None else order[name] for name in channels],
        head.rows,
        head.shared,
    )


def held_out(samples: PoseSamples, share: float) -> npt.NDArray[np.bool_]:
    """(N,) samples for validation: those of the last `share` of the images; at least one image is, one is not."""
    rows = np.unique(samples.rows[:, 0])
    count = min(max(1, round(share * len(rows))), len(rows) - 1)
    return np.isin(samples.rows[:, 0], rows[-count:])


def validation_error(
    head: Head, network: nn.Module, held: PoseSamples, symmetry: Symmetry
) -> dict[str, float]:
    """Mean error in pixels of the user's frames on the held-out images."""
    at, _, truth = head.predict(network, held, symmetry)
    error = _mean_error(held, at, truth)
    return {} if error is None else {"val_error_px": error}


def _mean_error(
    held: PoseSamples,
    at: npt.NDArray[np.float32],
    truth: npt.NDArray[np.float32],
    channels: npt.NDArray[np.bool_] | slice = ALL,
) -> float | None:
    """In pixels of the user's frames, of some channels; None where nothing is labelled."""
    error = (np.linalg.norm(at - truth, axis=-1) * held.pixel[:, None])[:, channels]
    return float(np.nanmean(error)) if np.isfinite(error).any() else None
