"""Conversion tables: what a dataset's keypoints are called in a keypoint space."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.keypoints.space import KeypointSpace

#: ``left_eye|right_eye``: the source keypoint is whichever of the pair is on the animal's visible side.
SIDE = "|"
#: Where a table came from: asked for, saved with the dataset, or found from the keypoints' names.
Origin = Literal["given", "saved", "names"]


@dataclass(frozen=True)
class ConversionTable:
    """Source keypoint -> keypoint of a space, for one source dataset.

    A target of the form ``left_eye|right_eye`` stands for "the one on the side that the camera sees":
    side-view datasets often label one eye and never say which. It needs an animal whose facing is known.

    Attributes
    ----------
    name : str
        What the table is called in messages.
    rows : tuple of (str, str)
        (source, target); a source that is absent here is unmapped.
    space : str
        Name of the keypoint space, empty when unknown.
    """

    name: str
    rows: tuple[tuple[str, str], ...]
    space: str = ""

    def __post_init__(self) -> None:
        sources = [s for s, _ in self.rows]
        if doubled := sorted({s for s in sources if sources.count(s) > 1}):
            raise UserError(
                f"conversion table {self.name!r} names {doubled} twice as a source",
                remedy="keep one row per source keypoint",
            )
        targets = [t for _, t in self.rows]
        if doubled := sorted({t for t in targets if targets.count(t) > 1}):
            raise UserError(
                f"conversion table {self.name!r} sends two source keypoints to {doubled}",
                remedy="keep the row that names the same point of the body",
            )

    def target(self, source: str) -> str | None:
        """The keypoint that `source` becomes, None when unmapped."""
        return dict(self.rows).get(source)

    def check(self, source: Sequence[str], space: KeypointSpace) -> tuple[str, ...]:
        """Names of `source` that the table leaves unmapped.

        Raises
        ------
        UserError
            If a target is not in the space, or the table and the dataset share no keypoint.
        """
        for _, target in self.rows:
            for name in target.split(SIDE):
                if name not in space:
                    raise UserError(
                        f"conversion table {self.name!r}: {name!r} is not a keypoint of {space.name}",
                        remedy="correct the row; `superanimal models show NAME` lists the keypoints",
                    )
        mapped = {s for s, _ in self.rows}
        if not mapped.intersection(source):
            raise UserError(
                f"conversion table {self.name!r} names none of the dataset's keypoints "
                f"({', '.join(source[:6])}...)",
                remedy="write one row `source,keypoint` per keypoint",
            )
        return tuple(s for s in source if s not in mapped)


def read_table(path: Path) -> ConversionTable:
    """Read a CSV ``source,keypoint``; empty targets mean unmapped, ``#`` starts a comment.

    Raises
    ------
    UserError
        If the file is missing, has no such header, or maps two sources to one target.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the conversion table ({error})",
            path=path,
            remedy="give a text file (CSV, UTF-8) with the header `source,keypoint`",
        ) from error
    return parse_table(text, name=path.stem, path=path)


def parse_table(text: str, *, name: str, path: Path | None = None) -> ConversionTable:
    """`read_table` on text."""
    (header, *body), space = table_cells(text)
    if header[:2] != ["source", "keypoint"]:
        raise UserError(
            "a conversion table starts with the header `source,keypoint`",
            path=path,
            remedy="add the header row",
        )
    rows = []
    for cells in body:
        source, target = (*cells, "", "")[:2]
        if source and target:
            rows.append((source, target))
    return ConversionTable(name=name, rows=tuple(rows), space=space)


def table_cells(text: str) -> tuple[list[list[str]], str]:
    """Cells of a table's rows, the header first, and the space that a comment names; spaces around cells are gone."""
    lines = text.splitlines()
    spaces = [line.partition(":")[2].strip() for line in lines if line.startswith("# space:")]
    kept = "\n".join(line for line in lines if line.strip() and not line.startswith("#"))
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(kept))]
    return rows or [[]], spaces[-1] if spaces else ""


def write_table(table: ConversionTable, path: Path) -> None:
    """Write `table` as CSV, with its space as a comment."""
    out = io.StringIO()
    if table.space:
        out.write(f"# space: {table.space}\n")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("source", "keypoint"))
    # in quotes a name that begins with # is no comment
    quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in table.rows:
        (quoting if row[0].startswith("#") else writer).writerow(row)
    path.write_text(out.getvalue(), encoding="utf-8")


