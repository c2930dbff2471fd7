"""Adapting a model to videos, with files: the model, its proof, and keeping it or not."""

from __future__ import annotations

import contextlib
import datetime
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.adaptation.bursts import Bursts
from napari_superanimal.errors import UserError
from napari_superanimal.jobs.adapt_outcome import (
    KEPT,
    OUTCOME,
    REJECTED,
    REVERTED,
    Outcome,
    mark_reverted,
    write_figures,
)
from napari_superanimal.jobs.outputs import check_folder, file_safe
from napari_superanimal.jobs.plain_json import plain, write_json
from napari_superanimal.jobs.video_labels import read_video_labels
from napari_superanimal.models.zoo import find_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_superanimal.adaptation.adapt import AdaptSettings, Lesson
    from napari_superanimal.adaptation.proof import Proof
    from napari_superanimal.adaptation.teacher import Looks
    from napari_superanimal.adaptation.trust import Trust
    from napari_superanimal.jobs.progress import CancelToken, ProgressCallback
    from napari_superanimal.models.card import ModelCard
    from napari_superanimal.models.load import LoadedModel
    from napari_superanimal.poses import Poses
    from napari_superanimal.video import Video

#: What a run was asked for, to refuse going on with another.
REQUEST = "adapt.json"
#: Free space that weights and the checkpoint may take.
NEEDED_BYTES = 100_000_000


@dataclass(frozen=True)
class AdaptOptions:
    """What to adapt, and what to prove it on.

    Attributes
    ----------
    model : str or Path
        One of ours: a name or a folder. SuperAnimal's own networks cannot be trained from here.
    out : Path
        Folder of the adapted model and its proof.
    settings : AdaptSettings or None
        None takes the defaults.
    others : tuple of Path
        Further videos that the model is proved on and does not learn from.
    labels : Path or None
        Labels of frames of one of the videos (a DeepLabCut project or table, COCO, or a file of poses of a video):
        errors are measured on those among the held-out frames. Nothing is learned from them.
    table : str or None
        Conversion table of the labels; None finds it out from the names.
    keep_anyway : bool
        Keep the adapted model even if its proof fails; the proof says so.
    resume : bool
        Go on with a stopped run.
    device : str
        Where predictions of the proof run; training runs on the CPU.
    """

    model: str | Path
    out: Path
    settings: AdaptSettings | None = None
    others: tuple[Path, ...] = ()
    labels: Path | None = None
    table: str | None = None
    keep_anyway: bool = False
    resume: bool = False
    device: str = "auto"


@dataclass
class _Clip:
    """One video on its way through the job."""

    path: Path
    video: Video
    learned: bool = True
    bursts: Bursts = field(default_factory=lambda: Bursts((), ()))
    labels: Poses | None = None
    before: Poses | None = None
    looks: Looks | None = None
    lesson: Lesson | None = None
    trust: Trust | None = None
    proof: Proof | None = None
    files: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def frames(self) -> int:
        return len(self.video)


