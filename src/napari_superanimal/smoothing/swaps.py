"""Left/right swaps: frames in which exchanging a pair makes the track continuous and the bones fit.

Per pair a Viterbi search over two states, as it is and exchanged. The cost of a frame is the distance of
both keypoints from where the frames before let them be expected (standing still or moving on, whichever fits
better), in units of the track's own noise. Changing state costs a fixed amount. Two further hints count where
they can be had: lengths of bones on the same side, and, where the animal is seen from above or below, on
which side of the body's axis a keypoint lies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_superanimal.poses.sides import AXIS, CLEAR, FROM_ABOVE
from napari_superanimal.smoothing.findings import Bools, Finding, Floats, body_size, merge_runs, runs, spacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.poses import Poses

#: Distances count up to this many times the noise, so that a single outlier does not decide.
CAP = 8.0
#: What changing between "as it is" and "exchanged" costs.
SWITCH = 5.0
#: What an exchanged frame costs: of two ways to see a track, the one that changes less.
EXCHANGED = 0.01
#: Rows further apart than this say nothing about each other.
FAR = 10
#: Noise is at least this share of the body: very smooth tracks would make every twitch a swap.
NOISE_FLOOR = 0.015
#: A pair nearer than this share of the body in a frame is not worth exchanging.
NEAR = 0.03
#: Weight of a bone that does not fit, and of a keypoint on the wrong side of the axis.
BONE, SIDE = 0.5, 0.5
#: Frames needed to learn lengths and sides from.
ENOUGH = 10


def find_swaps(poses: Poses, space: KeypointSpace) -> list[Finding]:
    """Runs of frames in which left and right look exchanged.

    A pair with a keypoint that a person placed is as it is in that frame, and tells about its neighbours.

    Parameters
    ----------
    poses : Poses
        Of a video, rows in the order of their frames.
    space : KeypointSpace
        Gives pairs, and front and rear for the body's axis. Keypoints that `poses` lack are left out.
    """
    index = {name: i for i, name in enumerate(poses.keypoints)}
    pairs = [(index[a], index[b]) for a, b in space.pairs if a in index and b in index]
    sizes = body_size(poses)
    skeleton = poses.skeleton or space.skeleton
    edges = [(index[a], index[b]) for a, b in skeleton if a in index and b in index]
    found: list[Finding] = []
    for a in range(len(poses.individuals)):
        if not np.isfinite(sizes[a]) or not pairs:
            continue
        found += merge_runs("swap", poses, a, _of_animal(poses, a, pairs, edges, sizes[a], space))
    return sorted(found, key=lambda f: int(f.frames[0]))


def _of_animal(
    poses: Poses,
    a: int,
    pairs: list[tuple[int, int]],
    edges: list[tuple[int, int]],
    size: float,
    space: KeypointSpace,
) -> list[tuple[npt.NDArray[np.int64], tuple[str, ...], float]]:
    """Runs of one individual: first all pairs at once, as when a model takes head and tail for each other,
    then each pair on its own on what that leaves."""
    axis = _axis(poses, a, space)
    hints = [_bone_hint(poses, a, pair, pairs, edges) + _side_hint(poses, a, pair, axis) for pair in pairs]
    xy = poses.xy[:, a].copy()
    together = np.zeros(len(poses), bool)
    clear_together = 0.0
    if len(pairs) > 1:
        # bones on one side do not tell when both their ends are exchanged
        side = np.sum([_side_hint(poses, a, pair, axis) for pair in pairs], axis=0)
        together, clear_together = _viterbi(poses, a, xy, pairs, size, side)
    for pair in pairs:
        both = together & ~poses.human[:, a][:, pair].any(-1)
        xy[both, pair[0]], xy[both, pair[1]] = xy[both, pair[1]], xy[both, pair[0]]
    masks, clear = [], []
    for pair, hint in zip(pairs, hints, strict=True):
        hint = np.where(together, -hint, hint)
        alone, gain = _viterbi(poses, a, xy, [pair], size, hint)
        there = poses.found[:, a][:, pair].any(-1) & ~poses.human[:, a][:, pair].any(-1)
        masks.append((together ^ alone) & there)
        clear.append(max(gain if alone.any() else 0.0, clear_together if together.any() else 0.0))
    return [
        (rows, (poses.keypoints[left], poses.keypoints[right]), gain)
        for (left, right), mask, gain in zip(pairs, masks, clear, strict=True)
        for rows in runs(mask, poses.frames)
    ]


def _viterbi(
    poses: Poses, a: int, xy: Floats, pairs: list[tuple[int, int]], size: float, hint: Floats
) -> tuple[Bools, float]:
    """Rows (T,) in which to exchange all of `pairs`, and by how much that lowers the cost per change of state.

    `xy` (T, K, 2) are the individual's keypoints; `hint` (T,) is what a frame as it is costs more than exchanged.
    """
    index = np.array(pairs)
    both = np.asarray(np.isfinite(xy[:, index]).all((-1, -2)))  # (T, P)
    rows = np.flatnonzero(both.any(-1))
    nothing = np.zeros(len(poses), bool)
    if len(rows) < 4:
        return nothing, 0.0
    at = np.where(both[rows][..., None, None], xy[rows][:, index], np.nan)  # (n, P, left and right, 2)
    # (n, 2 states, P, 2 keypoints, 2): the pairs as they are and exchanged
    seen = np.stack([at, at[:, :, ::-1]], 1)
    gap = np.diff(poses.frames[rows]) / spacing(poses.frames)
    apart = np.nanmax(np.linalg.norm(at[:, :, 0] - at[:, :, 1], axis=-1), axis=-1)
    human = poses.human[rows, a][:, index].any((-1, -2))
    noise = _noise(at, gap, size)[:, None]

    frame = np.zeros((len(rows), 2))
    frame[:, 1] = EXCHANGED + np.where(human, 1e3, 0.0)
    frame[:, 0] += np.maximum(hint[rows], 0)
    frame[:, 1] += np.maximum(-hint[rows], 0)
    # step[i, p, s, n]: row i + 2 in state n after rows in states p, s
    step = np.zeros((len(rows) - 2, 2, 2, 2))
    ahead = np.clip(gap[1:] / gap[:-1], 0, 3)[:, None, None, None]
    for p in range(2):
        for s in range(2):
            onward = seen[1:-1, s] + ahead * (seen[1:-1, s] - seen[:-2, p])
            for n in range(2):
                stay = np.linalg.norm(seen[2:, n] - seen[1:-1, s], axis=-1)
                moved = np.linalg.norm(seen[2:, n] - onward, axis=-1)
                off = np.minimum(np.fmin(stay, moved) / noise, CAP)
                off = np.nan_to_num(off).sum((-1, -2))
                step[:, p, s, n] = np.where(gap[1:] > FAR, 0.0, off) + (SWITCH if s != n else 0.0)
    start = frame[0][:, None] + frame[1][None] + np.array([[0.0, SWITCH], [SWITCH, 0.0]])
    path, cost = _shortest(start, step, frame)
    as_it_is = start[0, 0] + step[:, 0, 0, 0].sum() + frame[2:, 0].sum()
    # near each other, exchanging changes nothing that matters
    exchanged = path.astype(bool) & (apart > NEAR * size)
    if not exchanged.any():
        return nothing, 0.0
    mask = nothing.copy()
    mask[rows[exchanged]] = True
    # rows in between, where only one of the two was found
    seen_rows = np.zeros(len(poses), bool)
    seen_rows[rows] = True
    mask |= ~seen_rows & (np.interp(np.arange(len(poses)), rows, path) == 1)
    changes = max(int(np.abs(np.diff(path.astype(int))).sum()), 1)
    return mask, (as_it_is - cost) / changes


def _shortest(start: Floats, step: Floats, frame: Floats) -> tuple[npt.NDArray[np.int8], float]:
    """The cheapest states (n,), and their cost; the memory is two rows long."""
    total = start.copy()  # [state before, state now]
    back = np.zeros((len(step), 2, 2), np.int8)
    for i in range(len(step)):
        through = total[:, :, None] + step[i]  # [before, now, next]
        back[i] = through.argmin(0)
        total = through.min(0) + frame[i + 2][None]
    before, now = np.unravel_index(int(total.argmin()), (2, 2))
    states = [int(now), int(before)]
    for i in range(len(step) - 1, -1, -1):
        states.append(int(back[i, states[-1], states[-2]]))
    return np.array(states[::-1], np.int8), float(total.min())


def _noise(at: Floats, gap: Floats, size: float) -> Floats:
    """Usual distance (P,) of a pair's keypoints from where they were expected, px; swaps are too rare to matter.

    `at` is (n, P, 2, 2).
    """
    near = (gap[1:] <= 2) & (gap[:-1] <= 2)
    bend = np.linalg.norm(at[2:] - 2 * at[1:-1] + at[:-2], axis=-1)
    stay = np.linalg.norm(at[2:] - at[1:-1], axis=-1)
    off = np.fmin(bend, stay)[near]
    usual = np.zeros(at.shape[1])
    for p in range(len(usual)):
        own = off[:, p][np.isfinite(off[:, p])]
        usual[p] = float(np.median(own)) if len(own) else 0.0
    return np.maximum(1.5 * usual, NOISE_FLOOR * size)


def _bone_hint(
    poses: Poses,
    a: int,
    pair: tuple[int, int],
    pairs: Sequence[tuple[int, int]],
    edges: Sequence[tuple[int, int]],
) -> Floats:
    """Cost (T,) of the bones from this pair to other paired keypoints as they are, less that when exchanged."""
    left, right = pair
    side = {k: (p, i) for p, both in enumerate(pairs) for i, k in enumerate(both)}
    own = side[left][0]
    hint = np.zeros(len(poses))
    known = {frozenset(edge) for edge in edges}
    for other, (p, i) in side.items():
        # the same bone on both sides, told from the left one
        if p == own or i == 1 or frozenset((left, other)) not in known:
            continue
        mirror = pairs[p][1]
        straight = [_length(poses, a, left, other), _length(poses, a, right, mirror)]
        crossed = [_length(poses, a, right, other), _length(poses, a, left, mirror)]
        lengths = np.concatenate(straight)
        lengths = lengths[np.isfinite(lengths)]
        if len(lengths) < ENOUGH:
            continue
        usual = float(np.median(lengths))
        spread = max(1.4826 * float(np.median(np.abs(lengths - usual))), 0.1 * usual, 1.0)
        off, off_crossed = (
            sum(np.nan_to_num(np.minimum(np.abs(length - usual) / spread, 3.0)) for length in lengths_)
            for lengths_ in (straight, crossed)
        )
        hint += BONE * (off - off_crossed)
    return hint


def _length(poses: Poses, a: int, k: int, j: int) -> Floats:
    return np.linalg.norm(poses.xy[:, a, k] - poses.xy[:, a, j], axis=-1)


def _axis(poses: Poses, a: int, space: KeypointSpace) -> Floats:
    """From the hind end to the head, (T, 2) px; NaN where it is unknown or short."""
    index = {name: i for i, name in enumerate(poses.keypoints)}

    def middle(names: tuple[str, ...]) -> Floats:
        at = [index[n] for n in names if n in index]
        there: Bools = np.asarray(poses.found)[:, a][:, at]
        total = np.nan_to_num(poses.xy[:, a][:, at]).sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(np.asarray(there.any(-1))[:, None], total / there.sum(-1)[:, None], np.nan)

    axis = middle(space.front) - middle(space.rear)
    length = np.linalg.norm(axis, axis=-1)
    seen = length[np.isfinite(length)]
    if not len(seen):
        return np.full((len(poses), 2), np.nan)
    with np.errstate(invalid="ignore"):
        return np.where((length >= AXIS * np.median(seen))[:, None], axis, np.nan)


def _side_hint(poses: Poses, a: int, pair: tuple[int, int], axis: Floats) -> Floats:
    """Cost (T,) of lying on the other side of the axis than usual, less that of lying there when exchanged."""
    gap = poses.xy[:, a, pair[0]] - poses.xy[:, a, pair[1]]
    with np.errstate(invalid="ignore"):
        across = (gap[:, 0] * axis[:, 1] - gap[:, 1] * axis[:, 0]) / np.square(axis).sum(-1)
    seen = across[np.isfinite(across)]
    if len(seen) < ENOUGH or abs(float(np.median(seen))) < FROM_ABOVE:
        return np.zeros(len(poses))
    usual = np.sign(np.median(seen))
    if (np.sign(seen) == usual).mean() < CLEAR:
        return np.zeros(len(poses))
    return np.nan_to_num(np.where(np.abs(across) > FROM_ABOVE / 2, -SIDE * usual * np.sign(across), 0.0))
