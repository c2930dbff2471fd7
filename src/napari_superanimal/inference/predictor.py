"""A model applied to frames: detector, crops, heatmaps, keypoints in pixels of the frame."""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_superanimal.errors import UserError
from napari_superanimal.inference.chunk import CHUNK
from napari_superanimal.inference.crops import cut_batch, letterbox_batches, to_frame
from napari_superanimal.inference.decode import decode_boxes
from napari_superanimal.inference.device_crops import cut_on_device, letterbox_batches_on_device
from napari_superanimal.inference.device_frames import kept_on
from napari_superanimal.inference.frame_predictor import (
    OWN_DETECTOR,
    WHOLE_FRAME,
    Boxes,
    Frame,
    Predictions,
    Shares,
    box_by_box,
    whole_frames,
)
from napari_superanimal.inference.keyframes import chunk_length, predict_between
from napari_superanimal.inference.likelihood import likelihood
from napari_superanimal.inference.pose_pass import pose_pass, symmetry_of
from napari_superanimal.inference.runtime.engine import Engine, first_engine
from napari_superanimal.inference.runtime.memory import in_batches
from napari_superanimal.inference.runtime.ready import ready
from napari_superanimal.models.networks import DetectorNet, PoseNet, standardise
from napari_superanimal.poses import animal_names
from napari_superanimal.poses.project import facing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_superanimal.inference.official.detect import BoxFinder
    from napari_superanimal.models.load import LoadedModel

Network = TypeVar("Network", bound=nn.Module)


