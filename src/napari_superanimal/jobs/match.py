"""Keypoint matching on a labelled dataset: what a model sees in its pictures, compared with its labels."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import write_text
from napari_superanimal.jobs.labels import read_labels
from napari_superanimal.jobs.outputs import check_new
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Meter, ProgressCallback
from napari_superanimal.keypoints.matching import Matching, Observations, match_keypoints
from napari_superanimal.models.zoo import find_model
from napari_superanimal.poses import Poses, with_boxes

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_superanimal.inference.frame_predictor import FramePredictor
    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.training.samples import FrameReader

#: Pictures looked at when the user does not say how many.
IMAGES = 100
#: The detector's box is taken instead of the labels' where it makes the model this much surer: labels that lie on a
#: part of the animal only have too small a box.
SURER = 1.25
#: Share of an animal's labels that a detector's box must hold to be that animal's.
HELD = 0.7


@dataclass(frozen=True)
class MatchOptions:
    """How to match.

    Attributes
    ----------
    model : str or Path
        A model's name or folder.
    images : int
        At most so many pictures, spread evenly over the dataset.
    device, batch_size
        As for `Predictor`.
    """

    model: str | Path
    images: int = IMAGES
    device: str = "auto"
    batch_size: int = 16


@dataclass(frozen=True)
class MatchResult:
    """Proposed matches with the predictions behind them.

    Attributes
    ----------
    matching : Matching
    poses : Poses
        The pictures looked at, with their labels.
    rows, slots : (N,) int64
        Row of `poses` and place of the individual, per animal.
    predictions : (N, K, 2) float64, px
    likelihood : (N, K) float64
    facing : (N,) int8
        -1 left, 1 right, 0 unknown or not a side view.
    space : KeypointSpace
    model : str
    """

    matching: Matching
    poses: Poses
    rows: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    predictions: npt.NDArray[np.float64]
    likelihood: npt.NDArray[np.float64]
    facing: npt.NDArray[np.int8]
    space: KeypointSpace
    model: str

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        swapped = sorted({int(self.rows[n]) for n in self.matching.swapped})
        return {
            "model": self.model,
            "space": self.matching.space,
            "n_images": len(self.poses),
            "n_individuals": len(self.rows),
            "matches": [asdict(m) for m in self.matching.matches],
            "table": dict(self.matching.table().rows),
            "unmatched": [m.source for m in self.matching.matches if not m.accepted],
            "swapped_images": [picture(self.poses, row) for row in swapped],
            "warnings": list(self.matching.warnings),
        }


def match_dataset(
    path: Path,
    options: MatchOptions,
    *,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> MatchResult:
    """Match the keypoints of a dataset on disk.

    Raises
    ------
    UserError
        If the dataset has no labelled picture, or the model is unknown or damaged.
    Cancelled
        If the token was set.
    """
    poses = read_labels(path)
    return match_poses(poses, options, on_progress=on_progress, token=token)


def match_poses(
    poses: Poses,
    options: MatchOptions,
    *,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> MatchResult:
    """Match the keypoints of labels in memory.

    Raises
    ------
    UserError, Cancelled
        As `match_dataset`.
    """
    from napari_superanimal.evaluation.run import output_keypoints
    from napari_superanimal.inference.build import build_predictor
    from napari_superanimal.inference.frame_predictor import OWN_DETECTOR, WHOLE_FRAME
    from napari_superanimal.training.samples import read_image

    chosen = spread(poses, options.images)
    model = find_model(options.model)
    # of SuperAnimal's models the pose network alone may be here, and the labels' boxes will do
    detects = bool(model.card.detector) and not model.official
    predictor = build_predictor(
        model,
        detector=OWN_DETECTOR if detects else WHOLE_FRAME,
        max_individuals=int(chosen.present.sum(1).max()) + 1,
        device=options.device,
        batch_size=options.batch_size,
    )
    seen, rows, slots = observe(
        chosen, predictor, read_image, detects=detects, on_progress=on_progress, token=token
    )
    return MatchResult(
        matching=match_keypoints(seen, chosen.keypoints, predictor.space, output_keypoints(predictor)),
        poses=chosen,
        rows=rows,
        slots=slots,
        predictions=seen.predictions,
        likelihood=seen.likelihood,
        facing=seen.facing,
        space=predictor.space,
        model=model.card.name,
    )


def spread(poses: Poses, count: int) -> Poses:
    """At most `count` labelled rows, evenly over the dataset."""
    labelled = np.flatnonzero(poses.found.any((1, 2)))
    if not len(labelled):
        raise UserError("there is no labelled keypoint", remedy="label some images first")
    at = np.unique(np.linspace(0, len(labelled) - 1, min(count, len(labelled))).round().astype(np.int64))
    return poses.take(labelled[at])


def observe(
    poses: Poses,
    predictor: FramePredictor,
    reader: FrameReader,
    *,
    detects: bool = True,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> tuple[Observations, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What a model sees of every labelled animal; returns it with the animals' rows and individuals.

    Each animal is predicted in the box of its labels, and in the detector's box around them if there is one (and
    `detects` says to look); the box that makes the model surer is kept.
    """
    from napari_superanimal.poses import facing

    given = with_boxes(poses).boxes
    animals = np.argwhere(poses.found.any(-1))
    parts: list[tuple[npt.NDArray, npt.NDArray, npt.NDArray]] = []
    meter = Meter(len(poses))
    for row in range(len(poses)):
        if token is not None and token.cancelled:
            raise Cancelled("stopped")
        who = animals[animals[:, 0] == row, 1]
        frame = reader(poses, row)
        found = np.asarray(predictor.detect([frame])[0][0], np.float64) if detects else np.empty((0, 4))
        own = given[row, who]
        other = np.stack([_box_around(poses.xy[row, a], found) for a in who])
        both = np.flatnonzero(np.isfinite(other).all(-1))
        boxes = np.concatenate([own, other[both]])
        xy, sure = predictor.pose([frame] * len(boxes), boxes)
        trust = np.nansum(sure, -1)
        best = np.arange(len(who))
        better = trust[len(who) :] > SURER * trust[both]
        best[both[better]] = len(who) + np.flatnonzero(better)
        parts.append((xy[best], sure[best], boxes[best]))
        if on_progress is not None:
            on_progress(meter.at(row + 1, "looking at the labelled images"))
    xy, sure, boxes = (np.concatenate(p) for p in zip(*parts, strict=True))
    side_view = predictor.card.side_canonical or "side" in predictor.card.view.lower()
    seen = Observations(
        labels=poses.xy[animals[:, 0], animals[:, 1]],
        predictions=xy,
        likelihood=sure,
        size=np.sqrt(np.maximum(boxes[:, 2] * boxes[:, 3], 1.0)),
        facing=facing(xy, predictor.space, sure) if side_view else np.zeros(len(xy), np.int8),
    )
    return seen, animals[:, 0], animals[:, 1]


