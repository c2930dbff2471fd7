"""Where the pictures of a dataset are, and how large."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

#: More files than this are not searched for lost pictures.
SEARCH_LIMIT = 200_000


def slashes(path: str) -> str:
    """A path of any system with forward slashes."""
    return path.replace("\\", "/")


def image_size(path: Path) -> tuple[int, int]:
    """Width and height from a picture's header; (0, 0) when it is absent or no picture."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0, 0


def image_sizes(paths: Sequence[Path]) -> npt.NDArray[np.int64]:
    """(T, 2) width, height per picture; zeros where it is absent."""
    return np.array([image_size(p) for p in paths], dtype=np.int64).reshape(-1, 2)


class ImageFinder:
    """Finds pictures whose recorded paths come from another disk or folder layout.

    Parameters
    ----------
    folders : sequence of Path
        Where a recorded relative path may start, best first.
    search : Path
        Folder below which a picture is looked up by its file name when no such path exists.
    """

    def __init__(self, folders: Sequence[Path], search: Path) -> None:
        self._folders = list(folders)
        self._search = search
        self._names: dict[str, list[Path]] | None = None

    def find(self, recorded: str) -> Path | None:
        """The file meant by a recorded path, None when it is not there or not unique."""
        relative = slashes(recorded)
        if Path(recorded).is_absolute() and Path(recorded).is_file():
            return Path(recorded)
        if not PurePosixPath(relative).is_absolute():
            for folder in self._folders:
                if (folder / relative).is_file():
                    return Path(os.path.normpath(folder / relative))
        if self._names is None:
            self._names = _files_by_name(self._search)
        found = self._names.get(PurePosixPath(relative).name, [])
        if len(found) <= 1:
            return found[0] if found else None
        # several of that name: the one whose folders agree best with the recorded path, if it is one
        wanted = PurePosixPath(relative).parts[::-1]
        scores = [_common(wanted, p.parts[::-1]) for p in found]
        best = max(scores)
        return found[scores.index(best)] if scores.count(best) == 1 else None


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n


def _files_by_name(folder: Path) -> dict[str, list[Path]]:
    names: dict[str, list[Path]] = {}
    seen = 0
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            names.setdefault(name, []).append(Path(parent) / name)
        seen += len(files)
        if seen > SEARCH_LIMIT:
            break
    return names


def relative_to(path: Path, root: Path) -> str:
    """`path` relative to `root` with forward slashes, absolute when it lies elsewhere."""
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()
