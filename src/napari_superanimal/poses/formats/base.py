"""What every file format offers, and the checks that all readers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_superanimal.poses.poses import Poses

#: What a file starts with that Git LFS has not fetched yet.
LFS_POINTER = b"version https://git-lfs"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Format:
    """One on-disk format.

    Attributes
    ----------
    name : str
        Short name for the command line.
    title : str
        For a person.
    extensions : tuple of str
        With the dot; empty for folders.
    sniff : callable
        Whether a file or folder looks like this format; reads a few kilobytes at most, never raises.
    read, write : callable or None
        None where the format cannot be read or written.
    """

    name: str
    title: str
    extensions: tuple[str, ...]
    sniff: Callable[[Path], bool]
    read: Callable[[Path], Poses] | None
    write: Callable[..., list[Path]] | None


def head(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file; empty when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError:
        return b""


def check_file(path: Path) -> None:
    """Refuse what no reader can read.

    Raises
    ------
    UserError
        If the file is absent, unreadable, empty, or a Git LFS pointer instead of the data.
    """
    if not path.exists():
        raise UserError("no such file", path=path, remedy="check the path")
    if path.is_dir():
        raise UserError("is a folder, a file was expected", path=path)
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", path=path, remedy="check its rights") from error
    if not start:
        raise UserError("the file is empty", path=path, remedy="copy or export it again")
    if start.startswith(LFS_POINTER):
        raise UserError(
            "this is a Git LFS pointer, not the data itself",
            path=path,
            remedy="run `git lfs pull` in its repository",
        )


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Never replace a user's file unasked.

    Raises
    ------
    UserError
        If `path` exists and `overwrite` is False.
    """
    if path.exists() and not overwrite:
        raise UserError(
            "exists already and was not changed", path=path, remedy="choose another name or allow overwriting"
        )
