"""What the starting model sees on sampled frames: every animal looked at several times, from slightly different crops.

A network's answer depends a little on where the crop's edges lie, and a detector's boxes tremble. What several looks
agree on is a better label than any one of them, and where they disagree the model does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_superanimal.adaptation.camera import camera_path
from napari_superanimal.inference.crops import cut, cut_batch, square_crop, to_frame
from napari_superanimal.inference.likelihood import likelihood
from napari_superanimal.inference.pose_pass import pose_pass, symmetry_of
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.inference.tracks import Tracker
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Meter, ProgressCallback
from napari_superanimal.models.networks import standardise
from napari_superanimal.training.samples import ROOM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.inference.frame_predictor import Frame
    from napari_superanimal.inference.stream import FrameSource
    from napari_superanimal.models.load import LoadedModel

Floats = npt.NDArray[np.float64]
#: How far the crops of further looks are moved, in sides of the box, and scaled, as the log of a factor.
SHIFT, SCALE = 0.08, 0.12


@dataclass(frozen=True)
class Looks:
    """Animals in bursts of one video, as the starting model sees them.

    Attributes
    ----------
    frames : (N,) int64
        Frame of each animal seen.
    burst : (N,) int64
        Which burst the frame belongs to.
    individual : (N,) int64
        Column that it keeps within its burst.
    boxes : (N, 4) float64, px of the frame
    scores : (N,) float64
    xy : (N, V, K, 2) float64, px of the frame
        V looks; the first is the detector's own box. Keypoints are the model's channels (near and far where the model
        knows only those).
    likelihood : (N, V, K) float64
    crops : (N, 3, S, S) uint8
        As `PoseSamples` keeps them.
    squares : (N, 3) float64
        Left, top and side of each crop in the frame.
    embedding : (N, C) float32
    camera : (N, 2) float64, px
        How far the background has moved since the first frame of the burst; NaN where that is unknown.
    """

    frames: npt.NDArray[np.int64]
    burst: npt.NDArray[np.int64]
    individual: npt.NDArray[np.int64]
    boxes: Floats
    scores: Floats
    xy: Floats
    likelihood: Floats
    crops: Tensor
    squares: Floats
    embedding: Tensor
    camera: Floats

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> Floats:
        """Square root of the box's area, (N,) px."""
        return np.sqrt(np.prod(self.boxes[:, 2:], -1))


