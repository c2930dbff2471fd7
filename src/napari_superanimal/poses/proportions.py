"""What bodies usually look like, and which keypoints do not fit the others.

Each body is laid over the mean body (moved, turned, scaled, and for side views mirrored), so that nothing depends on
where the animal is, how large it is in the picture, or which way it faces. Then every keypoint is looked at from those
that tell most about where it should be: the knee from the foot, the ear from the nose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Floats = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]
#: Keypoints that tell most about where one is: those from which its place varies least.
PARTNERS = 4
#: Bodies with a keypoint, or with both of a pair, that are needed to learn it.
ENOUGH = 30
#: Bodies learned from at most; more tell nothing new.
MOST = 2000
#: Points that lay a body over the mean one, at least.
FEWEST = 4
#: Share of bodies whose pairs count as usual.
USUAL = 0.98
#: Two keypoints are out of proportion that lie this many times farther off on most bodies ...
ROOM = 1.25
#: ... and on a single body that many times: a mouse that bends by more than a right angle reaches 1.8, with all of its
#: points at once and for as long as it does so. Of 28,800 rendered frames none comes to more.
FAR = 2.0
#: A keypoint is judged by this many pairs or more, and odd if more than half of them are out of proportion.
FEWEST_PAIRS = 2
#: A point this far from where the mean body has it counts half when bodies are laid over each other; the mean body's
#: own size (root mean square from its centre) is 1.
STRAY = 0.3
#: Rounds of laying over and, while learning, of taking the mean.
ROUNDS, MEANS = 5, 8


@dataclass(frozen=True)
class Proportions:
    """The mean body, and how pairs of keypoints lie to each other.

    Attributes
    ----------
    keypoints : tuple of str
    mirrored : bool
        Whether a body may be a mirror image, as in side views.
    mean : (K, 2) float64
        Centred, of size 1; NaN for keypoints that are not known.
    pairs : (P, 2) int64
    vectors : (P, 2) float64
        From the first to the second of each pair, on the mean body.
    spread : (P, 2, 2) float64
        Covariance of that, over bodies.
    limit : (P,) float64
        Distance from the vector, in deviations, that `USUAL` of all bodies keep to.
    """

    keypoints: tuple[str, ...]
    mirrored: bool
    mean: Floats
    pairs: npt.NDArray[np.int64]
    vectors: Floats
    spread: Floats
    limit: Floats

    def distances(self, xy: Floats) -> Floats:
        """How far off each pair is (..., P), in its limits, of bodies (..., K, 2); NaN where that cannot be told."""
        flat = xy.reshape(-1, *xy.shape[-2:])
        laid = _laid_over(_as_complex(flat), _as_complex(self.mean), self.mirrored)
        off = _off(laid, self.pairs, self.vectors, self.spread) / self.limit
        return off.reshape(*xy.shape[:-2], len(self.pairs))

    def odd(self, xy: Floats) -> Floats:
        """Which keypoints do not fit the others, (..., K): 1 where most pairs of a keypoint are `FAR` off.

        Parameters
        ----------
        xy : (..., K, 2)
            In the order of `keypoints`, any unit; NaN where there is none.

        Returns
        -------
        (..., K) float64
            0 fits, 1 does not, NaN where too few others are there to tell.
        """
        off = self.distances(xy)
        at = np.zeros((len(self.pairs), len(self.keypoints)))
        rows = np.arange(len(self.pairs))
        at[rows, self.pairs[:, 0]] = at[rows, self.pairs[:, 1]] = 1.0
        with np.errstate(invalid="ignore"):
            wrong = off > FAR
        count = np.isfinite(off) @ at
        return np.where(count >= FEWEST_PAIRS, wrong @ at > 0.5 * count, np.nan)

    def renamed(self, keypoints: Sequence[str]) -> Proportions:
        """The same for keypoints of other names, in the same order."""
        return replace(self, keypoints=tuple(keypoints))

    def to_json(self) -> dict[str, Any]:
        """For a card: the mean body by keypoint, and the numbers of each pair."""
        names = self.keypoints
        known = np.isfinite(self.mean).all(-1)
        numbers = np.concatenate(
            [self.vectors, self.spread[:, [0, 0, 1], [0, 1, 1]], self.limit[:, None]], axis=1
        )
        return {
            "mirrored": self.mirrored,
            "mean": {names[k]: _rounded(self.mean[k]) for k in np.flatnonzero(known)},
            "pairs": {
                f"{names[i]}|{names[j]}": _rounded(row)
                for (i, j), row in zip(self.pairs, numbers, strict=True)
            },
        }


def _rounded(values: Floats) -> list[float]:
    return [float(f"{v:.4g}") for v in values]


def proportions_of(found: Mapping[str, Any], keypoints: Sequence[str]) -> Proportions | None:
    """What `Proportions.to_json` made, for these keypoints; None where nothing of them is in it."""
    order = {name: k for k, name in enumerate(keypoints)}
    mean = np.full((len(keypoints), 2), np.nan)
    for name, place in found.get("mean", {}).items():
        if name in order:
            mean[order[name]] = place
    pairs, rows = [], []
    for names, numbers in found.get("pairs", {}).items():
        one, _, other = names.partition("|")
        if one in order and other in order:
            pairs.append((order[one], order[other]))
            rows.append(numbers)
    if not pairs:
        return None
    table = np.array(rows, np.float64)
    spread = table[:, [2, 3, 3, 4]].reshape(-1, 2, 2)
    return Proportions(
        tuple(keypoints),
        bool(found["mirrored"]),
        mean,
        np.array(pairs, np.int64),
        table[:, :2],
        spread,
        table[:, 5],
    )


def learn_proportions(
    xy: Floats, keypoints: Sequence[str], swap: npt.NDArray[np.int64], *, mirrored: bool
) -> Proportions | None:
    """What is usual among some bodies.

    Parameters
    ----------
    xy : (N, K, 2)
        Bodies, in any unit and of any size; NaN where a keypoint is not known.
    swap : (K,) int64
        The keypoint on the other side of the body. Both sides are taken to be alike.
    mirrored : bool
        Side views, where an animal that faces the other way is a mirror image; from above it never is.

    Returns
    -------
    Proportions or None
        None where too few bodies have enough keypoints.
    """
    z = _as_complex(xy)
    z = z[np.isfinite(z).sum(-1) >= FEWEST]
    if len(z) < ENOUGH:
        return None
    if len(z) > MOST:
        z = z[np.linspace(0, len(z) - 1, MOST).round().astype(int)]
    # seen from the side, the other side's leg lies in the same place; from above it lies in the mirror image's
    z = np.concatenate([z, z[:, swap] if mirrored else z[:, swap].conj()])
    mean = _mean_body(z, mirrored)
    laid = _laid_over(z, mean, mirrored)
    pairs = np.stack(np.triu_indices(len(keypoints), 1), -1)
    seen = np.isfinite(laid).astype(np.int64)
    together = (seen.T @ seen)[pairs[:, 0], pairs[:, 1]]
    pairs = pairs[together >= 2 * ENOUGH]
    if not len(pairs):
        return None
    vectors, spread = _pair_statistics(laid, pairs)
    chosen = _steadiest(pairs, np.linalg.det(spread), len(keypoints), swap)
    pairs, vectors, spread = pairs[chosen], vectors[chosen], spread[chosen]
    off = _off(laid, pairs, vectors, spread)
    limit = np.array([np.quantile(column[np.isfinite(column)], USUAL) for column in off.T])
    place = np.stack([mean.real, mean.imag], -1)
    return Proportions(tuple(keypoints), mirrored, place, pairs, vectors, spread, limit)


def agreeing(usual: Proportions, xy: Floats) -> Proportions | None:
    """What these bodies (N, K, 2) do not contradict: pairs that are out of proportion on most of them are left out.

    None where nothing is left.
    """
    off = usual.distances(xy)
    kept = np.array([not (np.isfinite(c).any() and np.nanmedian(c) > ROOM) for c in off.T])
    return _some(usual, kept) if kept.any() else None


def _some(usual: Proportions, kept: npt.NDArray[np.bool_]) -> Proportions:
    return replace(
        usual,
        pairs=usual.pairs[kept],
        vectors=usual.vectors[kept],
        spread=usual.spread[kept],
        limit=usual.limit[kept],
    )


def joined(one: Proportions, other: Proportions) -> Proportions:
    """What is usual among the bodies of one or of the other, both counting the same.

    Parameters
    ----------
    one, other : Proportions
        For the same keypoints, in the same order. Where they share fewer than `FEWEST` keypoints, or no pair, they
        cannot be compared, and `other` alone is returned.
    """
    a, b = _as_complex(other.mean), _as_complex(one.mean)
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < FEWEST:
        return other
    move = _move(a[both], b[both], one.mirrored)
    moved, turned = move.points(a), move.matrix()
    mean = np.where(both, (moved + b) / 2, np.where(np.isfinite(b), b, moved))
    theirs = {(int(i), int(j)): n for n, (i, j) in enumerate(one.pairs)}
    rows: dict[tuple[int, int], tuple[Floats, Floats, float]] = {}
    for (i, j), n in theirs.items():
        # a pair that only one of them has says nothing of the other's animals, unless these lack the keypoint
        if not (np.isfinite(a[i]) and np.isfinite(a[j])):
            rows[i, j] = one.vectors[n], one.spread[n], float(one.limit[n])
    for (i, j), v, s, limit in zip(other.pairs, other.vectors, other.spread, other.limit, strict=True):
        mine = (turned @ v, turned @ s @ turned.T, float(limit))
        n = theirs.get((int(i), int(j)), -1)
        if n >= 0:
            rows[int(i), int(j)] = _either((one.vectors[n], one.spread[n], float(one.limit[n])), mine)
        elif not (np.isfinite(b[i]) and np.isfinite(b[j])):
            rows[int(i), int(j)] = mine
    if not rows:
        return other
    pairs = sorted(rows)
    return Proportions(
        one.keypoints,
        one.mirrored,
        np.stack([mean.real, mean.imag], -1),
        np.array(pairs, np.int64),
        np.array([rows[p][0] for p in pairs]),
        np.array([rows[p][1] for p in pairs]),
        np.array([rows[p][2] for p in pairs]),
    )


def _either(
    one: tuple[Floats, Floats, float], other: tuple[Floats, Floats, float]
) -> tuple[Floats, Floats, float]:
    """Vector and spread of an even mixture; its limit is such that what is usual in either stays usual."""
    (v, s, _), (w, t, _) = one, other
    middle, half = (v + w) / 2, (v - w) / 2
    spread = (s + t) / 2 + np.outer(half, half)
    inverse = np.linalg.inv(spread)
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    limit = 0.0
    for vector, covariance, reach in (one, other):
        edge = vector[:, None] + reach * np.linalg.cholesky(covariance) @ circle - middle[:, None]
        limit = max(limit, float(np.sqrt((edge * (inverse @ edge)).sum(0)).max()))
    return middle, spread, limit


def _as_complex(xy: Floats) -> Complex:
    """Points (..., 2) as complex numbers, NaN where one of both is."""
    z: Complex = xy[..., 0] + 1j * xy[..., 1]
    return np.where(np.isfinite(xy).all(-1), z, np.nan)


def _laid_over(z: Complex, mean: Complex, mirrored: bool) -> Complex:
    """Bodies (N, K) moved, turned and scaled so that they lie over the mean body (K,); NaN with too few points.

    Points that stray count little. Mirror images are tried where bodies may be such, and the better is taken.
    """
    one, cost = _fitted(z, mean)
    if not mirrored:
        return one
    other, other_cost = _fitted(z.conj(), mean)
    return np.where((other_cost < cost)[:, None], other, one)


def _fitted(z: Complex, mean: Complex) -> tuple[Complex, Floats]:
    known = np.isfinite(z) & np.isfinite(mean)
    enough = known.sum(1) >= FEWEST
    a, m = np.where(known, z, 0), np.where(np.isfinite(mean), mean, 0)[None]
    weight = known.astype(np.float64)
    laid = a
    for _ in range(ROUNDS):
        total = np.maximum(weight.sum(1, keepdims=True), 1e-9)
        centre, target = (
            (weight * a).sum(1, keepdims=True) / total,
            (weight * m).sum(1, keepdims=True) / total,
        )
        d, e = a - centre, m - target
        size = np.maximum((weight * np.abs(d) ** 2).sum(1, keepdims=True), 1e-12)
        laid = (weight * d.conj() * e).sum(1, keepdims=True) / size * d + target
        stray = (np.abs(laid - m) / STRAY) ** 2
        weight = known / (1 + stray)
    cost = np.where(known, stray / (1 + stray), 0.0).sum(1)
    return np.where(known & enough[:, None], laid, np.nan), cost


def _mean_body(z: Complex, mirrored: bool) -> Complex:
    """The mean body (K,) of bodies laid over each other, centred and of size 1; keypoints seen too rarely are NaN."""
    known = np.isfinite(z)
    rare = known.sum(0) < 2 * ENOUGH
    mean = _normal(np.where(rare, np.nan, z[known.sum(1).argmax()]))
    for _ in range(MEANS):
        # keypoints that the first body lacks come in as soon as others place them
        laid = _placed(z, mean, mirrored)
        count = np.isfinite(laid).sum(0)
        total = np.where(np.isfinite(laid), laid, 0).sum(0)
        mean = _normal(np.where(rare | (count < ENOUGH), np.nan, total / np.maximum(count, 1)))
    return mean


def _placed(z: Complex, mean: Complex, mirrored: bool) -> Complex:
    """As `_laid_over`, with the keypoints that the mean body does not have yet."""
    laid = _laid_over(z, mean, mirrored)
    both = np.isfinite(laid) & np.isfinite(z)
    out = np.full(z.shape, np.nan, np.complex128)
    for n in np.flatnonzero(both.sum(1) >= 2):
        out[n] = _move(z[n][both[n]], laid[n][both[n]], mirrored).points(z[n])
    return out


@dataclass(frozen=True)
class _Move:
    """Mirrors or not, turns, scales and shifts points of the plane, which are complex numbers."""

    mirror: bool
    turn: complex
    origin: complex
    target: complex

    def points(self, z: Complex) -> Complex:
        at = z.conj() if self.mirror else z
        return (at - self.origin) * self.turn + self.target

    def matrix(self) -> Floats:
        """What it does to vectors, (2, 2)."""
        turned = np.array([[self.turn.real, -self.turn.imag], [self.turn.imag, self.turn.real]])
        return turned @ np.diag([1.0, -1.0]) if self.mirror else turned


def _move(a: Complex, b: Complex, mirrored: bool) -> _Move:
    """What lays points a over points b best; a mirror image only where that is allowed and better."""
    mirror = mirrored and _is_mirror(a, b)
    at = a.conj() if mirror else a
    off, target = at - at.mean(), b - b.mean()
    turn = (off.conj() * target).sum() / max(float((np.abs(off) ** 2).sum()), 1e-12)
    return _Move(mirror, complex(turn), complex(at.mean()), complex(b.mean()))


def _is_mirror(a: Complex, b: Complex) -> bool:
    """Whether b is a mirror image of a rather than a itself, turned and scaled."""
    a, b = a - a.mean(), b - b.mean()
    return bool(abs((a * b).sum()) > abs((a.conj() * b).sum()))


def _normal(body: Complex) -> Complex:
    there = np.isfinite(body)
    centred = body - body[there].mean()
    return centred / np.sqrt((np.abs(centred[there]) ** 2).mean())


def _pair_statistics(laid: Complex, pairs: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Median vectors (P, 2) and covariances (P, 2, 2) of pairs over bodies (N, K)."""
    vectors, spread = np.empty((len(pairs), 2)), np.empty((len(pairs), 2, 2))
    for p, (i, j) in enumerate(pairs):
        d = laid[:, j] - laid[:, i]
        d = d[np.isfinite(d)]
        xy = np.stack([d.real, d.imag], -1)
        vectors[p] = np.median(xy, axis=0)
        spread[p] = (xy - vectors[p]).T @ (xy - vectors[p]) / len(xy) + 1e-6 * np.eye(2)
    return vectors, spread


