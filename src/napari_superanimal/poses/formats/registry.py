"""All formats in one place: what is this file, read it, write it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.poses.formats.base import Format, check_file
from napari_superanimal.poses.formats.coco import read_coco, sniff_coco
from napari_superanimal.poses.formats.coco_write import write_coco
from napari_superanimal.poses.formats.dlc_project import read_dlc_project, sniff_dlc_project
from napari_superanimal.poses.formats.dlc_project_write import write_dlc_project
from napari_superanimal.poses.formats.dlc_table import (
    read_dlc_csv,
    read_dlc_h5,
    sniff_dlc_csv,
    sniff_dlc_h5,
)
from napari_superanimal.poses.formats.dlc_write import write_dlc_csv, write_dlc_h5
from napari_superanimal.poses.formats.stanfordextra import read_stanfordextra, sniff_stanfordextra

if TYPE_CHECKING:
    from napari_superanimal.poses.poses import Poses

FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format(
            "dlc-project", "DeepLabCut project", (), sniff_dlc_project, read_dlc_project, write_dlc_project
        ),
        Format("dlc-h5", "DeepLabCut HDF5 table", (".h5",), sniff_dlc_h5, read_dlc_h5, write_dlc_h5),
        Format("dlc-csv", "DeepLabCut CSV table", (".csv",), sniff_dlc_csv, read_dlc_csv, write_dlc_csv),
        Format("stanfordextra", "StanfordExtra", (".json",), sniff_stanfordextra, read_stanfordextra, None),
        Format("coco", "COCO keypoints", (".json",), sniff_coco, read_coco, write_coco),
    )
}


def sniff(path: Path) -> str | None:
    """The name of the format that a file or folder has; None when unknown. Never raises."""
    for format_ in FORMATS.values():
        try:
            if format_.sniff(path):
                return format_.name
        except (OSError, ValueError):
            continue
    return None


def get_format(name: str) -> Format:
    """A format by name.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    if name not in FORMATS:
        raise UserError(f"unknown format {name!r}", remedy=f"use one of {', '.join(FORMATS)}")
    return FORMATS[name]


def read(path: Path, format: str | None = None) -> Poses:
    """Read labels or predictions of any known format.

    Parameters
    ----------
    path : Path
        A file, or the folder of a DeepLabCut project.
    format : str, optional
        A name of `FORMATS`; found out from the content when not given.

    Raises
    ------
    UserError
        If the format is unknown or the content is damaged; names the file and the remedy.
    """
    path = Path(path)
    if not path.exists():
        raise UserError("no such file or folder", path=path, remedy="check the path")
    name = format or sniff(path)
    if name is None:
        if path.is_file():
            check_file(path)
        # not recognised: let the reader of that extension say what is wrong with it
        name = next((f.name for f in reversed(FORMATS.values()) if path.suffix.lower() in f.extensions), None)
    if name is None:
        raise UserError(
            "neither a DeepLabCut project, table nor COCO file",
            path=path,
            remedy=f"known formats: {', '.join(f.title for f in FORMATS.values())}",
        )
    reader = get_format(name).read
    if reader is None:
        raise UserError(f"the format {name} cannot be read", path=path)
    try:
        return reader(path)
    except UserError:
        raise
    # files of other programs hold text where numbers belong, lists where names belong, and so on
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"an entry is not what {get_format(name).title} may hold ({type(error).__name__}: {error})",
            path=path,
            remedy="export it again, or correct that entry",
        ) from error


def write(poses: Poses, path: Path, format: str, *, overwrite: bool = False, **options: Any) -> list[Path]:
    """Write labels or predictions.

    Parameters
    ----------
    path : Path
        A file; a folder for "dlc-project".
    format : str
        A name of `FORMATS`.
    overwrite : bool
        Replace what is there; otherwise it is an error.
    options
        Of that format's writer: `kind` and `missing` for DeepLabCut tables, `pictures` for projects.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    UserError
        If the target exists, cannot be written, or the format cannot hold the data. What was there
        before is left as it was.
    """
    writer = get_format(format).write
    if writer is None:
        raise UserError(f"the format {format} is read only", path=path, remedy="choose another format")
    return writer(poses, Path(path), overwrite=overwrite, **options)
