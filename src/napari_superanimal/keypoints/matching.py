"""Keypoint matching: which keypoint of a model each keypoint of an unknown dataset is, told from pictures alone.

People's labels and a model's predictions on the same animals are compared; names play no part. Distances are
shares of the animal's size (the square root of its box's area), so 0.1 is the PCK@0.1 that the calibrated
likelihood of a model refers to: a likelihood of 0.8 promises that 8 of 10 predictions lie within it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from napari_superanimal.keypoints.matching_sides import check_matched_sides, facing_notes
from napari_superanimal.keypoints.table import SIDE, ConversionTable

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_superanimal.keypoints.space import KeypointSpace

#: Width of the kernel that turns a distance into agreement, in shares of the animal's size: half of PCK@0.1.
WIDTH = 0.05
#: A prediction within this distance is a hit; what a calibrated likelihood is the probability of.
HIT = 0.1
#: Typical distance above which the model's keypoint lies somewhere else on the animal than the label.
FARTHEST = HIT
#: Share of the hits promised by the likelihood that a match must keep.
KEPT_PROMISE = 0.5
#: Share of the promised hits that must also win the animal's own assignment, and be near enough to tell.
LEAST_AGREEMENT = 0.25
#: Agreement summed over animals: one stands for a single animal with a sure and exact prediction.
LEAST_EVIDENCE = 1.0
#: Share of the winner's agreement by which the runner-up must stay behind.
LEAST_MARGIN = 0.25
#: The keypoint on the visible side must agree this much better than a single side does.
SIDED_GAIN = 1.05


@dataclass(frozen=True)
class Observations:
    """Labels of people and predictions of a model for the same N animals.

    Attributes
    ----------
    labels : (N, S, 2) float64, px
        NaN where a keypoint is not labelled.
    predictions : (N, K, 2) float64, px
        In the model's keypoint space; NaN for keypoints that the model does not know.
    likelihood : (N, K) float64, 0..1
    size : (N,) float64, px
        Square root of the area of the animal's box.
    facing : (N,) int8
        -1 left, 1 right, 0 unknown or not a side view.
    """

    labels: npt.NDArray[np.float64]
    predictions: npt.NDArray[np.float64]
    likelihood: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]
    facing: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Match:
    """What became of one keypoint of the dataset.

    Attributes
    ----------
    source : str
    target : str
        The best keypoint, ``left_x|right_x`` for the one on the visible side; empty when there is none.
    accepted : bool
        Whether `target` belongs into the table.
    images : int
        Animals on which the keypoint is labelled and the best keypoint was predicted.
    distance : float
        Median distance between label and prediction, weighted by likelihood, in shares of the animal's size.
    score : float
        Share of the labelled animals on which the model puts this keypoint on the label, 0..1.
    promised : float
        Share of hits that the model's likelihood promises.
    hits : float
        Share of hits within `HIT`, weighted by likelihood.
    margin : float
        How far the runner-up stays behind, 0 (equal) .. 1 (no other comes near).
    runner_up : str
    reason : str
        Why it is not accepted, or what is doubtful about it.
    """

    source: str
    target: str
    accepted: bool
    images: int
    distance: float = float("nan")
    score: float = 0.0
    promised: float = float("nan")
    hits: float = float("nan")
    margin: float = 0.0
    runner_up: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Matching:
    """A proposed conversion table with its evidence.

    Attributes
    ----------
    matches : tuple of Match
        One per keypoint of the dataset, in its order.
    candidates : tuple of str
        Targets that were considered.
    scores, distances : (S, C) float64
        Score and weighted median distance of every pair.
    swapped : tuple of int
        Animals whose left and right labels look exchanged.
    warnings : tuple of str
    """

    matches: tuple[Match, ...]
    candidates: tuple[str, ...]
    scores: npt.NDArray[np.float64]
    distances: npt.NDArray[np.float64]
    swapped: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    space: str = field(default="")

    def revise(self, source: str, target: str) -> Matching:
        """The matching with another target for one keypoint, chosen by a person; empty for no match.

        Keypoints that had the target, or a part of it, lose it: two labels cannot be one point.

        Raises
        ------
        KeyError
            If there is no such keypoint or target.
        """
        names = [m.source for m in self.matches]
        if source not in names or (target and target not in self.candidates):
            raise KeyError(source if source not in names else target)
        taken = set(target.split(SIDE)) if target else set()
        revised = []
        for i, match in enumerate(self.matches):
            if match.source == source:
                j = self.candidates.index(target) if target else None
                revised.append(
                    replace(
                        match,
                        target=target or match.target,
                        accepted=bool(target),
                        score=match.score if j is None else float(self.scores[i, j]),
                        distance=match.distance if j is None else float(self.distances[i, j]),
                        reason="chosen by a person" if target else "rejected by a person",
                    )
                )
            elif match.accepted and taken & set(match.target.split(SIDE)):
                revised.append(replace(match, accepted=False, reason=f"{source} took its place"))
            else:
                revised.append(match)
        return replace(self, matches=tuple(revised))

    def table(self, name: str = "matched") -> ConversionTable:
        """The accepted matches as a conversion table."""
        rows = tuple((m.source, m.target) for m in self.matches if m.accepted)
        return ConversionTable(name=name, rows=rows, space=self.space)


@dataclass(frozen=True)
class _Candidates:
    """Targets: K plain keypoints, then the visible one of each left/right pair.

    columns : keypoint index per plain candidate; sided : (left column, right column) per pair, in columns.
    """

    names: tuple[str, ...]
    columns: tuple[int, ...]
    sided: tuple[tuple[int, int], ...]

    @property
    def plain(self) -> int:
        return len(self.columns)


def match_keypoints(
    seen: Observations, sources: tuple[str, ...], space: KeypointSpace, known: tuple[str, ...]
) -> Matching:
    """Propose a keypoint of `space` for every keypoint of a dataset, or none.

    On every animal labels and predictions are assigned to each other one to one, as well as distance and
    likelihood allow; unlabelled points take no part. The agreement of all animals is then assigned one to one
    again. A pair is accepted if the model keeps what its likelihood promises (see `KEPT_PROMISE`) and the
    typical distance is that of a hit; otherwise the keypoint has no match, which is an answer too.

    Parameters
    ----------
    seen : Observations
        S = len(sources), K = len(space).
    known : tuple of str
        Keypoints that the model can give.
    """
    options = _candidates(space, known, bool(np.any(seen.facing)))
    agreement, distance, weight = _compare(seen, options)
    votes = _votes(agreement, options, seen.facing)
    labelled = np.asarray(np.isfinite(seen.labels).all(-1))
    count = labelled.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = np.nan_to_num(votes.sum(0) / count[:, None])
    both = labelled[:, :, None] & np.isfinite(distance)
    typical = _weighted_median(distance, np.where(both, weight[:, None, :], 0.0))
    handicap = np.ones(len(options.names))
    handicap[options.plain :] /= SIDED_GAIN
    chosen = _assign(scores * handicap, options)
    matches = []
    for i, source in enumerate(sources):
        j = chosen.get(i)
        if not count[i]:
            matches.append(Match(source, "", False, 0, reason="never labelled"))
        elif j is None:
            reason = "the model puts no keypoint there"
            matches.append(Match(source, "", False, 0, reason=reason))
        else:
            pair = both[:, i, j]
            matches.append(
                _judge(
                    source,
                    (i, j),
                    options,
                    scores,
                    int(count[i]),
                    float(typical[i, j]),
                    distance[pair, i, j],
                    weight[pair, j],
                )
            )
    swapped, warnings = check_matched_sides(seen, matches, sources, space)
    warnings += facing_notes(matches, seen.facing, space)
    return Matching(
        matches=tuple(matches),
        candidates=options.names,
        scores=scores,
        distances=typical,
        swapped=swapped,
        warnings=tuple(warnings),
        space=space.name,
    )


def _candidates(space: KeypointSpace, known: tuple[str, ...], side_view: bool) -> _Candidates:
    plain = tuple(k for k in space.keypoints if k in set(known))
    names, sided = list(plain), []
    for left, right in space.pairs if side_view else ():
        if left in plain and right in plain:
            names.append(f"{left}{SIDE}{right}")
            sided.append((plain.index(left), plain.index(right)))
    return _Candidates(tuple(names), tuple(space.index(k) for k in plain), tuple(sided))


def _compare(
    seen: Observations, options: _Candidates
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Agreement (N, S, P) of labels with plain keypoints, distance (N, S, C) and weight (N, C) of all."""
    columns = list(options.columns)
    at = seen.predictions[:, columns]
    weight = np.where(np.isfinite(at).all(-1), np.nan_to_num(seen.likelihood[:, columns]), 0.0)
    gap = np.linalg.norm(seen.labels[:, :, None] - at[:, None], axis=-1) / seen.size[:, None, None]
    agreement = weight[:, None] * np.exp(-0.5 * (np.nan_to_num(gap, nan=np.inf) / WIDTH) ** 2)
    visible, sure = [], []
    for left, right in options.sided:
        here = [seen.facing < 0, seen.facing > 0]
        visible.append(
            np.select([h[:, None] for h in here], [gap[:, :, left], gap[:, :, right]], default=np.nan)
        )
        sure.append(np.select(here, [weight[:, left], weight[:, right]], default=0.0))
    if visible:
        gap = np.concatenate([gap, np.stack(visible, -1)], -1)
        weight = np.concatenate([weight, np.stack(sure, -1)], -1)
    return agreement, gap, weight


