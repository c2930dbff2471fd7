"""Predicting on files: frames in, one file of poses and one run card per video out."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.jobs import run_card
from napari_superanimal.jobs.environment import peak_rss_mb
from napari_superanimal.jobs.fetch import ensure_here, refuse_detector_as_model
from napari_superanimal.jobs.frames import ImageFrames
from napari_superanimal.jobs.inputs import Source, gather, refuse_doubles
from napari_superanimal.jobs.plain_json import write_json
from napari_superanimal.jobs.predict_plan import (
    PredictOptions,
    Task,
    find_detector,
    open_source,
    prepare,
)
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Meter, ProgressCallback
from napari_superanimal.jobs.reference import PAD, shorten, write_boxes
from napari_superanimal.jobs.resume import join, read_done
from napari_superanimal.models.zoo import ModelRef, find_model

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from napari_superanimal.inference.frame_predictor import FramePredictor
    from napari_superanimal.inference.stream import Chunk, StreamStats
    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.poses import Poses


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


class BrokenInput(UserError):
    """A source that could not be read to its end; other sources are not concerned."""


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
    sources = gather(paths)
    if options.reference and options.resume:
        raise UserError("a reference run cannot be resumed", remedy="leave --resume or --reference out")
    model = find_model(options.model)
    refuse_detector_as_model(model)
    model = ensure_here(model, on_progress=on_progress, token=token)
    detector = find_detector(options.detector, model)
    if isinstance(detector, ModelRef):
        detector = ensure_here(detector, on_progress=on_progress, token=token)
    tasks = [prepare(source, model, detector, options) for source in sources]
    refuse_doubles([(task.source.path.name, task.targets["dlc-h5"]) for task in tasks])
    results: list[PredictResult] = []

    def finish(result: PredictResult) -> None:
        results.append(result)
        if on_result is not None:
            on_result(result)

    predictor = None
    failures: list[UserError] = []
    for task in tasks:
        if task.done:
            card = run_card.read_card(run_card.card_path(task.targets["dlc-h5"]))
            finish(PredictResult(task.source, task.targets["dlc-h5"], (), card))
            continue
        if token.cancelled:
            break
        if predictor is None:
            predictor = _load(model, detector, options)
        try:
            finish(_run(task, predictor, options, on_progress, token))
        except BrokenInput as error:
            # one bad video must not cost the night's other ones
            failures.append(error)
    if len(failures) > 1:
        raise UserError(
            f"{len(failures)} of {len(tasks)} inputs could not be read to their end", remedy=str(failures[0])
        )
    if failures:
        raise failures[0]
    return results


def _load(model: ModelRef, detector: ModelRef | str, options: PredictOptions) -> FramePredictor:
    import torch

    from napari_superanimal.inference.build import build_predictor

    torch.manual_seed(options.seed)
    return build_predictor(
        model,
        detector=detector,
        max_individuals=options.max_individuals,
        device=options.device,
        precision="fp32" if options.reference else options.precision,
        batch_size=options.batch_size,
        flip=options.flip,
        reference=options.reference,
    )


def _run(
    task: Task,
    predictor: FramePredictor,
    options: PredictOptions,
    on_progress: ProgressCallback | None,
    token: CancelToken,
) -> PredictResult:
    """Stream one source and write what came of it, whole or not."""
    from napari_superanimal.inference.collect import Collector
    from napari_superanimal.inference.stream import forward_fps, predict_stream

    started, clock = datetime.now(UTC), time.perf_counter()
    frames, done = task.frames, None
    individuals = predictor.individuals
    if task.earlier is not None:
        done = _as_frames(read_done(task.earlier, predictor.space.keypoints, individuals), task)
        # with several animals the last finished frame is predicted again, to carry their identities over
        again = 1 if options.max_individuals > 1 and len(done) else 0
        frames = frames[len(done) - again :]
    collector = Collector(predictor, frames)
    meter = Meter(len(task.frames))
    before = 0 if done is None else len(done)
    failure: BaseException | None = None
    with contextlib.closing(open_source(task.source)) as video:
        track = options.track and not options.reference
        stream = predict_stream(video, predictor, frames, token=token, track=track)
        chunks = cast("Generator[Chunk]", iter(stream))
        try:
            with contextlib.closing(chunks):
                for chunk in chunks:
                    collector.add(chunk)
                    if on_progress is not None:
                        finished = min(before + collector.done, len(task.frames))
                        on_progress(meter.at(finished, task.source.path.name))
        except (Exception, KeyboardInterrupt) as error:
            # whatever stopped it: what came before is worth keeping
            failure = error
    poses = _complete(task, collector.poses(), done)
    card = _fill(task, poses, predictor, stream.stats, failure)
    if task.earlier is not None:
        earlier = run_card.read_card(run_card.card_path(task.earlier))
        card["seconds"] = round(card["seconds"] + float(earlier.get("seconds") or 0), 3)
        card["fps"] = round(card["frames"] / max(card["seconds"], 1e-3), 2)
    card["started"] = started.isoformat(timespec="seconds")
    if options.measure_forward and stream.stats.sample and failure is None and not token.cancelled:
        speed = forward_fps(predictor, stream.stats.sample, stream.stats.workers)
        card["forward_fps"] = round(speed, 2)
    files = _write(task, poses, card, predictor.space, options)
    card["total_seconds"] = round(time.perf_counter() - clock, 3)
    if isinstance(failure, KeyboardInterrupt | Cancelled):
        token.cancel()
    elif isinstance(failure, UserError):
        kept = f"; the {len(poses)} frames before it were saved" if files else ""
        raise BrokenInput(
            failure.problem + kept,
            path=failure.path or task.source.path,
            remedy=failure.remedy or "repair or re-encode the video",
        ) from failure
    elif failure is not None:
        raise failure
    return PredictResult(task.source, task.targets["dlc-h5"], files, card)


def _as_frames(poses: Poses, task: Task) -> Poses:
    """Rows of a file of ours, told by frame number also where they are images."""
    if task.source.is_video:
        return poses
    names = [image.name for image in task.source.images]
    try:
        frames = [names.index(Path(image).name) for image in poses.images]
    except ValueError as error:
        raise UserError(
            "holds images that are not among the inputs",
            path=task.earlier,
            remedy="start anew with --overwrite",
        ) from error
    return replace(poses, frames=np.array(frames, np.int64), images=(), root=None)


def _complete(task: Task, poses: Poses, done: Poses | None) -> Poses:
    """All finished rows of a source with what belongs to them."""
    if done is not None:
        poses = join(done, poses)
    metadata = {
        **poses.metadata,
        "path": str(task.source.path),
        "threshold": task.card["thresholds"]["likelihood"],
    }
    poses = replace(poses, scorer=task.card["scorer"], metadata=metadata)
    if task.source.is_video:
        return poses
    folder = task.targets["dlc-h5"].parent.resolve()
    images = tuple(_relative(task.source.images[i], folder) for i in poses.frames)
    return replace(poses, images=images, root=folder, frames=np.arange(len(poses)))


def _relative(image: Path, folder: Path) -> str:
    """An image's path from the folder of the results, so that both can be moved together."""
    try:
        return Path(os.path.relpath(image.resolve(), folder)).as_posix()
    except ValueError:  # another drive
        return image.resolve().as_posix()


