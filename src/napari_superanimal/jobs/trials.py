"""Fine-tunings that are measured: the same images held back, the user's keypoints and the others apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.errors import UserError
from napari_superanimal.evaluation.evaluate import evaluate_predictions
from napari_superanimal.evaluation.run import output_keypoints, predict_images
from napari_superanimal.inference.build import predictor_of
from napari_superanimal.keypoints import identity_table, read_table
from napari_superanimal.keypoints.table import SIDE
from napari_superanimal.models.card import TABLE_FILE
from napari_superanimal.models.load import LoadedModel
from napari_superanimal.models.trainable import TrainableModel, load_trainable
from napari_superanimal.poses import UNLABELLED, Poses, project, with_boxes
from napari_superanimal.poses.choose import images_matching
from napari_superanimal.training.finetune import SURE, finetune
from napari_superanimal.training.replay import THRESHOLD
from napari_superanimal.training.task import labelled_part
from napari_superanimal.training.vocabulary import origin

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.inference.frame_predictor import FramePredictor
    from napari_superanimal.jobs.progress import CancelToken, ProgressCallback
    from napari_superanimal.keypoints import ConversionTable

#: What a model without any training is called in tables.
START = "starting model"
PCK = "0.1"


@dataclass(frozen=True)
class Trials:
    """What all fine-tunings of one comparison share.

    Attributes
    ----------
    model : LoadedModel or OfficialPose
        The model to start from.
    table : ConversionTable or None
        User's keypoint -> keypoint of the model's space.
    training, test : Poses
        Images to learn from and images to measure on, under the user's names.
    known : tuple of str
        The user's keypoints that the model knows under some name.
    others : tuple of str
        Keypoints of the model that the user's labels lack.
    reference : Poses or None
        Where the others should be, in the model's space: labels of another data set, or what the starting model
        is sure of on the test images. None when there are no others.
    reference_is_truth : bool
        Labels rather than predictions.
    """

    model: TrainableModel
    table: ConversionTable | None
    training: Poses
    test: Poses
    known: tuple[str, ...]
    others: tuple[str, ...]
    reference: Poses | None
    reference_is_truth: bool


def prepare(
    poses: Poses,
    model: TrainableModel,
    table: ConversionTable | None,
    *,
    test: str = "",
    test_share: float = 0.3,
    others: tuple[Poses, ConversionTable] | None = None,
) -> Trials:
    """Split the labels and find out what may be forgotten.

    Parameters
    ----------
    test : str
        Rule for the images to measure on, as for ``evaluate --only``; empty takes the last `test_share` of them.
    others : (Poses, ConversionTable), optional
        Labelled images with keypoints that `poses` lacks.

    Raises
    ------
    UserError
        If the rule leaves nothing to learn from or to measure on, or `others` has none of the keypoints.
    """
    poses = labelled_part(poses)
    if test:
        chosen = images_matching(poses.images, test)
    else:
        chosen = np.arange(len(poses)) >= len(poses) - max(1, round(test_share * len(poses)))
    if chosen.all() or not chosen.any():
        raise UserError(
            f"{int(chosen.sum())} of {len(poses)} labelled images would be measured on",
            path=poses.root,
            remedy="choose some images to measure on with --test, and leave others to learn from",
        )
    mapped = origin(poses.keypoints, model.card.keypoints, table)
    other = tuple(k for k in model.card.keypoints if k not in mapped.values())
    trials = Trials(
        model, table, poses.take(~chosen), poses.take(chosen), tuple(mapped), other, None, others is not None
    )
    if not other:
        return trials
    labelled = None if others is None else project(others[0], others[1], model.space)
    reference = keep_only(_sure_predictions(trials) if labelled is None else labelled, other)
    if not reference.found.any():
        if others is None:
            return trials
        raise UserError(
            f"none of {', '.join(other)} is labelled there", path=others[0].root, remedy="give other --others"
        )
    return replace(trials, reference=reference.take(reference.found.any((1, 2))))


def keep_only(poses: Poses, names: tuple[str, ...]) -> Poses:
    """`poses` without the labels of all other keypoints; boxes are those of the whole animal."""
    poses = with_boxes(poses)
    drop = np.array([k not in names for k in poses.keypoints])
    xy, codes = poses.xy.copy(), poses.visibility.copy()
    xy[:, :, drop] = np.nan
    codes[:, :, drop] = np.minimum(codes[:, :, drop], UNLABELLED)
    return replace(poses, xy=xy, visibility=codes)


def _sure_predictions(trials: Trials) -> Poses:
    """What the starting model is sure of on the test images, inside the labelled boxes."""
    predictor = predictor_of(trials.model, whole_frame=True)
    seen = predict_images(with_boxes(trials.test), predictor, boxes="labels")
    sure = np.nan_to_num(seen.likelihood) >= THRESHOLD
    return replace(seen, xy=np.where(sure[..., None], seen.xy, np.nan))


def run_one(
    trials: Trials,
    mode: str,
    seed: int,
    out: Path,
    *,
    steps: int,
    rows: npt.NDArray[np.int64] | None = None,
    options: dict[str, Any] | None = None,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Fine-tune once, on all training images or some `rows` of them, and measure the result.

    `options` are further arguments of `training.finetune.finetune`.
    """
    poses = trials.training if rows is None else trials.training.take(rows)
    folder = finetune(
        poses,
        trials.model,
        mode=mode,
        out=out,
        steps=steps,
        table=trials.table,
        seed=seed,
        hold_out=False,
        train_detector=False,
        on_progress=on_progress,
        token=token,
        resume=resume,
        **(options or {}),
    )
    table = read_table(folder / TABLE_FILE) if (folder / TABLE_FILE).is_file() else None
    return {
        "mode": mode,
        "seed": seed,
        "frames": len(poses),
        **measure(trials, load_trainable(folder), table),
    }