def look(
    model: LoadedModel,
    video: FrameSource,
    bursts: Sequence[range],
    *,
    max_individuals: int = 1,
    views: int = 6,
    seed: int = 0,
    message: str = "looking at the video with the starting model",
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> Looks:
    """Look at the animals of some bursts.

    Frames are decoded one burst at a time; only crops of the animals are kept.

    Parameters
    ----------
    bursts : sequence of range
        Frame numbers.
    views : int
        Looks per animal.

    Raises
    ------
    Cancelled
        Between two bursts.
    """
    finder = Predictor(model, max_individuals=max_individuals, device="cpu")
    eye = Eye(model)
    rng = np.random.default_rng((seed, 1))
    meter = Meter(sum(len(b) for b in bursts))
    size = round(ROOM * model.pose.config.input_size)
    parts: list[tuple[npt.NDArray, ...]] = []
    crops: list[Tensor] = []
    embeddings: list[Tensor] = []
    done = 0
    for n, burst in enumerate(bursts):
        if token is not None and token.cancelled:
            raise Cancelled("stopped")
        frames = [frame for _, frame in video.iter_frames(burst.start, burst.stop, 1)]
        boxes, scores, owner, column = _follow(finder, frames, max_individuals, len(model.space))
        if len(boxes):
            path = camera_path(frames, [boxes[owner == i] for i in range(len(frames))])
            pictures = [frames[i] for i in owner]
            xy, sure, embedding = eye(pictures, boxes, views, rng)
            squares = np.empty((len(boxes), 3))
            for i, (picture, box) in enumerate(zip(pictures, boxes, strict=True)):
                crop, *squares[i] = cut(picture, *square_crop(box, model.card.context * ROOM), size)
                crops.append(crop)
            numbers = np.array(burst)[owner]
            parts.append(
                (numbers, np.full(len(boxes), n), column, boxes, scores, xy, sure, squares, path[owner])
            )
            embeddings.append(embedding)
        done += len(frames)
        if on_progress is not None:
            on_progress(meter.at(done, message))
    if not parts:
        return _nothing(views, len(model.card.keypoints), size)
    frame, which, individual, box, score, xy, sure, square, path = (
        np.concatenate([part[i] for part in parts]) for i in range(9)
    )
    whole = torch.stack(crops), square, torch.cat(embeddings), path
    return Looks(frame.astype(np.int64), which, individual, box, score, xy, sure, *whole)


def _nothing(views: int, keypoints: int, size: int) -> Looks:
    """No animal was seen."""
    none = np.empty(0, np.int64)
    shape = (0, views, keypoints)
    crops = torch.empty((0, 3, size, size), dtype=torch.uint8)
    return Looks(
        none,
        none,
        none,
        np.empty((0, 4)),
        np.empty(0),
        np.empty((*shape, 2)),
        np.empty(shape),
        crops,
        np.empty((0, 3)),
        torch.empty((0, 0)),
        np.empty((0, 2)),
    )


def _follow(
    finder: Predictor, frames: list[Frame], slots: int, keypoints: int
) -> tuple[Floats, Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Boxes (M, 4), scores, frames (rows of the burst) and individuals of all animals in a burst."""
    detected = finder.detect(frames)
    boxes, scores, owner, column = [], [], [], []
    tracker = Tracker(slots, keypoints) if slots > 1 else None
    for i, (found, score) in enumerate(detected):
        if not len(found):
            continue
        rows = columns = np.arange(len(found))
        if tracker is not None:
            nothing = np.full((len(found), keypoints, 2), np.nan)
            step = tracker.assign(np.asarray(found), np.asarray(score), nothing, nothing[..., 0])
            rows, columns = step.detections, step.columns
        boxes.append(np.asarray(found, np.float64)[rows])
        scores.append(np.asarray(score, np.float64)[rows])
        owner += [i] * len(rows)
        column.append(columns)
    if not boxes:
        nobody = np.empty(0, np.int64)
        return np.empty((0, 4)), np.empty(0), nobody, nobody
    return np.concatenate(boxes), np.concatenate(scores), np.array(owner), np.concatenate(column)


class Eye:
    """The frozen pose network, looking at boxes.

    Parameters
    ----------
    model : LoadedModel
    """

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.symmetry = symmetry_of(model.card.keypoints, model.space, model.card.side_canonical)

    def __call__(
        self, frames: list[Frame], boxes: Floats, views: int, rng: np.random.Generator
    ) -> tuple[Floats, Floats, Tensor]:
        """Keypoints (N, V, K, 2) px of the frame, likelihoods (N, V, K), embeddings (N, C) of the first look.

        Every other look is at the mirror image. The first two see the box as it is, the others see it shaken.
        """
        size = self.model.pose.config.input_size
        at, sure, embeddings = [], [], []
        for v in range(views):
            moved = boxes if v < 2 else shaken(boxes, rng)
            for start in range(0, len(boxes), 16):
                part = slice(start, start + 16)
                crops, squares = cut_batch(frames[part], moved[part], self.model.card.context, size)
                seen = self.crops(crops, mirrored=v % 2 == 1)
                at.append(to_frame(seen[0], squares, size))
                sure.append(seen[1])
                if v == 0:
                    embeddings.append(seen[2])
        n = len(boxes)
        xy = np.concatenate(at).reshape(views, n, -1, 2).swapaxes(0, 1)
        return xy, np.concatenate(sure).reshape(views, n, -1).swapaxes(0, 1), torch.cat(embeddings)

    @torch.inference_mode()
    def crops(
        self, crops: Tensor, *, turns: int = 0, mirrored: bool = False
    ) -> tuple[Floats, Floats, Tensor]:
        """Keypoints (N, K, 2) px of the crops, likelihoods (N, K) and embeddings (N, C), as the network sees them
        when the crops (N, 3, S, S) uint8 are turned by `turns` quarters and, then, mirrored; mapped back."""
        network = self.model.pose.eval()
        shown = torch.rot90(crops, turns, (-2, -1))
        shown = shown.flip(-1) if mirrored else shown
        ready = standardise(shown.contiguous()).to(memory_format=torch.channels_last)
        at, raw, embedding = pose_pass(network, ready, self.symmetry, False)
        xy = at.double().numpy()
        sure = likelihood(raw, embedding, self.model.calibration).double().numpy()
        last = crops.shape[-1] - 1
        if mirrored:
            order = list(self.symmetry.mirror)
            xy, sure = xy[:, order], sure[:, order]
            xy[..., 0] = last - xy[..., 0]
        for _ in range(turns % 4):
            xy = np.stack([last - xy[..., 1], xy[..., 0]], -1)
        return xy, sure, embedding


def shaken(boxes: Floats, rng: np.random.Generator) -> Floats:
    """Boxes (N, 4) moved and scaled at random, as far as a detector's own boxes are off."""
    n = len(boxes)
    factor = np.exp(rng.uniform(-SCALE, SCALE, n))[:, None]
    shift = rng.uniform(-SHIFT, SHIFT, (n, 2)) * boxes[:, 2:].max(-1, keepdims=True)
    centre = boxes[:, :2] + boxes[:, 2:] / 2 + shift
    extent = boxes[:, 2:] * factor
    return np.concatenate([centre - extent / 2, extent], -1)
