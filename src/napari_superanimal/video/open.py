"""One way to open anything that has frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_superanimal.errors import UserError
from napari_superanimal.video.cache import DEFAULT_BYTES
from napari_superanimal.video.file import FileSource
from napari_superanimal.video.folder import IMAGE_SUFFIXES, ImageSource, images_in
from napari_superanimal.video.video import Video

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Suffixes that are offered in dialogs; other files are tried all the same.
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".wmv", ".webm", ".ts", ".mts")

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "open_video"]


def open_video(path: Path | str | Sequence[Path | str], *, cache_bytes: int = DEFAULT_BYTES) -> Video:
    """Open a video file, a folder of images, one image, or a list of images.

    Parameters
    ----------
    path : Path or sequence of Path
        A folder's images are taken in natural order (img2 before img10), a list's in its own.
    cache_bytes : int
        Memory for frames that are read by number.

    Returns
    -------
    Video

    Raises
    ------
    UserError
        If nothing can be read: missing, empty, truncated or of an unknown kind, a folder without images,
        images of different sizes.
    """
    if not isinstance(path, str | Path):
        files = [Path(p) for p in path]
        if not files:
            raise UserError("no images were given", remedy="choose at least one image or a video")
        if len(files) > 1 or files[0].suffix.lower() in IMAGE_SUFFIXES:
            for file in files:
                if file.suffix.lower() not in IMAGE_SUFFIXES:
                    raise UserError(
                        "is not an image, and only images can be opened together",
                        path=file,
                        remedy="open videos one by one",
                    )
            return Video(ImageSource(files[0].parent, files), cache_bytes)
        path = files[0]
    path = Path(path)
    if path.is_dir():
        return Video(ImageSource(path, images_in(path)), cache_bytes)
    if not path.exists():
        raise UserError("does not exist", path=path, remedy="check the path")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return Video(ImageSource(path, [path]), cache_bytes)
    return Video(FileSource(path), cache_bytes)
