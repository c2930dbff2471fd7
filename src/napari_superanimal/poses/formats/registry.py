"""All formats in one place: what is this file, read it, write it."""

from __future__ import annotations

from pathlib import Path

from napari_superanimal.errors import UserError
from napari_superanimal.poses.formats.base import Format, check_file
from napari_superanimal.poses.formats.coco import read_coco, sniff_coco
from napari_superanimal.poses.formats.dlc_project import read_dlc_project, sniff_dlc_project
from napari_superanimal.poses.formats.dlc_table import (
    read_dlc_csv,
    read_dlc_h5,
    sniff_dlc_csv,
    sniff_dlc_h5,
)
from napari_superanimal.poses.formats.stanfordextra import read_stanfordextra, sniff_stanfordextra
from napari_superanimal.poses.poses import Poses

FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("dlc-project", "DeepLabCut project", (), sniff_dlc_project, read_dlc_project, None),
        Format("dlc-h5", "DeepLabCut HDF5 table", (".h5",), sniff_dlc_h5, read_dlc_h5, None),
        Format("dlc-csv", "DeepLabCut CSV table", (".csv",), sniff_dlc_csv, read_dlc_csv, None),
        Format("stanfordextra", "StanfordExtra", (".json",), sniff_stanfordextra, read_stanfordextra, None),
        Format("coco", "COCO keypoints", (".json",), sniff_coco, read_coco, None),
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
    return reader(path)
