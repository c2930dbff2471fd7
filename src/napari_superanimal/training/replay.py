"""Memory replay: what the starting model sees on the user's images fills in what the user did not label.

The frozen starting model predicts every labelled image once. Where a person labelled, the label stays; every other
keypoint that the model is sure of becomes a pseudo-label; the rest has no weight at all. So the new model learns the
user's keypoints while it rehearses its own (paper, Methods; spec section 5.1).

A confident model can still be wrong on a new camera. Its keypoints are therefore taken for an animal only if they
agree with the labels of that animal, wherever both know a keypoint; an animal that cannot be matched so keeps its
labels and nothing else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment

from napari_superanimal.inference.build import predictor_of
from napari_superanimal.inference.crops import cut_batch, to_frame
from napari_superanimal.inference.likelihood import likelihood
from napari_superanimal.inference.pose_pass import pose_pass, symmetry_of
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Meter, ProgressCallback
from napari_superanimal.models.load import LoadedModel
from napari_superanimal.models.networks import standardise
from napari_superanimal.poses import (
    UNDEFINED,
    Poses,
    box_iou,
    boxes_from_keypoints,
    facing,
    project,
    with_boxes,
)
from napari_superanimal.training.samples import FrameReader, read_image
from napari_superanimal.training.vocabulary import Vocabulary, restrict

if TYPE_CHECKING:
    from napari_superanimal.inference.frame_predictor import FramePredictor
    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.models.trainable import TrainableModel

#: Lowest likelihood of a pseudo-label. Ours is calibrated: 0.7 means right in about seven of ten cases.
THRESHOLD = 0.7
#: Median distance of prediction and label, in units of the animal's size, up to which both mean the same animal.
AGREEMENT = 0.1
#: Share of an animal's labels that a detected box must hold to be its box.
INSIDE = 0.75

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ReplayCounts:
    """What the pseudo-labels are made of, for the card and for messages.

    Attributes
    ----------
    threshold : float
    animals, unmatched : int
        Labelled animals, and those of them whose prediction did not agree with the labels.
    right : float or None
        Share of the labels of keypoints that the model knows which it puts within `AGREEMENT`; None without any.
    human, pseudo : int
        Keypoints labelled by a person, and filled in by the model.
    without_weight : int
        Keypoints of the new model that neither gives.
    pseudo_per_keypoint : dict
    """

    threshold: float
    animals: int
    unmatched: int
    right: float | None
    human: int
    pseudo: int
    without_weight: int
    pseudo_per_keypoint: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Replay:
    """Labels for a model that keeps its keypoints and learns the user's.

    Attributes
    ----------
    space : KeypointSpace
        Vocabulary of the new model.
    channels : tuple of str
        The model's own, in its order, then those that it never knew.
    poses : Poses
        Keypoints are `channels`; ``human`` tells labels from pseudo-labels. Where channels mean near and far
        (``card.side_canonical``) they do so here, too.
    agrees : (T, A) bool
        Animals on which the model agrees with the labels.
    counts : ReplayCounts
    """

    space: KeypointSpace
    channels: tuple[str, ...]
    poses: Poses
    agrees: npt.NDArray[np.bool_]
    counts: ReplayCounts


@dataclass(frozen=True)
class Seen:
    """What the starting model sees in a box, under its channels' names.

    xy : (N, K, 2) px of the frame; likelihood : (N, K); side : (N,) int8, the way the animals face
    """

    xy: Floats
    likelihood: Floats
    side: npt.NDArray[np.int8]


def replay_labels(
    poses: Poses,
    model: TrainableModel,
    vocabulary: Vocabulary,
    *,
    threshold: float = THRESHOLD,
    absent: bool = False,
    reader: FrameReader = read_image,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> Replay:
    """Labels and pseudo-labels of every labelled animal.

    Parameters
    ----------
    poses : Poses
        Labelled images under the user's own keypoint names.
    vocabulary : Vocabulary
        From `vocabulary.join_vocabularies`.
    threshold : float
        Lowest likelihood of a pseudo-label; above 1 there are none.
    absent : bool
        A keypoint that is defined and has no position (visibility 0) is known not to be there, as after a
        person deleted it. By default it was merely not labelled, and the model may fill it in.

    Raises
    ------
    Cancelled
        Between two images.
    """
    labelled = project(poses, vocabulary.table, vocabulary.space)
    known = model.card.keypoints
    canonical = model.card.side_canonical
    looks = _Looks(model, len(poses.individuals))
    rows, animals = np.nonzero(labelled.found.any(-1))
    human_xy, codes = labelled.xy.copy(), labelled.visibility.copy()
    pseudo = np.full((len(poses), len(poses.individuals), len(known), 2), np.nan)
    sure = np.full(pseudo.shape[:-1], np.nan)
    matched = np.zeros((len(poses), len(poses.individuals)), bool)
    apart: list[Floats] = []
    meter = Meter(len(poses))
    for row in range(len(poses)):
        if token is not None and token.cancelled:
            raise Cancelled("stopped")
        who = animals[rows == row]
        if len(who):
            frame = reader(poses, row)
            for animal, (seen, agrees, distances) in zip(
                who, looks.at(frame, labelled, row, who, vocabulary.space), strict=True
            ):
                apart.append(distances)
                side = int(facing(labelled.xy[row, animal], vocabulary.space)) or int(seen.side[0])
                if canonical:
                    human_xy[row, animal], codes[row, animal] = _near_far(
                        labelled.xy[row, animal], labelled.visibility[row, animal], vocabulary.space, side
                    )
                matched[row, animal] = agrees
                pseudo[row, animal], sure[row, animal] = seen.xy[0], seen.likelihood[0]
        if on_progress is not None:
            on_progress(meter.at(row + 1, "looking at the images with the starting model"))

    found = np.asarray(np.isfinite(human_xy).all(-1))
    extra = [
        k
        for k in vocabulary.space.keypoints
        if k not in known and found[..., vocabulary.space.index(k)].any()
    ]
    channels = (*known, *extra)
    index = np.array([vocabulary.space.index(k) for k in channels])
    human_xy, codes, found = human_xy[:, :, index], codes[:, :, index], found[:, :, index]
    width = ((0, 0), (0, 0), (0, len(extra)))
    pseudo = np.pad(pseudo, (*width, (0, 0)), constant_values=np.nan)
    sure = np.pad(sure, width, constant_values=np.nan)
    with np.errstate(invalid="ignore"):
        fill = matched[..., None] & ~found & (sure >= threshold) & np.isfinite(pseudo).all(-1)
    if absent:
        fill &= codes != 0
    # neither a person nor the model can tell: no weight
    nobody = ~found & ~fill & ((codes != 0) | (not absent))
    codes = np.where(fill, 2, np.where(nobody, UNDEFINED, codes)).astype(np.int8)
    labels = replace(
        labelled,
        keypoints=channels,
        xy=np.where(fill[..., None], pseudo, human_xy),
        visibility=codes,
        likelihood=np.where(fill, sure, np.where(found, 1.0, np.nan)),
        human=found,
        skeleton=restrict(vocabulary.space, channels).skeleton,
    )
    here = labels.found.any(-1)
    shared = np.concatenate([np.empty(0), *apart])
    counts = ReplayCounts(
        threshold=threshold,
        animals=int(here.sum()),
        unmatched=int((here & ~matched).sum()),
        right=float((shared <= AGREEMENT).mean()) if len(shared) else None,
        human=int(found.sum()),
        pseudo=int(fill.sum()),
        without_weight=int((codes[here] == UNDEFINED).sum()),
        pseudo_per_keypoint={
            k: int(fill[..., i].sum()) for i, k in enumerate(channels) if fill[..., i].any()
        },
    )
    return Replay(vocabulary.space, channels, labels, matched, counts)


def match_boxes(xy: Floats, boxes: Floats, detected: Floats) -> npt.NDArray[np.int64]:
    """Which detected box is which animal's, (A,); -1 where none is.

    Parameters
    ----------
    xy : (A, K, 2) labels, px; boxes : (A, 4) labelled boxes; detected : (M, 4)

    Labels may cover a part of the animal only, so a box is judged by the labels that it holds first, by its overlap
    with the labelled box second (Hungarian over the image).
    """
    partner = np.full(len(xy), -1, np.int64)
    if not len(detected):
        return partner
    finite = np.asarray(np.isfinite(xy).all(-1))
    room = 0.1 * detected[:, 2:]
    low, high = detected[:, :2] - room, detected[:, :2] + detected[:, 2:] + room
    at = np.where(finite[..., None], xy, np.inf)[:, None]
    within = ((at >= low[:, None]) & (at <= high[:, None])).all(-1)
    inside = within.sum(-1) / np.maximum(finite.sum(-1), 1)[:, None]
    worth = np.where(inside >= INSIDE, inside + box_iou(boxes, detected), 0.0)
    for animal, box in zip(*linear_sum_assignment(-worth), strict=True):
        if worth[animal, box] > 0:
            partner[animal] = box
    return partner


class _Looks:
    """The frozen starting model, looking at labelled animals."""

    def __init__(self, model: TrainableModel, animals: int) -> None:
        self.model = model
        self.symmetry = symmetry_of(model.card.keypoints, model.space, model.card.side_canonical)
        self.index = np.array([model.space.index(k) for k in model.card.keypoints])
        self.finder: FramePredictor | None = None
        if model.detector is not None or not isinstance(model, LoadedModel):
            self.finder = predictor_of(model, max_individuals=2 * animals + 2)

    def at(
        self,
        frame: npt.NDArray[np.uint8],
        labelled: Poses,
        row: int,
        who: npt.NDArray[np.int64],
        space: KeypointSpace,
    ) -> list[tuple[Seen, bool, Floats]]:
        """Per labelled animal what the model sees, whether that is this animal, and its distances from the labels.

        Distances are in units of the animal's size, of keypoints that both know.
        """
        xy = labelled.xy[row, who]
        given = labelled.boxes[row, who]
        boxes = with_boxes(labelled.take([row])).boxes[0, who]
        detects = self.finder is not None and self.model.detector is not None
        detected_boxes = self.finder.detect([frame])[0][0] if self.finder and detects else np.empty((0, 4))
        found = np.asarray(detected_boxes, np.float64)
        partner = match_boxes(xy, boxes, found)
        out = []
        for i in range(len(who)):
            detected = partner[i] >= 0
            candidates = [*([found[partner[i]]] if detected else []), boxes[i]]
            seen = self.look(frame, np.array(candidates))
            drawn = bool(np.isfinite(given[i]).all())
            distances = [
                self.distances(seen, j, xy[i], space) / size_of(boxes[i], None if drawn else seen.xy[j])
                for j in range(len(candidates))
            ]
            if len(distances[0]):
                medians = [float(np.median(each)) for each in distances]
                best = int(np.argmin(medians))
                agrees = medians[best] <= AGREEMENT
            else:
                # no keypoint in common: only a box that somebody drew or the detector found tells
                best, agrees = 0, detected or drawn
            part = slice(best, best + 1)
            out.append((Seen(seen.xy[part], seen.likelihood[part], seen.side[part]), agrees, distances[best]))
        return out

    @torch.inference_mode()
    def look(self, frame: npt.NDArray[np.uint8], boxes: Floats) -> Seen:
        """Keypoints in boxes (N, 4) of one frame."""
        if not isinstance(self.model, LoadedModel):
            return self._as_predicted(frame, boxes)
        card, network = self.model.card, self.model.pose
        size = network.config.input_size
        crops, squares = cut_batch([frame] * len(boxes), boxes, card.context, size)
        ready = standardise(crops).to(memory_format=torch.channels_last)
        at, raw, embedding = pose_pass(network, ready, self.symmetry, card.flip)
        sure = likelihood(raw, embedding, self.model.calibration).double().numpy()
        xy = to_frame(at.numpy(), squares, size)
        whole = np.full((len(boxes), len(self.model.space), 2), np.nan)
        weight = np.zeros(whole.shape[:-1])
        whole[:, self.index], weight[:, self.index] = xy, sure
        return Seen(xy, sure, facing(whole, self.model.space, weight))

    def _as_predicted(self, frame: npt.NDArray[np.uint8], boxes: Floats) -> Seen:
        """Keypoints of one of SuperAnimal's networks, which knows left from right, exactly as it predicts."""
        assert self.finder is not None
        xy, sure = self.finder.pose([frame] * len(boxes), boxes)
        side = facing(xy, self.model.space, np.nan_to_num(sure))
        return Seen(xy[:, self.index], np.nan_to_num(sure[:, self.index]), side)

    def distances(self, seen: Seen, n: int, xy: Floats, space: KeypointSpace) -> Floats:
        """From the labels (K, 2), px, of keypoints that are labelled and seen."""
        if self.model.card.side_canonical:
            codes = np.zeros(len(xy), np.int8)
            xy, _ = _near_far(xy, codes, space, int(facing(xy, space)) or int(seen.side[n]))
        apart = np.linalg.norm(seen.xy[n] - xy[self.index], axis=-1)
        return np.asarray(apart[np.isfinite(apart)])


def size_of(box: Floats, seen: Floats | None) -> float:
    """Size of an animal, px: of its box, or of what is seen of it where that is more than the labels cover."""
    size = np.sqrt(box[2] * box[3])
    if seen is not None:
        size = max(size, np.sqrt(np.prod(boxes_from_keypoints(seen)[2:])))
    return max(float(size), 1.0)


def _near_far(
    xy: Floats, codes: npt.NDArray[np.int8], space: KeypointSpace, side: int
) -> tuple[Floats, npt.NDArray[np.int8]]:
    """One animal's left/right keypoints (K, 2) renamed to near/far, given the way it faces.

    Of an animal that faces the camera paired keypoints cannot be told: they become undefined.
    """
    if side > 0:
        return xy[space.swap], codes[space.swap]
    if side < 0:
        return xy, codes
    paired = space.swap != np.arange(len(space))
    return np.where(paired[:, None], np.nan, xy), np.where(paired, UNDEFINED, codes).astype(np.int8)