def _fill(
    task: Task, poses: Poses, predictor: FramePredictor, stats: StreamStats, failure: BaseException | None
) -> dict[str, Any]:
    """The run card of what was done."""
    decode_fps = stats.frames / stats.decode_cpu_s if stats.decode_cpu_s else None
    card = {
        **task.card,
        "device": str(predictor.device),
        "batch_size": predictor.batch_size,
        "flip": predictor.flip,
        **stats.to_json(),
        "decode_fps": None if decode_fps is None else round(decode_fps, 2),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "status": run_card.COMPLETE if len(poses) == len(task.frames) else run_card.CANCELLED,
        "frames": len(poses),
        "frames_asked": len(task.frames),
        "frames_this_run": stats.frames,
        "quality": run_card.quality(poses, predictor.card.threshold),
    }
    if failure is not None and not isinstance(failure, KeyboardInterrupt | Cancelled):
        card["error"] = str(failure)
    return card


def _write(
    task: Task, poses: Poses, card: dict[str, Any], space: KeypointSpace, options: PredictOptions
) -> tuple[Path, ...]:
    """Write what was done, the run card last; nothing if nothing was done."""
    from napari_superanimal.poses.formats.registry import write

    if not len(poses):
        return ()
    replacing = options.overwrite or options.resume
    files: list[Path] = []
    if options.reference:
        poses = shorten(poses)
        card["frames_written"] = len(poses)
    try:
        for name, path in task.targets.items():
            if name == "reference":
                files.append(write_boxes(poses, task.targets["dlc-h5"]))
            elif name != "annotated":
                padding = {"missing": PAD} if options.reference and name.startswith("dlc-") else {}
                files += write(poses, path, name, overwrite=replacing, **padding)
        if "annotated" in task.targets and card["status"] == run_card.COMPLETE:
            files.append(_annotate(task, poses, space, card["thresholds"]["likelihood"]))
        path = run_card.card_path(task.targets["dlc-h5"])
        card["files"] = [file.name for file in files]
        write_json(path, card)
    except UserError as error:
        if task.targets["dlc-h5"] in files:
            raise
        raise _rescued(poses, task, error) from error
    return (*files, path)


def _annotate(task: Task, poses: Poses, space: KeypointSpace, threshold: float) -> Path:
    """The video with the poses drawn in; for images, a folder of pictures."""
    from napari_superanimal.jobs.annotate import annotate_images, annotate_video

    path = task.targets["annotated"]
    with contextlib.closing(open_source(task.source)) as frames:
        if isinstance(frames, ImageFrames):
            names = [task.source.images[i].stem for i in task.frames]
            return annotate_images(frames, poses, task.frames, space, path, names=names, threshold=threshold)
        return annotate_video(frames, poses, task.frames, space, path, threshold=threshold)


def _rescued(poses: Poses, task: Task, error: UserError) -> UserError:
    """Hours of work are not lost to a full disk: put the poses where there is room, and say where."""
    from napari_superanimal.poses.formats.registry import write

    folder = Path(tempfile.gettempdir())
    try:
        folder = Path(tempfile.mkdtemp(prefix="superanimal-rescued-"))
        (saved, *_) = write(poses, folder / task.targets["dlc-h5"].name, "dlc-h5")
    except (UserError, OSError):
        with contextlib.suppress(OSError):
            folder.rmdir()  # never removes anything but an empty folder
        return error
    return UserError(
        error.problem, path=error.path, remedy=f"the predictions were saved as {saved} instead, move them"
    )
