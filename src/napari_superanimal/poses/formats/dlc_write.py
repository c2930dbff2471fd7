"""Writing DeepLabCut tables: CollectedData, machinelabels and predictions, HDF5 and CSV."""

from __future__ import annotations

import os
import warnings
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import atomic_path, unwritable
from napari_superanimal.poses.formats.base import refuse_existing
from napari_superanimal.poses.formats.coco_write import file_name
from napari_superanimal.poses.formats.dlc_extras import Extras, checksum, kept_metadata, write_extras
from napari_superanimal.poses.formats.dlc_frame import LABELLED_DATA
from napari_superanimal.poses.formats.dlc_table import KEY, load_h5
from napari_superanimal.poses.poses import SINGLE, Poses

#: Name of the one animal in our prediction tables, as SuperAnimal writes it.
FIRST_ANIMAL = "animal0"
#: pandas 2 and older, which DeepLabCut uses, refuse appendable tables without it; pandas 3 stopped writing it.
LAYOUT_VERSION = "0.15.2"
#: A table without scorer still needs one in its header.
DEFAULT_SCORER = "scorer"


def kind_of(poses: Poses, path: Path | None = None, kind: str | None = None) -> str:
    """Whether `poses` are written as "labels" (x, y) or "predictions" (x, y, likelihood).

    Frames of a video are always predictions in DeepLabCut's sense. For pictures: what was asked for,
    else the file's name (``CollectedData*``, ``machinelabels*``), else what they were read from, else
    labels if a person placed any of the points.

    Raises
    ------
    UserError
        If a CollectedData file would get points of which a person placed none.
    """
    stem = path.stem.lower() if path else ""
    if kind is None:
        if poses.is_video or stem.startswith("machinelabels"):
            kind = "predictions"
        else:
            machine = poses.found.any() and not poses.human.any()
            kind = "predictions" if machine else "labels"
    if stem.startswith("collecteddata") and kind == "predictions":
        raise UserError(
            "CollectedData is for labels that people placed; these are a machine's",
            path=path,
            remedy="name the file machinelabels or after its scorer",
        )
    return kind


def _columns(poses: Poses, kind: str) -> tuple[list[tuple[str, str]], bool]:
    """Pairs (individual, bodypart) in the order to write, and whether individuals are a level."""
    dlc = poses.metadata.get("dlc") or {}
    pairs = [(str(i), str(k)) for i, k in dlc.get("columns") or ()]
    same_kind = dlc.get("kind") == kind
    everything = [(i, k) for i in poses.individuals for k in poses.keypoints]
    if (
        {i for i, _ in pairs} != set(poses.individuals)
        or {k for _, k in pairs} != set(poses.keypoints)
        or not same_kind
    ):
        pairs = everything
    # a combination that the source lacked but that has points by now
    known = set(pairs)
    found: npt.NDArray[np.bool_] = np.asarray(poses.found.any(axis=0))
    for i, k in everything:
        if (i, k) not in known and found[poses.individuals.index(i), poses.keypoints.index(k)]:
            pairs.append((i, k))
    unnamed = poses.individuals == (SINGLE,)
    if not unnamed:
        return pairs, True
    # our own predictions always have the level, as the reference's do
    return pairs, kind == "predictions" and not (same_kind and dlc.get("multi") is False)


def frame_from_poses(
    poses: Poses, *, kind: str | None = None, missing: float = np.nan, path: Path | None = None
) -> pd.DataFrame:
    """The pandas table that DeepLabCut expects.

    Parameters
    ----------
    kind : "labels" or "predictions", optional
        See `kind_of`.
    missing : float
        What stands for a missing value: NaN, or -1 as SuperAnimal pads.

    Returns
    -------
    DataFrame
        Columns scorer/(individuals)/bodyparts/coords, index frame numbers or pictures.
    """
    kind = kind_of(poses, path, kind)
    pairs, multi = _columns(poses, kind)
    a = [poses.individuals.index(i) for i, _ in pairs]
    k = [poses.keypoints.index(n) for _, n in pairs]
    parts: list[npt.NDArray[np.float64]] = [poses.xy[:, a, k]]
    coords = ["x", "y"]
    if kind == "predictions":
        parts.append(poses.likelihood[:, a, k, None])
        coords.append("likelihood")
    values = np.concatenate(parts, -1)
    values = np.where(np.isnan(values), missing, values).reshape(len(poses), len(pairs) * len(coords))
    scorer = poses.scorer or DEFAULT_SCORER
    names = ["scorer", "individuals", "bodyparts", "coords"]
    tuples = [(scorer, i or FIRST_ANIMAL, n, c) for i, n in pairs for c in coords]
    if multi:
        columns = pd.MultiIndex.from_tuples(tuples, names=names)
    else:
        columns = pd.MultiIndex.from_tuples(
            [(s, n, c) for s, _, n, c in tuples], names=[names[0], *names[2:]]
        )
    return pd.DataFrame(values, columns=columns, index=_index(poses))


def _index(poses: Poses) -> pd.Index:
    if poses.is_video:
        return pd.Index(poses.frames, dtype=np.int64)
    images = [_project_path(name) for name in poses.images]
    if len(set(images)) < len(set(poses.images)):
        # pictures of several projects that are called the same
        images = list(poses.images)
    dlc = poses.metadata.get("dlc") or {}
    parts = [name.split("/") for name in images]
    if dlc.get("layout") != "string" and all(len(p) == 3 and all(p) for p in parts) and parts:
        return pd.MultiIndex.from_tuples([tuple(p) for p in parts])
    separator = str(dlc.get("separator") or "/")
    return pd.Index([name.replace("/", separator) for name in images], dtype=object)


