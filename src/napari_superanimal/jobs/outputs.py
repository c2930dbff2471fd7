"""Finding out before the long work whether its results can be written."""

from __future__ import annotations

import re
import shutil
import tempfile
from typing import TYPE_CHECKING

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import unwritable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def check_folder(folder: Path, needed_bytes: int = 0) -> None:
    """Make `folder` and see that a file of `needed_bytes` can be written into it.

    Raises
    ------
    UserError
        If the folder cannot be made or written, or its disk has not enough space.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # a real file: permission bits do not tell the truth about root, network drives and read-only disks
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".superanimal-", suffix=".tmp") as probe:
            probe.write(b"x")
            probe.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise unwritable(folder, error) from error
    if free < needed_bytes:
        raise UserError(
            f"the disk has {free / 1e6:.1f} MB left, the results need {needed_bytes / 1e6:.1f} MB",
            path=folder,
            remedy="free space or choose another folder with --out",
        )


def check_file(path: Path) -> None:
    """See that a file can be written at `path`; its content, if it exists, stays.

    Raises
    ------
    UserError
        If `path` is a folder, or its folder cannot be written.
    """
    if path.is_dir():
        raise UserError("is a folder", path=path, remedy="name a file")
    check_folder(path.parent)


def check_new(paths: Iterable[Path]) -> None:
    """See that none of `paths` exists.

    Raises
    ------
    UserError
        If one does, with the remedies.
    """
    for path in paths:
        if path.exists():
            raise UserError(
                "exists already and is kept",
                path=path,
                remedy="give another --out, or --overwrite to replace it",
            )


def file_safe(name: str) -> str:
    """`name` with everything that some file system or format dislikes replaced by ``-``."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.") or "unnamed"
