"""Is the adapted model better? A decision with reasons in plain sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.adaptation.proof import Proof

#: Share of the jitter that must be gone at least on videos that were learned from: less could be chance.
FELL = 0.05
#: By this share it may rise where it need not fall: of fixed points, and on other videos.
WORSE = 0.05
#: Dropping may rise by this share of all points, body size's variation by this factor and amount.
DROP_SLACK, SIZE_SLACK, SIZE_FLOOR = 0.02, 1.1, 0.002
#: Share of sure points out of proportion may rise by this.
ODD_SLACK = 0.05
#: Fixed points must keep this share of their motion within the box, where they move by more than `MOVES` sizes.
LIVES, MOVES = 0.7, 0.04
#: Share of fixed points that must stay where they were.
AGREE = 0.8
#: Errors may rise by this factor. Where they fall to this share, sure points may have moved: they were wrong.
ERROR_SLACK, CORRECTED = 1.02, 0.95
#: Fewer triplets of fixed points, or labels, than this prove nothing.
ENOUGH = 50
#: Nor do fewer fixed points: with so many, the share that stays is known to 7 %.
POINTS = 30


@dataclass(frozen=True)
class Verdict:
    """Whether the adapted model may be used.

    Attributes
    ----------
    passes : bool
    reasons : tuple of str
        Sentences: all that spoke against it, or, where nothing did, what got better.
    """

    passes: bool
    reasons: tuple[str, ...]


def judge(proof: Proof, doubts: Sequence[str] = (), *, learned: bool = True) -> Verdict:
    """The decision rule.

    On a video that was learned from, jitter must fall; on another one it must not rise. Nowhere may sure points jitter
    more, more keypoints be dropped, the body's size vary more, more sure points be out of proportion, sure points move
    away or stand still in their boxes, or the error rise.

    Parameters
    ----------
    doubts : sequence of str
        Why the starting model's own predictions cannot be trusted on this video (`trust.doubts`): what is learned from
        wrong predictions looks steady and is wrong.
    """
    before, after = proof.before, proof.after
    against = list(doubts)
    gone = _gone(before.jitter_px, after.jitter_px)
    labelled = before.labels >= ENOUGH
    if not gone >= (FELL if learned else -WORSE):
        both = before.jitter_px, after.jitter_px
        against.append(
            "jitter fell by only {:.0f} %, from {:.2f} to {:.2f} px: less than {:.0f} % may be chance".format(
                100 * gone, *both, 100 * FELL
            )
            if gone >= 0.005
            else "jitter did not fall: {:.2f} px before, {:.2f} px after, on the same points".format(*both)
        )
    if proof.triplets >= ENOUGH and _gone(before.jitter_fixed_px, after.jitter_fixed_px) < -WORSE:
        against.append(
            f"points that the starting model was sure of jitter more: {before.jitter_fixed_px:.2f} px before, "
            f"{after.jitter_fixed_px:.2f} px after"
        )
    if not after.dropped <= before.dropped + DROP_SLACK:
        against.append(
            f"more keypoints are dropped: {100 * before.dropped:.0f} % before, {100 * after.dropped:.0f} % after"
        )
    if after.size_variation > SIZE_SLACK * before.size_variation + SIZE_FLOOR:
        against.append(
            f"the body's size varies more: {100 * before.size_variation:.1f} % before, "
            f"{100 * after.size_variation:.1f} % after"
        )
    if misplaced := after.odd.wrong(before.odd):
        against.append(
            f"{'; '.join(misplaced[:3])}: these now mostly do not lie to each other as on other bodies"
        )
    elif min(before.odd.told, after.odd.told) >= ENOUGH and after.odd.share > before.odd.share + ODD_SLACK:
        against.append(
            f"more sure points are out of proportion with the rest of the body: {100 * before.odd.share:.0f} % before, "
            f"{100 * after.odd.share:.0f} % after"
        )
    if before.motion > MOVES and after.motion < LIVES * before.motion:
        against.append(
            f"points that the starting model was sure of move less within the animal: by {100 * before.motion:.0f} % "
            f"of its size before, {100 * after.motion:.0f} % after"
        )
    # labels know better than the starting model: points that moved towards them need not have stayed
    corrected = labelled and after.error_px <= CORRECTED * before.error_px
    if proof.points >= POINTS:
        if not (after.agreement >= AGREE or corrected):
            against.append(
                f"only {100 * after.agreement:.0f} % of the points that the starting model was sure of stayed where "
                f"they were (within a tenth of the animal's size); {100 * AGREE:.0f} % must"
            )
    elif not labelled:
        against.append(
            f"the starting model was sure of {proof.points} points on the held-out frames: too few to compare with"
        )
    if labelled and not after.error_px <= ERROR_SLACK * before.error_px:
        against.append(
            f"the error against the labels rose: {before.error_px:.2f} px before, {after.error_px:.2f} px after"
        )
    if against:
        return Verdict(False, tuple(against))
    way = "fell" if gone >= 0 else "rose"
    better = [
        f"jitter {way} by {100 * abs(gone):.0f} %, from {before.jitter_px:.2f} to {after.jitter_px:.2f} px"
    ]
    if labelled:
        better.append(
            f"the error against the labels went from {before.error_px:.2f} to {after.error_px:.2f} px"
        )
    if proof.points >= POINTS:
        better.append(
            f"{100 * after.agreement:.0f} % of the points that the starting model was sure of stayed where they were"
        )
    better.append(
        f"dropped keypoints: {100 * before.dropped:.0f} % before, {100 * after.dropped:.0f} % after"
    )
    return Verdict(True, tuple(better))


def _gone(before: float, after: float) -> float:
    """Share of jitter that is gone; NaN where there was none."""
    return 1 - after / before if before > 0 else float("nan")