def _project_path(name: str) -> str:
    """An absolute path cut down to the project, as DeepLabCut wants it."""
    parts = PurePosixPath(name).parts
    if LABELLED_DATA in parts[1:]:
        return "/".join(parts[parts.index(LABELLED_DATA) :])
    return name


def write_dlc_h5(
    poses: Poses,
    path: Path,
    *,
    overwrite: bool = False,
    kind: str | None = None,
    missing: float = np.nan,
) -> list[Path]:
    """Write an HDF5 table that DeepLabCut reads (key ``df_with_missing``), and our extras beside it.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    UserError
        If the file exists and `overwrite` is False, the folder cannot be written, the disk is full, or
        predictions would be called CollectedData.
    """
    from tables.exceptions import HDF5ExtError, NodeError

    refuse_existing(path, overwrite)
    kind = kind_of(poses, path, kind)
    frame = frame_from_poses(poses, kind=kind, missing=missing, path=path)
    pairs, multi = _columns(poses, kind)
    with atomic_path(path) as temporary:
        try:
            # DeepLabCut writes predictions appendable and labels fixed; wide tables do not fit the former
            if kind != "predictions" or not len(frame) or not _store(frame, temporary, "table"):
                _store(frame, temporary, "fixed")
            _add_extras(poses, pairs, multi, temporary, path)
            _verify(frame, temporary)
        except (HDF5ExtError, NodeError, _NotWritten) as error:
            reason = OSError("the disk is full or the file cannot be written")
            raise unwritable(path, reason) from error
    return [path]


class _NotWritten(Exception):
    """What is on the disk is not what was written."""


def _verify(frame: pd.DataFrame, path: Path) -> None:
    """HDF5 may notice a full disk only on closing, where nobody hears of it: read everything back."""
    try:
        table = load_h5(path)
    except UserError as error:
        raise _NotWritten from error
    size = 3 if table.has_likelihood else 2
    values = table.values[:, :, :size].reshape(frame.shape)
    if not np.array_equal(values, frame.to_numpy(), equal_nan=True) or table.extras is None:
        raise _NotWritten


def _store(frame: pd.DataFrame, path: Path, layout: Literal["table", "fixed"]) -> bool:
    """Write a frame; False when this layout cannot hold it."""
    from tables.exceptions import HDF5ExtError

    try:
        with warnings.catch_warnings():
            # names such as `tail.base` are no Python identifiers, which nobody needs here
            warnings.simplefilter("ignore")
            frame.to_hdf(path, key=KEY, mode="w", format=layout)
    except (HDF5ExtError, ValueError, TypeError):
        if layout == "table":
            return False
        raise
    return True


def _add_extras(poses: Poses, pairs: list[tuple[str, str]], multi: bool, file: Path, path: Path) -> None:
    import tables

    a = [poses.individuals.index(i) for i, _ in pairs]
    k = [poses.keypoints.index(n) for _, n in pairs]
    animals = [poses.individuals.index(i) for i in dict.fromkeys(i for i, _ in pairs)]
    fields: dict[str, Any] = {
        "keypoints": list(poses.keypoints),
        "individuals": list(poses.individuals),
        "skeleton": [list(e) for e in poses.skeleton],
        "sources": list(poses.sources),
        "splits": list(poses.splits),
        "ids": list(poses.ids),
        "metadata": kept_metadata(poses.metadata),
    }
    if poses.images:
        fields["pictures"] = [file_name(poses, row, path.absolute().parent) for row in range(len(poses))]
    if poses.root is not None:
        try:
            fields["root"] = Path(os.path.relpath(poses.root, path.absolute().parent)).as_posix()
        except ValueError:  # another drive
            fields["root"] = poses.root.as_posix()
    extras = Extras(
        visibility=poses.visibility[:, a, k],
        human=poses.human[:, a, k],
        likelihood=poses.likelihood[:, a, k],
        boxes=poses.boxes[:, animals],
        box_scores=poses.box_scores[:, animals],
        image_sizes=poses.image_sizes,
        fields=fields,
    )
    as_read = tuple((i or (FIRST_ANIMAL if multi else SINGLE), n) for i, n in pairs)
    with tables.open_file(str(file), "a") as handle:
        attributes = handle.get_node(f"/{KEY}")._v_attrs
        if "pandas_version" not in attributes:
            attributes.pandas_version = LAYOUT_VERSION
        write_extras(handle, extras, checksum(poses.xy[:, a, k], as_read))


def write_dlc_csv(
    poses: Poses,
    path: Path,
    *,
    overwrite: bool = False,
    kind: str | None = None,
    missing: float = np.nan,
) -> list[Path]:
    """Write a CSV table as DeepLabCut does; numbers keep every bit, marks and boxes are not kept.

    Raises
    ------
    UserError
        As `write_dlc_h5`.
    """
    refuse_existing(path, overwrite)
    frame = frame_from_poses(poses, kind=kind, missing=missing, path=path)
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, encoding="utf-8", lineterminator="\n")
    return [path]
