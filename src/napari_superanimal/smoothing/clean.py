"""Swaps exchanged back and outliers taken out, as a new table; what a person placed stays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import load_space, space_from_names
from napari_superanimal.poses import UNLABELLED
from napari_superanimal.smoothing.findings import Bools, Finding, spacing
from napari_superanimal.smoothing.outliers import find_outliers
from napari_superanimal.smoothing.swaps import find_swaps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.poses import Poses

KINDS = ("swap", "outlier")
#: Outliers up to so many frames long are bridged; in longer ones the keypoint is missing.
BRIDGE = 5


def find_problems(
    poses: Poses, space: KeypointSpace | None = None, kinds: Sequence[str] = KINDS
) -> list[Finding]:
    """Swaps first, then the outliers that are left once the swaps are exchanged back.

    Parameters
    ----------
    poses : Poses
        Of one video.
    space : KeypointSpace, optional
        Default: the one that the poses name, else left and right are read off the keypoints' names.
    kinds : sequence of {"swap", "outlier"}

    Raises
    ------
    UserError
        If the poses are those of single images, or not in the order of their frames.
    """
    require_video(poses)
    found: list[Finding] = []
    if "swap" in kinds:
        found += find_swaps(poses, space or space_of(poses))
    if "outlier" in kinds:
        found += find_outliers(clean(poses, found))
    return sorted(found, key=lambda f: (int(f.frames[0]), f.kind))


def clean(poses: Poses, findings: Iterable[Finding], bridge: int = BRIDGE) -> Poses:
    """A copy of `poses` in which the findings are mended.

    Swapped pairs are exchanged together with their likelihoods. Outliers are replaced by the straight line
    between their neighbours in time where the gap is at most `bridge` frames, with the lowest likelihood
    of the point and its neighbours; in longer gaps the keypoint is missing. Points that a person placed or moved never
    change, and a pair with one of them is not exchanged.
    """
    xy, sure = poses.xy.copy(), poses.likelihood.copy()
    codes = poses.visibility.copy()
    index = {name: i for i, name in enumerate(poses.keypoints)}
    row_of = {int(f): i for i, f in enumerate(poses.frames)}
    out = np.zeros(sure.shape, bool)
    findings = list(findings)
    for finding in (f for f in findings if f.kind == "swap"):
        a = poses.individuals.index(finding.individual)
        rows = np.array([row_of[int(f)] for f in finding.frames])
        names = finding.keypoints
        for left, right in zip(names[::2], names[1::2], strict=True):
            pair = [index[left], index[right]]
            free = rows[~poses.human[rows, a][:, pair].any(-1)]
            for values in (xy, sure, codes):
                values[free[:, None], a, [pair]] = values[free[:, None], a, [pair[::-1]]]
    for finding in (f for f in findings if f.kind == "outlier"):
        a = poses.individuals.index(finding.individual)
        rows = np.array([row_of[int(f)] for f in finding.frames])
        out[rows[:, None], a, [[index[name] for name in finding.keypoints]]] = True
    out &= ~poses.human
    before = sure.copy()
    xy[out], sure[out], codes[out] = np.nan, np.nan, UNLABELLED
    fixed = replace(poses, xy=xy, likelihood=sure, visibility=codes)
    if not out.any():
        return fixed
    fixed = fill_gaps(fixed, bridge, only=out)
    again = out & fixed.found
    # an invented point is as doubtful as what it replaces
    fixed.likelihood[again] = np.fmin(fixed.likelihood[again], before[again])
    return fixed


def fill_gaps(poses: Poses, longest: int, only: Bools | None = None) -> Poses:
    """A copy with missing keypoints on the straight line between their neighbours in time.

    Parameters
    ----------
    longest : int
        Frames without the keypoint; longer gaps stay.
    only : (T, A, K) bool, optional
        Points that may be filled; default all.

    Returns
    -------
    Poses
        Filled points have the lower likelihood of their two neighbours.
    """
    xy, sure, codes = poses.xy.copy(), poses.likelihood.copy(), poses.visibility.copy()
    frames = poses.frames.astype(np.float64)
    limit = longest + spacing(poses.frames)
    missing = ~poses.found & (poses.visibility != -1)
    if only is not None:
        missing &= only
    for a, k in np.argwhere(missing.any(0)):
        rows = np.flatnonzero(poses.found[:, a, k])
        holes = np.flatnonzero(missing[:, a, k])
        after = np.searchsorted(rows, holes)
        inside = (after > 0) & (after < len(rows))
        holes, after = holes[inside], after[inside]
        low, high = rows[after - 1], rows[after]
        close = frames[high] - frames[low] <= limit
        holes, low, high = holes[close], low[close], high[close]
        part = ((frames[holes] - frames[low]) / (frames[high] - frames[low]))[:, None]
        xy[holes, a, k] = (1 - part) * poses.xy[low, a, k] + part * poses.xy[high, a, k]
        sure[holes, a, k] = np.fmin(poses.likelihood[low, a, k], poses.likelihood[high, a, k])
        codes[holes, a, k] = poses.visibility[low, a, k]
    return replace(poses, xy=xy, likelihood=sure, visibility=codes)


def space_of(poses: Poses) -> KeypointSpace:
    """The keypoint space that the poses name, else a bare one with left and right by name."""
    name = str(poses.metadata.get("space") or "")
    if name:
        try:
            space = load_space(name)
        except UserError:
            pass
        else:
            if set(poses.keypoints) <= set(space.keypoints):
                return space
    return space_from_names(poses.keypoints)


def require_video(poses: Poses) -> None:
    """See that rows are frames of one video, in order.

    Raises
    ------
    UserError
        If they are not.
    """
    path = poses.metadata.get("path") or None
    if not poses.is_video:
        raise UserError(
            "these are poses of single images, which have no frames before and after",
            path=path,
            remedy="give predictions of a video",
        )
    if len(poses) > 1 and (np.diff(poses.frames) <= 0).any():
        raise UserError("frames are not in order", path=path, remedy="write the file anew with predict")
