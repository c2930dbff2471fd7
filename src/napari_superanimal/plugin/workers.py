"""The one place with threads and processes.

Prediction runs in a thread, because its results are arrays that the viewer shows at once. Training runs in
a process of its own: it may take hours or run out of memory without taking napari along.

A worker thread never touches a layer or a widget; it hands over plain data, and Qt delivers them to
functions of the GUI thread.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

import psutil
from napari.qt.threading import thread_worker
from qtpy.QtCore import QObject, QProcess, Signal

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Meter, Progress
from napari_superanimal.plugin.requests import Run
from napari_superanimal.plugin.safe_import import import_torch
from napari_superanimal.plugin.training_data import write_training_set

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from napari_superanimal.models.zoo import ModelRef
    from napari_superanimal.plugin.image_source import ArrayVideo
    from napari_superanimal.plugin.requests import PredictRequest
    from napari_superanimal.poses import Poses
    from napari_superanimal.video import Video

log = logging.getLogger(__name__)

#: New points are shown after this many seconds at first...
SHOW_EVERY_S = 1.0
#: ... and then after this share of the time that has passed, because longer tables take longer to put together.
SHOW_GROWTH = 0.25
#: The progress bar moves after this many seconds. Every movement draws the whole window anew, which costs the
#: networks up to a tenth of their speed where OpenGL is software.
TELL_EVERY_S = 1.0


@dataclass(frozen=True)
class PredictUpdate:
    """What a prediction has to tell.

    Attributes
    ----------
    progress : Progress
    poses : Poses or None
        All frames that are done, now and then.
    """

    progress: Progress
    poses: Poses | None = None


@dataclass(frozen=True)
class Failed:
    """A job ended with an error; `message` is one line for a person."""

    message: str


@dataclass(frozen=True)
class Finished:
    """A job ended; `cancelled` before everything was done.

    Attributes
    ----------
    done : int
        Frames that were predicted.
    seconds : float
        From the click to the end.
    fps : float
        Frames per second once the model was loaded.
    """

    done: int
    seconds: float
    fps: float
    cancelled: bool


def explain(error: Exception, what: str) -> str:
    """One line for the user; a bug's traceback goes to the log only."""
    if isinstance(error, UserError):
        return str(error)
    log.error("%s failed", what, exc_info=error)
    line = " ".join(str(error).split())[:200]
    if "out of memory" in line.lower():
        return f"{what} failed: out of memory; close other programs or choose fewer individuals"
    return f"{what} failed: {type(error).__name__}: {line}"


@thread_worker
def predict_worker(
    request: PredictRequest, token: CancelToken
) -> Iterator[PredictUpdate | Failed | Finished]:
    """Predict in the background; every yield is a cancel point.

    Errors are handed over as `Failed`: the thread pool takes a RuntimeError, which is what torch raises,
    for a deleted worker and says nothing.
    """
    started = time.monotonic()
    try:
        yield PredictUpdate(Progress(0, 0, message="Loading the model…"))
        import_torch()
        done, fps = yield from _predict(request, token)
    except Cancelled:
        yield Finished(0, time.monotonic() - started, 0.0, True)
    except Exception as error:
        yield Failed(explain(error, "Prediction"))
    else:
        yield Finished(done, time.monotonic() - started, fps, token.cancelled)
    finally:
        request.video.close()


def _here(model: ModelRef, token: CancelToken) -> Generator[PredictUpdate, None, ModelRef]:
    """A model with its weights; SuperAnimal's own are downloaded at their first use, which is told about."""
    from napari_superanimal.jobs.fetch import ensure_here

    if model.here:
        return model
    latest = deque([Progress(0, 0, message=f"Downloading {model.card.name}…")], maxlen=1)
    with ThreadPoolExecutor(1, "superanimal-fetch") as pool:
        future = pool.submit(ensure_here, model, on_progress=latest.append, token=token)
        try:
            while not wait([future], timeout=TELL_EVERY_S).done:
                yield PredictUpdate(latest[-1])
        finally:
            if not future.done():
                token.cancel()
        return future.result()


def _predict(
    request: PredictRequest, token: CancelToken
) -> Generator[PredictUpdate, None, tuple[int, float]]:
    from napari_superanimal.inference.build import build_predictor
    from napari_superanimal.inference.collect import Collector
    from napari_superanimal.inference.keyframes import AUTO
    from napari_superanimal.inference.runtime.buffers import give_back
    from napari_superanimal.inference.runtime.self_test import FRAMES, WORTH_IT, choose_engine
    from napari_superanimal.inference.stream import PredictionStream
    from napari_superanimal.jobs.scale_choice import apply_scales
    from napari_superanimal.models.zoo import detector_of, find_model

    model = yield from _here(find_model(request.model), token)
    detector: ModelRef | str = request.detector
    if detector == "model" and (other := detector_of(model)) is not None:
        detector = yield from _here(other, token)
    every = AUTO if request.detect_every == "auto" else request.detect_every
    predictor = build_predictor(
        model, detector=detector, max_individuals=request.max_individuals, detect_every=every
    )
    if model.official and len(request.frames) >= WORTH_IT:
        yield PredictUpdate(Progress(0, 0, message="Trying how the model runs fastest here…"))
        first = request.frames[:FRAMES]
        shots = [frame for _, frame in request.video.iter_frames(first.start, first.stop, first.step)]
        switchable: Any = predictor
        log.info("%s runs by %s", model.card.name, choose_engine(switchable, shots))
    if request.scales != "single":
        yield PredictUpdate(Progress(0, 0, message="Looking how large the animals are…"))
    predictor, _ = apply_scales(predictor, request.scales, request.video, request.frames)
    collector = Collector(predictor, request.frames)
    meter = Meter(len(request.frames))
    began = shown = told = time.monotonic()
    shown_frames = 0
    stream = PredictionStream(request.video, predictor, request.frames, token=token)
    failure: Exception | None = None
    try:
        for chunk in stream:
            collector.add(chunk)
            now = time.monotonic()
            if now - shown >= max(SHOW_EVERY_S, SHOW_GROWTH * (now - began)):
                shown, told, shown_frames = now, now, collector.done
                yield PredictUpdate(meter.at(collector.done), collector.poses())
            elif now - told >= TELL_EVERY_S:
                told = now
                yield PredictUpdate(meter.at(collector.done))
    except Exception as error:
        failure = error
    finally:
        give_back()
    if collector.done > shown_frames:
        # also before a failure is told: what was done is kept
        yield PredictUpdate(meter.at(collector.done), collector.poses())
    if failure is not None:
        raise failure
    return collector.done, stream.stats.fps