def measure(trials: Trials, model: TrainableModel, table: ConversionTable | None) -> dict[str, Any]:
    """Figures of a model on the user's keypoints and on the others.

    ``error_px`` and ``pck`` are those of keypoints that the starting model knows, too, so that all models are judged
    by the same; ``new_error_px`` is that of the rest.

    Boxes come from the labels, so that all models see the same crops, and confidence is the raw one of the
    heatmaps, the only one that all models have.

    Parameters
    ----------
    table : ConversionTable or None
        User's keypoint -> keypoint of `model`'s space; None where they have the same names.
    """
    if isinstance(model, LoadedModel):
        model = replace(model, calibration={})
    predictor = predictor_of(model, whole_frame=True)
    space = predictor.space
    table = table or identity_table(trials.test.keypoints, space)
    out: dict[str, Any] = {"error_px": None, "pck": None, "new_error_px": None, "errors_px": []}
    if any(table.target(name) for name in trials.test.keypoints):
        truth = project(with_boxes(trials.test), table, space)
        report = evaluate_predictions(truth, predict_images(truth, predictor, boxes="labels"), space)
        targets = {t for name in trials.known for t in (table.target(name) or "").split(SIDE) if t}
        known = np.isin(report.keypoint, [space.index(t) for t in targets])
        there = np.isfinite(report.pixels)
        out |= {
            "error_px": _mean(report.pixels[known & there]),
            "pck": _mean((report.relative[known] <= float(PCK)).astype(np.float64)),
            "new_error_px": _mean(report.pixels[~known & there]),
            "per_keypoint": {k: v["mean_error_px"] for k, v in report.to_json()["per_keypoint"].items()},
            "errors_px": [round(float(v), 3) for v in report.pixels[known & there]],
        }
    if trials.reference is not None:
        out |= forgetting(trials.reference, trials.others, predictor)
    return out


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def forgetting(reference: Poses, others: tuple[str, ...], predictor: FramePredictor) -> dict[str, Any]:
    """What a model still knows of keypoints that its last labels lacked.

    Returns
    -------
    dict
        ``others_error_px``: mean distance from the reference, None where the model gives none of them;
        ``others_pck``: share within PCK@0.1, keypoints without a prediction counting as wrong;
        ``others_dropped``: keypoints per animal that are missing or below a confidence of `SURE`, of those in the
        reference (the paper's keypoint dropping); ``others_dropped_share``.
    """
    seen = predict_images(reference, predictor, boxes="labels")
    animals = reference.found.any(-1)
    error, relative, dropped, wanted = [], [], 0, 0
    size = np.sqrt(np.prod(reference.boxes[..., 2:], axis=-1))
    for name in others:
        k = reference.keypoints.index(name)
        here = reference.found[..., k]
        wanted += int(here.sum())
        if name not in output_keypoints(predictor):
            dropped += int(here.sum())
            relative += [np.inf] * int(here.sum())
            continue
        j = predictor.space.index(name)
        count = len(reference.individuals)
        apart = np.linalg.norm(seen.xy[:, :count, j] - reference.xy[:, :, k], axis=-1)[here]
        sure = np.nan_to_num(seen.likelihood[:, :count, j])[here]
        error += apart[np.isfinite(apart)].tolist()
        relative += np.where(np.isfinite(apart), apart / size[here], np.inf).tolist()
        dropped += int((sure < SURE).sum())
    return {
        "others_error_px": float(np.mean(error)) if error else None,
        "others_pck": float((np.array(relative) <= float(PCK)).mean()) if relative else None,
        "others_dropped": dropped / max(int(animals.sum()), 1),
        "others_dropped_share": dropped / max(wanted, 1),
    }