def _votes(
    agreement: npt.NDArray[np.float64],
    options: _Candidates,
    facing: npt.NDArray[np.int8],
) -> npt.NDArray[np.float64]:
    """(N, S, C) agreement of the pairs that win on each animal, one to one; zero for all others."""
    votes = np.zeros((*agreement.shape[:2], len(options.names)))
    for n, gain in enumerate(agreement):
        rows, columns = linear_sum_assignment(gain, maximize=True)
        votes[n, rows, columns] = gain[rows, columns]
    for c, (left, right) in enumerate(options.sided, start=options.plain):
        votes[facing < 0, :, c] = votes[facing < 0][:, :, left]
        votes[facing > 0, :, c] = votes[facing > 0][:, :, right]
    return votes


def _assign(scores: npt.NDArray[np.float64], options: _Candidates) -> dict[int, int]:
    """Source to candidate, one to one with the greatest sum; a pair is used either by its sides or as a whole."""
    banned: set[int] = set()
    while True:
        chosen = _solve(scores, banned)
        taken = {j: i for i, j in chosen.items()}
        clash = next(
            (
                (c, pair)
                for c, pair in enumerate(options.sided, start=options.plain)
                if c in taken and (pair[0] in taken or pair[1] in taken)
            ),
            None,
        )
        if clash is None:
            return chosen
        whole, sides = clash
        with_sides, with_whole = banned | {whole}, banned | set(sides)
        by_side = _total(scores, _solve(scores, with_sides))
        banned = with_sides if by_side >= _total(scores, _solve(scores, with_whole)) else with_whole


