"""Image files as the frames of a video."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
#: Frames per second that a folder of images is shown at; images have no times.
IMAGE_FPS = 30.0
#: Images looked at to find the range of 16-bit and floating-point grey levels.
_RANGE_SAMPLES = 9


def natural_key(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts img2 before img10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts if p)


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, in natural order; hidden files are left out.

    Raises
    ------
    UserError
        If the folder cannot be listed or holds no image.
    """
    try:
        files = list(folder.iterdir())
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", path=folder, remedy="check the path and its permissions"
        ) from error
    images = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    if not images:
        raise UserError(
            "holds no images", path=folder, remedy=f"choose a folder with {', '.join(IMAGE_SUFFIXES)} files"
        )
    return sorted(images, key=natural_key)


class MixedSizes(UserError):
    """Images that were to be the frames of one video differ in size."""


@dataclass(frozen=True)
class _Picture:
    """One frame: a page of a file."""

    path: Path
    page: int = 0


class ImageSource:
    """Images of one size, as frames.

    Grey, palette and 16-bit images become RGB; alpha is dropped; 16-bit and floating-point grey levels are
    scaled by one range for all frames. Pixels are as stored: an EXIF orientation is not applied, as napari
    and DeepLabCut do not apply it either. A single TIFF with several pages gives one frame per page.

    Parameters
    ----------
    path : Path
        What the user named: the folder or the file.
    files : sequence of Path
        In order.

    Raises
    ------
    MixedSizes
        If a file differs in size from the first one.
    UserError
        If a file is no image.
    """

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.path = path
        self.files = tuple(files)
        self._pictures: list[_Picture] = []
        deep = False
        sizes: list[tuple[int, int]] = []
        for file in self.files:
            with _opened(file) as image:
                pages = getattr(image, "n_frames", 1) if len(self.files) == 1 else 1
                sizes.append(image.size)
                deep = deep or image.mode[0] in "IF"
            self._pictures += [_Picture(file, page) for page in range(pages)]
        self.size = sizes[0]
        for file, size in zip(self.files, sizes, strict=True):
            if size != self.size:
                raise MixedSizes(
                    f"is {_times(size)} pixels but {self.files[0].name} is {_times(self.size)}",
                    path=file,
                    remedy="put images of different sizes into separate folders",
                )
        self.range = self._find_range() if deep else (0.0, 255.0)
        self.fps = IMAGE_FPS
        self.times: npt.NDArray[np.float64] = np.arange(len(self._pictures)) / IMAGE_FPS

    def _find_range(self) -> tuple[float, float]:
        """Grey levels that become 0 and 255: a whole number of bits for integers, the extremes for floats."""
        chosen = np.unique(np.linspace(0, len(self._pictures) - 1, _RANGE_SAMPLES).astype(int))
        levels = [_stored(self._pictures[i]) for i in chosen]
        low, high = min(float(v.min()) for v in levels), max(float(v.max()) for v in levels)
        if all(v.dtype.kind in "iub" for v in levels) and low >= 0:
            bits = next((b for b in (8, 10, 12, 14, 16) if high < 2**b), 32)
            return 0.0, float(2**bits - 1)
        return low, high if high > low else low + 1

    @property
    def decode_threads(self) -> int:
        return 1

    def reader(self, *, sequential: bool = False) -> ImageReader:
        return ImageReader(self._pictures, self.range)


class ImageReader:
    """Reads image files, one at a time."""

    def __init__(self, pictures: list[_Picture], levels: tuple[float, float]) -> None:
        self._pictures, self._range = pictures, levels

    def close(self) -> None:
        """Nothing is held open."""

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Frame `index` as (H, W, 3) uint8 RGB."""
        picture = self._pictures[index]
        with _opened(picture.path) as image:
            image.seek(picture.page)
            if image.mode[0] not in "IF":
                try:
                    return np.array(image.convert("RGB"))
                except (OSError, SyntaxError, ValueError) as error:
                    raise _broken(picture.path, error) from error
        low, high = self._range
        values = _stored(picture).astype(np.float64)
        grey = np.clip((values - low) * (255.0 / (high - low)) + 0.5, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, -1)


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _opened(path: Path) -> PILImage.Image:
    try:
        return PILImage.open(path)
    except FileNotFoundError as error:
        raise UserError("does not exist", path=path, remedy="check the path") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise _broken(path, error) from error


def _stored(picture: _Picture) -> npt.NDArray:
    """Grey levels as they are in the file."""
    with _opened(picture.path) as image:
        image.seek(picture.page)
        try:
            return np.array(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise _broken(picture.path, error) from error


def _broken(path: Path, error: Exception) -> UserError:
    if path.is_file() and path.stat().st_size == 0:
        return UserError("is empty (0 bytes)", path=path, remedy="copy the image again or remove it")
    with open(path, "rb") as file:
        if file.read(24).startswith(b"version https://git-lfs"):
            return UserError("is a Git LFS pointer, not the image", path=path, remedy="run 'git lfs pull'")
    return UserError(
        f"is not an image that can be read ({type(error).__name__})",
        path=path,
        remedy="copy the image again or remove it",
    )
