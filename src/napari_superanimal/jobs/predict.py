"""Predicting on files: frames in, one file of poses and one run card per video out."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.jobs import run_card
from napari_superanimal.jobs.environment import peak_rss_mb
from napari_superanimal.jobs.inputs import Source, gather, refuse_doubles
from napari_superanimal.jobs.outputs import check_folder, check_new, file_safe
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Meter, ProgressCallback
from napari_superanimal.jobs.resume import join, read_done, unfinished
from napari_superanimal.models.zoo import ModelRef, find_model
from napari_superanimal.poses import Poses

if TYPE_CHECKING:
    from napari_superanimal.inference.predictor import Predictor
    from napari_superanimal.models.load import LoadedModel
    from napari_superanimal.video import Video

WHOLE_FRAME = "whole-frame"
OWN_DETECTOR = "model"

#: What a format's files end with; the first is the contract's and always written.
SUFFIXES = {"dlc-h5": ".h5", "dlc-csv": ".csv", "coco": ".json"}


@dataclass(frozen=True)
class PredictOptions:
    """What to predict with, and where to write.

    Attributes
    ----------
    model : str or Path
        A model's name or folder.
    detector : str or Path
        "model" for the model's own, "whole-frame", or another model whose detector is used.
    out : Path or None
        Folder of the results; None writes beside each input.
    frames : (start, stop, step)
        As in a Python slice; None where not given.
    max_individuals : int
    formats : tuple of str
        Besides ``dlc-h5``, which is always written.
    device, precision, batch_size, flip, track
        As for `Predictor` and `predict_stream`.
    annotate : bool
        Also write a video with the poses drawn in.
    overwrite, resume : bool
        What to do where results exist; neither means an error.
    measure_forward : bool
        Also time the bare networks on the same batches.
    """

    model: str | Path
    detector: str | Path = OWN_DETECTOR
    out: Path | None = None
    frames: tuple[int | None, int | None, int | None] = (None, None, None)
    max_individuals: int = 1
    formats: tuple[str, ...] = ("dlc-h5",)
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 16
    flip: bool = False
    track: bool = True
    annotate: bool = False
    overwrite: bool = False
    resume: bool = False
    measure_forward: bool = False
    seed: int = 0


@dataclass(frozen=True)
class PredictResult:
    """What became of one source.

    Attributes
    ----------
    source : Source
    predictions : Path
        The h5 file.
    files : tuple of Path
        Everything written, run card included.
    card : dict
        The run card.
    """

    source: Source
    predictions: Path
    files: tuple[Path, ...]
    card: dict[str, Any]

    @property
    def status(self) -> str:
        return str(self.card["status"])


@dataclass(frozen=True)
class _Task:
    """One source, looked at and ready to run."""

    source: Source
    targets: dict[str, Path]
    frames: range
    card: dict[str, Any]
    done: bool
    earlier: Path | None


def scorer_name(model: ModelRef, detector: ModelRef | str) -> str:
    """The scorer in files and file names: the model, and the detector where it is not the model's own."""
    name = file_safe(model.card.name)
    other = detector if isinstance(detector, str) else detector.card.name
    return name if other in (OWN_DETECTOR, model.card.name) else f"{name}_{file_safe(other)}"


