"""A model, or a file of predictions, measured against labels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.fetch import ensure_here
from napari_superanimal.jobs.labels import read_labels
from napari_superanimal.keypoints import (
    BUILTIN_SPACES,
    ConversionTable,
    KeypointSpace,
    identity_table,
    load_space,
    read_table,
    space_from_names,
    table_for,
)
from napari_superanimal.models.card import TABLE_FILE
from napari_superanimal.models.zoo import ModelRef, detector_of, find_model
from napari_superanimal.poses import Poses, project, with_boxes
from napari_superanimal.poses.choose import images_matching
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_superanimal.inference.frame_predictor import FramePredictor
    from napari_superanimal.jobs.progress import CancelToken, ProgressCallback


@dataclass(frozen=True)
class EvaluateOptions:
    """What to compare with the labels.

    Attributes
    ----------
    model : str or Path or None
        A model's name or folder; it predicts the labelled images.
    predictions : Path or None
        A file of predictions, instead of a model.
    boxes : str
        "detector" or "labels": where the model's boxes come from.
    table : str or None
        Conversion table of the labels; None takes the one that fine-tuning wrote beside the model where the names
        are the same, and else finds it out from the names.
    only : str
        ``match:REGEX`` on image paths or a file of image names; empty takes all images.
    device, batch_size, flip
        As for `Predictor`.
    """

    model: str | Path | None = None
    predictions: Path | None = None
    boxes: str = "detector"
    table: str | None = None
    only: str = ""
    device: str = "auto"
    batch_size: int = 16
    flip: bool | None = None


def evaluate_files(
    labels: Path,
    options: EvaluateOptions,
    *,
    on_progress: ProgressCallback | None = None,
    say: Callable[[str], None] | None = None,
    token: CancelToken | None = None,
) -> dict[str, Any]:
    """Figures of a model or of predictions on a labelled data set.

    Parameters
    ----------
    labels : Path
        Data set in any format that can be read.
    say : callable, optional
        Gets what the user should know: the table found, rows left out.

    Returns
    -------
    dict
        The fields of ``superanimal evaluate --json``.

    Raises
    ------
    UserError
        If labels, model, predictions or table are wrong or do not fit each other.
    Cancelled
        If the token was set.
    """
    tell = say or (lambda _: None)
    if options.model is not None:
        report = _of_model(labels, find_model(options.model), options, on_progress, tell, token)
    elif options.predictions is not None:
        report = _of_predictions(labels, options.predictions, options, tell)
    else:
        raise ValueError("a model or predictions are needed")
    if not report["n_images"]:
        raise UserError(
            "labels and predictions have no keypoint in common", path=labels, remedy="give another --table"
        )
    if never := report.get("never_predicted"):
        tell(f"labelled, but not predicted anywhere, left out: {', '.join(never)}")
    return {"labels": str(labels), **report}


def _of_model(
    labels: Path,
    model: ModelRef,
    options: EvaluateOptions,
    on_progress: ProgressCallback | None,
    say: Callable[[str], None],
    token: CancelToken | None,
) -> dict[str, Any]:
    from napari_superanimal.evaluation.run import evaluate_model

    truth = _chosen(read_labels(labels), options.only)
    predictor = _predictor(truth, model, options)
    given = options.table or _learned_names(truth, model, say)
    table = _table(truth, labels, given, predictor.space, say)
    report = evaluate_model(
        truth,
        table,
        predictor,
        boxes="labels" if options.boxes == "labels" else "detector",
        on_progress=on_progress,
        token=token,
    )
    return {"model": model.card.name, "space": predictor.space.name, **report.to_json()}


def _of_predictions(
    labels: Path, predictions: Path, options: EvaluateOptions, say: Callable[[str], None]
) -> dict[str, Any]:
    from napari_superanimal.evaluation.evaluate import evaluate_predictions

    truth = _chosen(read_labels(labels, need_images=False), options.only)
    predicted = registry.read(predictions)
    space = space_of(predicted)
    table = _table(truth, labels, options.table, space, say)
    truth = project(with_boxes(truth), table, space)
    predicted = project(predicted, identity_table(predicted.keypoints, space), space)
    truth, predicted = same_rows(truth, predicted, predictions, say)
    report = evaluate_predictions(truth, predicted, space).to_json()
    return {"predictions": str(predictions), "space": space.name, "table": table.name, **report}


def _chosen(poses: Poses, rule: str) -> Poses:
    """The rows that ``--only`` chooses."""
    if not rule:
        return poses
    keep = images_matching(poses.images, rule)
    if not keep.any():
        raise UserError(
            f"--only {rule} chooses none of the {len(poses)} labelled images", remedy="correct it"
        )
    return poses.take(keep)


def _learned_names(labels: Poses, model: ModelRef, say: Callable[[str], None]) -> Path | None:
    """The table that fine-tuning wrote beside a model, where it knows all keypoints that are labelled here."""
    file = model.folder / TABLE_FILE
    if not file.is_file():
        return None
    known = {source for source, _ in read_table(file).rows}
    labelled = {labels.keypoints[k] for k in np.flatnonzero(labels.found.any((0, 1)))}
    if not labelled <= known:
        return None
    say(f"conversion table that the model was fine-tuned with: {file}")
    return file


def _table(
    labels: Poses, path: Path, given: str | Path | None, space: KeypointSpace, say: Callable[[str], None]
) -> ConversionTable:
    """`table_for` the labels; says which it is, and what it leaves out."""
    table = table_for(labels.keypoints, space, given, path=path)
    if not given:
        say(f"conversion table found from the keypoint names: {table.name}")
    if unmapped := table.check(labels.keypoints, space):
        say(f"keypoints without a place in {space.name}, left out: {', '.join(unmapped)}")
    return table


def space_of(predicted: Poses) -> KeypointSpace:
    """The built-in space that has the predictions' keypoints, else a bare one of their names."""
    for name in BUILTIN_SPACES:
        space = load_space(name)
        if set(predicted.keypoints) <= set(space.keypoints):
            return space
    return space_from_names(predicted.keypoints)


