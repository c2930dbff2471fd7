"""The generalized data converter: labelled data sets of any format, each with its own names, as one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.labels import label_file, refuse_video
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Meter, ProgressCallback
from napari_superanimal.keypoints import ConversionTable, KeypointSpace, load_space, table_for
from napari_superanimal.keypoints.many import pick_table, saved_table
from napari_superanimal.poses import UNDEFINED, Poses, merge, project
from napari_superanimal.poses.formats import registry
from napari_superanimal.poses.formats.convert import target_of
from napari_superanimal.poses.formats.dlc_split import with_split
from napari_superanimal.poses.report import MergeReport, report_merge, report_source

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Files of a COCO folder, by the split that their names say.
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True)
class MergeInput:
    """A data set and the conversion table given for it; an empty table is found out."""

    path: Path
    table: str = ""


def parse_input(text: str) -> MergeInput:
    """``IN`` or ``IN=TABLE``; a path may contain ``=`` itself."""
    if Path(text).exists() or "=" not in text:
        return MergeInput(Path(text))
    path, _, table = text.rpartition("=")
    return MergeInput(Path(path), table.strip())


def merge_files(
    inputs: Sequence[MergeInput],
    out: Path | None,
    space: str | Path,
    *,
    to: str | None = None,
    names: Sequence[str] | None = None,
    pictures: str = "copy",
    keep_unmapped: bool = False,
    overwrite: bool = False,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
) -> tuple[MergeReport, list[Path]]:
    """Read, carry into `space`, unite, report and write.

    Parameters
    ----------
    out : Path or None
        What to write; None only reports.
    names : sequence of str, optional
        What the data sets are called in the result; those of their files otherwise.
    keep_unmapped : bool
        Append keypoints without a place in the space as ``DATASET:NAME``.

    Returns
    -------
    report : MergeReport
    files : list of Path
        What was written.

    Raises
    ------
    UserError
        If a data set or table cannot be read or does not fit, or `out` cannot be written; nothing is written
        then.
    Cancelled
        If the token was set.
    """
    known = load_space(space)
    format_, target = ("", None) if out is None else target_of(out, to, out)
    if (
        target is not None
        and target.exists()
        and not overwrite
        and (target.is_file() or any(target.iterdir()))
    ):
        raise UserError("exists already", path=target, remedy="choose another name or --overwrite")
    if target is not None and any(_same(target, i.path) for i in inputs):
        raise UserError("a data set to merge would be replaced by the result", path=target)
    called = _names(inputs, names)
    meter = Meter(len(inputs))
    before: list[Poses] = []
    after: list[Poses] = []
    for given, name in zip(inputs, called, strict=True):
        if token is not None and token.cancelled:
            raise Cancelled("stopped")
        poses = read_dataset(given.path)
        table = table_of(poses, given, known)
        before.append(poses)
        after.append(project(poses, table, known))
        if on_progress is not None:
            on_progress(meter.at(len(after), f"read {name}"))
    sources = [report_source(b, a, known, n) for b, a, n in zip(before, after, called, strict=True)]
    merged = merge(_with_unmapped(before, after, called) if keep_unmapped else after, called)
    report = report_merge(merged, sources, known)
    if token is not None and token.cancelled:
        raise Cancelled("stopped")
    if target is None:
        return report, []
    options: dict[str, Any] = {"pictures": pictures} if format_ == "dlc-project" else {}
    return report, registry.write(merged, target, format_, overwrite=overwrite, **options)


def read_dataset(path: Path) -> Poses:
    """Labels of images, in any format, with their splits where the data set has any.

    A folder with ``annotations/train.json``, ``test.json`` and the like is read as one data set.

    Raises
    ------
    UserError
        If it cannot be read, is a video's, or has no label.
    """
    files = _split_files(path)
    if files:
        parts = [replace(_with_split(registry.read(f), SPLITS[f.stem.lower()]), sources=()) for f in files]
        if any(p.keypoints != parts[0].keypoints for p in parts):
            raise UserError(
                f"{', '.join(f.name for f in files)} do not have the same keypoints",
                path=path,
                remedy="merge them as data sets of their own",
            )
        united = merge(parts, [f.stem for f in files])
        notes = ("warnings", "missing_images")
        collected = {key: [n for p in parts for n in p.metadata.get(key, ())] for key in notes}
        metadata = {"format": "coco", "path": str(path), **collected}
        poses = replace(united, sources=(), metadata=metadata)
    else:
        poses = registry.read(label_file(path))
        if str(poses.metadata.get("format")) == "dlc-project":
            poses = with_split(poses)
    refuse_video(poses, path)
    if not poses.found.any():
        raise UserError("the data set has no labelled keypoint", path=path, remedy="leave it out")
    return poses


def _split_files(path: Path) -> list[Path]:
    folder = path / "annotations"
    if not folder.is_dir():
        return []
    return [f for f in sorted(folder.glob("*.json")) if f.stem.lower() in SPLITS]


def _with_split(poses: Poses, split: str) -> Poses:
    return poses if poses.splits else replace(poses, splits=(split,) * len(poses))


def table_of(poses: Poses, given: MergeInput, space: KeypointSpace) -> ConversionTable:
    """The table given, else the one saved with the data set, else that of its DeepLabCut config, else the names'.

    Raises
    ------
    UserError
        If the table given is wrong or meant for another space, or nothing tells which it is.
    """
    if given.table:
        table = pick_table(given.table)
        if table.space and table.space != space.name:
            raise UserError(
                f"conversion table {table.name!r} is for {table.space}, not for {space.name}",
                path=given.path,
                remedy="give a table for the space asked for",
            )
        return table
    if (kept := saved_table(given.path, space.name)) is not None:
        return kept
    own = (poses.metadata.get("tables") or {}).get(space.name)
    if own:
        rows = tuple((str(a), str(b)) for a, b in own.items() if b)
        return ConversionTable("its config.yaml", rows, space.name)
    return table_for(poses.keypoints, space, path=given.path)


def _names(inputs: Sequence[MergeInput], names: Sequence[str] | None) -> list[str]:
    if names is not None:
        if len(names) != len(inputs) or len(set(names)) != len(names) or not all(names):
            raise UserError(
                f"--names gives {len(set(names))} different names for {len(inputs)} data sets",
                remedy="give one name per data set, separated by commas",
            )
        return list(names)
    called: list[str] = []
    for given in inputs:
        path = given.path.absolute()
        # config.yaml, labels.json, CollectedData_Ann.h5: the folder says whose they are
        common = path.is_file() and (path.stem.lower() in ("config", "labels", "annotations", *SPLITS))
        name = path.parent.name if common or path.stem.startswith("CollectedData") else path.stem
        base, n = name or "data", 2
        while name in called:
            name, n = f"{base}_{n}", n + 1
        called.append(name)
    return called


def _same(target: Path, source: Path) -> bool:
    return target.exists() and source.exists() and target.samefile(source)


def _with_unmapped(before: Sequence[Poses], after: Sequence[Poses], names: Sequence[str]) -> list[Poses]:
    """The projected data sets with further keypoints ``DATASET:NAME`` for what their tables leave out."""
    extra = [
        (d, poses.keypoints.index(k), f"{names[d]}:{k}")
        for d, poses in enumerate(before)
        for k in after[d].metadata["unmapped"]
    ]
    wider = []
    for d, poses in enumerate(after):
        shape = (*poses.visibility.shape[:2], len(extra))
        xy, likelihood = np.full((*shape, 2), np.nan), np.full(shape, np.nan)
        visibility, human = np.full(shape, UNDEFINED, np.int8), np.zeros(shape, bool)
        for column, (owner, k, _) in enumerate(extra):
            if owner == d:
                xy[:, :, column], likelihood[:, :, column] = (
                    before[d].xy[:, :, k],
                    before[d].likelihood[:, :, k],
                )
                visibility[:, :, column] = before[d].visibility[:, :, k]
                human[:, :, column] = before[d].human[:, :, k]
        wider.append(
            replace(
                poses,
                keypoints=(*poses.keypoints, *(name for _, _, name in extra)),
                xy=np.concatenate([poses.xy, xy], 2),
                visibility=np.concatenate([poses.visibility, visibility], 2),
                likelihood=np.concatenate([poses.likelihood, likelihood], 2),
                human=np.concatenate([poses.human, human], 2),
            )
        )
    return wider
