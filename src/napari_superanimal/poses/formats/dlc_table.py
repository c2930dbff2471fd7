"""DeepLabCut tables on disk: CollectedData, machinelabels and predictions, HDF5 and CSV."""

from __future__ import annotations

import csv
import warnings as python_warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_superanimal.errors import UserError
from napari_superanimal.poses.formats.base import HDF5_MAGIC, LFS_POINTER, check_file, head
from napari_superanimal.poses.formats.dlc_extras import read_extras
from napari_superanimal.poses.formats.dlc_frame import (
    DlcTable,
    TableFile,
    poses_from_tables,
    table_from_frame,
)
from napari_superanimal.poses.formats.safe_pickle import plain_pickles_only

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.poses.poses import Poses

#: Keys that DeepLabCut uses, preferred in this order.
KEYS = ("df_with_missing", "keypoints")
KEY = KEYS[0]
#: How pandas reads numbers to their last bit; since 3.1 it always does and deprecates to be told.
_EXACT: dict[str, Any] = (
    {"float_precision": "round_trip"} if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1) else {}
)
#: pandas marks its tables near the start of a file.
_SNIFFED = 65536
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def sniff_dlc_h5(path: Path) -> bool:
    """An HDF5 file with a pandas table (or a Git LFS pointer to one, to be told so)."""
    if path.suffix.lower() not in (".h5", ".hdf5", ".hdf") or not path.is_file():
        return False
    start = head(path, _SNIFFED)
    return start.startswith(LFS_POINTER) or (start.startswith(HDF5_MAGIC) and b"pandas_type" in start)


def sniff_dlc_csv(path: Path) -> bool:
    """A CSV whose first cell is `scorer`."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    start = head(path, 256).removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith((b"scorer,", b'"scorer",', LFS_POINTER))


def read_dlc_h5(path: Path) -> Poses:
    """Read a DeepLabCut HDF5 table.

    Raises
    ------
    UserError
        If it is no HDF5 file, cut short, holds no DeepLabCut table, or would have to run code.
    """
    return poses_from_tables([TableFile(path, load_h5(path))], metadata={"format": "dlc-h5"})


def read_dlc_csv(path: Path) -> Poses:
    """Read a DeepLabCut CSV table (Lightning Pose writes the same).

    Raises
    ------
    UserError
        If a header row is missing or the rows do not fit it.
    """
    return poses_from_tables([TableFile(path, load_csv(path))], metadata={"format": "dlc-csv"})


def load_h5(path: Path) -> DlcTable:
    """The table of an HDF5 file; of several, DeepLabCut's own key is preferred."""
    check_file(path)
    if not head(path, 8).startswith(HDF5_MAGIC):
        raise UserError("not an HDF5 file", path=path, remedy="copy or export it again")
    others: list[str] = []
    with plain_pickles_only() as refused:
        try:
            with python_warnings.catch_warnings():
                python_warnings.simplefilter("ignore")
                with pd.HDFStore(path, mode="r") as store:
                    keys = [k.lstrip("/") for k in store.keys()]  # noqa: SIM118 - not a dict
                    if not keys:
                        raise UserError("the file holds no pandas table", path=path)
                    key = next((k for k in KEYS if k in keys), keys[0])
                    others = [k for k in keys if k != key]
                    frame = store.get(key)
                    if not isinstance(frame, pd.DataFrame):
                        raise UserError(f"key {key!r} holds no table", path=path)
                    table = table_from_frame(frame, path, key)
                    extras, stale = read_extras(store.root._v_file, table.values[:, :, :2], table.columns)
        except UserError:
            raise
        # a damaged file fails in many ways, from HDF5's errors to pandas' and numpy's
        except Exception as error:
            if refused:
                raise UserError(
                    f"the file asks to run code ({refused[0]}) and was not read",
                    path=path,
                    remedy="do not trust it; ask its author for a CSV",
                ) from error
            raise UserError(
                f"cannot be read, it may be cut short or damaged ({type(error).__name__})",
                path=path,
                remedy="copy it again, or use the CSV beside it",
            ) from error
    notes = [f"{path.name}: {stale}"] if stale else []
    if others:
        notes.append(f"{path.name}: read the table {key!r}, not {', '.join(map(repr, others))}")
    return replace(table, warnings=(*table.warnings, *notes), extras=extras)


