"""Which engine is the fastest here, of those whose keypoints are the exact ones."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from napari_superanimal.inference.runtime.engine import EXACT, Engine, engines
from napari_superanimal.poses import box_iou

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_superanimal.inference.frame_predictor import Boxes, Frame

#: Fewest frames for which a self-test is worth its seconds; below, everything is computed exactly.
WORTH_IT = 100
#: Frames and boxes that are tried.
FRAMES, BOXES = 3, 4
#: Farthest that half of the keypoints, and nineteen of twenty, may move, px.
MEDIAN_PX, MOST_PX = 0.5, 4.0
#: Least overlap (IoU) of a box with the exact one.
SAME_BOX = 0.9
#: A detector that takes longer is not run once more to be timed warm.
QUICK_S = 1.5
#: A later engine must be faster than an earlier one by this factor: near ties always end the same way.
CLEARLY = 1.1


class Switchable(Protocol):
    """A predictor whose networks can be run by several engines."""

    device: torch.device
    engine: Engine

    def use(self, engine: Engine) -> None: ...

    def detect(self, frames: Sequence[Frame]) -> Sequence[Boxes]: ...

    def pose(
        self, frames: Sequence[Frame], boxes: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray, npt.NDArray]: ...


@dataclass(frozen=True)
class Trial:
    """What became of one engine.

    Attributes
    ----------
    engine : str
    seconds : float
        For detector and poses of the sample, in one thread; NaN where it did not run.
    shift_px : float
        Median distance of its keypoints from the exact ones.
    fits : bool
        Whether it may be taken.
    note : str
        Why not.
    """

    engine: str
    seconds: float
    shift_px: float = 0.0
    fits: bool = True
    note: str = ""


@dataclass(frozen=True)
class Choice:
    """The engine that was taken, and all that were tried; none where there was nothing to choose."""

    engine: Engine
    trials: tuple[Trial, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "chosen": str(self.engine),
            "summary": str(self),
            "trials": [asdict(trial) for trial in self.trials],
        }

    def __str__(self) -> str:
        """For a person."""
        if not self.trials:
            return str(self.engine)
        chosen = next(trial for trial in self.trials if trial.engine == str(self.engine))
        exact = next(trial for trial in self.trials if trial.engine == str(EXACT))
        if chosen is exact:
            return f"{self.engine}, the best of {len(self.trials)} tried"
        return (
            f"{self.engine}, {exact.seconds / chosen.seconds:.1f} times as fast as {EXACT} "
            f"(keypoints {chosen.shift_px:.2f} px from it)"
        )


def choose_engine(
    predictor: Switchable,
    frames: Sequence[Frame],
    *,
    runtime: str = "auto",
    precision: str = "auto",
    on_trial: Callable[[Engine], None] | None = None,
) -> Choice:
    """Try the engines that fit what was asked for on some frames, and have the predictor use the best.

    The best is the fastest whose boxes and keypoints are those of torch in float32. Everything runs in one thread of
    its own, as in a stream.

    Parameters
    ----------
    frames : sequence of (H, W, 3) uint8
        The first `FRAMES` are used.
    on_trial : callable, optional
        Told of each engine before it is tried.

    Raises
    ------
    UserError
        If there is no such engine here.
    """
    wanted = engines(predictor.device, runtime, precision)
    if len(wanted) == 1:
        predictor.use(wanted[0])
        return Choice(wanted[0])
    with ThreadPoolExecutor(1, "superanimal-self-test", lambda: torch.set_num_threads(1)) as pool:
        return pool.submit(_choose, predictor, frames[:FRAMES], wanted, on_trial).result()


def _choose(
    predictor: Switchable,
    frames: Sequence[Frame],
    wanted: Sequence[Engine],
    on_trial: Callable[[Engine], None] | None,
) -> Choice:
    tell = on_trial or (lambda engine: None)
    tell(EXACT)
    predictor.use(EXACT)
    exact_boxes, detecting = _timed(lambda: predictor.detect(frames[:1]), predictor.device)
    if detecting < QUICK_S:
        exact_boxes, detecting = _timed(lambda: predictor.detect(frames[:1]), predictor.device)
    found = exact_boxes[0][0][:BOXES]
    if not len(found):
        # nobody there: the networks compute the same on the middle of the picture
        h, w = frames[0].shape[:2]
        found = np.array([[w / 4, h / 4, w / 2, h / 2]])
    boxes = np.concatenate([found] * len(frames))[: max(BOXES, len(found))]
    shots = [frame for frame in frames for _ in found][: len(boxes)]
    exact, posing = _pose(predictor, shots, boxes)
    trials = {EXACT: Trial(str(EXACT), detecting + posing)}
    for engine in wanted:
        if engine == EXACT:
            continue
        tell(engine)
        try:
            predictor.use(engine)
            predictor.detect(frames[:1])
            other_boxes, detecting = _timed(lambda: predictor.detect(frames[:1]), predictor.device)
            points, posing = _pose(predictor, shots, boxes)
        except Exception as error:
            # whatever it is: this engine does not run here, others may
            trials[engine] = Trial(str(engine), float("nan"), float("nan"), False, str(error).split("\n")[0])
            continue
        shift, note = _shift(points, exact)
        if not _same_boxes(exact_boxes, other_boxes):
            note = "the detector finds other boxes"
        trials[engine] = Trial(str(engine), detecting + posing, shift, not note, note)
    best = next((engine for engine in wanted if trials[engine].fits), wanted[-1])
    for engine in wanted:
        if trials[engine].fits and trials[engine].seconds * CLEARLY < trials[best].seconds:
            best = engine
    predictor.use(best)
    return Choice(best, tuple(trials.values()))


def _pose(
    predictor: Switchable, frames: Sequence[Frame], boxes: npt.NDArray[np.floating]
) -> tuple[npt.NDArray, float]:
    """Keypoints and seconds; the first pass, in which libraries prepare themselves, does not count."""
    predictor.pose(frames, boxes)
    (xy, _), seconds = _timed(lambda: predictor.pose(frames, boxes), predictor.device)
    return xy, seconds


def _timed(work: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - started


def _shift(points: npt.NDArray, exact: npt.NDArray) -> tuple[float, str]:
    """Median distance of keypoints (N, K, 2) from the exact ones, and what is wrong with them."""
    known = np.isfinite(exact).all(-1)
    moved = np.linalg.norm(points - exact, axis=-1)[known]
    if not moved.size:
        return 0.0, ""
    # a keypoint that is found by one only has moved infinitely far
    moved = np.where(np.isfinite(moved), moved, np.inf)
    middle, most = float(np.median(moved)), float(np.quantile(moved, 0.95, method="lower"))
    if middle > MEDIAN_PX or most > MOST_PX:
        return middle, f"keypoints move by {middle:.2g} px (median) to {most:.2g} px (95 %)"
    return middle, ""


def _same_boxes(exact: Sequence[Boxes], other: Sequence[Boxes]) -> bool:
    for (one, _), (two, _) in zip(exact, other, strict=True):
        if len(one) != len(two):
            return False
        if (
            len(one)
            and (box_iou(np.asarray(one, np.float64), np.asarray(two, np.float64)).max(1) < SAME_BOX).any()
        ):
            return False
    return True
