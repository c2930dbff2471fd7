"""What the user named on the command line or dropped: videos, folders of images, images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_superanimal.errors import UserError
from napari_superanimal.video.folder import IMAGE_SUFFIXES, images_in, natural_key
from napari_superanimal.video.open import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

#: A fingerprint takes this many samples of so many bytes, of so many files.
_SAMPLES, _SAMPLE, _SAMPLED_FILES = 5, 65536, 200


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

    def fingerprint(self) -> str:
        """SHA-256 over samples of its files: tells another recording of the same size without reading hours of it."""
        digest = hashlib.sha256()
        chosen = self.images or (self.path,)
        chosen = chosen[:: max(1, len(chosen) // _SAMPLED_FILES)]
        for path in chosen:
            size = path.stat().st_size
            digest.update(f"{path.name if self.images else ''}\0{size}\0".encode())
            with open(path, "rb") as file:
                for part in range(_SAMPLES):
                    file.seek(max(0, (size - _SAMPLE) * part // (_SAMPLES - 1)))
                    digest.update(file.read(_SAMPLE))
        return digest.hexdigest()


def gather(paths: Iterable[Path]) -> list[Source]:
    """Sources in the order given; single images of one folder make one source together.

    A folder with images is one source, a folder with videos stands for its videos.

    Raises
    ------
    UserError
        If a path is absent, or a folder holds neither images nor videos, or both.
    """
    sources: list[Source] = []
    loose: dict[Path, list[Path]] = {}
    for path in paths:
        if not path.exists():
            raise UserError("no such file or folder", path=path, remedy="check the path")
        if path.is_dir():
            sources += _folder(path)
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


def _folder(folder: Path) -> list[Source]:
    if videos := videos_in(folder):
        if any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir()):
            raise UserError(
                f"holds images and {len(videos)} videos", path=folder, remedy="name the files that are meant"
            )
        return [Source(name=path.stem, folder=path.parent, path=path) for path in videos]
    whole = folder.resolve()
    return [Source(name=whole.name, folder=whole.parent, path=folder, images=tuple(images_in(folder)))]


def videos_in(folder: Path) -> list[Path]:
    """The videos of a folder in natural order, without hidden ones and those that we have drawn poses into."""
    try:
        files = [path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES]
    except OSError:
        return []  # looking for images says what is wrong
    drawn = "_annotated"
    return sorted(
        (
            path
            for path in files
            if not path.name.startswith(".")
            and not (
                path.stem.endswith(drawn) and path.with_name(f"{path.stem.removesuffix(drawn)}.h5").exists()
            )
        ),
        key=natural_key,
    )


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
