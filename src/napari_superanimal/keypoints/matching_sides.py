"""Left and right in keypoint matching: unclear, contradicted by the names, or exchanged on single animals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_superanimal.keypoints.table import SIDE

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_superanimal.keypoints.matching import Match, Observations
    from napari_superanimal.keypoints.space import KeypointSpace

#: Left and right are told apart where they are farther from each other than this.
APART = 0.1
#: Share of animals on which left and right must be clear.
CLEAR = 0.75
#: Share of animals that face the same way, above which sides cannot be told from the visible side.
ONE_WAY = 0.9
#: Likelihoods summed over the animals on which a pair can be told apart, below which nothing is said.
LEAST_TOLD = 1.0


def check_matched_sides(
    seen: Observations, matches: list[Match], sources: tuple[str, ...], space: KeypointSpace
) -> tuple[tuple[int, ...], list[str]]:
    """Animals whose left and right look exchanged, and warnings about sides that are unclear or contradicted."""
    warnings: list[str] = []
    claimed = {m.target: i for i, m in enumerate(matches) if m.target}
    straight_sum, crossed_sum = np.zeros(len(seen)), np.zeros(len(seen))
    used = np.zeros(len(seen), np.int64)
    for left, right in space.pairs:
        if left not in claimed or right not in claimed:
            continue
        i, j, a, b = claimed[left], claimed[right], space.index(left), space.index(right)
        straight = _gap(seen, i, a) + _gap(seen, j, b)
        crossed = _gap(seen, i, b) + _gap(seen, j, a)
        apart = np.linalg.norm(seen.predictions[:, a] - seen.predictions[:, b], axis=-1) / seen.size
        weight = np.nan_to_num(np.minimum(seen.likelihood[:, a], seen.likelihood[:, b]))
        with np.errstate(invalid="ignore"):
            told = np.isfinite(straight + crossed) & (apart > APART)
        weight = np.where(told, weight, 0.0)
        if weight.sum() < LEAST_TOLD:
            continue
        share = float((weight * (straight < crossed)).sum() / weight.sum())
        if share < CLEAR:
            warnings.append(
                f"left or right? {matches[i].source} and {matches[j].source} lie as {left} and {right} on only "
                f"{share:.0%} of the animals"
            )
            continue
        straight_sum += np.where(told, weight * straight, 0.0)
        crossed_sum += np.where(told, weight * crossed, 0.0)
        used += told
    weightless = used == 0
    swapped = np.flatnonzero(~weightless & (crossed_sum < 0.5 * straight_sum))
    if len(swapped):
        warnings.append(
            f"left and right look exchanged on {len(swapped)} of {int((~weightless).sum())} animals"
        )
    said = sides_of_names(sources)
    against = [
        m.source
        for m in matches
        if m.accepted and SIDE not in m.target and _contradicts(said.get(m.source, ""), m.target, space)
    ]
    if against:
        warnings.append(
            f"names and pictures disagree on left and right: {', '.join(against)}; either the labels are "
            "exchanged, the camera shows a mirror image or looks from below, or the model is wrong"
        )
    return tuple(int(n) for n in swapped), warnings


def _gap(seen: Observations, source: int, keypoint: int) -> npt.NDArray[np.float64]:
    return np.linalg.norm(seen.labels[:, source] - seen.predictions[:, keypoint], axis=-1) / seen.size


def _contradicts(side: str, target: str, space: KeypointSpace) -> bool:
    sides = {"left": {a for a, _ in space.pairs}, "right": {b for _, b in space.pairs}}
    other = {"left": "right", "right": "left"}.get(side)
    return other is not None and target in sides[other]


#: How names say left and right; a horse's near side is its left.
_WORDS = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"), ("Near", "Off"), ("near", "off"))


def sides_of_names(names: tuple[str, ...]) -> dict[str, str]:
    """``left`` or ``right`` for every name that says so.

    The words left, right, near and off count by themselves; a single letter l or r only where the same name
    exists with the other letter (``earl`` and ``earr``, ``L_F_Paw`` and ``R_F_Paw``).
    """
    known = set(names)
    sides: dict[str, str] = {}
    for name in names:
        low = name.lower()
        if ("left" in low) != ("right" in low):
            sides[name] = "left" if "left" in low else "right"
            continue
        for left, right in _WORDS[3:]:
            if name.startswith(left) and right + name[len(left) :] in known:
                sides[name], sides[right + name[len(left) :]] = "left", "right"
        for at, letter in enumerate(name):
            partner = name[:at] + {"l": "r", "L": "R"}.get(letter, letter) + name[at + 1 :]
            if letter in "lL" and partner in known:
                sides.setdefault(name, "left")
                sides.setdefault(partner, "right")
    return sides


def facing_notes(matches: list[Match], facing: npt.NDArray[np.int8], space: KeypointSpace) -> list[str]:
    """A dataset in which all animals face one way cannot tell a side from the visible side."""
    seen = facing[facing != 0]
    targets = {m.target for m in matches if m.accepted}
    partner = {**dict(space.pairs), **{b: a for a, b in space.pairs}}
    lone = [
        m.target for m in matches if m.accepted and m.target in partner and partner[m.target] not in targets
    ]
    if len(seen) == 0 or not lone or (seen == seen[0]).mean() < ONE_WAY:
        return []
    way = "left" if seen[0] < 0 else "right"
    return [
        f"nearly all animals face {way}: {', '.join(lone)} may as well be the one on the visible side "
        f"(write left_x{SIDE}right_x then)"
    ]