def _off(laid: Complex, pairs: npt.NDArray[np.int64], vectors: Floats, spread: Floats) -> Floats:
    """Mahalanobis distance (N, P) of the pairs of bodies from their usual vectors."""
    d = laid[:, pairs[:, 1]] - laid[:, pairs[:, 0]]
    off = np.stack([d.real, d.imag], -1) - vectors
    return np.sqrt(np.einsum("npi,pij,npj->np", off, np.linalg.inv(spread), off))


def _steadiest(
    pairs: npt.NDArray[np.int64], area: Floats, keypoints: int, swap: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Rows of the pairs to keep: the `PARTNERS` steadiest of every keypoint, and the same on the other side.

    A keypoint and its partner on the other side tell little about each other where legs hide legs.
    """
    row_of = {(int(i), int(j)): n for n, (i, j) in enumerate(pairs)}
    chosen: set[int] = set()
    for k in range(keypoints):
        own = np.flatnonzero((pairs == k).any(1))
        chosen |= {int(n) for n in own[np.argsort(area[own], kind="stable")[:PARTNERS]]}
    for i, j in pairs[sorted(chosen)]:
        a, b = sorted((int(swap[i]), int(swap[j])))
        if (a, b) in row_of:
            chosen.add(row_of[a, b])
    return np.array(sorted(chosen), np.int64)