@thread_worker
def write_labels_worker(
    labels: Poses, video: Video | ArrayVideo | None, folder: Path, token: CancelToken
) -> Iterator[Progress | Failed]:
    """Write a training set in the background; see `training_data.write_training_set`."""
    try:
        for progress in write_training_set(labels, video, folder):
            yield progress
            if token.cancelled:
                return
    except Exception as error:
        yield Failed(explain(error, "Writing the labels"))
    finally:
        if video is not None:
            video.close()


class TrainingProcess(QObject, Generic[Run]):
    """A fine-tuning or adaptation in a process of its own, told about by its own lines of JSON.

    Signals are emitted in the GUI thread. Exactly one of `finished`, `cancelled` and `failed` is the last.
    """

    progressed = Signal(object)
    finished = Signal()
    cancelled = Signal()
    failed = Signal(str)

    def __init__(self, request: Run, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.request = request
        self._pending = b""
        self._complaints: deque[str] = deque(maxlen=20)
        self._ended = False
        self._process = QProcess(self)
        self._process.readyReadStandardOutput.connect(self._read)
        self._process.readyReadStandardError.connect(self._complain)
        self._process.errorOccurred.connect(self._could_not_run)
        self._process.finished.connect(self._end)

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process.state() != QProcess.ProcessState.NotRunning

    @property
    def pid(self) -> int:
        """Process id, 0 when it does not run."""
        return int(self._process.processId())

    def start(self, *, resume: bool = False) -> None:
        """Start training, or go on from the last checkpoint.

        Raises
        ------
        UserError
            If the run's folder cannot be written.
        """
        self.request.save()
        self.request.stop_file.unlink(missing_ok=True)
        arguments = ["-m", "napari_superanimal.cli", *self.request.arguments(resume=resume)]
        self._process.start(sys.executable, arguments)
        if self._process.waitForStarted(5000):
            make_way(self.pid)

    def stop(self) -> None:
        """Ask the training to save a checkpoint and end; returns at once."""
        if self.running:
            self.request.stop_file.touch()

    def _read(self) -> None:
        self._pending += bytes(self._process.readAllStandardOutput().data())
        *lines, self._pending = self._pending.split(b"\n")
        for line in lines:
            progress = parse_progress(line)
            if progress is not None:
                self.progressed.emit(progress)

    def _complain(self) -> None:
        text = bytes(self._process.readAllStandardError().data()).decode("utf-8", "replace")
        self._complaints.extend(line for line in text.splitlines() if line.strip())
        with open(self.request.log_file, "a", encoding="utf-8") as target:
            target.write(text)

    def _could_not_run(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart and not self._ended:
            self._ended = True
            self.failed.emit(f"Training could not be started: {self._process.errorString()}")

    def _end(self, code: int, status: QProcess.ExitStatus) -> None:
        if self._ended:
            return
        self._ended = True
        self._read()
        self._complain()
        stopped = self.request.stop_file.exists()
        self.request.stop_file.unlink(missing_ok=True)
        if status == QProcess.ExitStatus.NormalExit and code == 0:
            self.finished.emit()
        elif code == 130 or stopped:
            self.cancelled.emit()
        else:
            self.failed.emit(last_words(list(self._complaints), code, self.request.log_file))


def parse_progress(line: bytes) -> Progress | None:
    """A line of the training as `Progress`; None for anything else it may print."""
    try:
        data = json.loads(line)
        return Progress(
            done=int(data["done"]),
            total=int(data["total"]),
            rate=float(data.get("rate") or 0.0),
            eta_s=float("nan") if data.get("eta_s") is None else float(data["eta_s"]),
            message=str(data.get("message") or ""),
            values=dict(data.get("values") or {}),
        )
    except (ValueError, KeyError, TypeError):
        return None


def last_words(lines: list[str], code: int, log_file: Path) -> str:
    """Why a process ended, in one line: its own `error:` line if it wrote one."""
    for line in reversed(lines):
        if line.startswith("error:"):
            return line.removeprefix("error:").strip()
    reason = lines[-1].strip() if lines else f"it ended with code {code}"
    return f"Training failed: {reason}; the log is {log_file}"


def make_way(pid: int) -> None:
    """Let the user's own programs go first."""
    try:
        process = psutil.Process(pid)
        if sys.platform == "win32":
            process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            process.nice(min(process.nice() + 10, 19))
    except psutil.Error:
        log.debug("could not lower the training's priority", exc_info=True)
