"""What deserves a look before datasets are trained on: the validation report of a merge."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.poses.poses import UNDEFINED
from napari_superanimal.poses.sides import SidesReport, check_sides

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.poses.poses import Poses

#: Animals of one picture whose keypoints all lie within this many pixels of each other are the same.
SAME_PX = 1.0
#: Names that are shown before "and N more".
SHOWN = 8


@dataclass(frozen=True)
class SourceReport:
    """One dataset of a merge.

    Attributes
    ----------
    name, path, format, table : str
    images, individuals, points : int
        Rows, animals summed over rows, labelled points carried over.
    labelled : dict of str to int
        Points per keypoint of the space that the dataset defines.
    splits : dict of str to int
        Images per split; empty when nobody said.
    unmapped : dict of str to int
        Keypoints without a place in the space, with the points that are lost by it.
    never_labelled : tuple of str
        Keypoints that the table maps and nobody labelled.
    side_unknown : int
        Points of a ``left|right`` row whose animal faces neither way: they are left out.
    out_of_image : int
    missing_images, duplicate_images : tuple of str
        Pictures that are not there, and those that are listed twice.
    duplicate_individuals : tuple of str
        Pictures with the same animal labelled twice.
    sides_exchanged : tuple of str
        Pairs (their left keypoint) whose left and right look exchanged throughout.
    sides_differ : tuple of str
        Pictures with an animal whose sides differ from the others'.
    warnings : tuple of str
        What the reader said.
    """

    name: str
    path: str
    format: str
    table: str
    images: int
    individuals: int
    points: int
    labelled: dict[str, int]
    splits: dict[str, int]
    unmapped: dict[str, int]
    never_labelled: tuple[str, ...]
    side_unknown: int
    out_of_image: int
    missing_images: tuple[str, ...]
    duplicate_images: tuple[str, ...]
    duplicate_individuals: tuple[str, ...]
    sides_exchanged: tuple[str, ...]
    sides_differ: tuple[str, ...]
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        """For a person, most important first."""
        said = [
            f"{self.name}: {self.images} images, {self.individuals} animals, {self.points} points of "
            f"{len(self.labelled)} keypoints; {self.format}, table {self.table}"
        ]
        if self.splits:
            said.append("  splits: " + ", ".join(f"{k or 'none'} {n}" for k, n in self.splits.items()))
        lost = [f"{name} ({count} points)" for name, count in self.unmapped.items()]
        for title, names in (
            ("without a place in the space, left out", lost),
            ("mapped but never labelled", self.never_labelled),
            ("left and right look exchanged", self.sides_exchanged),
            ("left and right differ from the other pictures", self.sides_differ),
            ("same animal labelled twice", self.duplicate_individuals),
            ("picture listed twice", self.duplicate_images),
            ("pictures not found", self.missing_images),
        ):
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                said.append(f"  {title}: {', '.join(names[:SHOWN])}{more}")
        if self.side_unknown:
            said.append(f"  left out, because the animal's facing is unknown: {self.side_unknown} points")
        if self.out_of_image:
            said.append(f"  points outside their picture: {self.out_of_image}")
        return said + [f"  warning: {w}" for w in self.warnings]


@dataclass(frozen=True)
class MergeReport:
    """A merge and its datasets.

    Attributes
    ----------
    space : str
    sources : tuple of SourceReport
    images, individuals, points : int
    labelled : dict of str to int
        Points per keypoint of the space, all datasets together.
    never_labelled : tuple of str
        Keypoints of the space without a single label.
    shared_images : tuple of (str, str)
        Pictures with the same content in two datasets.
    leaks : tuple of (str, str)
        Those of them that are trained on in one place and tested on in the other.
    """

    space: str
    sources: tuple[SourceReport, ...]
    images: int
    individuals: int
    points: int
    labelled: dict[str, int]
    never_labelled: tuple[str, ...]
    shared_images: tuple[tuple[str, str], ...] = ()
    leaks: tuple[tuple[str, str], ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain data for a file."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a person."""
        known = sum(n > 0 for n in self.labelled.values())
        said = [
            f"{self.images} images, {self.individuals} animals, {self.points} points; "
            f"{known} of {len(self.labelled)} keypoints of {self.space} have labels"
        ]
        for source in self.sources:
            said += source.lines()
        if self.shared_images:
            a, b = self.shared_images[0]
            said.append(f"same picture in two places: {len(self.shared_images)} (for instance {a} and {b})")
        if self.leaks:
            a, b = self.leaks[0]
            said.append(f"warning: {len(self.leaks)} pictures are trained and tested on ({a} and {b})")
        return said


