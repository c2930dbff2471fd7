"""What our own HDF5 tables hold beside DeepLabCut's: a hidden group that DeepLabCut never sees.

DeepLabCut's tables know x, y and likelihood. Who placed a point, visibility codes, boxes and provenance
go into the group ``/superanimal`` of the same file as plain arrays. pandas and DeepLabCut list pandas
tables only and so read the file as before; where another program rewrites the table, a checksum tells that
the group is out of date and it is ignored.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

GROUP = "superanimal"
#: Provenance that is worked out anew on reading.
_DERIVED = ("dlc", "warnings", "missing_images", "path", "format", "never_labelled")


@dataclass(frozen=True)
class Extras:
    """Arrays for a table of T rows, C columns (individual, bodypart) and A individuals.

    Attributes
    ----------
    visibility : (T, C) int8
    human : (T, C) bool
    likelihood : (T, C) float64
    boxes : (T, A, 4) float64
    box_scores : (T, A) float64
    image_sizes : (T, 2) int64
    fields : dict
        ``keypoints`` and ``individuals`` (names and order in the data), ``skeleton``, ``sources``,
        ``root`` (of the pictures, relative to the file), ``metadata``.
    """

    visibility: npt.NDArray[np.int8]
    human: npt.NDArray[np.bool_]
    likelihood: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.float64]
    box_scores: npt.NDArray[np.float64]
    image_sizes: npt.NDArray[np.int64]
    fields: dict[str, Any]


class Checksum:
    """Of coordinates that come part by part, blind to how missing points are padded."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, xy: npt.NDArray[np.float64]) -> None:
        """Take in the next rows, (T, C, 2)."""
        points = np.array(xy, np.float64)
        points[~np.isfinite(points).all(-1) | (points == -1).all(-1)] = np.nan
        points[np.isnan(points)] = np.nan  # one bit pattern for all NaN
        self._digest.update(points.tobytes())

    def of(self, columns: tuple[tuple[str, str], ...]) -> str:
        """The checksum of everything added, in a table with these columns."""
        digest = self._digest.copy()
        digest.update(json.dumps(columns).encode())
        return digest.hexdigest()


def checksum(xy: npt.NDArray[np.float64], columns: tuple[tuple[str, str], ...]) -> str:
    """Of coordinates (T, C, 2) and their columns, blind to how missing points are padded."""
    whole = Checksum()
    whole.add(xy)
    return whole.of(columns)


def plain(value: Any) -> Any:
    """`value` as JSON can hold it; what it cannot hold becomes text."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return str(value)


def kept_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """The part of `Poses.metadata` that a file should carry."""
    return {str(k): plain(v) for k, v in metadata.items() if k not in _DERIVED}


def write_extras(file: Any, extras: Extras, digest: str) -> None:
    """Add the group to an open PyTables file."""
    import tables

    group = file.create_group("/", GROUP)
    packed = tables.Filters(complevel=4, complib="zlib")
    note = json.dumps({**extras.fields, "checksum": digest, "version": 1}).encode("utf-8")
    arrays: dict[str, np.ndarray] = {
        "visibility": extras.visibility.astype(np.int8),
        "human": extras.human.astype(np.uint8),
        "likelihood": extras.likelihood,
        "boxes": extras.boxes,
        "box_scores": extras.box_scores,
        "image_sizes": extras.image_sizes,
        "fields": np.frombuffer(note, np.uint8),
    }
    for name, array in arrays.items():
        if array.size:
            file.create_carray(group, name, obj=np.ascontiguousarray(array), filters=packed)


def read_extras(
    file: Any, xy: npt.NDArray[np.float64], columns: tuple[tuple[str, str], ...]
) -> tuple[Extras | None, str]:
    """The group of an open PyTables file, and a warning when it is there but cannot be used."""
    path = f"/{GROUP}/fields"
    if path not in file:
        return None, ""
    stale = "marks and boxes beside the table no longer fit it and were ignored (it was changed elsewhere)"
    try:
        fields = json.loads(file.get_node(path).read().tobytes().decode("utf-8"))
        if fields.pop("checksum") != checksum(xy, columns):
            return None, stale
        t, c = xy.shape[:2]
        a = len({i for i, _ in columns})

        def array(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
            if f"/{GROUP}/{name}" not in file:
                return np.zeros(shape, dtype)
            return file.get_node(f"/{GROUP}/{name}").read().astype(dtype).reshape(shape)

        return (
            Extras(
                visibility=array("visibility", (t, c), np.int8),
                human=array("human", (t, c), np.bool_),
                likelihood=array("likelihood", (t, c), np.float64),
                boxes=array("boxes", (t, a, 4), np.float64),
                box_scores=array("box_scores", (t, a), np.float64),
                image_sizes=array("image_sizes", (t, 2), np.int64),
                fields=fields,
            ),
            "",
        )
    except (KeyError, ValueError, TypeError, AttributeError):
        return None, stale