def predict_files(
    paths: Iterable[Path],
    options: PredictOptions,
    *,
    on_progress: ProgressCallback | None = None,
    on_result: Callable[[PredictResult], None] | None = None,
    token: CancelToken | None = None,
) -> list[PredictResult]:
    """Predict poses on videos, folders of images and images.

    Everything that can be wrong is looked at first: inputs, model, output folders, existing files, free
    disk. Then each source is streamed, and its ``<stem>_<scorer>.h5`` and ``.run.json`` are written as soon
    as it ends. A cancelled run writes the frames it has, with the status "cancelled".

    Parameters
    ----------
    paths : iterable of Path
    options : PredictOptions
    on_progress : callable, optional
        Gets a `Progress` in frames of the current source.
    on_result : callable, optional
        Called as soon as a source is finished.
    token : CancelToken, optional

    Returns
    -------
    list of PredictResult
        One per source that was begun; after cancelling, the last may be incomplete.

    Raises
    ------
    UserError
        If something is wrong with the inputs, the model or the outputs.
    """
    token = token or CancelToken()
    model = find_model(options.model)
    detector = _find_detector(options.detector)
    sources = gather(paths)
    tasks = [_prepare(source, model, detector, options) for source in sources]
    refuse_doubles([(task.source.path.name, task.targets["dlc-h5"]) for task in tasks])
    results: list[PredictResult] = []

    def finish(result: PredictResult) -> None:
        results.append(result)
        if on_result is not None:
            on_result(result)

    predictor = None
    for task in tasks:
        if task.done:
            card = run_card.read_card(run_card.card_path(task.targets["dlc-h5"]))
            finish(PredictResult(task.source, task.targets["dlc-h5"], (), card))
            continue
        if token.cancelled:
            break
        if predictor is None:
            predictor = _load(model, detector, options)
        finish(_run(task, predictor, options, on_progress, token))
    return results


def _find_detector(detector: str | Path) -> ModelRef | str:
    return str(detector) if str(detector) in (OWN_DETECTOR, WHOLE_FRAME) else find_model(detector)


def _prepare(
    source: Source, model: ModelRef, detector: ModelRef | str, options: PredictOptions
) -> _Task:
    """Open a source and look at everything that could fail after the long work."""
    with contextlib.closing(open_source(source)) as video:
        total, shape, fps = len(video), tuple(int(n) for n in video.shape), float(video.fps)
    frames = frame_range(options.frames, total, source.path)
    scorer = scorer_name(model, detector)
    folder = source.folder if options.out is None else options.out
    targets = {
        name: folder / f"{source.name}_{scorer}{SUFFIXES[name]}"
        for name in dict.fromkeys(("dlc-h5", *options.formats))
    }
    if options.annotate:
        targets["annotated"] = folder / f"{source.name}_{scorer}_annotated.mp4"
    h5 = targets["dlc-h5"]
    sums = {f"{model.card.name}/{name}": digest for name, digest in model.card.sha256.items()}
    if isinstance(detector, ModelRef):
        sums |= {f"{detector.card.name}/{name}": digest for name, digest in detector.card.sha256.items()}
    card: dict[str, Any] = {
        **run_card.provenance(),
        "status": run_card.CANCELLED,
        "input": str(source.path),
        "input_bytes": source.size_bytes,
        "input_frames": total,
        "input_size": [shape[2], shape[1]],
        "input_fps": fps if source.is_video else None,
        "model": model.card.name,
        "model_folder": str(model.folder),
        "detector": _detector_label(model, detector),
        "scorer": scorer,
        "space": model.card.space_name,
        "weights_sha256": sums,
        "thresholds": {
            "likelihood": model.card.threshold,
            "detector": (detector if isinstance(detector, ModelRef) else model).card.detector_threshold
            if detector != WHOLE_FRAME
            else None,
        },
        "frame_range": [frames.start, frames.stop, frames.step],
        "max_individuals": options.max_individuals,
        "options": {
            name: value
            for name, value in asdict(options).items()
            if name in ("precision", "flip", "track", "seed")
        },
    }
    if not source.is_video:
        card["images"] = [image.name for image in source.images]
    done, earlier = False, None
    if options.resume:
        state = unfinished(h5, card)
        done, earlier = state == run_card.COMPLETE, h5 if state == run_card.CANCELLED else None
        fresh = state is None
    else:
        fresh = True
    if fresh and not options.overwrite:
        check_new([*targets.values(), run_card.card_path(h5)])
    numbers = len(frames) * options.max_individuals * len(model.card.space.get("keypoints", ())) * 3
    # eight bytes each in h5, some fifteen characters in text
    check_folder(folder, 1_000_000 + numbers * sum(8 if name == "dlc-h5" else 15 for name in targets))
    return _Task(source, targets, frames, card, done, earlier)


