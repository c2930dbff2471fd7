"""The frames of an Image layer, as the engine wants them: a video of RGB bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.errors import UserError
from napari_superanimal.plugin.frames import LazyFrames
from napari_superanimal.video import Video

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.layers import Image, Layer

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ArrayVideo:
    """Frames of an array that napari shows, in the shape of `Video`.

    Attributes
    ----------
    data : array-like
        (T, H, W) or (T, H, W, 3 or 4); (H, W) or (H, W, 3 or 4) when `single`. Numpy, dask, zarr.
    rgb : bool
        The last axis is colour.
    single : bool
        One image without a time axis.
    limits : (float, float)
        What is black and what is white when the data are not bytes.
    fps : float
    """

    data: Any
    rgb: bool
    single: bool
    limits: tuple[float, float] = (0.0, 255.0)
    fps: float = 30.0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3)."""
        spatial = self.data.shape[:-1] if self.rgb else self.data.shape
        height, width = spatial[-2:]
        return (1 if self.single else int(spatial[0]), int(height), int(width), 3)

    def __len__(self) -> int:
        return self.shape[0]

    def frame(self, index: int) -> Frame:
        """Frame `index`, (H, W, 3) uint8 RGB; of images that differ in size, without what pads them."""
        if isinstance(self.data, LazyFrames):
            return self.data.picture(index)
        return as_rgb(np.asarray(self.data if self.single else self.data[index]), self.rgb, self.limits)

    def iter_frames(
        self, start: int = 0, stop: int | None = None, step: int = 1
    ) -> Iterator[tuple[int, Frame]]:
        """Frames one after the other with their numbers."""
        for index in range(len(self))[start:stop:step]:
            yield index, self.frame(index)

    def fork(self) -> ArrayVideo:
        """Another consumer may read the same array."""
        return self

    def close(self) -> None:
        """Nothing to close."""


def as_rgb(image: npt.NDArray[Any], rgb: bool, limits: tuple[float, float]) -> Frame:
    """An image as napari shows it: (H, W, 3) uint8.

    Parameters
    ----------
    image : (H, W) or (H, W, 3 or 4)
    rgb : bool
    limits : (float, float)
        Values for black and white of data that are not bytes; RGB floats are 0..1.
    """
    if rgb:
        image = image[..., :3]
    if image.dtype != np.uint8:
        low, high = (0.0, 1.0 if image.dtype.kind == "f" else 255.0) if rgb else limits
        scaled = (image.astype(np.float32) - low) * (255.0 / max(high - low, 1e-12))
        image = np.clip(np.nan_to_num(scaled), 0, 255).astype(np.uint8)
    return image if rgb else np.repeat(image[..., None], 3, axis=-1)


def is_video_layer(layer: Layer) -> bool:
    """Whether an Image layer can be predicted on: one image, or frames over time."""
    from napari.layers import Image

    return isinstance(layer, Image) and layer.ndim in (2, 3)


def open_source(layer: Image) -> Video | ArrayVideo:
    """The frames behind an Image layer, with a decoder of their own where there is one.

    Raises
    ------
    UserError
        If the layer has more axes than time, height and width.
    """
    data = pixels(layer)
    if isinstance(data, Video):
        return data.fork()
    if layer.ndim not in (2, 3):
        raise UserError(
            f"layer {layer.name!r} has {layer.ndim} axes",
            remedy="choose a layer with frames, height and width only",
        )
    low, high = (float(v) for v in layer.contrast_limits)
    return ArrayVideo(data, rgb=bool(layer.rgb), single=layer.ndim == 2, limits=(low, high))


def current_frame(layer: Image, point: tuple[float, ...]) -> int:
    """Frame of `layer` shown at the viewer's position `point` (world coordinates)."""
    if layer.ndim == 2:
        return 0
    position = layer.world_to_data(point[-layer.ndim :])[0]
    return int(np.clip(round(float(position)), 0, frame_count(layer) - 1))


def frame_count(layer: Image) -> int:
    """Frames of an Image layer; a single image has one."""
    return 1 if layer.ndim == 2 else int(pixels(layer).shape[0])


def pixels(layer: Image) -> Any:
    """The layer's array, at full resolution."""
    return layer.data[0] if layer.multiscale else layer.data
