"""Writing predictions of a video part by part: any number of frames in the memory of one part."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.jobs.files import atomic_path, unwritable
from napari_superanimal.poses.formats.base import refuse_existing
from napari_superanimal.poses.formats.dlc_extras import GROUP, Checksum
from napari_superanimal.poses.formats.dlc_table import KEY
from napari_superanimal.poses.formats.dlc_write import frame_from_poses, write_dlc_h5

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from napari_superanimal.poses.poses import Poses

    #: Gives the parts of a recording in order, the same ones whenever it is called: frames of a video with the same
    #: keypoints, individuals and metadata, at least one.
    Parts = Callable[[], Iterable[Poses]]

#: Rows that are stored together in a file, of the arrays beside the table.
_ROWS_TOGETHER = 512


def write_dlc_h5_parts(parts: Parts, path: Path, *, overwrite: bool = False) -> list[Path]:
    """Write what `dlc_write.write_dlc_h5` would write of all parts together.

    Returns
    -------
    list of Path
        The file written.

    Raises
    ------
    UserError
        If the file exists and `overwrite` is False, the folder cannot be written, or the disk is full.
    """
    import tables
    from tables.exceptions import HDF5ExtError, NodeError

    refuse_existing(path, overwrite)
    with atomic_path(path) as temporary:
        try:
            rest = iter(parts())
            first = next(rest)
            # pandas lays the file out; what follows is appended in its layout
            write_dlc_h5(first, temporary, overwrite=True, kind="predictions")
            with tables.open_file(str(temporary), "a") as file:
                _append(file, first, rest)
            if not _same(parts(), temporary):
                raise unwritable(path, OSError("the disk is full"))
        except (HDF5ExtError, NodeError) as error:
            reason = OSError("the disk is full or the file cannot be written")
            raise unwritable(path, reason) from error
    return [path]


def write_dlc_csv_parts(parts: Parts, path: Path, *, overwrite: bool = False) -> list[Path]:
    """Write what `dlc_write.write_dlc_csv` would write of all parts together.

    Raises
    ------
    UserError
        As `write_dlc_h5_parts`.
    """
    refuse_existing(path, overwrite)
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        for n, poses in enumerate(parts()):
            frame_from_poses(poses, kind="predictions").to_csv(file, header=n == 0, lineterminator="\n")
    return [path]


def _append(file: Any, first: Poses, rest: Iterator[Poses]) -> None:
    """Append the other parts to a file of the first one."""
    digest = Checksum()
    digest.add(_points(first))
    group = file.get_node(f"/{KEY}")
    table = group.table if "table" in group else None
    if table is None:
        index, values = (_growing(file, group, name) for name in ("axis1", "block0_values"))
    extras = {name: _growing(file, file.get_node(f"/{GROUP}"), name) for name in _extras(first)}
    for poses in rest:
        data = frame_from_poses(poses, kind="predictions").to_numpy()
        if table is None:
            index.append(poses.frames)
            values.append(data)
        else:
            rows = np.empty(len(poses), table.dtype)
            rows["index"], rows["values_block_0"] = poses.frames, data
            table.append(rows)
        for name, array in _extras(poses).items():
            extras[name].append(array)
        digest.add(_points(poses))
    if table is not None:
        table.flush()
    _note(file, digest.of(tuple((i, k) for i in first.individuals for k in first.keypoints)))


def _growing(file: Any, group: Any, name: str) -> Any:
    """The array `name` of a group made anew as one that can grow."""
    import tables

    old = file.get_node(group, name)
    values, attributes = old.read(), {key: old._v_attrs[key] for key in old._v_attrs._f_list()}
    filters = old.filters if isinstance(old, tables.CArray) else None
    old.remove()
    shape = (min(_ROWS_TOGETHER, max(1, 2**16 // max(1, values[:1].nbytes))), *values.shape[1:])
    new = file.create_earray(
        group,
        name,
        tables.Atom.from_dtype(values.dtype),
        (0, *values.shape[1:]),
        filters=filters,
        chunkshape=shape,
    )
    new.append(values)
    for key, value in attributes.items():
        new._v_attrs[key] = value
    return new


def _extras(poses: Poses) -> dict[str, npt.NDArray]:
    """What is stored beside the table, as `dlc_extras.write_extras` does."""
    t = len(poses)
    return {
        "visibility": poses.visibility.reshape(t, -1),
        "human": poses.human.reshape(t, -1).astype(np.uint8),
        "likelihood": poses.likelihood.reshape(t, -1),
        "boxes": poses.boxes,
        "box_scores": poses.box_scores,
        "image_sizes": poses.image_sizes,
    }


def _points(poses: Poses) -> npt.NDArray[np.float64]:
    return poses.xy.reshape(len(poses), -1, 2)


def _note(file: Any, digest: str) -> None:
    """Put the checksum of the whole table into the fields."""
    node = file.get_node(f"/{GROUP}/fields")
    fields = json.loads(node.read().tobytes().decode("utf-8")) | {"checksum": digest}
    node.remove()
    file.create_carray(f"/{GROUP}", "fields", obj=np.frombuffer(json.dumps(fields).encode("utf-8"), np.uint8))


def _same(parts: Iterable[Poses], path: Path) -> bool:
    """HDF5 may notice a full disk only on closing, where nobody hears of it: read everything back."""
    import tables

    with tables.open_file(str(path), "r") as file:
        group = file.get_node(f"/{KEY}")
        at = 0
        for poses in parts:
            rows = slice(at, at + len(poses))
            if "table" in group:
                read = group.table[rows]
                index, values = read["index"], read["values_block_0"]
            else:
                index, values = group.axis1[rows], group.block0_values[rows]
            expected = frame_from_poses(poses, kind="predictions").to_numpy()
            if not np.array_equal(index, poses.frames) or not np.array_equal(
                values, expected, equal_nan=True
            ):
                return False
            at += len(poses)
    return True