def _detector_label(model: ModelRef, detector: ModelRef | str) -> str:
    if isinstance(detector, ModelRef):
        return detector.card.name
    return model.card.name if detector == OWN_DETECTOR else detector


def open_source(source: Source) -> Video:
    """The frames of a source.

    Raises
    ------
    UserError
        If they cannot be read.
    """
    from napari_superanimal.video import open_video

    return open_video(source.path if source.is_video else list(source.images))


def frame_range(frames: tuple[int | None, int | None, int | None], total: int, path: Path) -> range:
    """The frames asked for, of those there are.

    Raises
    ------
    UserError
        If none is left, or the step is below 1.
    """
    start, stop, step = frames
    if step is not None and step < 1:
        raise UserError(f"the step of --frames is {step}", remedy="give a step of 1 or more")
    chosen = range(total)[slice(start, stop, step)]
    if not chosen:
        asked = ":".join("" if n is None else str(n) for n in (start, stop))
        raise UserError(
            f"there is no frame in {asked}, the input has {total}",
            path=path,
            remedy="correct --frames START:STOP[:STEP]",
        )
    return chosen


def _load(model: ModelRef, detector: ModelRef | str, options: PredictOptions) -> Predictor:
    import torch

    from napari_superanimal.inference.predictor import Predictor
    from napari_superanimal.models.load import load_model

    torch.manual_seed(options.seed)
    other: Any = load_model(detector) if isinstance(detector, ModelRef) else detector
    loaded: LoadedModel = load_model(model)
    return Predictor(
        loaded,
        detector=other,
        max_individuals=options.max_individuals,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        flip=options.flip,
    )


def _run(
    task: _Task,
    predictor: Predictor,
    options: PredictOptions,
    on_progress: ProgressCallback | None,
    token: CancelToken,
) -> PredictResult:
    """Stream one source and write what came of it, whole or not."""
    from napari_superanimal.inference.collect import Collector
    from napari_superanimal.inference.stream import predict_stream

    started, clock = datetime.now(UTC), time.perf_counter()
    frames, done = task.frames, None
    individuals = predictor.individuals
    if task.earlier is not None:
        done = _as_frames(read_done(task.earlier, predictor.space.keypoints, individuals), task)
        # with several animals the last finished frame is predicted again, to carry their identities over
        again = 1 if options.max_individuals > 1 and len(done) else 0
        frames = frames[len(done) - again :]
    collector = Collector(frames, individuals, predictor.space, task.card["scorer"])
    meter = Meter(len(task.frames))
    before = 0 if done is None else len(done)
    failure: BaseException | None = None
    with contextlib.closing(open_source(task.source)) as video:
        stream = predict_stream(video, predictor, frames, token=token, track=options.track)
        finished = 0
        try:
            for chunk in stream:
                collector.add(chunk)
                finished += len(chunk.frames)
                if on_progress is not None:
                    on_progress(meter.at(min(before + finished, len(task.frames)), task.source.path.name))
        except (KeyboardInterrupt, Cancelled) as error:
            failure = error
        except UserError as error:
            # a video that is broken in its middle: what came before is worth keeping
            if not finished:
                raise
            failure = error
        stats = dict(stream.stats)
    poses = _complete(task, collector.poses(), done)
    card = _fill(task, poses, predictor, stats, failure)
    card |= {"started": started.isoformat(timespec="seconds"), "total_seconds": time.perf_counter() - clock}
    files = _write(task, poses, card, options)
    result = PredictResult(task.source, task.targets["dlc-h5"], files, card)
    if isinstance(failure, UserError):
        raise UserError(
            f"{failure.problem}; the {len(poses)} frames before it were saved",
            path=failure.path or task.source.path,
            remedy=failure.remedy or "repair or re-encode the video, then run again with --resume",
        ) from failure
    if isinstance(failure, KeyboardInterrupt):
        token.cancel()
    return result


