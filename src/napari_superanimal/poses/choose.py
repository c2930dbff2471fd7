"""Choosing images by a rule: how recipes name their validation images and `evaluate --only` its rows."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

PATTERN = "match:"


def images_matching(images: Sequence[str], rule: str, folder: Path = Path()) -> npt.NDArray[np.bool_]:
    """Which images (N,) a rule names: ``match:REGEX`` on their paths, or a file with one name per line.

    Parameters
    ----------
    folder : Path
        What a relative file is relative to. Its lines may be names or whole paths; ``#`` starts a comment.

    Raises
    ------
    UserError
        If the file is missing or cannot be read, or the regular expression is none.
    """
    if rule.startswith(PATTERN):
        try:
            pattern = re.compile(rule.removeprefix(PATTERN))
        except re.error as error:
            raise UserError(f"{rule!r} is no pattern ({error})", remedy="correct it") from error
        return np.array([bool(pattern.search(name)) for name in images], bool)
    path = folder / rule
    if not path.is_file():
        raise UserError(
            "the list of image names is missing", path=path, remedy="correct its name, or write match:REGEX"
        )
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read ({error})", path=path, remedy="give a text file") from error
    names = {line for line in lines if line and not line.startswith("#")}
    return np.array([name in names or PurePosixPath(name).name in names for name in images], bool)