def adapt_files(
    videos: Sequence[Path],
    options: AdaptOptions,
    *,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
    say: Callable[[str], None] | None = None,
) -> Outcome:
    """Adapt a model to videos without labels, and keep it only if it proves better.

    The steps, each told about by `on_progress`: the starting model predicts held-out bursts of every video; it looks at
    other bursts several times and makes pseudo-labels; a copy of it learns them; the copy predicts the held-out bursts;
    both are compared (`adaptation.proof`), and what fails is reverted.

    Files in ``options.out``: ``proof.json`` (everything measured, and the decision), ``proof.csv`` (by keypoint),
    ``jitter.svg``, and per video ``<stem>_<model>_heldout.h5`` and ``<stem>_<new model>_heldout.h5`` (predictions
    before and after, in frames of the video). The model itself lies in the folder when it was kept, else in its
    subfolder ``rejected``, where no command and no list finds it.

    Where the starting model's own predictions cannot be trusted (`adaptation.trust`), or are too few, nothing is
    trained: the outcome is "reverted" with the reasons, "adapted" figures are those before, and there is no second
    file of predictions.

    Raises
    ------
    UserError
        If a video cannot be read or is too short, the model cannot be trained, or the folder holds another run.
    Cancelled
        When stopped; the checkpoint is kept and ``options.resume`` continues.
    """
    import torch

    from napari_superanimal.adaptation.adapt import AdaptSettings, plan
    from napari_superanimal.models.load import load_model

    settings = options.settings or AdaptSettings()
    model = load_model(find_model(options.model))
    _begin(videos, options, settings, model.card)
    torch.manual_seed(settings.seed)
    work = _Work(model, settings, options, {"on_progress": on_progress, "token": token})
    with contextlib.ExitStack() as stack:
        learned = [_Clip(path, _open(path, stack)) for path in videos]
        shown = [_Clip(path, _open(path, stack), learned=False) for path in options.others]
        for group in filter(None, (learned, shown)):
            bursts = plan({str(c.path): c.video for c in group}, settings)
            for clip in group:
                clip.bursts = bursts[str(clip.path)]
        clips = [*learned, *shown]
        labels = read_video_labels(options.labels, options.table, model.space, clips, say or (lambda _: None))
        for clip in clips:
            clip.labels = labels.get(clip.path)
            _look_before(work, clip)
        for clip in learned:
            _look_at_lesson(work, clip)
        reasons = _reasons_not_to_learn(work, learned)
        new = replace(model, card=_card(options.out.resolve().name, model.card, learned, settings))
        if trained := not reasons:
            new = _train(work, learned, new)
        for clip in clips:
            _look_after(work, clip, new if trained else None)
    return _conclude(work, clips, new, reasons)


@dataclass(frozen=True)
class _Work:
    """What all steps need; `watch` is how they tell and stop."""

    model: LoadedModel
    settings: AdaptSettings
    options: AdaptOptions
    watch: dict[str, Any]

    def predict(self, model: LoadedModel, clip: _Clip, message: str) -> Poses:
        """A model's predictions on the held-out frames, written into the folder."""
        from napari_superanimal.adaptation.predict import predict_bursts
        from napari_superanimal.inference.predictor import Predictor

        predictor = Predictor(
            model, max_individuals=self.settings.max_individuals, device=self.options.device
        )
        poses = predict_bursts(
            predictor, clip.video, clip.bursts.held, message=message, path=str(clip.path), **self.watch
        )
        clip.files += _write(poses, clip, model.card.name, self.options)
        return poses


def _look_before(work: _Work, clip: _Clip) -> None:
    """The starting model on held-out frames, once as it predicts, and several times to see what is sure."""
    from napari_superanimal.adaptation.teacher import look

    clip.before = work.predict(work.model, clip, "predicting held-out frames")
    clip.looks = look(
        work.model,
        clip.video,
        clip.bursts.held,
        max_individuals=work.settings.max_individuals,
        views=work.settings.views,
        seed=0,  # the points of the proof are the same for all seeds
        message="looking at held-out frames",
        **work.watch,
    )


def _look_at_lesson(work: _Work, clip: _Clip) -> None:
    """Pseudo-labels, and whether they can be trusted."""
    from napari_superanimal.adaptation.adapt import prepare
    from napari_superanimal.adaptation.trust import examine

    clip.lesson = prepare(work.model, str(clip.path), clip.video, clip.bursts, work.settings, **work.watch)
    clip.trust = examine(work.model, clip.lesson.looks)


def _doubts(work: _Work, clip: _Clip) -> tuple[str, ...]:
    from napari_superanimal.adaptation.trust import doubts

    return () if clip.trust is None else doubts(clip.trust, work.model.card.view)


