"""DeepLabCut's tables in memory: from a pandas frame, and to `Poses`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from napari_superanimal.errors import UserError
from napari_superanimal.poses.formats.images import image_size, relative_to, slashes
from napari_superanimal.poses.poses import LABELLED, SINGLE, UNDEFINED, UNLABELLED, Poses, make_poses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.poses.formats.dlc_extras import Extras

#: Folder of a project that holds one folder of labelled pictures per video.
LABELLED_DATA = "labeled-data"
_FRAME = re.compile(r"frame(\d+)")
_LEVELS = {3: ("scorer", "bodyparts", "coords"), 4: ("scorer", "individuals", "bodyparts", "coords")}
#: A keypoint labelled in fewer rows than this is worth a warning.
MISTAKE_SHARE = 0.02


@dataclass(frozen=True)
class DlcTable:
    """One CollectedData, machinelabels or prediction table.

    Attributes
    ----------
    scorer : str
    columns : tuple of (individual, bodypart), length C
        In the file's order; the individual is "" for a table without that level. Bodyparts that belong
        to no animal stand under the individual ``single``.
    multi : bool
        The table has the level "individuals".
    values : (T, C, 3) float64
        x, y, likelihood; NaN where missing.
    has_likelihood : bool
    frames : (T,) int64
        Frame numbers, or the row numbers of pictures.
    images : tuple of str
        Pictures with forward slashes; empty for a video.
    layout : str
        How the index is written: "multi" (three levels), "string" (one path), "integer", "frame"
        (``frame0001``).
    separator : str
        Between the parts of a path in the "string" layout.
    key : str
        The HDF5 key, empty for CSV.
    warnings : tuple of str
    extras : Extras or None
        What our own files hold beside the table.
    """

    scorer: str
    columns: tuple[tuple[str, str], ...]
    multi: bool
    values: npt.NDArray[np.float64]
    has_likelihood: bool
    frames: npt.NDArray[np.int64]
    images: tuple[str, ...]
    layout: str
    separator: str = "/"
    key: str = ""
    warnings: tuple[str, ...] = ()
    extras: Extras | None = None

    @property
    def keypoints(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(k for _, k in self.columns))

    @property
    def individuals(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(i for i, _ in self.columns))


def table_from_frame(frame: pd.DataFrame, path: Path, key: str = "") -> DlcTable:
    """Understand a pandas frame as DeepLabCut wrote it, in any of its versions.

    Raises
    ------
    UserError
        If columns or index are not DeepLabCut's.
    """
    columns = frame.columns
    if columns.nlevels not in _LEVELS:
        raise UserError(
            f"not a DeepLabCut table: {columns.nlevels} header rows instead of 3 or 4",
            path=path,
            remedy="export it with scorer, (individuals,) bodyparts and coords",
        )
    levels = _LEVELS[columns.nlevels]
    named = [str(n) for n in columns.names]
    order = [named.index(n) for n in levels] if set(levels) <= set(named) else list(range(len(levels)))
    labels = [tuple(str(c[i]) for i in order) for c in columns]
    coords = {c[-1] for c in labels}
    if not {"x", "y"} <= coords or not coords <= {"x", "y", "likelihood"}:
        raise UserError(
            f"not a DeepLabCut table: coordinates named {sorted(coords)} instead of x, y, likelihood",
            path=path,
            remedy="name them so in the header row `coords`",
        )
    warnings = []
    scorers = tuple(dict.fromkeys(c[0] for c in labels))
    if len(scorers) > 1:
        warnings.append(f"{path.name}: {len(scorers)} scorers, only {scorers[0]!r} was read")
    position: dict[tuple[str, str], dict[str, int]] = {}
    for i, label in enumerate(labels):
        if label[0] != scorers[0]:
            continue
        pair = (label[1] if len(levels) == 4 else SINGLE, label[-2])
        place = position.setdefault(pair, {})
        if label[-1] in place:
            whose = f" of {pair[0]!r}" if pair[0] else ""
            raise UserError(
                f"bodypart {pair[1]!r}{whose} has two columns {label[-1]}",
                path=path,
                remedy="remove one of them, or give individuals different names",
            )
        place[label[-1]] = i
    for pair, place in position.items():
        if not {"x", "y"} <= place.keys():
            raise UserError(
                f"bodypart {pair[1]!r} has no x or no y", path=path, remedy="export the table again"
            )
    try:
        cells = frame.to_numpy(np.float64)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"a cell is not a number ({error})", path=path, remedy="export the table again"
        ) from error
    values = np.full((len(cells), len(position), 3), np.nan)
    for c, place in enumerate(position.values()):
        for d, name in enumerate(("x", "y", "likelihood")):
            if name in place:
                values[:, c, d] = cells[:, place[name]]
    frames, images, layout, separator = _read_index(frame.index, path)
    if len(set(images or frames.tolist())) != len(frames):
        warnings.append(f"{path.name}: some rows belong to the same {'picture' if images else 'frame'}")
    return DlcTable(
        scorer=scorers[0],
        columns=tuple(position),
        multi=len(levels) == 4,
        values=values,
        has_likelihood="likelihood" in coords,
        frames=frames,
        images=images,
        layout=layout,
        separator=separator,
        key=key,
        warnings=tuple(warnings),
    )


def _read_index(index: pd.Index, path: Path) -> tuple[npt.NDArray[np.int64], tuple[str, ...], str, str]:
    """Frame numbers, pictures, layout and separator of a table's index."""
    if index.nlevels > 1:
        images = tuple(_from_project("/".join(str(part) for part in row)) for row in index)
        return np.arange(len(index)), images, "multi", "/"
    if pd.api.types.is_numeric_dtype(index.dtype) and not pd.api.types.is_bool_dtype(index.dtype):
        numbers = index.to_numpy(np.float64)
        if not (np.isfinite(numbers).all() and (numbers == np.round(numbers)).all()):
            raise UserError(
                "the frame index is not made of whole numbers", path=path, remedy="number the frames from 0"
            )
        return numbers.astype(np.int64), (), "integer", "/"
    texts = [str(t) for t in index]
    if texts and all(t.strip().isdigit() for t in texts):
        return np.array([int(t) for t in texts], np.int64), (), "integer", "/"
    matches = [_FRAME.fullmatch(t) for t in texts]
    if texts and all(matches):
        return np.array([int(m[1]) for m in matches if m], np.int64), (), "frame", "/"
    if not texts:
        return np.zeros(0, np.int64), (), "integer", "/"
    separator = "\\" if any("\\" in t for t in texts) and not any("/" in t for t in texts) else "/"
    return np.arange(len(texts)), tuple(_from_project(slashes(t)) for t in texts), "string", separator


