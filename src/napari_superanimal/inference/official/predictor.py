"""SuperAnimal's own models applied to frames with the reference's numbers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from napari_superanimal.errors import UserError
from napari_superanimal.inference.device_frames import kept_on
from napari_superanimal.inference.frame_predictor import (
    WHOLE_FRAME,
    Boxes,
    Frame,
    Predictions,
    Shares,
    box_by_box,
    whole_frames,
)
from napari_superanimal.inference.keyframes import chunk_length, predict_between
from napari_superanimal.inference.official.crops import stack, to_frame, top_down_crop
from napari_superanimal.inference.official.decode import decode_heatmaps, decode_simcc
from napari_superanimal.inference.official.detect import BoxFinder
from napari_superanimal.inference.official.device_crops import top_down_crops
from napari_superanimal.inference.official.images import normalise
from napari_superanimal.inference.predictor import Predictor, pick_device
from napari_superanimal.inference.runtime.engine import EXACT, Engine, first_engine
from napari_superanimal.inference.runtime.memory import in_batches
from napari_superanimal.inference.runtime.ready import ready
from napari_superanimal.models.official.catalogue import scorer
from napari_superanimal.models.official.rtmpose import RTMPose, SimccOutput
from napari_superanimal.poses import animal_names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_superanimal.inference.official.crops import Crop
    from napari_superanimal.models.official.load import OfficialPose
    from napari_superanimal.models.official.networks import HeatmapOutput


class OfficialPredictor:
    """Runs one of SuperAnimal's pose networks, or one fine-tuned from it, on frames.

    Safe to call from several threads at once.

    Parameters
    ----------
    model : OfficialPose
        Taken over: its network is moved and pruned.
    detector : BoxFinder, Predictor or "whole-frame"
        Where boxes come from: one of SuperAnimal's detectors, that of another model, or the whole frame as one box.
    max_individuals : int
        Most animals per frame.
    device : {"auto", "cpu", "cuda", "mps"}
    precision : {"auto", "fp32", "bf16"}
        Of the pose network; "auto" is fp32, which the reference's numbers need.
    runtime : {"auto", "torch", "openvino"}
        "auto" is torch. `runtime.self_test` chooses by trial; `use` takes what it chose.
    detect_every : int
        See `keyframes`; 1 runs the detector on every frame.
    reference : bool
        Keep the reference's faults where they show in coordinates: keypoints that RTMPose does not find lie half
        a crop pixel outside the crop instead of being missing. The networks run as they are, nothing is folded.
    crops_on_device : bool, optional
        Send frames to the device once, and cut and resize them there (`device_crops`, equal in every bit); by default
        on all devices but the CPU.

    Raises
    ------
    UserError
        If the device is missing, or mirror averaging is asked for, which the reference does not do.
    """

    spare = 0

    def __init__(
        self,
        model: OfficialPose,
        *,
        detector: BoxFinder | Predictor | str,
        max_individuals: int = 1,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int = 16,
        flip: bool | None = None,
        runtime: str = "auto",
        detect_every: int = 1,
        reference: bool = False,
        crops_on_device: bool | None = None,
    ) -> None:
        if flip:
            raise UserError(f"{model.card.name} does not average mirrored crops", remedy="leave --flip out")
        self.card = model.card
        self.space = model.space
        self.max_individuals = max_individuals
        self.device = pick_device(device)
        self.crops_on_device = self.device.type != "cpu" if crops_on_device is None else crops_on_device
        self.batch_size = batch_size
        self.flip = False
        self.reference = reference
        self.shares = Shares()
        self._detector = detector
        self._channels = np.array([self.space.index(k) for k in self.card.keypoints], np.int64)
        network: Any = model.network
        network.prune()
        self._network = network.to(self.device, memory_format=torch.channels_last).eval()
        if isinstance(detector, BoxFinder):
            self.detector_name, self.detector_threshold = detector.name, detector.threshold
        elif isinstance(detector, Predictor):
            self.detector_name, self.detector_threshold = detector.card.name, detector.detector_threshold
        else:
            self.detector_name, self.detector_threshold = WHOLE_FRAME, 0.0
        slow = isinstance(detector, BoxFinder) and "resnet50" in detector.architecture
        self.detect_every = detect_every
        self.chunk_frames = chunk_length(detect_every, 16 if self.device.type == "cuda" else 2 if slow else 4)
        self.use(first_engine(self.device, runtime, precision))

    def use(self, engine: Engine) -> None:
        """Have the networks run by an engine, the detector in float32: another box is another crop.

        Raises
        ------
        UserError
            If it is not the exact one and the reference's numbers are wanted.
        """
        if self.reference and engine != EXACT:
            raise UserError(f"{engine} does not give the reference's numbers", remedy="leave --reference out")
        self.engine = engine
        if self.reference:
            self._run: Any = self._network
            return
        width, height = self._network.input_size
        self._run = ready(self._network, engine, size=(height, width))
        if not isinstance(self._detector, str):
            self._detector.use(Engine(engine.runtime))

    @property
    def individuals(self) -> tuple[str, ...]:
        """Names of the columns, as SuperAnimal's files call them."""
        return animal_names(self.max_individuals)

    @property
    def scorer(self) -> str:
        """Name in files: the model and the detector."""
        return scorer(self.card.name, self.detector_name)

    def detect(self, frames: Sequence[Frame]) -> Sequence[Boxes]:
        """Boxes (M, 4) and scores (M,) per frame, best first, px of the frame."""
        if isinstance(self._detector, BoxFinder):
            return self._detector(frames, self.max_individuals + self.spare)
        if isinstance(self._detector, Predictor):
            self._detector.spare = self.spare
            return self._detector.detect(frames)
        return whole_frames(frames)

    def crops(
        self, frames: Sequence[Frame], boxes: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray[np.int64], list[Crop]]:
        """Crops of the boxes (N, 4), one frame each, and the numbers (M,) of the boxes that have one."""
        size = self._network.input_size
        cut = [top_down_crop(frame, box, size) for frame, box in zip(frames, boxes, strict=True)]
        rows = [i for i, crop in enumerate(cut) if crop is not None]
        return np.array(rows, np.int64), [crop for crop in cut if crop is not None]

    def _ready(
        self, frames: Sequence[Frame], boxes: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray[np.int64], torch.Tensor, Callable[[npt.NDArray], npt.NDArray[np.float64]]]:
        """What the network is shown of boxes (N, 4), on the device, numbers (M,) of the boxes, and the way back."""
        if self.crops_on_device:
            cut = top_down_crops(frames, boxes, self._network.input_size, self.device)
            return cut.rows, normalise(cut.pixels, self.device), cut.to_frame
        rows, crops = self.crops(frames, boxes)
        images = normalise(stack(crops), self.device) if crops else torch.empty(0)
        return rows, images, lambda xy: to_frame(xy, crops)

    @torch.inference_mode()
    def forward(self, crops: Sequence[Crop]) -> HeatmapOutput | SimccOutput:
        """What the network gives for crops."""
        out: HeatmapOutput | SimccOutput = self._run(normalise(stack(crops), self.device))
        return out

    @torch.inference_mode()
    def pose(
        self, frames: Sequence[Frame], boxes: npt.NDArray[np.floating]
    ) -> tuple[npt.NDArray, npt.NDArray]:
        """Keypoints (N, K, 2) px of the frame and scores (N, K) for N boxes (N, 4), one frame each.

        Where a box has nothing of the frame in it, everything is NaN.
        """
        k = len(self.space)
        xy, sure = np.full((len(boxes), k, 2), np.nan), np.full((len(boxes), k), np.nan)

        def work(part: slice) -> None:
            rows, images, back = self._ready(frames[part], boxes[part])
            if len(rows):
                points, score = self._decode(self._run(images))
                into = np.ix_(part.start + rows, self._channels)
                xy[into] = back(points.cpu().numpy())
                sure[into] = score.cpu().numpy()

        self.batch_size = in_batches(len(boxes), self.batch_size, work)
        return xy, sure

    def _decode(self, output: HeatmapOutput | SimccOutput) -> tuple[torch.Tensor, torch.Tensor]:
        network = self._network
        if isinstance(output, SimccOutput):
            assert isinstance(network, RTMPose)
            return decode_simcc(output, network.config.sigma, reference=self.reference)
        return decode_heatmaps(output, network.stride)

    def __call__(self, frames: Sequence[Frame]) -> Predictions:
        """Boxes, then keypoints, of n frames (H, W, 3) uint8 RGB."""
        with kept_on(frames) if self.crops_on_device else contextlib.nullcontext():
            return predict_between(self, frames, self.detect_every)

    def bare(self, frames: Sequence[Frame]) -> Callable[[], None]:
        """The networks alone on these frames: their batches are prepared now, what is returned only runs them."""
        poses_alone = self.bare_pose(*box_by_box(frames, self.detect(frames)))
        boxes_alone = self._detector.bare(frames) if not isinstance(self._detector, str) else None

        def run() -> None:
            if boxes_alone is not None:
                boxes_alone()
            poses_alone()

        return run

    def bare_pose(self, frames: Sequence[Frame], boxes: npt.NDArray[np.floating]) -> Callable[[], None]:
        """The pose network alone on N boxes (N, 4), one frame each, prepared beforehand."""
        images = self._ready(frames, boxes)[1]

        @torch.inference_mode()
        def run() -> None:
            for start in range(0, len(images), self.batch_size):
                self._run(images[start : start + self.batch_size])

        return run
