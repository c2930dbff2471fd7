"""Will it work on my video? Models tried on a few frames, and what their predictions look like."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.check_advice import Advice, advise, expected_right, rank, sizes_doubtful
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Meter, ProgressCallback
from napari_superanimal.models.zoo import ModelRef, find_model, list_models

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari_superanimal.inference.frame_predictor import Frame, FramePredictor
    from napari_superanimal.inference.stream import FrameSource
    from napari_superanimal.poses import Poses

#: Frames spread over the video, and short runs of frames that follow each other.
SPREAD, BURSTS, BURST = 8, 4, 4
#: Animals looked for, whatever there are: more are counted as this many.
MOST = 5
#: Frames looked at in several scales, and the time for it, where the animal's size seems to be wrong.
SURVEYED, SURVEY_S = 5, 8.0
#: Frames decoded one after the other to learn how fast that is.
DECODED = 30


@dataclass(frozen=True)
class ModelCheck:
    """One model on the sampled frames.

    Attributes
    ----------
    model : str
        Its name; `title` is for people.
    figures : dict
        What was measured; see `measure`.
    advice : tuple of Advice
        Findings with one next step each, the most important first.
    expected_right : float
        Share of the model's keypoints that should be found within a tenth of the animal's size, by the card's
        calibration and the share of frames with an animal.
    calibrated : bool
        False where the model's likelihood is raw confidence, which promises too much.
    """

    model: str
    title: str
    figures: dict[str, Any]
    advice: tuple[Advice, ...]
    expected_right: float
    calibrated: bool
    poses: Poses | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "title": self.title,
            "expected_right": self.expected_right,
            "calibrated": self.calibrated,
            "figures": self.figures,
            "advice": [a.to_json() for a in self.advice],
        }


@dataclass(frozen=True)
class CheckReport:
    """All models that were tried, the most promising first.

    Attributes
    ----------
    sampled : tuple of int
        Frames looked at.
    seconds : float
        What the check itself took.
    """

    video: str
    n_frames: int
    fps: float | None
    size: tuple[int, int]
    sampled: tuple[int, ...]
    models: tuple[ModelCheck, ...]
    seconds: float

    @property
    def best(self) -> ModelCheck:
        return self.models[0]

    def to_json(self) -> dict[str, Any]:
        return {
            "video": self.video,
            "input_frames": self.n_frames,
            "input_fps": self.fps,
            "input_size": list(self.size),
            "sampled_frames": list(self.sampled),
            "models": [m.to_json() for m in self.models],
            "best": self.best.model,
            "seconds": round(self.seconds, 2),
        }


def installed(names: Sequence[str] = ()) -> list[ModelRef]:
    """The models to try: those named, else all that are on this computer.

    Raises
    ------
    UserError
        If a name is unknown, its weights are not here, or there is no model at all.
    """
    refs = [find_model(name) for name in names] or [ref for ref in list_models() if ref.here]
    for ref in refs:
        if not ref.here:
            raise UserError(
                f"the weights of {ref.card.name} are not on this computer",
                remedy=f"fetch them with `superanimal models fetch {ref.card.name}`",
            )
    if not refs:
        raise UserError("no model is installed", remedy="import one with `superanimal models import`")
    return refs


def check_file(
    path: Path,
    models: Sequence[str] = (),
    *,
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> CheckReport:
    """`check_video` on a file or a folder of images.

    Raises
    ------
    UserError
        If the video or a model cannot be read.
    """
    from napari_superanimal.video import open_video

    refs = installed(models)
    with contextlib.closing(open_video(path)) as video:
        return check_video(
            video,
            refs,
            name=str(path),
            fps=float(video.fps),
            device=device,
            on_progress=on_progress,
            token=token,
        )


def check_video(
    video: Any,
    models: Sequence[ModelRef],
    *,
    name: str = "",
    fps: float | None = None,
    device: str = "auto",
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> CheckReport:
    """Try models on a few frames of a video.

    Parameters
    ----------
    video : Video or alike
        Has a length, ``frame(i)`` and ``iter_frames``.
    models : sequence of ModelRef
    fps : float, optional
        Of the video.

    Raises
    ------
    UserError
        If frames cannot be read, or no model works; one of several that does not is left out with a note.
    Cancelled
        If the token was set.
    """
    began = time.perf_counter()
    numbers = sample(len(video))
    meter = Meter(len(numbers) * (1 + len(models)))
    done = 0

    def report(more: int, message: str) -> None:
        nonlocal done
        done += more
        if on_progress is not None:
            on_progress(meter.at(done, message))
        if token is not None and token.cancelled:
            raise Cancelled("stopped")

    frames: list[Frame] = []
    for number in numbers:
        frames.append(video.frame(int(number)))
        report(1, "reading frames")
    decode_fps = _decode_speed(video)
    checks: list[ModelCheck] = []
    failed: list[UserError] = []
    for ref in models:
        report(0, f"trying {ref.card.name}")
        try:
            checks.append(_try(ref, frames, numbers, len(video), decode_fps, device, report))
        except UserError as error:
            failed.append(error)
    if not checks:
        raise failed[0]
    ranked = rank([(c.expected_right, c) for c in checks])
    cards = {ref.card.name: ref.card for ref in models}
    advised = []
    for i, c in enumerate(ranked):
        above = [(other.model, other.expected_right) for other in ranked[:i]]
        advised.append(replace(c, advice=tuple(advise(cards[c.model], c.figures, c.expected_right, above))))
    height, width = frames[0].shape[:2]
    return CheckReport(
        video=name,
        n_frames=len(video),
        fps=fps,
        size=(width, height),
        sampled=tuple(int(n) for n in numbers),
        models=tuple(advised),
        seconds=time.perf_counter() - began,
    )


def sample(total: int) -> npt.NDArray[np.int64]:
    """Frame numbers to look at: some spread evenly, and bursts of neighbours in between; all of a short video."""
    if total <= SPREAD + BURSTS * BURST:
        return np.arange(total)
    spread = np.linspace(0, total - 1, SPREAD).round()
    starts = np.linspace(0.1, 0.9, BURSTS) * (total - BURST)
    bursts = starts.round()[:, None] + np.arange(BURST)
    return np.unique(np.concatenate([spread, bursts.ravel()])).astype(np.int64)


def _decode_speed(video: FrameSource) -> float:
    """Frames per second of reading one after the other."""
    count = min(DECODED, len(video))
    began = time.perf_counter()
    for _ in video.iter_frames(0, count, 1):
        pass
    return count / max(time.perf_counter() - began, 1e-6)


class _Frames:
    """Decoded frames in the shape of a video."""

    def __init__(self, frames: list[Frame]) -> None:
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def iter_frames(
        self, start: int = 0, stop: int | None = None, step: int = 1
    ) -> Iterator[tuple[int, Frame]]:
        for i in range(len(self))[start:stop:step]:
            yield i, self._frames[i]


def _try(
    ref: ModelRef,
    frames: list[Frame],
    numbers: npt.NDArray[np.int64],
    total: int,
    decode_fps: float,
    device: str,
    report: Any,
) -> ModelCheck:
    from napari_superanimal.inference.build import build_predictor
    from napari_superanimal.inference.collect import Collector
    from napari_superanimal.inference.stream import PredictionStream

    predictor = build_predictor(ref, max_individuals=MOST, device=device)
    predictor(frames[:1])  # the first pass of a network takes longer than those that follow
    collector = Collector(predictor, range(len(frames)))
    began = time.perf_counter()
    stream = PredictionStream(_Frames(frames), predictor, range(len(frames)), track=False)
    with contextlib.closing(iter(stream)) as chunks:  # type: ignore[type-var]
        for chunk in chunks:
            collector.add(chunk)
            report(len(chunk.frames), f"trying {ref.card.name}")
    fps = len(frames) / max(time.perf_counter() - began, 1e-6)
    poses = collector.poses()
    figures = _figures(predictor, ref, poses, frames, numbers)
    if sizes_doubtful(ref.card, figures):
        figures["scales"] = _survey(predictor, ref, frames, report)
    speed = min(fps, decode_fps)
    figures["speed"] = {
        "fps": round(speed, 2),
        "expected_seconds": round(total / speed, 1),
        "individuals": MOST if figures["animals"]["most"] > 1 else 1,
    }
    right, calibrated = expected_right(ref.card, figures)
    return ModelCheck(ref.card.name, ref.card.title, figures, (), right, calibrated, poses)


def _survey(predictor: FramePredictor, ref: ModelRef, frames: list[Frame], report: Any) -> dict[str, Any]:
    """Whether the animal is better found at other scales, on some of the frames."""
    from napari_superanimal.inference.pyramid import scales_to_try
    from napari_superanimal.inference.survey import survey

    report(0, f"trying {ref.card.name} at other scales")
    scales = scales_to_try(ref.card)
    rows = np.unique(np.linspace(0, len(frames) - 1, min(SURVEYED, len(frames))).round().astype(int))
    return survey(predictor, [frames[int(row)] for row in rows], scales, SURVEY_S).to_json()


def _figures(
    predictor: FramePredictor,
    ref: ModelRef,
    poses: Poses,
    frames: list[Frame],
    numbers: npt.NDArray[np.int64],
) -> dict[str, Any]:
    from napari_superanimal.jobs.check_figures import measure

    loaded = getattr(predictor, "model", None) if not ref.official else None
    return measure(replace(poses, frames=numbers), frames, ref.card, predictor.space, loaded)