def _from_project(path: str) -> str:
    """An absolute path of another disk, cut down to the project; others unchanged."""
    parts = path.split("/")
    if LABELLED_DATA in parts[1:]:
        return "/".join(parts[parts.index(LABELLED_DATA) :])
    return path


def is_prediction(table: DlcTable, path: Path) -> bool:
    """Made by a machine rather than placed by a person.

    ``CollectedData*`` is human and ``machinelabels*`` is not, whatever they hold; otherwise a likelihood
    or frame numbers (people label pictures) tell.
    """
    stem = path.stem.lower()
    if stem.startswith("collecteddata"):
        return False
    return stem.startswith("machinelabels") or table.has_likelihood or not table.images


def project_root(path: Path, images: Sequence[str], hint: str = "") -> Path:
    """The folder that a table's pictures are relative to; `hint` is tried first."""
    parent = path.absolute().parent
    if hint and (hinted := Path(os.path.normpath(parent / hint))).is_dir():
        return hinted
    for folder in (parent, *parent.parents[:3]):
        if any((folder / image).is_file() for image in images[:5]):
            return folder
    if parent.parent.name == LABELLED_DATA:
        return parent.parent.parent
    return parent


@dataclass(frozen=True)
class TableFile:
    """A table and where it came from."""

    path: Path
    table: DlcTable


