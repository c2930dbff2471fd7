"""DeepLabCut projects: a folder with config.yaml and labeled-data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from napari_superanimal.errors import UserError
from napari_superanimal.poses.formats.base import head
from napari_superanimal.poses.formats.dlc_frame import LABELLED_DATA, DlcTable, TableFile, poses_from_tables
from napari_superanimal.poses.formats.dlc_table import load_csv, load_h5

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.poses.poses import Poses

CONFIG = "config.yaml"


@dataclass(frozen=True)
class Project:
    """What a DeepLabCut config.yaml says about keypoints and animals."""

    root: Path
    scorer: str
    keypoints: tuple[str, ...]
    individuals: tuple[str, ...]
    skeleton: tuple[tuple[str, str], ...]
    tables: dict[str, dict[str, str]]
    config: dict[str, Any]


def sniff_dlc_project(path: Path) -> bool:
    """A DeepLabCut project folder, its config.yaml, its labeled-data folder or one folder in that."""
    try:
        if path.is_dir():
            return (
                _is_config(path / CONFIG)
                or (path / LABELLED_DATA).is_dir()
                or bool(_label_files(path))
                or (path.name == LABELLED_DATA and any(_label_files(p) for p in path.iterdir() if p.is_dir()))
            )
        return path.name == CONFIG and _is_config(path)
    except OSError:
        return False


def _is_config(path: Path) -> bool:
    text = head(path, 65536)
    return b"bodyparts:" in text or b"multianimalproject:" in text


def read_config(path: Path) -> Project:
    """Read a project's config.yaml.

    Raises
    ------
    UserError
        If it is not YAML or not DeepLabCut's.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"not a readable config.yaml ({reason})", path=path, remedy="correct that line"
        ) from error
    if not isinstance(config, dict) or not ("bodyparts" in config or "multianimalbodyparts" in config):
        raise UserError("not a DeepLabCut config.yaml: no `bodyparts`", path=path)

    def names(key: str) -> tuple[str, ...]:
        value = config.get(key)
        return tuple(str(n) for n in value) if isinstance(value, list) else ()

    multi = bool(config.get("multianimalproject"))
    keypoints = names("multianimalbodyparts") if multi else names("bodyparts")
    unique = names("uniquebodyparts") if multi else ()
    individuals = names("individuals") if multi else ()
    if unique:
        individuals = (*individuals, "single")
    skeleton = config.get("skeleton")
    edges = [
        (str(e[0]), str(e[1]))
        for e in (skeleton if isinstance(skeleton, list) else [])
        if isinstance(e, list) and len(e) == 2
    ]
    tables = config.get("SuperAnimalConversionTables")
    return Project(
        root=path.absolute().parent,
        scorer=str(config.get("scorer") or ""),
        keypoints=(*keypoints, *unique),
        individuals=individuals,
        skeleton=tuple(edges),
        tables={
            str(space): {str(k): str(v) for k, v in rows.items()}
            for space, rows in (tables if isinstance(tables, dict) else {}).items()
            if isinstance(rows, dict)
        },
        config=config,
    )


