"""Images as frames for inference, whatever their sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class ImageFrames:
    """Image files that are read one at a time; unlike a `Video`'s, they may differ in size.

    Parameters
    ----------
    paths : sequence of Path
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def frame(self, index: int) -> npt.NDArray[np.uint8]:
        """Image `index` as (H, W, 3) uint8 RGB.

        Raises
        ------
        UserError
            If it cannot be read.
        """
        from napari_superanimal.video import open_video

        with open_video(self.paths[index]) as image:
            return image.frame(0)

    def iter_frames(
        self, start: int = 0, stop: int | None = None, step: int = 1
    ) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Images in order, each with its number."""
        for index in range(len(self))[start:stop:step]:
            yield index, self.frame(index)

    def close(self) -> None:
        """Nothing is held open."""

    def sizes(self) -> npt.NDArray[np.int64]:
        """(N, 2) width and height, from the headers.

        Raises
        ------
        UserError
            If a file is no image that can be read.
        """
        from PIL import Image

        found = []
        for path in self.paths:
            try:
                with Image.open(path) as image:
                    found.append(image.size)
            except (OSError, ValueError, SyntaxError) as error:
                raise UserError(
                    f"cannot be read as an image ({type(error).__name__})",
                    path=path,
                    remedy="remove or replace it",
                ) from error
        return np.array(found, np.int64).reshape(-1, 2)
