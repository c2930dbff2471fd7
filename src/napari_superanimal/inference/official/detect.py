"""Boxes by SuperAnimal's detectors, as the reference finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from napari_superanimal.inference.device_frames import stacked
from napari_superanimal.inference.official.images import normalise, unit_range
from napari_superanimal.inference.runtime.memory import in_batches
from napari_superanimal.inference.runtime.ready import ready_detector
from napari_superanimal.models.official.detectors import detect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from napari_superanimal.inference.official.resize import Image
    from napari_superanimal.inference.runtime.engine import Engine
    from napari_superanimal.models.official.load import OfficialDetector

#: Frames per pass on a GPU; a CPU gains nothing from more than one, and they are large.
GPU_BATCH = 8

Found = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


class BoxFinder:
    """Finds animals in frames.

    Frames are normalised here and once more inside torchvision's network: the detectors were trained that way.
    torchvision's own COCO detectors see their frames normalised once.

    Parameters
    ----------
    model : OfficialDetector
    device : torch.device
    reference : bool
        Keep the faint boxes of SSDLite (score 0.001 and up) that the reference hands on.
    """

    def __init__(self, model: OfficialDetector, device: torch.device, *, reference: bool = False) -> None:
        # torchvision's anchors and box operations fall back to the CPU on Apple's GPUs, as the reference does openly
        self.device = torch.device("cpu") if device.type == "mps" else device
        self.frames_on_device = self.device.type != "cpu"
        self.name = model.card.name
        self.architecture = model.network.architecture
        self.threshold = 0.0 if reference else model.card.detector_threshold
        self.batch_size = GPU_BATCH if self.device.type == "cuda" else 1
        self._plain: Any = model.network.to(self.device)
        self._network: Any = self._plain
        self._coco = model.network.coco

    def use(self, engine: Engine) -> None:
        """Have the convolutions run by an engine; without this they are those of the reference to the last bit."""
        self._network = ready_detector(self._plain, engine)

    def prepare(self, frames: Sequence[Image]) -> Tensor:
        """Frames of one size as the network wants them, on the device."""
        make = unit_range if self._coco else normalise
        if self.frames_on_device:
            return make(stacked(frames, self.device), self.device)
        return make(np.stack(frames), self.device)

    def raw(self, frames: Sequence[Image]) -> list[tuple[Tensor, Tensor]]:
        """Boxes (M, 4) x1, y1, x2, y2 px and scores (M,) of frames of one size, as the network gives them."""
        return detect(self._network, self.prepare(frames))

    def __call__(self, frames: Sequence[Image], most: int) -> list[Found]:
        """Boxes (M, 4) x, y, width, height px and scores (M,) per frame, best first, at most `most`."""
        found: list[Found] = []
        for run in same_size_runs(frames, len(frames)):

            def work(part: slice, run: Sequence[Image] = run) -> None:
                for boxes, scores in self.raw(run[part]):
                    keep = scores >= self.threshold
                    corners, score = boxes[keep][:most].cpu().numpy(), scores[keep][:most].cpu().numpy()
                    found.append((np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]), score))

            self.batch_size = in_batches(len(run), self.batch_size, work)
        return found

    def bare(self, frames: Sequence[Image]) -> Callable[[], None]:
        """The network alone on these frames, prepared beforehand."""
        parts = [self.prepare(part) for part in same_size_runs(frames, self.batch_size)]

        def run() -> None:
            for part in parts:
                detect(self._network, part)

        return run


def same_size_runs(frames: Sequence[Image], most: int) -> list[Sequence[Image]]:
    """Consecutive frames of one size, at most `most` together."""
    runs: list[Sequence[Image]] = []
    start = 0
    for i in range(1, len(frames) + 1):
        if i == len(frames) or frames[i].shape != frames[start].shape or i - start == most:
            runs.append(frames[start:i])
            start = i
    return runs
