"""Writing DeepLabCut projects: config.yaml, labeled-data with pictures, CollectedData as HDF5 and CSV."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import atomic_path, unwritable, write_text
from napari_superanimal.poses.formats.base import refuse_existing
from napari_superanimal.poses.formats.dlc_extras import plain
from napari_superanimal.poses.formats.dlc_frame import LABELLED_DATA
from napari_superanimal.poses.formats.dlc_project import CONFIG, sniff_dlc_project
from napari_superanimal.poses.formats.dlc_table import read_dlc_h5
from napari_superanimal.poses.formats.dlc_write import write_dlc_csv, write_dlc_h5
from napari_superanimal.poses.formats.update import update_labels
from napari_superanimal.poses.poses import SINGLE

if TYPE_CHECKING:
    from napari_superanimal.poses.poses import Poses

#: What to do with pictures: copy them, link to them, or leave them where they are.
PICTURES = ("copy", "link", "none")
#: DeepLabCut's individual for bodyparts that belong to no animal.
UNIQUE = "single"
#: File of predictions that wait for a person to refine them.
MACHINE = "machinelabels-iter0"
_DEFAULTS: dict[str, Any] = {
    "identity": None,
    "engine": "pytorch",
    "start": 0,
    "stop": 1,
    "numframes2pick": 20,
    "skeleton_color": "black",
    "pcutoff": 0.6,
    "dotsize": 8,
    "alphavalue": 0.7,
    "colormap": "rainbow",
    "TrainingFraction": [0.95],
    "iteration": 0,
    "default_net_type": "resnet_50",
    "default_augmenter": "default",
    "snapshotindex": -1,
    "detector_snapshotindex": -1,
    "batch_size": 8,
    "detector_batch_size": 1,
    "cropping": False,
    "x1": 0,
    "x2": 640,
    "y1": 277,
    "y2": 624,
    "corner2move2": [50, 50],
    "move2corner": True,
}


def write_dlc_project(
    poses: Poses, path: Path, *, overwrite: bool = False, pictures: str = "copy"
) -> list[Path]:
    """Write a DeepLabCut project folder.

    A new folder appears complete or not at all. With `overwrite`, an existing project is updated file by
    file: labels as `update_labels` does, missing pictures added; its config.yaml and everything else stay.
    Poses of which a person placed none go to machinelabels, never to CollectedData.

    Parameters
    ----------
    path : Path
        The project's folder.
    pictures : "copy", "link" or "none"
        What becomes of the pictures; those that are missing are left out, their labels are kept.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    UserError
        If `poses` are frames of a video, the folder exists and `overwrite` is False or it is no
        DeepLabCut project, or it cannot be written.
    """
    if poses.is_video:
        raise UserError(
            "a DeepLabCut project holds pictures, these poses belong to frames of a video",
            path=path,
            remedy="write dlc-h5, or save the labelled frames as pictures first",
        )
    if pictures not in PICTURES:
        raise UserError(f"pictures={pictures!r} is not one of {', '.join(PICTURES)}")
    if path.is_dir() and any(path.iterdir()):
        refuse_existing(path, overwrite)
        if not sniff_dlc_project(path):
            raise UserError(
                "the folder holds something other than a DeepLabCut project and was not changed",
                path=path,
                remedy="choose a new folder",
            )
        return _fill(poses, path, path, pictures)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:40]}-"))
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        written = _fill(poses, temporary, path, pictures)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    except UserError as error:
        # name the folder that the user asked for, not the temporary one
        raise UserError(error.problem, path=path, remedy=error.remedy) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [path / p.relative_to(temporary) for p in written]


def _fill(poses: Poses, folder: Path, final: Path, pictures: str) -> list[Path]:
    """Write everything below `folder`, which will be called `final`."""
    scorer = "".join("_" if c in '/\\:*?"<>|' else c for c in poses.scorer) or "scorer"
    folders = folder_names(poses.images)
    written: list[Path] = []
    if not (folder / CONFIG).exists():
        config = make_config(poses, final, scorer, folders)
        write_text(folder / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        written.append(folder / CONFIG)
    machine = bool(poses.found.any() and not poses.human.any())
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(folders):
        groups.setdefault(name, []).append(row)
    for name, rows in groups.items():
        target = folder / LABELLED_DATA / name
        written += _pictures(poses, rows, target, pictures)
        part = poses.take(rows)
        images = tuple(f"{LABELLED_DATA}/{name}/{PurePosixPath(i).name}" for i in part.images)
        metadata = {k: v for k, v in part.metadata.items() if k not in ("dlc_config", "folders")}
        part = replace(part, images=images, root=folder, scorer=scorer, metadata=metadata)
        written += _tables(part, target, scorer, machine)
    return written


def _tables(part: Poses, target: Path, scorer: str, machine: bool) -> list[Path]:
    """HDF5 and CSV of one folder; labels that are there already are updated, never dropped."""
    stem = MACHINE if machine else f"CollectedData_{scorer}"
    h5 = target / f"{stem}.h5"
    if h5.exists():
        part = update_labels(read_dlc_h5(h5), part)
    kind = "predictions" if machine else "labels"
    written = write_dlc_h5(part, h5, overwrite=True, kind=kind)
    return written + write_dlc_csv(part, h5.with_suffix(".csv"), overwrite=True, kind=kind)


def _pictures(poses: Poses, rows: list[int], target: Path, pictures: str) -> list[Path]:
    written = []
    for row in rows:
        source = poses.image_path(row)
        copy = target / PurePosixPath(poses.images[row]).name
        if pictures == "none" or copy.exists() or not source.is_file():
            continue
        if pictures == "link":
            try:
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.symlink_to(source.absolute())
                written.append(copy)
                continue
            except OSError:  # not allowed here (Windows without the right): copy instead
                pass
        with atomic_path(copy) as temporary:
            shutil.copyfile(source, temporary)
        written.append(copy)
    return written


def folder_names(images: tuple[str, ...]) -> list[str]:
    """The labeled-data folder of every picture: its own folder's name, made unique where two agree."""
    parents = _one_project([PurePosixPath(name).parent for name in images])
    taken: set[str] = set()
    chosen: dict[PurePosixPath, str] = {}
    for parent in dict.fromkeys(parents):
        parts = [p for p in parent.parts if p not in ("/", "..", ".") and not p.endswith(":")]
        name = parts[-1] if parts and parts[-1] != LABELLED_DATA else "images"
        depth = 2
        while name in taken:
            name = "__".join(parts[-depth:]) if depth <= len(parts) else f"{name}_"
            depth += 1
        taken.add(name)
        chosen[parent] = name
    return [chosen[parent] for parent in parents]