def pick_device(name: str = "auto") -> torch.device:
    """The device to run on.

    Raises
    ------
    UserError
        If the device asked for is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(name, False):
        raise UserError(f"device {name!r} is not available here", remedy="use --device auto or cpu")
    return torch.device(name)


class Predictor:
    """Runs a top-down model on frames. Safe to call from several threads at once.

    Parameters
    ----------
    model : LoadedModel
    detector : {"model", "whole-frame"}, LoadedModel or BoxFinder
        Where boxes come from: the model's own detector, the whole frame as one box, another model's detector, or
        one of SuperAnimal's.
    max_individuals : int
        Most animals per frame.
    device : {"auto", "cpu", "cuda", "mps"}
    precision : {"auto", "fp32", "bf16"}
        "auto" is fp32.
    runtime : {"auto", "torch", "openvino"}
        "auto" is torch.
    detect_every : int
        See `keyframes`; 1 runs the detector on every frame.
    flip : bool, optional
        Average every crop with its mirror image (twice the time, more accurate); the card decides by default.
    crops_on_device : bool, optional
        Send frames to the device once, and cut and resize them there (`device_crops`); by default on all devices but
        the CPU.

    Raises
    ------
    UserError
        If the device is missing or the model has no detector and none is given.
    """

    spare = 0

    def __init__(
        self,
        model: LoadedModel,
        *,
        detector: LoadedModel | BoxFinder | str = OWN_DETECTOR,
        max_individuals: int = 1,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int = 16,
        flip: bool | None = None,
        runtime: str = "auto",
        detect_every: int = 1,
        crops_on_device: bool | None = None,
    ) -> None:
        self.model = model
        self.card = model.card
        self.space = model.space
        self.max_individuals = max_individuals
        self.device = pick_device(device)
        self.crops_on_device = self.device.type != "cpu" if crops_on_device is None else crops_on_device
        self.batch_size = batch_size
        self.flip = self.card.flip if flip is None else flip
        self.whole_frame = detector == WHOLE_FRAME
        self.detect_every = detect_every
        self.chunk_frames = chunk_length(detect_every, CHUNK)
        self._plain_pose: PoseNet = self._moved(model.pose)
        self._plain_detector: DetectorNet | None = None
        self._finder: BoxFinder | None = None
        if self.whole_frame:
            self.detector_name, self.detector_threshold = WHOLE_FRAME, model.card.detector_threshold
        elif callable(detector):
            self._finder = detector
            self.detector_name, self.detector_threshold = detector.name, detector.threshold
        else:
            source = model if isinstance(detector, str) else detector
            if source.detector is None:
                raise UserError(
                    f"model {source.card.name!r} has no detector",
                    remedy="choose --detector whole-frame, or a model that has one",
                )
            self.detector_name, self.detector_threshold = source.card.name, source.card.detector_threshold
            self._plain_detector = self._moved(source.detector)
        self._calibration = {k: v.to(self.device) for k, v in model.calibration.items()}
        self._channels = np.array([self.space.index(k) for k in self.card.keypoints])
        self._symmetry = symmetry_of(self.card.keypoints, self.space, self.card.side_canonical)
        self.shares = Shares()
        self.use(first_engine(self.device, runtime, precision))

    def _moved(self, network: Network) -> Network:
        moved = copy.deepcopy(network).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return moved.eval()

    def use(self, engine: Engine) -> None:
        """Have the networks run by an engine; by torch in float32 they run as they were trained, nothing is folded.

        Detectors always compute in float32: a box that is another by half a pixel is another crop.
        """
        self.engine = engine
        side = self._plain_pose.config.input_size
        self._pose: PoseNet = ready(self._plain_pose, engine, size=(side, side), fold=False)
        self._detector: DetectorNet | None = None
        finding = Engine(engine.runtime)
        if self._plain_detector is not None:
            side = self._plain_detector.config.input_size
            self._detector = ready(self._plain_detector, finding, size=(side, side), fold=False)
        if self._finder is not None:
            self._finder.use(finding)

    @property
    def individuals(self) -> tuple[str, ...]:
        """Names of the columns, as SuperAnimal's files call them."""
        return animal_names(self.max_individuals)

    @property
    def scorer(self) -> str:
        """Name in files: the model, and the detector where it is not the model's own."""
        own = self.detector_name == self.card.name
        return self.card.name if own else f"{self.card.name}_{self.detector_name}"

    def prepare(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W), uint8 or whole grey levels, as the networks want them, on the device."""
        on_device = images.to(self.device).contiguous(memory_format=torch.channels_last)
        return standardise(on_device)

    @torch.inference_mode()
    def detect(self, frames: Sequence[Frame]) -> Sequence[Boxes]:
        """Boxes (M, 4) and scores (M,) per frame, best first, px of the frame."""
        if self._finder is not None:
            return self._finder(frames, self.max_individuals + self.spare)
        if self._detector is None:
            return whole_frames(frames)
        config = self._detector.config
        results = [(np.empty((0, 4)), np.empty(0))] * len(frames)
        for rows, images, scales in self._letterboxed(frames):
            out = self._detector(self.prepare(images))
            found = decode_boxes(
                out.heatmaps,
                out.boxes,
                config.stride,
                self.max_individuals + self.spare,
                self.detector_threshold,
            )
            for row, (box, score), scale in zip(rows, found, scales, strict=True):
                in_frame = box.double().numpy().reshape(-1, 4)
                in_frame[:, :2] = (in_frame[:, :2] + 0.5) / scale - 0.5
                in_frame[:, 2:] /= scale
                results[row] = in_frame, score.double().numpy()
        return results

    @torch.inference_mode()
    def pose(
        self, frames: Sequence[Frame], boxes: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray, npt.NDArray]:
        """Keypoints (N, K, 2) px of the frame and likelihood (N, K) for N boxes (N, 4), one frame each."""
        k = len(self.space)
        xy, sure = np.full((len(boxes), k, 2), np.nan), np.full((len(boxes), k), np.nan)
        size = self._pose.config.input_size

        def work(part: slice) -> None:
            crops, squares = self._cut(frames[part], boxes[part])
            at, raw, embedding = pose_pass(self._pose, self.prepare(crops), self._symmetry, self.flip)
            confidence = likelihood(raw, embedding, self._calibration)
            xy[part, self._channels] = to_frame(at.cpu().numpy(), squares, size)
            sure[part, self._channels] = confidence.cpu().numpy()

        self.batch_size = in_batches(len(boxes), self.batch_size, work)
        return self._sides(xy, sure) if self.card.side_canonical else (xy, sure)

    def _cut(self, frames: Sequence[Frame], boxes: npt.NDArray[np.floating]) -> tuple[Tensor, npt.NDArray]:
        """Crops (N, 3, S, S), where they are made, and their squares (N, 3)."""
        size, exact = self._pose.config.input_size, boxes.astype(np.float64)
        if self.crops_on_device:
            return cut_on_device(frames, exact, self.card.context, size, self.device)
        return cut_batch(list(frames), exact, self.card.context, size)

    def _letterboxed(self, frames: Sequence[Frame]) -> list[tuple[list[int], Tensor, list[float]]]:
        """Pictures for the detector, where they are made."""
        assert self._detector is not None
        size = self._detector.config.input_size
        if self.crops_on_device:
            return letterbox_batches_on_device(frames, size, self.device)
        return letterbox_batches(frames, size)

    def _sides(self, xy: npt.NDArray, sure: npt.NDArray) -> tuple[npt.NDArray, npt.NDArray]:
        """Near and far keypoints (N, K, 2) renamed to left and right by the way the animal faces."""
        right = facing(xy, self.space, sure) > 0
        xy[right], sure[right] = xy[right][:, self.space.swap], sure[right][:, self.space.swap]
        return xy, sure

    def __call__(self, frames: Sequence[Frame]) -> Predictions:
        """Boxes, then keypoints, of n frames (H, W, 3) uint8 RGB; they may differ in size."""
        with kept_on(frames) if self.crops_on_device else contextlib.nullcontext():
            return predict_between(self, frames, self.detect_every)

    def bare(self, frames: Sequence[Frame]) -> Callable[[], None]:
        """The networks alone on these frames: their batches are prepared now, what is returned only runs them."""
        crops = self.prepare(self._cut(*box_by_box(frames, self.detect(frames)))[0])
        other: Any = None if self._finder is None else self._finder.bare(frames)
        pictures = []
        if self._detector is not None:
            pictures = [self.prepare(images) for _, images, _ in self._letterboxed(frames)]

        @torch.inference_mode()
        def run() -> None:
            if other is not None:
                other()
            if self._detector is not None:
                for images in pictures:
                    self._detector(images)
            for start in range(0, len(crops), self.batch_size):
                self._pose(crops[start : start + self.batch_size])

        return run
