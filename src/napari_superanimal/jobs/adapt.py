"""Adapting a model to videos, with files: the model, its proof, and keeping it or not."""

from __future__ import annotations

import contextlib
import datetime
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    held: tuple[range, ...] = ()
    lesson: Lesson | None = None
    trust: Trust | None = None
    before: Poses | None = None
    after: Poses | None = None
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

    from napari_superanimal.adaptation.adapt import (
        AdaptSettings,
        gather,
        plan,
        prepare,
        threshold_of,
        too_little,
        train,
        turning,
    )
    from napari_superanimal.adaptation.detector import train_detector
    from napari_superanimal.adaptation.predict import predict_bursts
    from napari_superanimal.adaptation.proof import fixed_points, prove
    from napari_superanimal.adaptation.teacher import look
    from napari_superanimal.adaptation.trust import doubts, examine
    from napari_superanimal.adaptation.verdict import Verdict, judge
    from napari_superanimal.inference.predictor import Predictor
    from napari_superanimal.models.load import load_model, save_model
    from napari_superanimal.training.train import DETECTOR_CHECKPOINT, POSE_CHECKPOINT

    settings = options.settings or AdaptSettings()
    tell = say or (lambda _: None)
    ref = find_model(options.model)
    model = load_model(ref)
    _begin(videos, options, settings, ref.card)
    torch.manual_seed(settings.seed)
    watch: dict[str, Any] = {"on_progress": on_progress, "token": token}
    with contextlib.ExitStack() as stack:
        learned = [_Clip(path, _open(path, stack)) for path in videos]
        shown = [_Clip(path, _open(path, stack)) for path in options.others]
        bursts = plan({str(c.path): c.video for c in learned}, settings)
        beside = plan({str(c.path): c.video for c in shown}, settings) if shown else {}
        for clip in (*learned, *shown):
            clip.held = (bursts | beside)[str(clip.path)].held
        labels = read_video_labels(options.labels, options.table, model.space, learned + shown, tell)

        def predict(which: LoadedModel, clip: _Clip, message: str) -> Poses:
            predictor = Predictor(which, max_individuals=settings.max_individuals, device=options.device)
            return predict_bursts(
                predictor, clip.video, clip.held, message=message, path=str(clip.path), **watch
            )

        threshold = threshold_of(model, settings)
        for clip in (*learned, *shown):
            clip.before = predict(model, clip, "predicting held-out frames")
            clip.files += _write(clip.before, clip, model.card.name, options)
        fixed = {}
        for clip in (*learned, *shown):
            looks = look(
                model,
                clip.video,
                clip.held,
                max_individuals=settings.max_individuals,
                views=settings.views,
                seed=0,  # the points of the proof are the same for all seeds
                message="looking at held-out frames",
                **watch,
            )
            assert clip.before is not None
            fixed[clip.path] = fixed_points(clip.before, looks, model, model.card.threshold)
        for clip in learned:
            clip.lesson = prepare(
                model, str(clip.path), clip.video, bursts[str(clip.path)], settings, **watch
            )
            clip.trust = examine(model, clip.lesson.looks)
        lessons = [(c.lesson, c.video) for c in learned if c.lesson is not None]
        wrong = {c.path: doubts(c.trust, model.card.view) for c in learned if c.trust is not None}
        nothing = too_little([lesson for lesson, _ in lessons])
        # what is wrong or next to nothing is not learned at all, unless the user wants to see it
        trained = not nothing and (options.keep_anyway or not any(wrong.values()))
        new = replace(model, card=_card(options.out.resolve().name, model.card, learned, settings))
        if trained:
            new = replace(
                new,
                pose=train(
                    model,
                    gather([lesson for lesson, _ in lessons]),
                    settings,
                    checkpoint=options.out / POSE_CHECKPOINT,
                    resume=options.resume,
                    **watch,
                ),
            )
            if settings.detector:
                detector = train_detector(
                    model,
                    lessons,
                    settings,
                    turning=turning(model),
                    checkpoint=options.out / DETECTOR_CHECKPOINT,
                    resume=options.resume,
                    **watch,
                )
                new = replace(new, detector=detector)
        for clip in (*learned, *shown):
            assert clip.before is not None
            clip.after = clip.before
            if trained:
                clip.after = predict(new, clip, "predicting held-out frames with the adapted model")
                clip.files += _write(clip.after, clip, new.card.name, options)
            clip.proof = prove(
                clip.before,
                clip.after,
                model.card.keypoints,
                model.card.threshold,
                fixed=fixed[clip.path],
                labels=labels.get(clip.path),
            )
    found: dict[Path, Verdict] = {}
    for clip in (*learned, *shown):
        if clip.proof is None:
            continue
        if trained:
            found[clip.path] = judge(clip.proof, wrong.get(clip.path, ()), learned=clip.path in wrong)
        elif reasons := (*wrong.get(clip.path, ()), *([nothing] if nothing and clip is learned[0] else [])):
            found[clip.path] = Verdict(False, reasons)
    passes = all(v.passes for v in found.values())
    kept = trained and (passes or options.keep_anyway)
    several = len(learned) + len(shown) > 1
    reasons = tuple(
        f"{path.name}: {reason}" if several else reason
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
        reasons=reasons,
        model=new.card.name,
        parent=model.card.name,
        proofs=tuple(c.proof for c in (*learned, *shown) if c.proof),
        trust={str(c.path): c.trust.to_json() for c in learned if c.trust},
        pseudo_labels={str(c.path): c.lesson.counts.to_json() for c in learned if c.lesson},
        settings={**settings.to_json(), "threshold": threshold},
        files=tuple(f for c in (*learned, *shown) for f in c.files),
    )
    if trained:
        recipe = {**new.card.recipe, "status": outcome.decision, "reasons": list(reasons)}
        where = options.out if kept else options.out / REJECTED
        card = replace(new.card, metrics=outcome.metrics(), recipe=recipe)
        save_model(card, new.pose, new.detector, where, calibration=model.calibration)
    if not kept:
        mark_reverted(options.out, reasons, trained=trained)
    files = write_figures(outcome)
    return replace(outcome, files=(*outcome.files, *files))


def _begin(videos: Sequence[Path], options: AdaptOptions, settings: AdaptSettings, card: ModelCard) -> None:
    """See that the folder is free, or holds the same run, and note what is asked for.

    Raises
    ------
    UserError
        If it holds a finished or another run.
    """
    names = [p.resolve() for p in (*videos, *options.others)]
    if len(set(names)) < len(names):
        raise UserError("a video is named twice", path=videos[0], remedy="name every video once")
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