def _one_project(parents: list[PurePosixPath]) -> list[PurePosixPath]:
    """Absolute folders of a project made relative, as those of its missing pictures are.

    Only where all absolute ones belong to the same project: two projects' folders stay apart.
    """
    inside = {p: p.parts.index(LABELLED_DATA) for p in parents if LABELLED_DATA in p.parts}
    roots = {p.parts[:at] for p, at in inside.items() if at}
    if len(roots) != 1:
        return parents
    return [PurePosixPath(*p.parts[inside[p] :]) if p in inside else p for p in parents]


def make_config(poses: Poses, path: Path, scorer: str, folders: list[str]) -> dict[str, Any]:
    """The content of config.yaml; what the source's own config said beyond the labels is kept."""
    before = plain(poses.metadata.get("dlc_config") or {})
    multi = poses.individuals != (SINGLE,)
    videos: dict[str, Any] = {}
    for name in dict.fromkeys(folders):
        sizes = poses.image_sizes[[f == name for f in folders]]
        width, height = (int(v) for v in sizes.max(0)) if sizes.size else (0, 0)
        videos[(path.absolute() / "videos" / f"{name}.mp4").as_posix()] = {"crop": f"0, {width}, 0, {height}"}
    config: dict[str, Any] = {
        "Task": str(before.get("Task") or path.name),
        "scorer": scorer,
        "date": str(before.get("date") or date.today().strftime("%b%d")),
        "multianimalproject": multi,
        "identity": before.get("identity"),
        "project_path": path.absolute().as_posix(),
        "engine": before.get("engine", "pytorch"),
        "video_sets": videos,
    }
    if multi:
        unique = _unique_keypoints(poses)
        config["individuals"] = [i for i in poses.individuals if i != UNIQUE]
        config["uniquebodyparts"] = unique
        config["multianimalbodyparts"] = [k for k in poses.keypoints if k not in unique]
        config["bodyparts"] = "MULTI!"
    else:
        config["bodyparts"] = list(poses.keypoints)
    for key, value in _DEFAULTS.items():
        config.setdefault(key, before.get(key, value))
    config["skeleton"] = [list(edge) for edge in poses.skeleton]
    tables = poses.metadata.get("tables") or {}
    if tables:
        config["SuperAnimalConversionTables"] = plain(tables)
    return config


def _unique_keypoints(poses: Poses) -> list[str]:
    """Bodyparts that only the individual `single` has."""
    if UNIQUE not in poses.individuals:
        return []
    lone = poses.individuals.index(UNIQUE)
    others = [i for i in range(len(poses.individuals)) if i != lone]
    undefined = np.asarray((poses.visibility[:, others] == -1).all(axis=(0, 1)))
    return [n for n, u in zip(poses.keypoints, undefined, strict=True) if u]
