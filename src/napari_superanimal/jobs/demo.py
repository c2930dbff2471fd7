"""The whole main job on a rendered clip: predict offline, measure against the truth, show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.jobs.annotate import draw_row
from napari_superanimal.jobs.outputs import check_folder, check_new
from napari_superanimal.jobs.predict import PredictResult, predict_files
from napari_superanimal.jobs.predict_plan import PredictOptions
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Meter, ProgressCallback
from napari_superanimal.keypoints import KeypointSpace, load_space
from napari_superanimal.models.zoo import DEFAULT_MODEL, find_model

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.poses import Poses

CLIP = "demo_mouse.mp4"
TRUTH = "demo_mouse_truth.h5"
SHEET = "demo_mouse_frames.png"
#: Frames on the contact sheet.
SHEET_FRAMES = 6


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes
    ----------
    folder, clip, truth_file, sheet : Path
    truth, predicted : Poses
        In the same keypoint space.
    prediction : PredictResult
    report : dict
        Errors against the truth, as ``evaluate --json`` gives them.
    """

    folder: Path
    clip: Path
    truth_file: Path
    sheet: Path
    truth: Poses
    predicted: Poses
    prediction: PredictResult
    report: dict[str, Any]


def run_demo(
    out: Path,
    *,
    n_frames: int = 150,
    n_mice: int = 1,
    model: str = DEFAULT_MODEL,
    device: str = "auto",
    seed: int = 0,
    overwrite: bool = False,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> DemoResult:
    """Render a clip, predict it, measure the error, write everything into `out`.

    Parameters
    ----------
    out : Path
        Gets the clip, its truth, the predictions with their run card, an annotated video and a contact sheet.
    n_frames, n_mice : int
    model : str
    seed : int
        Of the rendered clip.
    overwrite : bool
        Replace what an earlier demo left in `out`.

    Raises
    ------
    UserError
        If the model is unknown, or `out` cannot be written or holds a demo already.
    Cancelled
        If the token was set; predictions made so far are kept.
    """
    token = token or CancelToken()
    find_model(model)  # before anything is rendered and written
    clip, truth_file, sheet = out / CLIP, out / TRUTH, out / SHEET
    if not overwrite:
        check_new([clip, truth_file, sheet])
    check_folder(out, 50_000_000)
    truth = _render(clip, n_frames, n_mice, seed, on_progress, token)

    from napari_superanimal.poses.formats import registry

    registry.write(truth, truth_file, "dlc-h5", overwrite=overwrite)
    options = PredictOptions(
        model=model,
        out=out,
        max_individuals=n_mice,
        device=device,
        annotate=True,
        overwrite=overwrite,
        seed=seed,
    )
    (prediction,) = predict_files([clip], options, on_progress=on_progress, token=token) or (None,)
    if prediction is None or prediction.status != "complete":
        raise Cancelled
    predicted = registry.read(prediction.predictions)
    space = load_space(str(prediction.card["space"]))
    report = _measure(truth, predicted, space)
    _write_sheet(sheet, clip, predicted, space, float(prediction.card["thresholds"]["likelihood"]))
    return DemoResult(out, clip, truth_file, sheet, truth, predicted, prediction, report)


def _render(
    path: Path,
    n_frames: int,
    n_mice: int,
    seed: int,
    on_progress: ProgressCallback | None,
    token: CancelToken,
) -> Poses:
    """Write the clip; returns its truth."""
    from napari_superanimal.demo.render import render_clip
    from napari_superanimal.video.write import VideoWriter

    rendered = render_clip(n_frames, n_mice=n_mice, seed=seed)
    meter = Meter(n_frames)
    with VideoWriter(path, rendered.fps, rendered.size) as writer:
        for number, frame in enumerate(rendered.frames):
            if token.cancelled:
                raise Cancelled
            writer.write(frame)
            if on_progress is not None:
                on_progress(meter.at(number + 1, "rendering the clip"))
    return rendered.truth


def _measure(truth: Poses, predicted: Poses, space: KeypointSpace) -> dict[str, Any]:
    from napari_superanimal.evaluation.evaluate import evaluate_predictions

    return evaluate_predictions(truth, predicted, space).to_json()


def _write_sheet(path: Path, clip: Path, poses: Poses, space: KeypointSpace, threshold: float) -> None:
    """Some frames of the clip with the poses drawn in, as one picture with a legend."""
    from napari_superanimal.video import open_video
    from napari_superanimal.video.draw import contact_sheet, write_png

    rows = np.linspace(0, len(poses) - 1, min(SHEET_FRAMES, len(poses))).round().astype(int)
    with open_video(clip) as video:
        drawn = [draw_row(video.frame(int(poses.frames[r])), poses, int(r), space, threshold) for r in rows]
    shown = np.flatnonzero(poses.found.any((0, 1)))
    names = [space.keypoints[k] for k in shown]
    colors = np.array(space.colors)[shown] if space.colors else None
    write_png(
        path,
        contact_sheet(
            drawn,
            captions=[f"frame {int(poses.frames[r])}" for r in rows],
            legend=None if colors is None or not names else (names, colors),
        ),
    )
