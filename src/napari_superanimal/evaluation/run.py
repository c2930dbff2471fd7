"""A model applied to a labelled dataset, and compared with its labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.evaluation.evaluate import Report, evaluate_predictions
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Meter, ProgressCallback
from napari_superanimal.poses import Poses, animal_names, make_poses, project, with_boxes
from napari_superanimal.training.samples import FrameReader, read_image

if TYPE_CHECKING:
    from napari_superanimal.inference.frame_predictor import Frame, FramePredictor
    from napari_superanimal.keypoints import ConversionTable


def readable_rows(poses: Poses) -> Poses:
    """The rows that have labels and a picture.

    Raises
    ------
    UserError
        If there is none.
    """
    rows = [i for i in range(len(poses)) if poses.found[i].any() and poses.image_path(i).is_file()]
    if not rows:
        raise UserError(
            "no labelled image of this dataset can be found",
            path=poses.root,
            remedy="put the images where the labels say",
        )
    return poses.take(np.array(rows))


def predict_images(
    poses: Poses,
    predictor: FramePredictor,
    *,
    boxes: Literal["detector", "labels"] = "detector",
    reader: FrameReader = read_image,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> Poses:
    """Predictions for every image of a dataset, in the model's space.

    Parameters
    ----------
    boxes : {"detector", "labels"}
        Where boxes come from; "labels" takes those of the dataset (given, else around the keypoints).
    """
    animals = max(len(poses.individuals), predictor.max_individuals)
    n, k = len(poses), len(predictor.space)
    xy, sure = np.full((n, animals, k, 2), np.nan), np.full((n, animals, k), np.nan)
    out_boxes, scores = np.full((n, animals, 4), np.nan), np.full((n, animals), np.nan)
    labelled = with_boxes(poses).boxes
    meter = Meter(n)
    for row in range(n):
        if token is not None and token.cancelled:
            raise Cancelled("stopped")
        frame: Frame = reader(poses, row)
        if boxes == "labels":
            who = np.flatnonzero(np.isfinite(labelled[row]).all(-1))
            if len(who):
                xy[row, who], sure[row, who] = predictor.pose([frame] * len(who), labelled[row, who])
                out_boxes[row, who], scores[row, who] = labelled[row, who], 1.0
        else:
            found = predictor([frame])
            a = predictor.max_individuals
            xy[row, :a], sure[row, :a] = found.xy[0], found.likelihood[0]
            out_boxes[row, :a], scores[row, :a] = found.boxes[0], found.box_scores[0]
        if on_progress is not None:
            on_progress(meter.at(row + 1, "predicting"))
    return make_poses(
        predictor.space.keypoints,
        xy,
        individuals=animal_names(animals),
        likelihood=sure,
        boxes=out_boxes,
        box_scores=scores,
        images=poses.images,
        image_sizes=poses.image_sizes,
        root=poses.root,
        sources=poses.sources,
        scorer=predictor.scorer,
        skeleton=predictor.space.skeleton,
        metadata={"model": predictor.card.name, "space": predictor.card.space_name},
    )


def evaluate_model(
    poses: Poses,
    table: ConversionTable,
    predictor: FramePredictor,
    *,
    boxes: Literal["detector", "labels"] = "detector",
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> Report:
    """Predict a labelled image dataset and compare.

    Raises
    ------
    UserError
        If the table does not fit, or no picture of the dataset is there.
    """
    truth = project(readable_rows(poses), table, predictor.space)
    predicted = predict_images(truth, predictor, boxes=boxes, on_progress=on_progress, token=token)
    report = evaluate_predictions(truth, predicted, predictor.space)
    untrained = set(truth.keypoints) - set(output_keypoints(predictor))
    labelled = {k for i, k in enumerate(truth.keypoints) if truth.found[..., i].any()}
    notes = {
        **report.notes,
        "model": predictor.card.name,
        "boxes": boxes,
        "table": table.name,
        "unmapped": truth.metadata["unmapped"],
        "not_trained": sorted(untrained & labelled),
    }
    return replace(report, notes=notes)


def output_keypoints(predictor: FramePredictor) -> tuple[str, ...]:
    """Keypoints that a model can give: its channels, and their partners where channels mean near and far."""
    names = set(predictor.card.keypoints)
    if predictor.card.side_canonical:
        for left, right in predictor.space.pairs:
            if left in names or right in names:
                names |= {left, right}
    return tuple(k for k in predictor.space.keypoints if k in names)
