"""What the user named on the command line or dropped: videos, folders of images, images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_superanimal.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


@dataclass(frozen=True)
class Source:
    """One thing to predict on; it gets one file of results.

    Attributes
    ----------
    name : str
        What its results are called after.
    folder : Path
        Where its results go unless the user says otherwise.
    path : Path
        The video, the folder of images, or the folder that the single images are in.
    images : tuple of Path
        The images in order; empty for a video.
    """

    name: str
    folder: Path
    path: Path
    images: tuple[Path, ...] = ()

    @property
    def is_video(self) -> bool:
        return not self.images

    @property
    def size_bytes(self) -> int:
        """Size of all its files: a cheap sign that they are still the same."""
        return sum(p.stat().st_size for p in self.images or (self.path,))


def gather(paths: Iterable[Path]) -> list[Source]:
    """Sources in the order given; single images of one folder make one source together.

    Raises
    ------
    UserError
        If a path is absent, a folder holds no images, or two sources would write the same file.
    """
    sources: list[Source] = []
    loose: dict[Path, list[Path]] = {}
    for path in paths:
        if not path.exists():
            raise UserError("no such file or folder", path=path, remedy="check the path")
        if path.is_dir():
            sources.append(_folder(path))
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            folder = path.parent
            if folder not in loose:
                loose[folder] = []
                sources.append(Source(name="", folder=folder, path=folder))
            if path not in loose[folder]:
                loose[folder].append(path)
        else:
            sources.append(Source(name=path.stem, folder=path.parent, path=path))
    finished = []
    for source in sources:
        if source.name:
            finished.append(source)
            continue
        images = tuple(loose[source.folder])
        name = images[0].stem if len(images) == 1 else source.folder.resolve().name
        finished.append(Source(name, source.folder, source.path, images))
    return finished


def _folder(folder: Path) -> Source:
    images = sorted(
        (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")),
        key=natural,
    )
    if not images:
        raise UserError(
            f"the folder has no images ({', '.join(IMAGE_SUFFIXES)})",
            path=folder,
            remedy="name the videos or the folder with the images themselves",
        )
    whole = folder.resolve()
    return Source(name=whole.name, folder=whole.parent, path=folder, images=tuple(images))


def natural(path: Path) -> list[tuple[int, str]]:
    """Sort key: numbers inside names count as numbers (img2 before img10)."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name.lower())]


def refuse_doubles(names: Sequence[tuple[str, Path]]) -> None:
    """See that no two (source, target) pairs share a target.

    Raises
    ------
    UserError
        If two sources would write the same file.
    """
    seen: dict[Path, str] = {}
    for source, target in names:
        if target in seen:
            raise UserError(
                f"{seen[target]} and {source} would both write this file",
                path=target,
                remedy="predict them one by one with different --out folders",
            )
        seen[target] = source