def poses_from_tables(
    files: Sequence[TableFile],
    root: Path | None = None,
    *,
    keypoints: Sequence[str] = (),
    individuals: Sequence[str] = (),
    scorer: str = "",
    metadata: dict[str, Any] | None = None,
    skeleton: Sequence[tuple[str, str]] = (),
) -> Poses:
    """One `Poses` of all tables; names beyond those given are appended.

    Bodyparts that are declared but never labelled in all the label tables get visibility -1 and are
    listed in ``metadata["never_labelled"]``; so do combinations of individual and bodypart that no
    table has. Pictures that are not found stay as rows and are listed in ``metadata["missing_images"]``.
    """
    tables = [_own_names(f.table) for f in files]
    first = tables[0]
    multi = any(t.multi for t in tables)
    predicted = is_prediction(first, files[0].path)
    own: dict[str, Any] = first.extras.fields if first.extras and len(files) == 1 else {}
    notes = [t.extras.fields.get("metadata", {}) if t.extras else {} for t in tables]
    # the tables of one project say the same; those of several programs do not
    shared = notes[0] if all(note == notes[0] for note in notes) else {}
    keypoints = keypoints or own.get("keypoints", ())
    individuals = individuals or own.get("individuals", ())
    if multi and len(tables) > 1:
        # a single-animal table among multi-animal ones belongs to the first individual
        lead = next((i for t in tables for i in (*individuals, *t.individuals) if i), "individual1")
        tables = [replace(t, columns=tuple((i or lead, k) for i, k in t.columns)) for t in tables]
    names = tuple(dict.fromkeys((*keypoints, *(k for t in tables for k in t.keypoints))))
    animals = tuple(dict.fromkeys((*individuals, *(i for t in tables for i in t.individuals))))

    total = sum(len(t.frames) for t in tables)
    arrays = _Arrays(total, len(animals), len(names))
    declared = np.zeros(arrays.xy.shape[1:3], bool)
    coded = np.zeros(total, bool)
    animal_of, name_of = ({n: i for i, n in enumerate(group)} for group in (animals, names))
    start = 0
    for table in tables:
        rows = slice(start, start + len(table.frames))
        start += len(table.frames)
        a = np.array([animal_of[i] for i, _ in table.columns], np.int64)
        k = np.array([name_of[n] for _, n in table.columns], np.int64)
        coded[rows] = arrays.fill(rows, a, k, [animal_of[i] for i in table.individuals], table, predicted)
        declared[a, k] = True

    never, warnings = _never_labelled(arrays.xy, names, predicted)
    declared[:, [n in never for n in names]] = False
    if predicted or len(never) < len(names):
        undefined_a, undefined_k = np.nonzero(~declared)
        arrays.visibility[np.flatnonzero(~coded)[:, None], undefined_a, undefined_k] = UNDEFINED
    dlc: dict[str, Any] = {
        "kind": "predictions" if predicted else "labels",
        "layout": first.layout,
        "separator": first.separator,
        "multi": multi,
        "key": first.key,
        "scorer": scorer or first.scorer,
        "columns": [list(c) for c in dict.fromkeys(c for t in tables for c in t.columns)],
    }
    given = metadata or {}
    meta: dict[str, Any] = {
        **shared,
        **given,
        "path": str(given.get("path", files[0].path)),
        "dlc": dlc,
        "never_labelled": never,
        "warnings": [*given.get("warnings", ()), *(w for t in tables for w in t.warnings), *warnings],
        "missing_images": [],
    }
    edges = skeleton or own.get("skeleton", ())
    common: dict[str, Any] = {
        "individuals": animals,
        "likelihood": arrays.likelihood,
        "visibility": arrays.visibility,
        "human": arrays.human,
        "boxes": arrays.boxes,
        "box_scores": arrays.box_scores,
        "scorer": dlc["scorer"],
        "skeleton": tuple((a, b) for a, b in edges if a in names and b in names),
        **{field: _row_texts(tables, field) for field in ("sources", "splits", "ids")},
        "metadata": meta,
    }
    if first.layout in ("integer", "frame"):
        return make_poses(names, arrays.xy, frames=first.frames, image_sizes=arrays.sizes, **common)
    base = root or project_root(files[0].path, first.images, own.get("root", ""))
    images, sizes = _pictures(files, base, meta)
    sizes = np.where(sizes > 0, sizes, arrays.sizes)
    return make_poses(names, arrays.xy, images=images, image_sizes=sizes, root=base, **common)


def _row_texts(tables: Sequence[DlcTable], field: str) -> tuple[str, ...]:
    """One of the texts that our own tables hold per row; empty when no table has it."""
    given = [
        tuple(map(str, t.extras.fields.get(field) or ())) if t.extras is not None else () for t in tables
    ]
    if not any(given):
        return ()
    # a table that another program made, or whose rows were changed, has none
    lengths = [len(t.frames) for t in tables]
    return tuple(
        text
        for texts, n in zip(given, lengths, strict=True)
        for text in (texts if len(texts) == n else ("",) * n)
    )