def identity_table(names: Sequence[str], space: KeypointSpace) -> ConversionTable:
    """Every name that the space already has, mapped to itself."""
    return ConversionTable(
        name="same names", rows=tuple((n, n) for n in names if n in space), space=space.name
    )


def builtin_tables() -> dict[str, ConversionTable]:
    """The tables shipped with the package, by name."""
    folder = files("napari_superanimal.keypoints") / "data" / "tables"
    found = {}
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".csv"):
            name = entry.name.removesuffix(".csv")
            found[name] = parse_table(entry.read_text(encoding="utf-8"), name=name)
    return found


def load_table(name: str | Path) -> ConversionTable:
    """A CSV file, or a shipped table by name.

    Raises
    ------
    UserError
        If there is neither.
    """
    if Path(name).is_file():
        return read_table(Path(name))
    shipped = builtin_tables()
    if str(name) in shipped:
        return shipped[str(name)]
    raise UserError(
        f"no conversion table {str(name)!r}",
        remedy=f"give a CSV file or one of {', '.join(shipped)}",
    )


def find_table(names: Sequence[str], space: KeypointSpace) -> ConversionTable | None:
    """The table that explains a dataset's keypoint names without being told.

    Names that are all in the space need none (identity). Otherwise the one shipped table of this space whose
    sources are all among the names, or the paper's table that says the same and explains more of them; else the
    names that the space has, if there are at least two. None when nothing fits or several tables do: never guess.
    """
    from napari_superanimal.keypoints.many import table_from_paper

    if all(n in space for n in names):
        return identity_table(names, space)
    fitting = [
        table
        for table in builtin_tables().values()
        if table.space == space.name and table.rows and {s for s, _ in table.rows} <= set(names)
    ]
    paper = table_from_paper(names, space.name)
    if fitting:
        more = paper is not None and len(fitting) == 1 and set(fitting[0].rows) < set(paper.rows)
        return paper if more else (fitting[0] if len(fitting) == 1 else None)
    if paper is not None:
        return paper
    same = identity_table(names, space)
    return same if len(same.rows) >= 2 else None


def look_up_table(
    names: Sequence[str],
    space: KeypointSpace,
    given: str | Path | None = None,
    *,
    folder: Path | None = None,
    path: Path | str | None = None,
) -> tuple[ConversionTable | None, Origin]:
    """The conversion table asked for, else the one saved with the dataset, else that which the names call for.

    Parameters
    ----------
    names : sequence of str
        The dataset's keypoints.
    given : str or Path, optional
        A CSV file, the name of a shipped table, ``paper:DATASET`` or ``FILE.csv:DATASET``; empty finds it out.
    folder : Path, optional
        Where a file `given` is looked for first.
    path : Path or str, optional
        The dataset: where a saved table is looked for.

    Returns
    -------
    table : ConversionTable or None
        None where nothing is given or saved, and the names explain nothing.
    origin : {"given", "saved", "names"}

    Raises
    ------
    UserError
        If the table asked for is not there, or it or the saved one is wrong.
    """
    from napari_superanimal.keypoints.many import pick_table, saved_table

    if given:
        return pick_table(given, folder), "given"
    if path is not None and (kept := saved_table(Path(path), space.name)) is not None:
        return kept, "saved"
    return find_table(names, space), "names"


def table_for(
    names: Sequence[str],
    space: KeypointSpace,
    given: str | Path | None = None,
    *,
    folder: Path | None = None,
    path: Path | str | None = None,
) -> ConversionTable:
    """As `look_up_table`, for those who cannot go on without a table.

    Raises
    ------
    UserError
        Also if there is none.
    """
    found, _ = look_up_table(names, space, given, folder=folder, path=path)
    if found is None:
        more = "..." if len(names) > 5 else ""
        raise UserError(
            f"cannot tell which keypoints of {space.name} {', '.join(names[:5])}{more} are",
            path=path,
            remedy="give a conversion table (--table, or `table` in a recipe): a CSV with the header "
            "`source,keypoint`",
        )
    return found
