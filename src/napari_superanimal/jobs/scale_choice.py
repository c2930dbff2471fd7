"""At which scales animals are looked for: as asked for, as an earlier run of the same work did, or as frames tell."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.chunks import read_header
from napari_superanimal.jobs.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.inference.frame_predictor import Frame, FramePredictor
    from napari_superanimal.inference.stream import FrameSource
    from napari_superanimal.jobs.predict_plan import PredictOptions, Task
    from napari_superanimal.jobs.progress import ProgressCallback

#: Name of the scales in the header of unfinished predictions.
SCALES = "scales"
SINGLE: Literal["single"] = "single"
AUTO: Literal["auto"] = "auto"
#: Frames that decide, spread over the recording.
FRAMES = 8
#: "auto", "single", or the scales themselves.
Scales = str | tuple[float, ...]


def parse_scales(text: str) -> Scales:
    """``auto``, ``single`` or numbers with commas.

    Raises
    ------
    UserError
        If it is none of them.
    """
    if text in (SINGLE, AUTO):
        return text
    from napari_superanimal.inference.pyramid import check_scales

    try:
        numbers = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    return check_scales(numbers)


def apply_scales(
    predictor: FramePredictor, scales: Scales, video: FrameSource, frames: range
) -> tuple[FramePredictor, dict[str, Any]]:
    """The predictor that looks at the scales wanted, and what a run card says about it.

    Parameters
    ----------
    video : FrameSource
        "auto" looks at some of its frames.
    frames : range
        Frames that will be predicted.

    Raises
    ------
    UserError
        If the predictor has no detector.
    """
    from napari_superanimal.inference.pyramid import PyramidPredictor, scales_to_try
    from napari_superanimal.inference.survey import survey

    if scales == SINGLE:
        return predictor, {"asked": SINGLE, "used": []}
    note: dict[str, Any] = {"asked": AUTO}
    if isinstance(scales, str):
        PyramidPredictor(predictor, (1.0,))  # says what does not fit before frames are read
        rows = np.unique(np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int))
        pictures: list[Frame] = []
        for number in (frames[int(row)] for row in rows):
            # a frame that cannot be read is met again, and told, where the prediction comes to it
            with contextlib.suppress(UserError):
                pictures += [frame for _, frame in video.iter_frames(number, number + 1, 1)]
        found = survey(predictor, pictures, scales_to_try(predictor.card))
        note["survey"] = found.to_json()
        scales = found.scales
    else:
        note["asked"] = list(scales)
    note["used"] = list(scales)
    return (PyramidPredictor(predictor, scales) if scales else predictor), note


def settle_scales(
    predictor: FramePredictor,
    task: Task,
    options: PredictOptions,
    chunks: Path,
    on_progress: ProgressCallback | None,
) -> tuple[FramePredictor, dict[str, Any]]:
    """`apply_scales` to one source of a prediction; where unfinished predictions are, their scales go on."""
    from napari_superanimal.inference.pyramid import PyramidPredictor
    from napari_superanimal.jobs.predict_plan import open_source

    if chunks.exists() and (earlier := read_header(chunks).work.get(SCALES)):
        used = earlier["used"]
        return (PyramidPredictor(predictor, used) if used else predictor), earlier
    if on_progress is not None and options.scales == AUTO:
        what = f"{task.source.path.name}: looking how large the animals are"
        on_progress(Progress(0, len(task.frames), message=what))
    with contextlib.closing(open_source(task.source)) as video:
        return apply_scales(predictor, options.scales, video, task.frames)


def check_fits(options: PredictOptions, whole_frame: bool) -> None:
    """Refuse scales where there is nothing to search, before anything long begins.

    Raises
    ------
    UserError
        If scales meet whole frames or the reference's choices.
    """
    if options.scales == SINGLE:
        return
    if options.reference:
        raise UserError("--reference looks at one scale", remedy="leave --reference or --scales out")
    if whole_frame:
        raise UserError(
            "without a detector there are no scales to search",
            remedy="leave --scales out, or choose a detector other than whole-frame",
        )
