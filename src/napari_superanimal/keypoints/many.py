"""Conversion tables of several datasets in one file: the paper's two, and files laid out like them.

The dataset's column decides, never the name alone: ``spine1`` is the neck in one lab and the middle of the back
in another.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints.table import ConversionTable, load_table, table_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

#: How the paper's tables are named: ``paper:EPM``.
PAPER = "paper"
#: The column of the space's own names in a wide table, as DeepLabCut calls it.
MASTER = "MasterName"
LONG = ["dataset", "source", "keypoint"]


def parse_tables(text: str, *, path: Path | None = None) -> dict[str, ConversionTable]:
    """Tables by dataset, from text laid out long (``dataset,source,keypoint``) or wide.

    In a wide table every column but ``MasterName`` is a dataset; cells are its names, empty where it lacks the
    keypoint. Spaces around names do not count.

    Raises
    ------
    UserError
        If the header is neither, or a dataset's table contradicts itself.
    """
    (header, *body), space = table_cells(text)
    found: dict[str, list[tuple[str, str]]] = {}
    if header[:3] == LONG:
        for cells in body:
            dataset, source, target = (*cells, "", "", "")[:3]
            if dataset and source and target:
                found.setdefault(dataset, []).append((source, target))
    elif MASTER in header:
        master = header.index(MASTER)
        found = {name: [] for i, name in enumerate(header) if i != master and name}
        for cells in body:
            target = cells[master] if len(cells) > master else ""
            for i, cell in enumerate(cells[: len(header)]):
                if i != master and header[i] and cell and target:
                    found[header[i]].append((cell, target))
    else:
        raise UserError(
            f"a table of several datasets starts with `{','.join(LONG)}`, or has a column {MASTER}",
            path=path,
            remedy="add the header row",
        )
    return {name: ConversionTable(name=name, rows=tuple(rows), space=space) for name, rows in found.items()}


@cache
def paper_tables() -> dict[str, ConversionTable]:
    """The two conversion tables of the paper, by dataset: 15 of mice from above, 6 of quadrupeds."""
    folder = files("napari_superanimal.keypoints") / "data" / "tables" / PAPER
    found: dict[str, ConversionTable] = {}
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".csv"):
            found |= parse_tables(entry.read_text(encoding="utf-8"))
    return {
        name: ConversionTable(f"{PAPER}:{name}", table.rows, table.space) for name, table in found.items()
    }


def pick_table(text: str | Path, folder: Path | None = None) -> ConversionTable:
    """The table that a user names: a CSV, a shipped one, ``paper:DATASET``, or ``FILE.csv:DATASET``.

    Parameters
    ----------
    folder : Path, optional
        Where a file is looked for first.

    Raises
    ------
    UserError
        If there is none of that name, or it is wrong.
    """
    name = str(text)
    beside = folder / name if folder is not None else Path(name)
    path = beside if beside.is_file() else Path(name)
    if path.is_file():
        return _single(path)
    file, _, dataset = name.rpartition(":")
    if file == PAPER:
        return _choose(paper_tables(), dataset, "the paper's conversion tables")
    if file and Path(file).is_file():
        return _choose(parse_tables(_read(Path(file)), path=Path(file)), dataset, file)
    return load_table(text)


def _single(path: Path) -> ConversionTable:
    """The only table of a file; a file of several needs ``:DATASET``."""
    text = _read(path)
    rows = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    header = [cell.strip() for cell in next(csv.reader(rows[:1]), [])]
    if header[:3] != LONG and MASTER not in header:
        return load_table(path)
    tables = parse_tables(text, path=path)
    if len(tables) != 1:
        raise UserError(
            f"the file holds the tables of {len(tables)} datasets",
            path=path,
            remedy=f"say which one: {path.name}:{next(iter(tables), 'DATASET')}",
        )
    return next(iter(tables.values()))


def _choose(tables: dict[str, ConversionTable], dataset: str, where: str) -> ConversionTable:
    if dataset not in tables:
        raise UserError(
            f"{where} has no dataset {dataset!r}",
            remedy=f"use one of {', '.join(tables)}",
        )
    return tables[dataset]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the conversion table ({error})", path=path) from error


def table_from_paper(names: Sequence[str], space: str) -> ConversionTable | None:
    """The paper's table whose sources are all among the names and that explains most of them.

    None where none fits, or where two that explain as many say different things.
    """
    known = set(names)
    fitting = [
        t for t in paper_tables().values() if t.space == space and t.rows and {s for s, _ in t.rows} <= known
    ]
    most = max((len(t.rows) for t in fitting), default=0)
    best = [t for t in fitting if len(t.rows) == most]
    return best[0] if best and all(set(t.rows) == set(best[0].rows) for t in best) else None


def saved_table(dataset: Path, space: str) -> ConversionTable | None:
    """The table that was saved with a dataset, None where there is none."""
    path = saved_table_path(dataset, space)
    return _single(path) if path.is_file() else None


def saved_table_path(dataset: Path, space: str) -> Path:
    """Where the table of a dataset is kept: in its folder, or beside its file."""
    name = f"{space}.table.csv"
    if dataset.name == "config.yaml":
        dataset = dataset.parent
    return dataset / name if dataset.is_dir() else dataset.with_name(f"{dataset.stem}.{name}")
