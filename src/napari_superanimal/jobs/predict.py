"""Predicting on files: frames in, one file of poses and one run card per video out."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from napari_superanimal.errors import UserError
from napari_superanimal.inference.frame_predictor import WHOLE_FRAME
from napari_superanimal.jobs import run_card
from napari_superanimal.jobs.chunks import ChunkFile, Header, NotKept, chunks_path
from napari_superanimal.jobs.engine_choice import ENGINE, settle_engine
from napari_superanimal.jobs.environment import peak_rss_mb
from napari_superanimal.jobs.inputs import Source, gather, refuse_doubles
from napari_superanimal.jobs.predict_plan import (
    BrokenInput,
    PredictOptions,
    Task,
    open_source,
    prepare,
    ready_networks,
)
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Meter, ProgressCallback
from napari_superanimal.jobs.results import Results, write_results
from napari_superanimal.jobs.scale_choice import SCALES, check_fits, settle_scales

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    from napari_superanimal.inference.chunk import Chunk
    from napari_superanimal.inference.frame_predictor import FramePredictor
    from napari_superanimal.inference.stream import StreamStats
    from napari_superanimal.models.zoo import ModelRef


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


def predict_files(
    paths: Iterable[Path],
    options: PredictOptions,
    *,
    on_progress: ProgressCallback | None = None,
    on_result: Callable[[PredictResult], None] | None = None,
    on_failure: Callable[[Source, UserError], None] | None = None,
    token: CancelToken | None = None,
) -> list[PredictResult]:
    """Predict poses on videos, folders of images and images.

    Everything that can be wrong is looked at first: inputs, model, output folders, existing files, free
    disk. Then each source is streamed: its predictions go to ``<stem>_<scorer>.chunks`` as they come, from which
    `options.resume` goes on whatever happened, and its ``<stem>_<scorer>.h5`` and ``.run.json`` are written as soon
    as it ends. A cancelled run writes the frames it has, with the status "cancelled".

    Parameters
    ----------
    paths : iterable of Path
    options : PredictOptions
    on_progress : callable, optional
        Gets a `Progress` in frames of the current source.
    on_result : callable, optional
        Called as soon as a source is finished.
    on_failure : callable, optional
        Called with a source that cannot be read; the others go on.
    token : CancelToken, optional

    Returns
    -------
    list of PredictResult
        One per source that was begun; after cancelling, the last may be incomplete.

    Raises
    ------
    UserError
        If something is wrong with the inputs, the model or the outputs. Sources that cannot be read are told at the
        end, when the others are done.
    """
    token = token or CancelToken()
    sources = gather(paths)
    model, detector = ready_networks(options, on_progress, token)
    check_fits(options, detector == WHOLE_FRAME)
    failures: list[UserError] = []

    def fail(source: Source, error: UserError) -> None:
        # one bad video must not cost the night's other ones
        failures.append(error)
        if on_failure is not None:
            on_failure(source, error)

    tasks = []
    for source in sources:
        try:
            tasks.append(prepare(source, model, detector, options))
        except BrokenInput as error:
            fail(source, error)
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
        try:
            finish(_run(task, predictor, options, on_progress, token))
        except BrokenInput as error:
            fail(task.source, error)
    if len(failures) > 1:
        raise BrokenInput(
            f"{len(failures)} of {len(sources)} inputs could not be read to their end",
            remedy=str(failures[0]),
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
        runtime="torch" if options.reference else options.runtime,
        detect_every=options.detect_every,
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
    from napari_superanimal.inference.stream import PredictionStream, forward_fps

    started, clock = datetime.now(UTC), time.perf_counter()
    path = chunks_path(task.targets["dlc-h5"])
    if not options.resume:
        path.unlink(missing_ok=True)
    choice = settle_engine(predictor, task, options, path, on_progress)
    predictor, scales = settle_scales(predictor, task, options, path, on_progress)
    work = {**run_card.identity(task.card), ENGINE: asdict(choice.engine), SCALES: scales}
    chunks = ChunkFile(path, Header(work, predictor.space.keypoints, predictor.individuals))
    with chunks:
        frames, before, earlier = task.frames[chunks.frames :], chunks.frames, chunks.seconds
        meter = Meter(len(task.frames), before)
        failure: BaseException | None = None
        with contextlib.closing(open_source(task.source)) as video:
            track = options.track and not options.reference
            stream = PredictionStream(
                video, predictor, frames, token=token, track=track, tracks=chunks.tracks
            )
            pieces = cast("Generator[Chunk]", iter(stream))
            try:
                with contextlib.closing(pieces):
                    for piece in pieces:
                        ends = chunks.frames + len(piece.frames) == len(task.frames)
                        full = ends or len(piece.frames) == predictor.chunk_frames
                        chunks.add(piece, earlier + stream.stats.seconds, full=full)
                        if on_progress is not None:
                            on_progress(meter.at(chunks.frames, task.source.path.name))
            except NotKept:
                raise
            except (Exception, KeyboardInterrupt) as error:
                # whatever stopped it: what came before is worth keeping
                failure = error
        results = Results(task, chunks, predictor)
        card = _fill(results, stream.stats, failure)
        card["runtime"], card["precision"] = choice.engine.runtime, choice.engine.precision
        card[SCALES] = scales
        card["self_test"] = choice.to_json() if choice.trials else None
        card["seconds"] = round(earlier + stream.stats.seconds, 3)
        card["fps"] = round(card["frames"] / max(card["seconds"], 1e-3), 2)
        card["started"] = started.isoformat(timespec="seconds")
        if options.measure_forward and stream.stats.sample and failure is None and not token.cancelled:
            speed = forward_fps(predictor, stream.stats.sample, stream.stats.workers)
            card["forward_fps"] = round(speed, 2)
        files = write_results(results, card, options, on_progress, token)
        done = len(results)
        if card["status"] == run_card.COMPLETE or options.reference:
            chunks.delete()
    card["total_seconds"] = round(time.perf_counter() - clock, 3)
    if isinstance(failure, KeyboardInterrupt | Cancelled):
        token.cancel()
    elif isinstance(failure, UserError):
        kept = f"; the {done} frames before it were saved" if files else ""
        raise BrokenInput(
            failure.problem + kept,
            path=failure.path or task.source.path,
            remedy=failure.remedy or "repair or re-encode the video",
        ) from failure
    elif failure is not None:
        raise failure
    return PredictResult(task.source, task.targets["dlc-h5"], files, card)


def _fill(results: Results, stats: StreamStats, failure: BaseException | None) -> dict[str, Any]:
    """The run card of what was done."""
    task, predictor = results.task, results.predictor
    decode_fps = stats.frames / stats.decode_cpu_s if stats.decode_cpu_s else None
    card = {
        **task.card,
        "device": str(predictor.device),
        "batch_size": predictor.batch_size,
        "flip": predictor.flip,
        "detect_every": task.card["options"]["detect_every"],
        **stats.to_json(),
        "decode_fps": None if decode_fps is None else round(decode_fps, 2),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "status": run_card.COMPLETE if len(results) == len(task.frames) else run_card.CANCELLED,
        "frames": len(results),
        "frames_asked": len(task.frames),
        "frames_this_run": stats.frames,
        **results.summary(),
    }
    if failure is not None and not isinstance(failure, KeyboardInterrupt | Cancelled):
        card["error"] = str(failure)
    return card