def _predictor(truth: Poses, model: ModelRef, options: EvaluateOptions) -> FramePredictor:
    from napari_superanimal.inference.build import build_predictor

    whole = options.boxes == "labels"
    detector = None if whole else detector_of(model)
    return build_predictor(
        ensure_here(model),
        detector="whole-frame" if whole else "model" if detector is None else ensure_here(detector),
        max_individuals=int(truth.present.sum(1).max()),
        device=options.device,
        batch_size=options.batch_size,
        flip=options.flip,
    )


def same_rows(truth: Poses, predicted: Poses, path: Path, say: Callable[[str], None]) -> tuple[Poses, Poses]:
    """The rows that labels and predictions share, in the same order.

    Frames of a video are matched by number and images by name. Labelled images that were taken from the
    predicted video (DeepLabCut's ``labeled-data/VIDEO/img0123.png``) are matched by the number in their name.

    Raises
    ------
    UserError
        If there is none.
    """
    if truth.is_video and predicted.is_video:
        keys: list[Any] = truth.frames.tolist()
        theirs: list[Any] = predicted.frames.tolist()
    elif truth.is_video:
        raise UserError(
            "these are predictions of images, the labels are those of a video",
            path=path,
            remedy="predict the video",
        )
    elif predicted.is_video:
        keys = [_frame_number(name, path) for name in truth.images]
        theirs = predicted.frames.tolist()
    else:
        depth = _telling_depth(truth.images)
        keys = [_tail(name, depth) for name in truth.images]
        theirs = [_tail(name, depth) for name in predicted.images]
    place = {key: row for row, key in enumerate(theirs)}
    rows = [row for row, key in enumerate(keys) if key is not None and key in place]
    if not rows:
        raise UserError(
            "none of the labelled images or frames was predicted",
            path=path,
            remedy="compare files that belong together",
        )
    if len(rows) < len(truth):
        say(f"{len(truth) - len(rows)} of {len(truth)} labelled images have no prediction and are left out")
    chosen = predicted.take([place[keys[row]] for row in rows])
    return truth.take(rows), chosen


def _frame_number(image: str, predictions: Path) -> int | None:
    """Number of the video frame that a labelled image shows; None if it comes from another video."""
    path = PurePosixPath(image)
    digits = re.search(r"(\d+)$", path.stem)
    return int(digits[1]) if digits and predictions.name.startswith(path.parent.name) else None


def _tail(image: str, depth: int) -> tuple[str, ...]:
    return PurePosixPath(image).parts[-depth:]


def _telling_depth(images: Sequence[str]) -> int:
    """How many parts of the paths, from the end, tell all images apart."""
    deepest = max(len(PurePosixPath(name).parts) for name in images)
    for depth in range(1, deepest + 1):
        if len({_tail(name, depth) for name in images}) == len(set(images)):
            return depth
    return deepest