def _box_around(labels: npt.NDArray, boxes: npt.NDArray) -> npt.NDArray:
    """The detector's box that holds most of an animal's labels; NaN where none holds enough."""
    points = labels[np.isfinite(labels).all(-1)]
    best, share = np.full(4, np.nan), HELD
    for box in boxes:
        inside = ((points >= box[:2]) & (points <= box[:2] + box[2:])).all(-1).mean()
        if inside > share:
            best, share = np.asarray(box, np.float64), float(inside)
    return best


def picture(poses: Poses, row: int) -> str:
    """What a row is called in messages."""
    return poses.images[row] if poses.images else f"frame {int(poses.frames[row])}"


HEADER = (
    "source",
    "keypoint",
    "proposed",
    "images",
    "distance",
    "hits",
    "promised",
    "score",
    "margin",
    "runner_up",
    "note",
)


def table_text(matching: Matching, model: str = "") -> str:
    """A conversion table that `read_table` reads, with the evidence in further columns.

    Rejected keypoints are rows with an empty ``keypoint``; what they came nearest to is under ``proposed``.
    """
    out = io.StringIO()
    if matching.space:
        out.write(f"# space: {matching.space}\n")
    if model:
        out.write(f"# matched by what {model} sees; distance is in shares of the animal's size\n")
    writer = csv.writer(out, lineterminator="\n")
    quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(HEADER)
    for m in matching.matches:
        numbers = [_digits(v) for v in (m.distance, m.hits, m.promised, m.score, m.margin)]
        kept = m.target if m.accepted else ""
        row = (m.source, kept, m.target, m.images, *numbers, m.runner_up, m.reason)
        # in quotes a name that begins with # is no comment
        (quoting if m.source.startswith("#") else writer).writerow(row)
    return out.getvalue()


def _digits(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else ""


def write_matches(matching: Matching, path: Path, *, model: str = "", overwrite: bool = False) -> Path:
    """Write `table_text` atomically.

    Raises
    ------
    UserError
        If the file exists and `overwrite` is False, or cannot be written.
    """
    if not overwrite:
        check_new([path])
    write_text(path, table_text(matching, model))
    return path
