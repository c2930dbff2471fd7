"""The pose arrays behind a Points layer: what is saved, whatever part of it is on screen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.poses import (
    LABELLED,
    OCCLUDED,
    SINGLE,
    UNDEFINED,
    UNLABELLED,
    Poses,
    swap_risk_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

#: How many edits can be undone.
HISTORY = 200

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PointTable:
    """Points as a napari layer holds them, one row per point.

    Attributes
    ----------
    frames : (N,) int64
    xy : (N, 2) float64, px
    keypoint, individual : (N,) str
    likelihood : (N,) float64
        NaN where the layer does not say.
    human : (N,) bool
    """

    frames: Ints
    xy: npt.NDArray[np.float64]
    keypoint: npt.NDArray[np.object_]
    individual: npt.NDArray[np.object_]
    likelihood: npt.NDArray[np.float64]
    human: Bools

    def __len__(self) -> int:
        return len(self.frames)

    def same(self, other: PointTable) -> bool:
        """Whether all points of two tables are equal."""
        return all(
            np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == "f")
            for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)
        )


@dataclass(frozen=True)
class CellState:
    """What n cells (frame, individual, keypoint) contain."""

    xy: npt.NDArray[np.float64]
    likelihood: npt.NDArray[np.float64]
    visibility: npt.NDArray[np.int8]
    human: Bools
    removed: Bools


@dataclass(frozen=True)
class Edit:
    """One undoable change: the cells and what they held before and after.

    Cells are named by frame number, because rows shift when a frame is added to the table.
    """

    frames: Ints
    individuals: Ints
    keypoints: Ints
    before: CellState
    after: CellState


@dataclass
class PoseStore:
    """Poses that can be edited, with a history.

    Attributes
    ----------
    poses : Poses
        The arrays are the store's own and change in place.
    removed : (T, A, K) bool
        Keypoints that a person deleted; saving removes them from an existing label file too.
    threshold : float
        Below this likelihood a point is shown as doubtful.
    view : (n,) int64 or None
        Frame numbers that the layer shows at the moment; None means all of them.
    info : dict
        What is known besides the poses: ``kind`` ("labels" or "predictions"), ``model``, ``video``,
        ``space``.
    saved : dict of str to int
        Files written from here and the time (ns) they had then: replacing those needs no question.
    origin : Poses
        The poses as they came, to know what was changed since.
    """

    poses: Poses
    removed: Bools = field(default_factory=lambda: np.zeros((0, 0, 0), bool))
    threshold: float = 0.6
    view: Ints | None = None
    info: dict[str, Any] = field(default_factory=dict)
    saved: dict[str, int] = field(default_factory=dict)
    origin: Poses | None = field(default=None, repr=False)
    undo_stack: list[Edit] = field(default_factory=list, repr=False)
    redo_stack: list[Edit] = field(default_factory=list, repr=False)
    #: The swap risk of the poses that it was worked out for.
    _risk: tuple[Poses, npt.NDArray[np.float32] | None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        poses = self.poses
        if len(poses) > 1 and (np.diff(poses.frames) < 0).any():
            poses = poses.take(np.argsort(poses.frames, kind="stable"))
        self.poses = own(poses)
        self.origin = self.origin or poses
        if self.removed.size == 0:
            self.removed = np.zeros(poses.likelihood.shape, bool)

    def copy(self) -> PoseStore:
        """An independent store with the same content and no history."""
        return PoseStore(
            self.poses,
            removed=self.removed.copy(),
            threshold=self.threshold,
            view=None if self.view is None else self.view.copy(),
            info=dict(self.info),
            saved=dict(self.saved),
            origin=self.origin,
        )

    @property
    def n_points(self) -> int:
        """Points that a layer of everything would hold."""
        return self.count()

    def count(self, frames: npt.ArrayLike | None = None) -> int:
        """Points in some frames (default: all)."""
        found = np.asarray(self.poses.found)
        if frames is not None:
            rows = np.unique(self.rows(frames))
            found = found[rows[rows >= 0]]
        return int(found.sum())

    def rows(self, frames: npt.ArrayLike) -> Ints:
        """Row of each frame number, -1 where the table has none."""
        wanted = np.asarray(frames, np.int64)
        have = self.poses.frames
        if not len(have):
            return np.full(wanted.shape, -1, np.int64)
        at = np.searchsorted(have, wanted).clip(0, len(have) - 1)
        return np.where(have[at] == wanted, at, -1)

    def cells(self, frames: npt.ArrayLike | None = None) -> tuple[Ints, Ints, Ints]:
        """Row, individual and keypoint of the points that `table` gives."""
        poses = self.poses
        rows = np.arange(len(poses)) if frames is None else np.unique(self.rows(frames))
        rows = rows[rows >= 0]
        t, a, k = np.nonzero(np.isfinite(poses.xy[rows]).all(-1))
        return rows[t], a, k

    def table(self, frames: npt.ArrayLike | None = None) -> PointTable:
        """The points of some frames (default: all), ordered by frame, individual, keypoint."""
        poses = self.poses
        t, a, k = self.cells(frames)
        return PointTable(
            frames=poses.frames[t],
            xy=poses.xy[t, a, k],
            keypoint=np.array(poses.keypoints, object)[k],
            individual=np.array(poses.individuals, object)[a],
            likelihood=poses.likelihood[t, a, k],
            human=poses.human[t, a, k],
        )

    def risk(self, t: Ints, a: Ints, k: Ints) -> npt.NDArray[np.float32] | None:
        """(N,) swap risk of some cells; what a person placed has none. None where nobody looked for it."""
        poses = self.poses
        if self._risk is None or self._risk[0] is not poses:
            self._risk = poses, swap_risk_of(poses)
        whole = self._risk[1]
        return None if whole is None else np.where(poses.human[t, a, k], np.float32(0), whole[t, a])

    def touched(self) -> Bools:
        """(T, A, K) keypoints that are not where they were when the poses came."""
        assert self.origin is not None
        poses = self.poses
        before = reindex(self.origin, poses.frames, poses.individuals, poses.keypoints).xy
        same = (before == poses.xy) | (np.isnan(before) & np.isnan(poses.xy))
        return np.asarray(~same.all(-1))

    def settle(self) -> None:
        """The file that the poses came from holds all changes by now."""
        self.origin = own(self.poses)
        self.removed[:] = False

    def reconcile(self, points: PointTable, frames: npt.ArrayLike | None = None) -> int:
        """Take over what a person did to the points of `frames` (default: all frames).

        A point that moved or is new becomes human with likelihood 1; a point that is gone is removed.
        Where two points claim the same keypoint, the later one counts. Points with a position that is not
        finite, and points of an image stack outside its images, are ignored.

        Returns
        -------
        int
            Number of keypoints that changed.
        """
        keep = np.isfinite(points.xy).all(-1)
        if not self.poses.is_video:
            keep &= self.rows(points.frames) >= 0
        points = take_points(points, np.flatnonzero(keep))
        self._make_room(points)
        poses = self.poses
        domain = np.arange(len(poses)) if frames is None else self.rows(np.unique(np.asarray(frames)))
        domain = np.union1d(domain[domain >= 0], self.rows(points.frames)).astype(np.int64)

        new_xy = np.full((len(domain), *poses.xy.shape[1:]), np.nan)
        new_human = np.zeros(new_xy.shape[:3], bool)
        t = np.searchsorted(domain, self.rows(points.frames))
        a = codes(points.individual, poses.individuals)
        k = codes(points.keypoint, poses.keypoints)
        new_xy[t, a, k] = points.xy
        new_human[t, a, k] = points.human

        old_xy = poses.xy[domain]
        now, was = np.isfinite(new_xy).all(-1), np.isfinite(old_xy).all(-1)
        moved = now & ~(new_xy == old_xy).all(-1)
        marked = now & new_human & ~poses.human[domain]
        cells = np.nonzero(np.asarray(moved | marked | (was & ~now)))
        if not len(cells[0]):
            return 0
        rows = domain[cells[0]]
        here: Bools = np.asarray(now)[cells]
        before = self._state(rows, cells[1], cells[2])
        code = np.where(before.visibility == OCCLUDED, OCCLUDED, LABELLED)
        gone = np.where(before.visibility == UNDEFINED, UNDEFINED, UNLABELLED)
        after = CellState(
            xy=new_xy[cells],
            likelihood=np.where(here, 1.0, np.nan),
            visibility=np.where(here, code, gone).astype(np.int8),
            human=here,
            removed=~here,
        )
        self._do(Edit(poses.frames[rows], cells[1], cells[2], before, after))
        return len(rows)

    def undo(self) -> Edit | None:
        """Take back the last edit; None when there is none."""
        if not self.undo_stack:
            return None
        edit = self.undo_stack.pop()
        self._write(edit, edit.before)
        self.redo_stack.append(edit)
        return edit

    def redo(self) -> Edit | None:
        """Do again what was undone last; None when there is nothing."""
        if not self.redo_stack:
            return None
        edit = self.redo_stack.pop()
        self._write(edit, edit.after)
        self.undo_stack.append(edit)
        return edit

    def replace_predictions(self, poses: Poses) -> None:
        """New predictions take the place of the old; what a person placed, moved or deleted stays.

        Parameters
        ----------
        poses : Poses
            Names that the store does not have yet are appended; frames that `poses` lacks are dropped
            unless a person edited them.
        """
        mine, removed = self.poses, self.removed
        edited = mine.human | removed
        touched: Bools = np.asarray(edited.any((1, 2)))
        frames = np.union1d(poses.frames, mine.frames[touched]).astype(np.int64)
        individuals = tuple(dict.fromkeys((*mine.individuals, *poses.individuals)))
        keypoints = tuple(dict.fromkeys((*mine.keypoints, *poses.keypoints)))
        if edited.any():
            wide = reindex(mine, frames, individuals, keypoints)
            gone = spread(removed, mine, wide)
        else:
            individuals, keypoints = poses.individuals, poses.keypoints
            gone = np.zeros((len(frames), len(individuals), len(keypoints)), bool)
        fresh = own(reindex(poses, frames, individuals, keypoints))
        if edited.any():
            hand = wide.human | gone
            for name in ("xy", "likelihood", "visibility", "human"):
                getattr(fresh, name)[hand] = getattr(wide, name)[hand]
        self.poses, self.removed, self.origin = fresh, gone, poses
        self.undo_stack.clear()
        self.redo_stack.clear()

    def _make_room(self, points: PointTable) -> None:
        """Append names and insert frames that the points use and the table lacks."""
        poses = self.poses
        individuals = tuple(dict.fromkeys((*poses.individuals, *points.individual.tolist())))
        keypoints = tuple(dict.fromkeys((*poses.keypoints, *points.keypoint.tolist())))
        frames = np.union1d(poses.frames, points.frames).astype(np.int64) if poses.is_video else poses.frames
        same = (len(frames), len(individuals), len(keypoints)) == poses.likelihood.shape
        if not same:
            wide = own(reindex(poses, frames, individuals, keypoints))
            self.removed = spread(self.removed, poses, wide)
            self.poses = wide

    def _state(self, rows: Ints, a: Ints, k: Ints) -> CellState:
        poses = self.poses
        return CellState(
            poses.xy[rows, a, k],
            poses.likelihood[rows, a, k],
            poses.visibility[rows, a, k],
            poses.human[rows, a, k],
            self.removed[rows, a, k],
        )

    def _write(self, edit: Edit, state: CellState) -> None:
        cells = (self.rows(edit.frames), edit.individuals, edit.keypoints)
        self.poses.xy[cells] = state.xy
        self.poses.likelihood[cells] = state.likelihood
        self.poses.visibility[cells] = state.visibility
        self.poses.human[cells] = state.human
        self.removed[cells] = state.removed

    def _do(self, edit: Edit) -> None:
        self._write(edit, edit.after)
        self.undo_stack.append(edit)
        del self.undo_stack[:-HISTORY]
        self.redo_stack.clear()


def own(poses: Poses) -> Poses:
    """`poses` with writeable copies of the arrays that edits change."""
    return replace(
        poses,
        xy=poses.xy.copy(),
        visibility=poses.visibility.copy(),
        likelihood=poses.likelihood.copy(),
        human=poses.human.copy(),
        boxes=poses.boxes.copy(),
        box_scores=poses.box_scores.copy(),
    )


def codes(names: Sequence[str] | npt.NDArray[np.object_], order: Sequence[str]) -> Ints:
    """Index of every name in `order`, (N,) int64.

    Raises
    ------
    KeyError
        If a name is not in `order`.
    """
    index = {name: i for i, name in enumerate(order)}
    return np.fromiter((index[name] for name in names), np.int64, len(names))


def take_points(points: PointTable, rows: Ints) -> PointTable:
    """Some rows of a point table."""
    if len(rows) == len(points):
        return points
    return PointTable(
        points.frames[rows],
        points.xy[rows],
        points.keypoint[rows],
        points.individual[rows],
        points.likelihood[rows],
        points.human[rows],
    )


def spread(mask: Bools, source: Poses, target: Poses) -> Bools:
    """A (T, A, K) mask over `source` on the axes of `target`, False where `source` has no such cell."""
    wide = np.zeros(target.likelihood.shape, bool)
    rows = np.flatnonzero(np.isin(source.frames, target.frames))
    where = np.ix_(
        np.searchsorted(target.frames, source.frames[rows]),
        codes(source.individuals, target.individuals),
        codes(source.keypoints, target.keypoints),
    )
    wide[where] = mask[rows]
    return wide


def reindex(poses: Poses, frames: Ints, individuals: tuple[str, ...], keypoints: tuple[str, ...]) -> Poses:
    """`poses` on other axes: frames (sorted), individuals and keypoints that were not there are missing.

    For a table of images `frames` must be its own.
    """
    if poses.individuals == (SINGLE,) and SINGLE not in individuals:
        # one nameless animal is the first of the named ones
        poses = replace(poses, individuals=individuals[:1])
    t, a, k = len(frames), len(individuals), len(keypoints)
    rows = np.flatnonzero(np.isin(poses.frames, frames))
    to = np.searchsorted(frames, poses.frames[rows])
    animals = codes(poses.individuals, individuals)
    points = codes(poses.keypoints, keypoints)

    def place(
        values: npt.NDArray[Any], shape: tuple[int, ...], empty: float, *axes: Ints
    ) -> npt.NDArray[Any]:
        wide = np.full(shape, empty, values.dtype)
        wide[np.ix_(to, *axes)] = values[rows]
        return wide

    return replace(
        poses,
        frames=np.asarray(frames, np.int64),
        individuals=individuals,
        keypoints=keypoints,
        xy=place(poses.xy, (t, a, k, 2), np.nan, animals, points),
        visibility=place(poses.visibility, (t, a, k), UNLABELLED, animals, points),
        likelihood=place(poses.likelihood, (t, a, k), np.nan, animals, points),
        human=place(poses.human, (t, a, k), 0, animals, points),
        boxes=place(poses.boxes, (t, a, 4), np.nan, animals),
        box_scores=place(poses.box_scores, (t, a), np.nan, animals),
        image_sizes=poses.image_sizes if len(frames) == len(poses) else np.zeros((t, 2), np.int64),
        sources=poses.sources if len(frames) == len(poses) else (),
    )