class _Arrays:
    """The arrays of a `Poses` while tables are poured into them."""

    def __init__(self, t: int, a: int, k: int) -> None:
        self.xy = np.full((t, a, k, 2), np.nan)
        self.likelihood = np.full((t, a, k), np.nan)
        self.visibility = np.full((t, a, k), UNLABELLED, np.int8)
        self.human = np.zeros((t, a, k), bool)
        self.boxes = np.full((t, a, 4), np.nan)
        self.box_scores = np.full((t, a), np.nan)
        self.sizes = np.zeros((t, 2), np.int64)

    def fill(
        self,
        rows: slice,
        a: npt.NDArray[np.int64],
        k: npt.NDArray[np.int64],
        animals: list[int],
        table: DlcTable,
        predicted: bool,
    ) -> bool:
        """Take one table's values; whether it carries its own visibility codes."""
        points = table.values[:, :, :2]
        # both padded with exactly -1: how DeepLabCut writes what is not there
        padded = (points == -1).all(-1)
        here = np.isfinite(points).all(-1) & ~padded
        self.xy[rows, a, k] = np.where(here[..., None], points, np.nan)
        if (own := table.extras) is not None:
            self.likelihood[rows, a, k] = own.likelihood
            self.visibility[rows, a, k] = own.visibility
            self.human[rows, a, k] = own.human
            self.boxes[rows, animals] = own.boxes
            self.box_scores[rows, animals] = own.box_scores
            self.sizes[rows] = own.image_sizes
            return True
        seen = table.values[:, :, 2] if table.has_likelihood else np.ones(here.shape)
        self.likelihood[rows, a, k] = np.where(here, np.where(np.isnan(seen), 1.0, seen), np.nan)
        absent = UNLABELLED if predicted else np.where(padded, UNDEFINED, UNLABELLED)
        self.visibility[rows, a, k] = np.where(here, LABELLED, absent)
        self.human[rows, a, k] = here & (not predicted)
        return False


def _own_names(table: DlcTable) -> DlcTable:
    """The nameless one animal again, which prediction files must call `animal0`."""
    if table.extras is None or table.extras.fields.get("individuals") != [SINGLE]:
        return table
    return replace(table, columns=tuple((SINGLE, k) for _, k in table.columns))


def _never_labelled(
    xy: npt.NDArray[np.float64], names: Sequence[str], predicted: bool
) -> tuple[list[str], list[str]]:
    """Keypoints without any label, and warnings about those with suspiciously few."""
    if predicted:
        return [], []
    found: npt.NDArray[np.bool_] = np.isfinite(xy[..., 0]) & np.isfinite(xy[..., 1])
    total = len(found)
    warnings = []
    for name, count in zip(names, found.any(axis=1).sum(axis=0), strict=True):
        if total >= 20 and 0 < count < max(2, MISTAKE_SHARE * total):
            warnings.append(f"{name} is labelled in only {count} of {total} rows: a slip of the labeller?")
    return [
        n for n, used in zip(names, np.asarray(found.any(axis=(0, 1))), strict=True) if not used
    ], warnings


def _pictures(
    files: Sequence[TableFile], root: Path, meta: dict[str, Any]
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Pictures of all rows relative to `root`, with sizes."""
    images: list[str] = []
    sizes: list[tuple[int, int]] = []
    for file in files:
        here = file.path.absolute().parent
        moved = 0
        own = file.table.extras.fields.get("pictures", ()) if file.table.extras else ()
        for row, recorded in enumerate(file.table.images):
            direct = root / recorded
            beside = here / PurePosixPath(recorded).name
            # our own tables know which of several projects a picture belongs to
            told = (
                Path(os.path.normpath(here / str(own[row]))) if len(own) == len(file.table.images) else direct
            )
            found = next((p for p in (told, direct) if p.is_file()), beside)
            if not found.is_file():
                meta["missing_images"].append(recorded)
                images.append(recorded)
                sizes.append((0, 0))
                continue
            moved += found not in (direct, told)
            images.append(relative_to(found, root))
            sizes.append(image_size(found))
        if moved:
            meta["warnings"].append(
                f"{file.path.name}: {moved} pictures were found beside the table, not where it says"
            )
    return tuple(images), np.array(sizes, np.int64).reshape(-1, 2)
