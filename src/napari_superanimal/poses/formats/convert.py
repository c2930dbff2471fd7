"""From one format into another, with an account of what became of everything."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import load_space, load_table, table_for
from napari_superanimal.poses.formats import registry
from napari_superanimal.poses.formats.dlc_frame import project_root
from napari_superanimal.poses.poses import UNDEFINED
from napari_superanimal.poses.project import project

if TYPE_CHECKING:
    from napari_superanimal.poses.poses import Poses

#: What a CSV cannot say; the HDF5 tables and COCO files written here can.
_LOST_IN_CSV = ("boxes", "visibility codes", "who placed a point")


@dataclass(frozen=True)
class ConversionReport:
    """What was converted, and what deserves a look.

    Attributes
    ----------
    source, target, source_format, target_format : str
    files : tuple of str
        What was written; a project's pictures included.
    rows, individuals, keypoints : int
    labelled : dict of str to int
        Points per keypoint of the result.
    unmapped : tuple of str
        Keypoints of the source that the conversion table leaves out.
    never_labelled : tuple of str
        Keypoints that the source declares and never labels.
    undefined : tuple of str
        Keypoints of the space that the source does not define.
    out_of_image : int
        Points outside their picture, where its size is known.
    missing_images : tuple of str
    warnings : tuple of str
    """

    source: str
    target: str
    source_format: str
    target_format: str
    files: tuple[str, ...]
    rows: int
    individuals: int
    keypoints: int
    labelled: dict[str, int]
    unmapped: tuple[str, ...]
    never_labelled: tuple[str, ...]
    undefined: tuple[str, ...]
    out_of_image: int
    missing_images: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for a file."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a person, most important first."""
        points = sum(self.labelled.values())
        said = [
            f"{self.source} ({self.source_format}) -> {self.target} ({self.target_format})",
            f"{self.rows} rows, {self.individuals} individuals, {self.keypoints} keypoints, {points} points",
        ]
        for title, names in (
            ("not in the conversion table", self.unmapped),
            ("declared but never labelled", self.never_labelled),
            ("not defined by the source", self.undefined),
            ("pictures not found", self.missing_images),
        ):
            if names:
                more = f" and {len(names) - 8} more" if len(names) > 8 else ""
                said.append(f"{title}: {', '.join(names[:8])}{more}")
        if self.out_of_image:
            said.append(f"points outside their picture: {self.out_of_image}")
        return said + [f"warning: {w}" for w in self.warnings]


def convert(
    source: Path,
    target: Path,
    *,
    from_: str | None = None,
    to: str | None = None,
    table: Path | str | None = None,
    space: Path | str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> ConversionReport:
    """Read `source`, map its keypoints if asked to, and write `target`.

    Parameters
    ----------
    source, target : Path
        Files, or folders of DeepLabCut projects.
    from_, to : str, optional
        Formats; found out from the content of `source` and the name of `target` when not given.
    table : Path or str, optional
        Conversion table: a CSV or the name of a shipped one.
    space : Path or str, optional
        Keypoint space to convert into; without `table`, names that fit decide.
    overwrite : bool
        Replace an existing target.
    options
        Of the target's writer, see `registry.write`.

    Raises
    ------
    UserError
        If anything cannot be read, mapped or written; the target is then as it was.
    """
    source, target = Path(source), Path(target)
    name = from_ or registry.sniff(source)
    target_format, target = target_of(target, to, source)
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError("source and target are the same file", path=target, remedy="choose another name")
    poses = registry.read(source, name)
    never = tuple(poses.metadata.get("never_labelled", ()))
    unmapped: tuple[str, ...] = ()
    if table is not None or space is not None:
        poses = _into_space(poses, source, table, space)
        unmapped = tuple(poses.metadata["unmapped"])
    files = registry.write(poses, target, target_format, overwrite=overwrite, **options)
    return _report(
        poses, source, target, str(poses.metadata.get("format", name)), target_format, files, unmapped, never
    )


def target_of(target: Path, to: str | None, source: Path) -> tuple[str, Path]:
    """Format and file meant by a target.

    Raises
    ------
    UserError
        If the name does not tell the format.
    """
    writable = {f.name: f for f in registry.FORMATS.values() if f.write}
    if to is not None:
        if registry.get_format(to).write is None:
            raise UserError(f"the format {to} is read only", remedy=f"use one of {', '.join(writable)}")
        extensions = writable[to].extensions
        if extensions and target.is_dir():
            target = target / f"{source.stem}{extensions[0]}"
        return to, target
    for format_ in writable.values():
        if target.suffix.lower() in format_.extensions:
            return format_.name, target
    if not target.suffix or target.is_dir():
        return "dlc-project", target
    raise UserError(
        f"the ending {target.suffix} names no known format",
        path=target,
        remedy=f"say --to with one of {', '.join(writable)}",
    )


def _into_space(poses: Poses, source: Path, table: Path | str | None, space: Path | str | None) -> Poses:
    rows = load_table(table) if table is not None else None
    wanted = space or (rows.space if rows else "")
    if not wanted:
        raise UserError(
            f"the conversion table {str(table)!r} does not say its keypoint space",
            remedy="give --space, or put a line `# space: NAME` at its top",
        )
    known = load_space(wanted)
    return project(poses, rows or table_for(poses.keypoints, known, path=source), known)


def _report(
    poses: Poses,
    source: Path,
    target: Path,
    source_format: str,
    target_format: str,
    files: list[Path],
    unmapped: tuple[str, ...],
    never: tuple[str, ...],
) -> ConversionReport:
    warnings = list(poses.metadata.get("warnings", ()))
    if target_format == "dlc-csv":
        given = (
            np.isfinite(poses.boxes).any(),
            bool((poses.visibility == 1).any() or (poses.visibility == UNDEFINED).any()),
            bool(poses.human.any() and not poses.human[poses.found].all()),
        )
        if lost := [what for what, there in zip(_LOST_IN_CSV, given, strict=True) if there]:
            warnings.append(f"a CSV does not hold {', '.join(lost)}; dlc-h5 and coco do")
        if poses.root is not None and not poses.root.samefile(project_root(target, poses.images)):
            warnings.append(f"pictures in the CSV are named relative to {poses.root}")
    undefined = np.asarray((poses.visibility == UNDEFINED).all(axis=(0, 1)))
    counts = poses.found.sum(axis=(0, 1))
    return ConversionReport(
        source=str(source),
        target=str(target),
        source_format=source_format,
        target_format=target_format,
        files=tuple(str(f) for f in files),
        rows=len(poses),
        individuals=len(poses.individuals),
        keypoints=len(poses.keypoints),
        labelled={n: int(c) for n, c in zip(poses.keypoints, counts, strict=True)},
        unmapped=unmapped,
        never_labelled=never,
        undefined=tuple(n for n, u in zip(poses.keypoints, undefined, strict=True) if u and n not in never),
        out_of_image=out_of_image(poses),
        missing_images=tuple(poses.metadata.get("missing_images", ())),
        warnings=tuple(warnings),
    )


def out_of_image(poses: Poses) -> int:
    """Points outside their picture by more than half a pixel, where its size is known."""
    sizes = poses.image_sizes[:, None, None, :].astype(np.float64)
    with np.errstate(invalid="ignore"):
        outside = (poses.xy < -0.5) | (poses.xy > sizes - 0.5)
    return int((outside.any(-1) & (sizes > 0).all(-1)).sum())