def read_dlc_project(path: Path) -> Poses:
    """Read all labelled folders of a DeepLabCut project as one image dataset.

    `path` is the project's folder, its config.yaml, its labeled-data folder or one folder in it. Where
    CSV and HDF5 of a folder differ, the HDF5 counts and ``metadata["warnings"]`` tells what differs.
    Every row's folder (the video's name) is ``Path(poses.images[row]).parent.name``; conversion tables of
    the config are ``metadata["tables"]``.

    Raises
    ------
    UserError
        If nothing is labelled, or a file cannot be read.
    """
    folder = path.parent if path.is_file() else path
    root, folders = _labelled_folders(folder.absolute())
    config = root / CONFIG
    project = read_config(config) if config.is_file() else None
    scorer = project.scorer if project else ""
    files: list[TableFile] = []
    warnings: list[str] = [] if project else [f"no {CONFIG}: names were taken from the tables"]
    machine: list[str] = []
    empty: list[str] = []
    for one in folders:
        machine += [p.relative_to(root).as_posix() for p in sorted(one.glob("machinelabels*.h5"))]
        loaded = _load_folder(one, scorer, warnings)
        if loaded is None:
            empty.append(one.name)
        else:
            files.append(loaded)
    if not files:
        raise UserError(
            "nothing is labelled: no CollectedData in any folder of labeled-data",
            path=root,
            remedy="label some frames first, or give the machinelabels file itself",
        )
    poses = poses_from_tables(
        files,
        root,
        keypoints=project.keypoints if project else (),
        individuals=project.individuals if project and any(f.table.multi for f in files) else (),
        scorer=scorer,
        skeleton=project.skeleton if project else (),
        metadata={
            "format": "dlc-project",
            "path": str(root),
            "warnings": warnings,
            "tables": project.tables if project else {},
            "dlc_config": project.config if project else {},
            "folders": [f.path.parent.name for f in files],
            "unlabelled_folders": empty,
            "machinelabels": machine,
        },
    )
    return poses


def _labelled_folders(folder: Path) -> tuple[Path, list[Path]]:
    """Project root and its folders of labelled pictures."""
    if _label_files(folder):
        parent = folder.parent
        return (parent.parent if parent.name == LABELLED_DATA else parent), [folder]
    data = folder if folder.name == LABELLED_DATA else folder / LABELLED_DATA
    if not data.is_dir():
        raise UserError(
            f"no folder {LABELLED_DATA} beside the config.yaml",
            path=folder,
            remedy="give the project's own folder",
        )
    found = [p for p in sorted(data.iterdir()) if p.is_dir() and not p.name.endswith("_labeled")]
    return data.parent, found


def _label_files(folder: Path) -> list[Path]:
    return [p for s in ("h5", "csv") for p in sorted(folder.glob(f"CollectedData*.{s}"))]


def _load_folder(folder: Path, scorer: str, warnings: list[str]) -> TableFile | None:
    """The labels of one folder: the project's scorer, HDF5 before CSV."""
    files = _label_files(folder)
    if not files:
        return None
    stems = list(dict.fromkeys(p.stem for p in files))
    stem = f"CollectedData_{scorer}" if f"CollectedData_{scorer}" in stems else stems[0]
    if len(stems) > 1:
        warnings.append(f"{folder.name}: several label files, read {stem}")
    h5, text = folder / f"{stem}.h5", folder / f"{stem}.csv"
    if not h5.is_file():
        return TableFile(text, load_csv(text))
    table = load_h5(h5)
    if text.is_file():
        try:
            difference = compare_tables(table, load_csv(text))
        except UserError as error:
            difference = f"the CSV cannot be read ({error.problem})"
        if difference:
            warnings.append(f"{folder.name}: CSV and H5 differ, the H5 was taken: {difference}")
    return TableFile(h5, table)


def compare_tables(h5: DlcTable, text: DlcTable) -> str:
    """How a CSV differs from its HDF5, in words; empty when it does not."""
    if set(h5.columns) != set(text.columns):
        return f"different columns ({len(h5.columns)} and {len(text.columns)} bodyparts)"
    rows_h5, rows_text = ({name: i for i, name in enumerate(t.images)} for t in (h5, text))
    notes = []
    if lost := [n for n in rows_h5 if n not in rows_text]:
        notes.append(f"{len(lost)} rows only in the H5 ({lost[0]})")
    if lost := [n for n in rows_text if n not in rows_h5]:
        notes.append(f"{len(lost)} rows only in the CSV ({lost[0]})")
    shared = [n for n in rows_h5 if n in rows_text]
    if shared:
        order = [text.columns.index(c) for c in h5.columns]
        a = h5.values[[rows_h5[n] for n in shared]][:, :, :2]
        b = text.values[[rows_text[n] for n in shared]][:, order, :2]
        # a CSV may be rounded, never by a thousandth of a pixel
        same = (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) < 1e-3)
        if count := int((~same.all(-1)).sum()):
            notes.append(f"{count} points at other places")
    return "; ".join(notes)