def _solve(scores: npt.NDArray[np.float64], banned: set[int]) -> dict[int, int]:
    gain = scores.copy()
    gain[:, sorted(banned)] = 0.0
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return {int(i): int(j) for i, j in zip(rows, columns, strict=True) if gain[i, j] > 0}


def _total(scores: npt.NDArray[np.float64], chosen: dict[int, int]) -> float:
    return float(sum(scores[i, j] for i, j in chosen.items()))


def _judge(
    source: str,
    at: tuple[int, int],
    options: _Candidates,
    scores: npt.NDArray[np.float64],
    labelled: int,
    typical: float,
    distance: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64],
) -> Match:
    i, j = at
    total = float(weight.sum())
    evidence = float(scores[i, j]) * labelled
    promised = float((weight**2).sum() / total) if total else 0.0
    hits = float((weight * (distance <= HIT)).sum() / total) if total else 0.0
    rival, behind = _runner_up(scores[i], j, options)
    best = float(scores[i, j])
    margin = max(-1.0, 1.0 - behind / best) if best > 0 else 0.0
    reason, accepted = "", True
    if typical > FARTHEST:
        accepted, reason = False, f"typically {typical:.2f} of the animal's size away: another point"
    elif best < LEAST_AGREEMENT * promised:
        accepted, reason = False, "on most animals another keypoint fits better or none does"
    elif evidence < LEAST_EVIDENCE:
        accepted, reason = False, "too few animals on which the model is sure"
    elif hits < KEPT_PROMISE * promised:
        accepted = False
        reason = f"only {hits:.0%} of the predictions lie there, {promised:.0%} were promised"
    elif margin < LEAST_MARGIN:
        accepted = False
        reason = f"{rival} fits {'better, but belongs to another' if margin < 0 else 'nearly as well'}"
    return Match(
        source=source,
        target=options.names[j],
        accepted=accepted,
        images=len(distance),
        distance=typical,
        score=best,
        promised=promised,
        hits=hits,
        margin=margin,
        runner_up=rival,
        reason=reason,
    )


def _runner_up(scores: npt.NDArray[np.float64], best: int, options: _Candidates) -> tuple[str, float]:
    """The best other target and its score; a pair's sides and its visible side are no rivals of each other."""
    related = {best}
    for c, sides in enumerate(options.sided, start=options.plain):
        if best == c:
            related |= set(sides)
        elif best in sides:
            related.add(c)
    others = [j for j in range(len(scores)) if j not in related]
    if not others:
        return "", 0.0
    rival = max(others, key=lambda j: scores[j])
    return (options.names[rival], float(scores[rival])) if scores[rival] > 0 else ("", 0.0)


def _weighted_median(
    values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Weighted median over axis 0 of (N, ...); NaN where all weights are zero."""
    filled = np.where(weights > 0, np.nan_to_num(values, nan=np.inf), np.inf)
    order = np.argsort(filled, axis=0)
    ordered = np.take_along_axis(filled, order, 0)
    mass = np.cumsum(np.take_along_axis(weights, order, 0), 0)
    if not len(values):
        return np.full(values.shape[1:], np.nan)
    middle = np.argmax(mass >= 0.5 * mass[-1], axis=0)
    result = np.take_along_axis(ordered, middle[None], 0)[0]
    return np.where(mass[-1] > 0, result, np.nan)