def report_source(before: Poses, after: Poses, space: KeypointSpace, name: str) -> SourceReport:
    """Report on one dataset.

    Parameters
    ----------
    before : Poses
        As it was read.
    after : Poses
        In `space`, as `project` made it.
    """
    from napari_superanimal.poses.formats.convert import out_of_image

    rows = dict(after.metadata.get("table_rows", ()))
    index = {k: i for i, k in enumerate(before.keypoints)}
    mapped = [k for k in before.keypoints if k in rows]
    points = before.found.sum(axis=(0, 1))
    carried = after.found.sum(axis=(0, 1))
    defined = np.asarray((after.visibility != UNDEFINED).any(axis=(0, 1)))
    sides = check_sides(after, space) if len(after) else SidesReport({}, (), ())
    return SourceReport(
        name=name,
        path=str(before.metadata.get("path", "")),
        format=str(before.metadata.get("format", "")),
        table=str(after.metadata.get("table", "")),
        images=len(after),
        individuals=int(after.present.sum()),
        points=int(carried.sum()),
        labelled={k: int(c) for k, c, d in zip(after.keypoints, carried, defined, strict=True) if d},
        splits={s: after.splits.count(s) for s in dict.fromkeys(after.splits)},
        unmapped={k: int(points[index[k]]) for k in after.metadata.get("unmapped", ())},
        never_labelled=tuple(rows[k] for k in mapped if not points[index[k]]),
        side_unknown=int(sum(points[index[k]] for k in mapped) - carried[: len(space)].sum()),
        out_of_image=out_of_image(after),
        missing_images=tuple(before.metadata.get("missing_images", ())),
        duplicate_images=_listed_twice(after),
        duplicate_individuals=_labelled_twice(after),
        sides_exchanged=sides.exchanged,
        sides_differ=tuple(after.images[r] for r in sides.rows),
        warnings=tuple(before.metadata.get("warnings", ())),
    )


def report_merge(merged: Poses, sources: Sequence[SourceReport], space: KeypointSpace) -> MergeReport:
    """Report on the whole."""
    points = merged.found.sum(axis=(0, 1))
    pairs = same_pictures(merged)
    return MergeReport(
        space=space.name,
        sources=tuple(sources),
        images=len(merged),
        individuals=int(merged.present.sum()),
        points=int(points.sum()),
        labelled={k: int(c) for k, c in zip(merged.keypoints, points, strict=True)},
        never_labelled=tuple(k for k, c in zip(merged.keypoints, points, strict=True) if not c),
        shared_images=tuple((merged.images[a], merged.images[b]) for a, b in pairs),
        leaks=tuple((merged.images[a], merged.images[b]) for a, b in pairs if _leak(merged, a, b)),
    )


def _leak(merged: Poses, a: int, b: int) -> bool:
    if not merged.splits:
        return False
    splits = {merged.splits[a], merged.splits[b]}
    return "train" in splits and len(splits - {""}) == 2


def same_pictures(poses: Poses) -> list[tuple[int, int]]:
    """Pairs of rows (first, later) whose picture files have the same content."""
    by_size: dict[int, list[int]] = {}
    for row in range(len(poses)):
        path = poses.image_path(row)
        if path.is_file():
            by_size.setdefault(path.stat().st_size, []).append(row)
    pairs = []
    for rows in by_size.values():
        first: dict[str, int] = {}
        for row in rows if len(rows) > 1 else ():
            digest = _digest(poses.image_path(row))
            if digest in first:
                pairs.append((first[digest], row))
            else:
                first[digest] = row
    return sorted(pairs)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _listed_twice(poses: Poses) -> tuple[str, ...]:
    seen: set[str] = set()
    twice = []
    for name in poses.images:
        if name in seen:
            twice.append(name)
        seen.add(name)
    return tuple(dict.fromkeys(twice))


def _labelled_twice(poses: Poses) -> tuple[str, ...]:
    """Pictures in which two individuals have the same keypoints at the same places, two points at least."""
    found = poses.found
    twice: list[str] = []
    for row in np.flatnonzero((found.sum(-1) >= 2).sum(-1) >= 2).tolist():
        who = np.flatnonzero(found[row].sum(-1) >= 2)
        if any(_same(poses, row, int(a), int(b)) for i, a in enumerate(who) for b in who[i + 1 :]):
            twice.append(poses.images[row])
    return tuple(dict.fromkeys(twice))


def _same(poses: Poses, row: int, a: int, b: int) -> bool:
    both: npt.NDArray[np.bool_] = poses.found[row, a] & poses.found[row, b]
    if both.sum() < 2:
        return False
    gap = np.linalg.norm(poses.xy[row, a, both] - poses.xy[row, b, both], axis=-1)
    return bool(gap.max() < SAME_PX)
