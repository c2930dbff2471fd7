"""What computes a source: as asked for, as an earlier run of the same work did, or as a self-test finds best."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from napari_superanimal.jobs.chunks import read_header
from napari_superanimal.jobs.predict_plan import PredictOptions, Task, open_source
from napari_superanimal.jobs.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.inference.frame_predictor import FramePredictor
    from napari_superanimal.inference.runtime.engine import Engine
    from napari_superanimal.inference.runtime.self_test import Choice
    from napari_superanimal.jobs.progress import ProgressCallback

#: Name of the engine in the header of unfinished predictions.
ENGINE = "engine"


def settle_engine(
    predictor: FramePredictor,
    task: Task,
    options: PredictOptions,
    chunks: Path,
    on_progress: ProgressCallback | None,
) -> Choice:
    """Have the predictor use the engine that computes this source.

    Parameters
    ----------
    chunks : Path
        Unfinished predictions of this work; where there are some, what made them goes on.

    Raises
    ------
    UserError
        If the engine that was asked for, or that the unfinished work had, is not here.
    """
    from napari_superanimal.inference.runtime.engine import EXACT, Engine, engines, first_engine
    from napari_superanimal.inference.runtime.self_test import FRAMES, WORTH_IT, Choice, choose_engine

    # predictors that look several times through another one run what that one runs
    inner: Any = getattr(predictor, "inner", predictor)

    def take(engine: Engine) -> Choice:
        if inner.engine != engine:
            inner.use(engine)
        return Choice(engine)

    if options.reference:
        return take(EXACT)
    if chunks.exists() and (earlier := read_header(chunks).work.get(ENGINE)):
        engine = Engine(**earlier)
        engines(predictor.device, engine.runtime, engine.precision)
        return take(engine)
    open_question = "auto" in (options.runtime, options.precision) and predictor.card.official
    if not open_question or len(task.frames) < WORTH_IT:
        return take(first_engine(predictor.device, options.runtime, options.precision))

    def tell(engine: Engine) -> None:
        if on_progress is not None:
            on_progress(Progress(0, len(task.frames), message=f"{task.source.path.name}: trying {engine}"))

    first = task.frames[:FRAMES]
    with contextlib.closing(open_source(task.source)) as video:
        frames = [frame for _, frame in video.iter_frames(first.start, first.stop, first.step)]
    return choose_engine(inner, frames, runtime=options.runtime, precision=options.precision, on_trial=tell)