def _reasons_not_to_learn(work: _Work, learned: Sequence[_Clip]) -> dict[Path, tuple[str, ...]]:
    """By video, why nothing is trained: what is wrong or next to nothing is not learned at all.

    Doubts do not count where the user wants to keep the model anyway.
    """
    from napari_superanimal.adaptation.adapt import too_little

    found = {} if work.options.keep_anyway else {c.path: _doubts(work, c) for c in learned}
    if nothing := too_little([c.lesson for c in learned if c.lesson is not None]):
        first = learned[0].path
        found[first] = (*found.get(first, ()), nothing)
    return {path: reasons for path, reasons in found.items() if reasons}


def _train(work: _Work, learned: Sequence[_Clip], new: LoadedModel) -> LoadedModel:
    """`new` with a trained pose network and, if asked for, detector."""
    from napari_superanimal.adaptation.adapt import gather, train
    from napari_superanimal.adaptation.detector import train_detector
    from napari_superanimal.training.train import DETECTOR_CHECKPOINT, POSE_CHECKPOINT

    lessons = [(c.lesson, c.video) for c in learned if c.lesson is not None]
    rest: dict[str, Any] = {"resume": work.options.resume, **work.watch}
    samples = gather([lesson for lesson, _ in lessons])
    checkpoint = work.options.out / POSE_CHECKPOINT
    new = replace(new, pose=train(work.model, samples, work.settings, checkpoint=checkpoint, **rest))
    if not work.settings.detector:
        return new
    checkpoint = work.options.out / DETECTOR_CHECKPOINT
    detector = train_detector(work.model, lessons, work.settings, checkpoint=checkpoint, **rest)
    return replace(new, detector=detector)


def _look_after(work: _Work, clip: _Clip, new: LoadedModel | None) -> None:
    """The adapted model on held-out frames, beside the starting one; None where nothing was trained."""
    from napari_superanimal.adaptation.bodies import proportions_for
    from napari_superanimal.adaptation.proof import fixed_points, prove

    assert clip.before is not None
    assert clip.looks is not None
    after = clip.before
    if new is not None:
        after = work.predict(new, clip, "predicting held-out frames with the adapted model")
    card = work.model.card
    beside = None if clip.lesson is None else clip.lesson.looks
    fixed = fixed_points(clip.before, clip.looks, work.model, card.threshold, beside)
    seen = [clip.looks] if beside is None else [clip.looks, beside]
    proportions, _ = proportions_for(work.model, seen, card.threshold)
    clip.proof = prove(
        clip.before,
        after,
        card.keypoints,
        card.threshold,
        fixed=fixed,
        labels=clip.labels,
        proportions=proportions,
    )


def _conclude(
    work: _Work, clips: Sequence[_Clip], new: LoadedModel, reasons: dict[Path, tuple[str, ...]]
) -> Outcome:
    """Decide, and write what came of it."""
    from napari_superanimal.adaptation.adapt import threshold_of
    from napari_superanimal.adaptation.verdict import Verdict, judge
    from napari_superanimal.models.load import save_model

    model, settings, options = work.model, work.settings, work.options
    trained = not reasons
    found = {path: Verdict(False, why) for path, why in reasons.items()}
    if trained:
        found = {c.path: judge(c.proof, _doubts(work, c), learned=c.learned) for c in clips if c.proof}
    passes = all(v.passes for v in found.values())
    kept = trained and (passes or options.keep_anyway)
    told = tuple(
        f"{path.name}: {reason}" if len(clips) > 1 else reason
        for path, verdict in found.items()
        if verdict.passes == passes
        for reason in verdict.reasons
    )
    outcome = Outcome(
        folder=options.out,
        decision=KEPT if kept else REVERTED,
        passes=passes,
        trained=trained,
        by="proof" if kept == passes else "user",
        reasons=told,
        model=new.card.name,
        parent=model.card.name,
        proofs=tuple(c.proof for c in clips if c.proof),
        trust={str(c.path): c.trust.to_json() for c in clips if c.trust},
        pseudo_labels={str(c.path): c.lesson.counts.to_json() for c in clips if c.lesson},
        settings={**settings.to_json(), "threshold": threshold_of(model, settings)},
        files=tuple(f for c in clips for f in c.files),
    )
    if trained:
        recipe = {**new.card.recipe, "status": outcome.decision, "reasons": list(told)}
        card = replace(new.card, metrics=outcome.metrics(), recipe=recipe)
        where = options.out if kept else options.out / REJECTED
        save_model(card, new.pose, new.detector, where, calibration=model.calibration)
    if not kept:
        mark_reverted(options.out, told, trained=trained)
    return replace(outcome, files=(*outcome.files, *write_figures(outcome)))


