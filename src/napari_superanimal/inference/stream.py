"""Frames in, chunks out: decoding, detector and pose network side by side on all cores."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import psutil
import torch

from napari_superanimal.inference.chunk import Chunk
from napari_superanimal.inference.cores import cores
from napari_superanimal.inference.runtime.buffers import keep_buffers
from napari_superanimal.inference.tracks import Tracker
from napari_superanimal.jobs.progress import CancelToken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_superanimal.inference.frame_predictor import Frame, FramePredictor, Predictions


#: Detections beyond the number of individuals that the tracker may choose from.
SPARE = 2


class FrameSource(Protocol):
    """What inference needs of a video; `video.open_video` gives one."""

    def __len__(self) -> int: ...

    def iter_frames(
        self, start: int = 0, stop: int | None = None, step: int = 1
    ) -> Iterator[tuple[int, Frame]]: ...


@dataclass
class StreamStats:
    """What a run took. CPU seconds are those of the threads that did the work.

    Attributes
    ----------
    decode_threads : int
        With 1, `decode_cpu_s` is all that decoding took; with more, the codec's own threads are not in it.
    """

    frames: int = 0
    seconds: float = 0.0
    decode_cpu_s: float = 0.0
    decode_threads: int = 1
    detector_cpu_s: float = 0.0
    pose_cpu_s: float = 0.0
    workers: int = 1
    peak_rss_mb: float = 0.0
    sample: list[Frame] = field(default_factory=list, repr=False)

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def core_fps(self) -> float | None:
        """What the cores would allow if every CPU second were useful work: cores / CPU seconds per frame.

        None where the CPU seconds of decoding are not known.
        """
        if self.decode_threads > 1:
            return None
        used = self.decode_cpu_s + self.detector_cpu_s + self.pose_cpu_s
        return cores() * self.frames / used if used else 0.0

    def to_json(self) -> dict[str, Any]:
        each = max(self.frames, 1) / 1000
        return {
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 2),
            "core_fps": None if self.core_fps is None else round(self.core_fps, 2),
            "cpu_ms_per_frame": {
                "decode": round(self.decode_cpu_s / each, 3),
                "detector": round(self.detector_cpu_s / each, 3),
                "pose": round(self.pose_cpu_s / each, 3),
            },
            "decode_threads": self.decode_threads,
            "workers": self.workers,
            "peak_rss_mb": round(self.peak_rss_mb, 1),
        }


class PredictionStream:
    """Iterate to get `Chunk`s in frame order; every step is a point where the caller may stop.

    On a CPU each worker thread runs whole chunks with one torch thread of its own: small networks use the cores
    far better side by side than split up inside, and no second thread team is left behind that would slow down a
    viewer in the same process.

    Parameters
    ----------
    video : FrameSource
    predictor : FramePredictor
    frames : range
        Frame numbers, ascending.
    token : CancelToken, optional
        Once set, the chunks under way are still given, then iteration ends.
    track : bool
        Keep individuals in their columns from frame to frame; else the best box comes first.
    tracks : (S,) float64, optional
        What an earlier stream's last chunk says of its tracks; individuals are followed on from there.
    """

    def __init__(
        self,
        video: FrameSource,
        predictor: FramePredictor,
        frames: range,
        *,
        token: CancelToken | None = None,
        track: bool = True,
        tracks: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self.video = video
        self.predictor = predictor
        self.frames = frames
        self.token = token or CancelToken()
        self.stats = StreamStats()
        several = track and predictor.max_individuals > 1
        self._tracker = Tracker(predictor.max_individuals, len(predictor.space)) if several else None
        if self._tracker is not None and tracks is not None and tracks.size:
            self._tracker.restore(tracks)
        self._spare = SPARE if several else 0
        self._failure: BaseException | None = None
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Chunk]:
        keep_buffers()
        workers = cores() if self.predictor.device.type == "cpu" else 1
        self.stats.workers = workers
        self.stats.decode_threads = int(getattr(self.video, "decode_threads", 1))
        self.predictor.shares.detector = self.predictor.shares.pose = 0.0
        self.predictor.spare = self._spare
        full: queue.Queue[list[tuple[int, Frame]] | None] = queue.Queue(maxsize=workers + 1)
        decoder = threading.Thread(target=self._decode, args=(full,), daemon=True, name="superanimal-decode")
        process = psutil.Process()
        started = time.perf_counter()
        decoder.start()
        waiting: deque[tuple[list[tuple[int, Frame]], Future[Predictions]]] = deque()
        initializer = (lambda: torch.set_num_threads(1)) if self.predictor.device.type == "cpu" else None
        pool = ThreadPoolExecutor(workers, "superanimal-predict", initializer)
        # second looks do not queue behind whole chunks, and leave no second thread team behind in this thread
        looking = ThreadPoolExecutor(1, "superanimal-look", initializer)
        try:
            ended = False
            while not ended or waiting:
                # what is under way is still given; what only waits for a worker is not worth the wait
                ended = ended or self.token.cancelled
                while not ended and len(waiting) <= workers:
                    part = full.get()
                    if part is None:
                        ended = True
                        break
                    waiting.append((part, pool.submit(self.predictor, [f for _, f in part])))
                    if not self.stats.sample:
                        self.stats.sample = [f for _, f in part]
                    del part
                if waiting:
                    part, future = waiting.popleft()
                    chunk = self._chunk(part, future.result(), looking)
                    self.stats.frames += len(part)
                    del part
                    self.stats.seconds = time.perf_counter() - started
                    self.stats.peak_rss_mb = max(self.stats.peak_rss_mb, process.memory_info().rss / 2**20)
                    self.stats.detector_cpu_s = self.predictor.shares.detector
                    self.stats.pose_cpu_s = self.predictor.shares.pose
                    yield chunk
            if self._failure is not None:
                raise self._failure
        finally:
            self._closed.set()
            looking.shutdown(wait=True, cancel_futures=True)
            pool.shutdown(wait=True, cancel_futures=True)
            self.predictor.spare = 0
            decoder.join(timeout=10)

    def _decode(self, full: queue.Queue[list[tuple[int, Frame]] | None]) -> None:
        """Read frames into chunks, in a thread of its own; the queue is bounded, so memory is too."""
        part: list[tuple[int, Frame]] = []
        last = time.thread_time()
        try:
            for number, frame in self.video.iter_frames(
                self.frames.start, self.frames.stop, self.frames.step
            ):
                part.append((number, frame))
                if len(part) == self.predictor.chunk_frames:
                    now = time.thread_time()
                    self.stats.decode_cpu_s += now - last
                    last = now
                    if not self._put(full, part):
                        return
                    part = []
                    last = time.thread_time()
            self.stats.decode_cpu_s += time.thread_time() - last
        except BaseException as error:
            self._failure = error
        if part:
            self._put(full, part)
        self._put(full, None)

    def _put(
        self, full: queue.Queue[list[tuple[int, Frame]] | None], part: list[tuple[int, Frame]] | None
    ) -> bool:
        """Hand over a chunk; False once nobody wants it any more."""
        while not self._closed.is_set():
            if self.token.cancelled and part is not None:
                part = None
            try:
                full.put(part, timeout=0.2)
            except queue.Full:
                continue
            return part is not None
        return False

    def _look(self, frame: Frame, boxes: npt.NDArray[np.float64]) -> tuple[npt.NDArray, npt.NDArray]:
        started = time.thread_time()
        poses = self.predictor.pose([frame] * len(boxes), boxes)
        self.predictor.shares.pose += time.thread_time() - started
        return poses

    def _chunk(self, part: list[tuple[int, Frame]], found: Predictions, looking: ThreadPoolExecutor) -> Chunk:
        numbers = np.array([i for i, _ in part], np.int64)
        fields = found.xy, found.likelihood, found.boxes, found.box_scores
        if self._tracker is None:
            return Chunk(numbers, *fields, np.zeros_like(found.box_scores))
        individuals = self.predictor.max_individuals
        xy, sure, boxes, scores = (np.full_like(each[:, :individuals], np.nan) for each in fields)
        risk = np.zeros_like(scores)
        for n, (_, frame) in enumerate(part):

            def look(where: npt.NDArray[np.float64], frame: Frame = frame) -> tuple[npt.NDArray, npt.NDArray]:
                return looking.submit(self._look, frame, where).result()

            step = self._tracker.assign(
                found.boxes[n], found.box_scores[n], found.xy[n], found.likelihood[n], look
            )
            column = step.columns
            xy[n, column], sure[n, column] = step.xy, step.likelihood
            boxes[n, column], scores[n, column] = step.boxes, step.scores
            risk[n] = step.swap_risk
        return Chunk(numbers, xy, sure, boxes, scores, risk, self._tracker.state())


def forward_fps(predictor: FramePredictor, frames: list[Frame], workers: int, repeats: int = 6) -> float:
    """Frames per second of the bare networks: the same batches, prepared beforehand, on all workers at once."""
    run = predictor.bare(frames)
    with ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1)) as pool:
        list(pool.map(lambda _: run(), range(workers)))
        started = time.perf_counter()
        list(pool.map(lambda _: run(), range(workers * repeats)))
        seconds = time.perf_counter() - started
    return len(frames) * workers * repeats / seconds
