"""May the starting model's predictions on this video be learned from at all?

What is learned from wrong predictions looks as steady as what is learned from right ones. These checks do not ask the
predictions themselves: they turn and mirror the picture, look which way the animal walks, and compare the picture and
the body's proportions with those that the model knows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_superanimal.adaptation.bodies import believed_bodies, odd_points
from napari_superanimal.adaptation.heading import headings
from napari_superanimal.adaptation.teacher import Eye
from napari_superanimal.inference.likelihood import novelty
from napari_superanimal.models.known import known_pictures, known_proportions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_superanimal.adaptation.teacher import Looks
    from napari_superanimal.models.load import LoadedModel

#: Animals that are turned and mirrored.
TRIED = 48
#: Two positions closer than this, in sizes of the animal, agree.
NEAR = 0.1
#: Share of sure keypoints that must stay in place when the picture is mirrored. From above, where mirrored animals are
#: nothing new, the shipped model keeps 99 % on mice, 82 % on one in the dark and 71 % on a dog, which it does not know;
#: from the side 67 to 89 % on horse and dog.
MIRRORED = {"top": 0.75, "side": 0.5}
#: The same for quarter turns, for models that know animals from above: 98 % on mice, 84 % in the dark, 79 % on a dog.
TURNED = 0.8
#: A side view in another position must not be surer than as it is by this much (mean likelihood).
SURER = 0.03
#: Share of sure keypoints that may be out of proportion, of at least `FEWEST_TOLD`: none are on the clips that the
#: shipped models are right on, 1 % of the labels of another laboratory's mice, 4 % of those of photos of seven species.
ODD, FEWEST_TOLD = 0.1, 50
#: Share of walking animals that may go backwards; fewer walking ones than `FEWEST` tell nothing.
BACKWARDS, FEWEST = 0.6, 20


@dataclass(frozen=True)
class Trust:
    """What speaks for and against the starting model on the sampled frames; NaN where it cannot be told.

    Attributes
    ----------
    animals : int
        Seen on the sampled frames.
    likelihood_by_turn : tuple of float
        Mean likelihood with the picture as it is, and turned by one, two and three quarters.
    mirrored, turned : float, 0..1
        Share of sure keypoints that stay in place when the picture is mirrored, or turned.
    walking, backwards : int
        Animals whose way and heading are known, and those of them that walk tail first.
    novelty, most_known : float
        How far the pictures are from those that the model was trained on, and the end of what its card was tested on.
    odd : float, 0..1
        Share of sure keypoints that are out of proportion with the animals that the model was trained on; `told`, how
        many could be judged.
    misplaced : tuple of str
        Pairs of keypoints that mostly lie to each other as on none of those animals, the worst first.
    """

    animals: int
    likelihood_by_turn: tuple[float, ...]
    mirrored: float
    turned: float
    walking: int
    backwards: int
    novelty: float
    most_known: float
    odd: float = float("nan")
    told: int = 0
    misplaced: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine(model: LoadedModel, looks: Looks) -> Trust:
    """Try the starting model on some of the animals seen, in other positions."""
    n = len(looks)
    nan = float("nan")
    if not n:
        return Trust(0, (nan,) * 4, nan, nan, 0, 0, nan, nan)
    size = model.pose.config.input_size
    margin = (looks.crops.shape[-1] - size) // 2
    rows = np.unique(np.linspace(0, n - 1, min(TRIED, n)).round().astype(int))
    crops = looks.crops[rows][:, :, margin : margin + size, margin : margin + size]
    eye = Eye(model)
    reach = NEAR * size / model.card.context
    seen = [[_parts(eye, crops, turns, mirrored) for mirrored in (False, True)] for turns in range(4)]
    plain, sure = seen[0][0]
    fixed = sure >= model.card.threshold

    def stay(views: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> float:
        shares = [(np.linalg.norm(xy - plain, axis=-1) <= reach)[fixed].mean() for xy, _ in views]
        return float(np.mean(shares)) if fixed.any() else nan

    way = headings(looks, model.card, model.space)
    unseen = known_pictures(model.card, "unseen").get("novelty")
    far = nan
    if model.calibration:
        c = model.calibration
        each = novelty(looks.embedding, c["means"], c["deviations"], c["knows"].new_ones(c["knows"].shape))
        far = float(np.median(each[:, 0].numpy()))
    known = known_proportions(model.card, model.space.keypoints)
    odd = odd_points(known, believed_bodies(model, looks, model.card.threshold))
    return Trust(
        animals=n,
        likelihood_by_turn=tuple(float((a[1].mean() + b[1].mean()) / 2) for a, b in seen),
        mirrored=stay([seen[0][1]]),
        turned=stay([seen[t][0] for t in (1, 2, 3)]),
        walking=int((way != 0).sum()),
        backwards=int((way < 0).sum()),
        novelty=far,
        most_known=float(unseen["0.98"]) if unseen else nan,
        odd=odd.share,
        told=odd.told,
        misplaced=odd.wrong(),
    )


def _parts(eye: Eye, crops: Any, turns: int, mirrored: bool) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    at, sure = [], []
    for start in range(0, len(crops), 16):
        xy, likelihood, _ = eye.crops(crops[start : start + 16], turns=turns, mirrored=mirrored)
        at.append(xy)
        sure.append(likelihood)
    return np.concatenate(at), np.concatenate(sure)


def doubts(trust: Trust, view: str) -> tuple[str, ...]:
    """Why the starting model's predictions on this video cannot be trusted, in sentences; empty if they can.

    Parameters
    ----------
    view : str
        From the card: models for top views know all directions, others only animals that stand on their feet.
    """
    found = []
    as_is, *others = trust.likelihood_by_turn
    if "top" in view:
        if trust.turned < TURNED:
            found.append(
                f"only {100 * trust.turned:.0f} % of the model's sure points stay in place when the picture is turned: "
                "it does not really see the animal"
            )
    elif max(others) > as_is + SURER:
        degrees = 90 * (1 + int(np.argmax(others)))
        found.append(
            f"the model is surer when the picture is turned by {degrees} degrees (mean likelihood {max(others):.2f} "
            f"instead of {as_is:.2f}): the animal or the camera is not upright"
        )
    if trust.mirrored < MIRRORED["top" if "top" in view else "side"]:
        found.append(
            f"only {100 * trust.mirrored:.0f} % of the model's sure points stay in place when the picture is mirrored: "
            "it does not really see the animal"
        )
    if trust.walking >= FEWEST and trust.backwards > BACKWARDS * trust.walking:
        found.append(
            f"in {trust.backwards} of {trust.walking} frames the animal walks tail first: head and tail are "
            "probably taken for each other"
        )
    if trust.misplaced:
        found.append(
            f"{'; '.join(trust.misplaced[:3])}: these mostly lie to each other as on no animal that the model was "
            "trained on, so parts of the body are probably taken for others"
        )
    elif trust.told >= FEWEST_TOLD and trust.odd > ODD:
        found.append(
            f"{100 * trust.odd:.0f} % of the model's sure points are out of proportion with the others, as on no "
            "animal that it was trained on: it probably takes parts of the body for others"
        )
    if trust.novelty > trust.most_known:
        found.append(
            f"the pictures are unlike all that the model was tested on (novelty {trust.novelty:.2f}, tested up to "
            f"{trust.most_known:.2f})"
        )
    return tuple(found)