def _begin(videos: Sequence[Path], options: AdaptOptions, settings: AdaptSettings, card: ModelCard) -> None:
    """See that the folder is free, or holds the same run, and note what is asked for.

    Raises
    ------
    UserError
        If it holds a finished or another run.
    """
    every = [*videos, *options.others]
    names = [p.stem for p in every]
    for path in every:
        if names.count(path.stem) > 1:
            raise UserError(
                "is named twice, or another video has the same name",
                path=path,
                remedy="name every video once, and give them different names",
            )
    check_folder(options.out, NEEDED_BYTES)
    if (options.out / OUTCOME).exists() or (options.out / "card.json").exists():
        raise UserError(
            "there is a finished adaptation or a model in this folder already",
            path=options.out,
            remedy="choose another --out",
        )
    wanted = plain(
        {
            "model": card.name,
            "weights_sha256": dict(card.sha256),
            "videos": [{"path": str(p), "bytes": _size(p)} for p in videos],
            "settings": settings.to_json(),
        }
    )
    request = options.out / REQUEST
    if request.is_file() and options.resume:
        try:
            same = json.loads(request.read_text(encoding="utf-8")) == wanted
        except (OSError, ValueError):
            same = False
        if not same:
            raise UserError(
                "the run in this folder was started with other videos, another model or other settings",
                path=request,
                remedy="use the same ones as before, or choose another --out",
            )
    write_json(request, wanted)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _open(path: Path, stack: contextlib.ExitStack) -> Video:
    from napari_superanimal.video import open_video

    return stack.enter_context(contextlib.closing(open_video(path)))


def _write(poses: Poses, clip: _Clip, model: str, options: AdaptOptions) -> list[Path]:
    """Predictions on held-out frames, as a DeepLabCut table with the video's frame numbers."""
    from napari_superanimal.poses.formats.registry import write

    path = options.out / f"{file_safe(clip.path.stem)}_{file_safe(model)}_heldout.h5"
    return list(write(replace(poses, scorer=file_safe(model)), path, "dlc-h5", overwrite=True))


def _card(name: str, old: ModelCard, clips: Sequence[_Clip], settings: AdaptSettings) -> ModelCard:
    """The card of the adapted model."""
    videos = ", ".join(c.name for c in clips)
    lessons = [c.lesson for c in clips if c.lesson is not None]
    labels = sum(lesson.counts.labels for lesson in lessons)
    return replace(
        old,
        name=name,
        title=f"{name} (adapted)",
        summary=f"{old.name}, adapted without labels to {videos}: it learned from {labels} keypoints that {old.name} "
        "was sure of there, and proved better on other frames.",
        licence="the starting weights: " + old.licence,
        not_for="Recordings that differ from the ones it was adapted to, until checked there. Its likelihood was "
        "calibrated before adapting, and promises more now: it learned from its own predictions.",
        trained_on=tuple(
            {
                "name": f"pseudo-labels on {Path(lesson.name).name}",
                "images": len(set(lesson.looks.frames.tolist())),
                "licence": "the user's",
                "source": "",
            }
            for lesson in lessons
        ),
        parent=old.name,
        created=datetime.date.today().isoformat(),
        recipe={
            "mode": "adapt",
            **settings.to_json(),
            "videos": [str(c.path) for c in clips],
            "pseudo_labels": labels,
        },
        metrics={},
        sha256={},
        official="",
        source={},
    )


__all__ = ["KEPT", "OUTCOME", "REVERTED", "AdaptOptions", "Outcome", "adapt_files"]