def load_csv(path: Path) -> DlcTable:
    """The table of a CSV file; numbers are read to their last bit."""
    check_file(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows: list[list[str]] = []
            lines = [0]
            for row in reader:
                rows.append(row)
                lines.append(reader.line_num)
                if len(rows) == 6:
                    break
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error
    except csv.Error as error:
        raise UserError(f"not a CSV text file ({error})", path=path, remedy="export it again") from error
    header, n_index = _csv_header(rows, path)
    n_header = len(header) + _names_row(rows[len(header) :], n_index)
    width = len(header[0])
    if len(rows) == n_header:
        frame = pd.DataFrame(np.zeros((0, width)))
    else:
        _check_end(path, width)
        try:
            with (
                open(path, newline="", encoding="utf-8-sig") as file,
                python_warnings.catch_warnings(),
            ):
                for _ in range(lines[n_header]):
                    file.readline()
                # a row that is too long would lose its end with no more than a warning
                python_warnings.simplefilter("error", pd.errors.ParserWarning)
                frame = pd.read_csv(
                    file,
                    header=None,
                    names=list(range(width)),
                    index_col=False,
                    **_EXACT,
                    converters=dict.fromkeys(range(n_index), str),
                )
        except UnicodeDecodeError as error:
            raise _not_utf8(path, error) from error
        except (ValueError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
            raise _misfit(path, error) from error
    try:
        data = frame.iloc[:, n_index:].astype(np.float64)
    except ValueError as error:
        raise _misfit(path, error) from error
    cells = [frame.iloc[:, i].astype(str) for i in range(n_index)]
    data.index = pd.MultiIndex.from_arrays(cells) if n_index > 1 else pd.Index(cells[0])
    data.columns = pd.MultiIndex.from_arrays(
        [row[n_index:] for row in header], names=[row[0] for row in header]
    )
    return table_from_frame(data, path)


def _check_end(path: Path, width: int) -> None:
    """A copy that stopped in the middle of a row would be read as missing points."""
    with open(path, "rb") as file:
        file.seek(0, 2)
        size = file.tell()
        # numbers take up to some 20 characters, names are rarely longer than a few hundred
        file.seek(max(0, size - 64 * width - 8192))
        tail = file.read().decode("utf-8", errors="replace").rstrip("\r\n").splitlines()
    try:
        cells = len(next(csv.reader(tail[-1:]), []))
    except csv.Error:
        return
    if 0 < cells < width:
        raise UserError(
            f"the file is cut short: its last row has {cells} of {width} columns",
            path=path,
            remedy="copy or export it again",
        )


def _not_utf8(path: Path, error: UnicodeDecodeError) -> UserError:
    """Names with accents from a spreadsheet that writes another encoding."""
    return UserError(
        f"is not UTF-8 text (byte 0x{error.object[error.start]:02x})",
        path=path,
        remedy="save it as `CSV UTF-8` in the spreadsheet program, or copy it again if it is damaged",
    )


def _misfit(path: Path, error: Exception) -> UserError:
    return UserError(
        f"the rows do not fit the header ({str(error).splitlines()[0]})",
        path=path,
        remedy="open it in a spreadsheet and look for text among the numbers or missing columns",
    )


def _csv_header(rows: list[list[str]], path: Path) -> tuple[list[list[str]], int]:
    """Header rows and the number of index columns."""
    titles = [row[0].strip() if row else "" for row in rows]
    wanted = ["scorer", "individuals", "bodyparts", "coords"]
    if "individuals" not in titles[:4]:
        wanted.remove("individuals")
    absent = [name for name in wanted if name not in titles[: len(wanted)]]
    if absent:
        raise UserError(
            f"the header row `{absent[0]}` is missing",
            path=path,
            remedy=f"a DeepLabCut table starts with the rows {', '.join(wanted)}",
        )
    header = [[cell.strip() if i == 0 else cell for i, cell in enumerate(row)] for row in rows[: len(wanted)]]
    if len({len(row) for row in header}) != 1 or len(header[0]) < 3:
        raise UserError("the header rows have different lengths", path=path, remedy="export it again")
    coords = header[-1]
    n_index = next((i for i, cell in enumerate(coords) if i and cell.strip()), len(coords))
    if n_index == len(coords):
        raise UserError("the header row `coords` is empty", path=path, remedy="export it again")
    return header, n_index


def _names_row(rows: list[list[str]], n_index: int) -> int:
    """1 if pandas wrote a row with the index' names below the header, which is no data."""
    if not rows or any(cell.strip() for cell in rows[0][n_index:]):
        return 0
    first = rows[0][0].strip() if rows[0] else ""
    if not first or first.isdigit() or first.startswith(("labeled-data", "frame0")):
        return 0
    data_like = any(c.lower().endswith(_IMAGE_SUFFIXES) or "/" in c or "\\" in c for c in rows[0][:n_index])
    return 0 if data_like or any(c.isdigit() for c in first) else 1