def _as_frames(poses: Poses, task: _Task) -> Poses:
    """Rows of a file of ours, told by frame number also where they are images."""
    if task.source.is_video:
        return poses
    names = [image.name for image in task.source.images]
    try:
        frames = [names.index(Path(image).name) for image in poses.images]
    except ValueError as error:
        raise UserError(
            "holds images that are not among the inputs", path=task.earlier, remedy="start anew with --overwrite"
        ) from error
    return replace(poses, frames=np.array(frames, np.int64), images=(), root=None)


def _complete(task: _Task, poses: Poses, done: Poses | None) -> Poses:
    """All finished rows of a source with what belongs to them."""
    if done is not None:
        poses = join(done, poses)
    metadata = {**poses.metadata, "path": str(task.source.path), "run_card": task.card}
    if task.source.is_video:
        return replace(poses, metadata=metadata)
    folder = task.targets["dlc-h5"].parent.resolve()
    images = tuple(_relative(task.source.images[i], folder) for i in poses.frames)
    return replace(poses, images=images, root=folder, frames=np.arange(len(poses)), metadata=metadata)


def _relative(image: Path, folder: Path) -> str:
    """An image's path from the folder of the results, so that both can be moved together."""
    try:
        return Path(os.path.relpath(image.resolve(), folder)).as_posix()
    except ValueError:  # another drive
        return image.resolve().as_posix()


def _fill(
    task: _Task, poses: Poses, predictor: Predictor, stats: dict[str, Any], failure: BaseException | None
) -> dict[str, Any]:
    """The run card of what was done."""
    whole = len(poses) == len(task.frames)
    card = dict(task.card)
    card |= {
        "status": run_card.COMPLETE if whole else run_card.CANCELLED,
        "device": str(predictor.device),
        "batch_size": predictor.batch_size,
        "frames": len(poses),
        "frames_asked": len(task.frames),
        "peak_rss_mb": peak_rss_mb(),
        "quality": run_card.quality(poses, predictor.card.threshold),
    }
    card |= {name: value for name, value in stats.items() if name != "frames"}
    card["frames_this_run"] = stats.get("frames", len(poses))
    if isinstance(failure, UserError):
        card["error"] = str(failure)
    return card


def _write(task: _Task, poses: Poses, card: dict[str, Any], options: PredictOptions) -> tuple[Path, ...]:
    """Write what was done, the run card last; nothing if nothing was done."""
    from napari_superanimal.poses.formats.registry import write

    if not len(poses):
        return ()
    replacing = options.overwrite or options.resume
    files: list[Path] = []
    try:
        for name, path in task.targets.items():
            if name != "annotated":
                files += write(poses, path, name, overwrite=replacing)
        if "annotated" in task.targets and card["status"] == run_card.COMPLETE:
            from napari_superanimal.jobs.annotate import annotate

            with contextlib.closing(open_source(task.source)) as video:
                annotate(video, poses, task.frames, task.targets["annotated"], card["thresholds"]["likelihood"])
            files.append(task.targets["annotated"])
        path = run_card.card_path(task.targets["dlc-h5"])
        card["files"] = [file.name for file in files]
        run_card.write_card(card, path)
    except UserError as error:
        if task.targets["dlc-h5"] in files:
            raise
        raise _rescued(poses, task, error) from error
    return (*files, path)


def _rescued(poses: Poses, task: _Task, error: UserError) -> UserError:
    """Hours of work are not lost to a full disk: put the poses where there is room, and say where."""
    from napari_superanimal.poses.formats.registry import write

    try:
        folder = Path(tempfile.mkdtemp(prefix="superanimal-rescued-"))
        (saved, *_) = write(poses, folder / task.targets["dlc-h5"].name, "dlc-h5")
    except (UserError, OSError):
        return error
    return UserError(
        error.problem, path=error.path, remedy=f"the predictions were saved as {saved} instead, move them"
    )
