"""From figures to findings: what is unlike the pictures that a model knows, and one next step for each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from napari_superanimal.jobs.progress import duration
from napari_superanimal.jobs.scale_choice import SINGLE
from napari_superanimal.models.known import is_calibrated, known_pictures, outside, size_margin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_superanimal.models.card import ModelCard

Level = Literal["good", "note", "problem"]
Item = TypeVar("Item")
#: Of a noisy point's error e (mean length): noise that is new in every frame has a mean second difference of
#: sqrt(6) e, because three such errors with weights 1, -2, 1 add up.
NOISE_TO_JITTER = float(np.sqrt(6))
#: Two models this close are not told apart by a few frames.
TIE = 0.03
#: A prediction longer than this is worth planning.
LONG_S = 15 * 60
#: Bins of a calibration curve with fewer points say nothing.
FEW = 5
#: Frames to label, by how much is expected to be right already; see docs/how-to/check.md.
LABELS = ((0.75, 10), (0.4, 25), (0.0, 60))


@dataclass(frozen=True)
class Advice:
    """One finding and what to do about it.

    Attributes
    ----------
    level : {"good", "note", "problem"}
    topic : str
        "detection", "animals", "size", "light", "familiarity", "likelihood", "sides", "steadiness", "speed",
        "verdict".
    text : str
        What was found.
    action : str
        "predict", "use-model", "individuals", "scales", "adapt", "label", "smooth", "shorten" or "" for nothing.
    step : str
        The next step in words.
    values : dict
        What a program needs for the step: a model's name, a number of frames, a factor.
    """

    level: Level
    topic: str
    text: str
    action: str = ""
    step: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def familiarity(card: ModelCard, novelty: float | None) -> float | None:
    """How much the pictures are like those the model knows: 1 within its held-out animals, 0 like strange data.

    None where the card has no distributions, or the model finds nothing.
    """
    known, unseen = known_pictures(card).get("novelty"), known_pictures(card, "unseen").get("novelty")
    if novelty is None or not known:
        return None
    low = float(known["0.95"])
    high = max(float(unseen["0.5"]) if unseen else low + 1.0, low + 1e-3)
    return float(np.clip((high - novelty) / (high - low), 0.0, 1.0))


def expected_right(card: ModelCard, figures: Mapping[str, Any]) -> tuple[float, bool]:
    """Share of keypoints expected within a tenth of the animal's size, and whether likelihood is calibrated.

    The likelihoods go through the card's calibration curves, that of known and that of unseen datasets, mixed by
    the familiarity of the pictures; frames without an animal count as wrong. What contradicts itself counts less:
    points that jump about, head and tail changing places, and a detector that sees animals everywhere. So do
    pictures stranger than the strange data of the card, on which its curve was never measured.
    """
    share = float(figures["detection"]["share"]) * _consistent(card, figures)
    values = np.array(figures["likelihood"]["values"], np.float64)
    if not len(values):
        return 0.0, is_calibrated(card)
    known = _through(card.calibration.get("curve_seen"), values)
    unseen = _through(card.calibration.get("curve_unseen"), values)
    like = familiarity(card, figures["novelty"])
    if like is None or known is None or unseen is None:
        return share * float(values.mean()), is_calibrated(card)
    # on known data likelihood may not promise less than it says
    return share * (like * max(known, float(values.mean())) + (1 - like) * unseen), True


def _consistent(card: ModelCard, figures: Mapping[str, Any]) -> float:
    """Share (0..1) of what is believable, judged without labels."""
    steady, animals = figures["steadiness"], figures["animals"]
    share = 1.0 if steady["steady_share"] is None else float(steady["steady_share"])
    if steady["steps"]:
        share *= 1 - (int(steady["turns"]) + int(steady["side_swaps"])) / int(steady["steps"])
    like = familiarity(card, figures["novelty"])
    if like is not None and like < 1:
        if animals["everywhere"]:
            # one of them may be the animal
            share *= like + (1 - like) / max(int(animals["typical"]), 1)
        if unseen := known_pictures(card, "unseen").get("novelty"):
            middle, end = float(unseen["0.5"]), float(unseen["0.98"])
            share *= float(np.clip((end - figures["novelty"]) / max(end - middle, 1e-3), 0, 1))
    return max(share, 0.0)


def _through(curve: Any, values: np.ndarray) -> float | None:
    """Mean share of right keypoints by a calibration curve."""
    points = [p for p in curve or () if p.get("n", 0) >= FEW]
    if not points:
        return None
    at, right = ([float(p[key]) for p in points] for key in ("likelihood", "right"))
    return float(np.interp(values, at, right).mean())


def rank(scored: Sequence[tuple[float, Item]]) -> list[Item]:
    """The most promising first; the order given decides between equals."""
    return [item for _, item in sorted(scored, key=lambda pair: -pair[0])]


def advise(
    card: ModelCard,
    figures: Mapping[str, Any],
    right: float,
    better: Sequence[tuple[str, float]] = (),
) -> list[Advice]:
    """Findings about one model on one video, problems first.

    Parameters
    ----------
    right : float
        `expected_right`.
    better : sequence of (name, expected share right)
        Models that rank above this one, the best first.
    """
    found = [
        *_detection(figures, better),
        *_animals(figures),
        *_size(card, figures),
        *_light(card, figures),
        *_familiarity(card, figures),
        *_sides(card, figures),
        *_steadiness(card, figures),
        *_speed(figures),
    ]
    order = {"problem": 0, "note": 1, "good": 2}
    return [_verdict(card, figures, right, better), *sorted(found, key=lambda a: order[a.level])]


def _verdict(
    card: ModelCard, figures: Mapping[str, Any], right: float, better: Sequence[tuple[str, float]]
) -> Advice:
    """The first line: what to expect, and the one thing to do."""
    whom = ", ".join(x for x in (card.species, card.view) if x)
    expect = f"about {100 * right:.0f} % of the keypoints are expected to be right" + (
        f" (the model is for: {whom})" if whom else ""
    )
    if better and better[0][1] > right + TIE:
        name = better[0][0]
        return Advice(
            "note",
            "verdict",
            f"{expect}, fewer than with {name}",
            "use-model",
            f"use {name} instead",
            {"model": name},
        )
    n = labels_needed(right)
    like = familiarity(card, figures["novelty"])
    sure = figures["likelihood"]["share_sure"]
    if right >= LABELS[0][0]:
        return Advice(
            "good", "verdict", expect, "predict", "predict the video and look at the doubtful points"
        )
    if right >= LABELS[1][0]:
        if can_adapt() and like is not None and sure >= 0.3:
            return Advice("note", "verdict", expect, "adapt", "adapt the model to this video")
        return Advice("note", "verdict", expect, "label", label_words(n), {"frames": n})
    step = f"take the model that is for your animal and view, and {label_words(n)}"
    return Advice("problem", "verdict", f"only {expect}", "label", step, {"frames": n})


def labels_needed(right: float) -> int:
    """Frames to label before fine-tuning pays."""
    return next(n for least, n in LABELS if right >= least)


def label_words(n: int) -> str:
    return f"predict about {n} frames, correct them and fine-tune on them"


def can_adapt() -> bool:
    """Whether this installation can adapt a model to a video without labels."""
    return find_spec("napari_superanimal.commands.adapt") is not None


def _detection(figures: Mapping[str, Any], better: Sequence[tuple[str, float]]) -> list[Advice]:
    share = float(figures["detection"]["share"])
    if share >= 0.95:
        return [Advice("good", "detection", f"an animal is found in {100 * share:.0f} % of the frames")]
    text = f"an animal is found in only {100 * share:.0f} % of the frames"
    if (figures.get("scales") or {}).get("scales"):
        # the finding about sizes says what to do
        return [Advice("problem" if share < 0.5 else "note", "detection", text)]
    if better and share < 0.5:
        name = better[0][0]
        return [Advice("problem", "detection", text, "use-model", f"use {name}", {"model": name})]
    step = "if the animal fills the picture, switch the detector off (whole-frame); else crop the video to it"
    return [Advice("problem" if share < 0.5 else "note", "detection", text, "whole-frame", step)]


def _animals(figures: Mapping[str, Any]) -> list[Advice]:
    counts = {int(k): int(v) for k, v in figures["animals"]["frames_by_count"].items()}
    total = sum(counts.values())
    several = sum(n for k, n in counts.items() if k > 1)
    if figures["animals"]["everywhere"]:
        return [
            Advice(
                "problem",
                "animals",
                f"{figures['animals']['most']} or more animals are seen in most frames",
                "individuals",
                "if there are fewer, the detector takes other things for animals: choose another model, or crop the "
                "video to the animal",
            )
        ]
    # more than one in a tenth of the frames is hardly a slip of the detector
    if several <= 0.1 * total:
        return []
    typical, most = int(figures["animals"]["typical"]), int(figures["animals"]["most"])
    usual = max(typical, 2)
    spread = ", ".join(f"{k} in {n}" for k, n in sorted(counts.items()))
    return [
        Advice(
            "note",
            "animals",
            f"several animals are seen (animals in frames: {spread})",
            "individuals",
            f"set the number of animals to what you know is there, here up to {usual if typical >= most else most}"
            " (1 if there is only one: the others are mistakes of the detector)",
            {"individuals": usual},
        )
    ]


def _size(card: ModelCard, figures: Mapping[str, Any]) -> list[Advice]:
    """Against what the detector learned from: its training pictures, scaled as its augmentation did."""
    found = figures.get("scales") or {}
    if found.get("scales"):
        return [_other_scales(found, figures)]
    share, px = figures["size"]["animal_share"], figures["size"]["animal_px"]
    levels = known_pictures(card).get("animal_share")
    if share is None or levels is None:
        return []
    off = outside(share, levels, size_margin(card))
    usual = float(levels["0.5"])
    text = (
        f"the animal is {px:.0f} px long, {100 * share:.0f} % of the picture "
        f"(known: {100 * float(levels['0.02']):.0f} to {100 * float(levels['0.98']):.0f} %)"
    )
    if off == 0:
        return [Advice("good", "size", text)]
    if found:
        # it was tried: neither windows nor a smaller picture find the animal better
        return [Advice("note", "size", f"{text}; looking at several scales would not help")]
    factor = usual / max(share, 1e-3)
    step = (
        f"crop the video to the part where the animal is, so that it looks about {factor:.1f} times larger"
        if factor > 1
        else "switch the detector off (whole-frame): the animal fills more of the picture than the detector knows"
    )
    return [Advice("problem" if off > 1 else "note", "size", text, "scales", step, {"factor": factor})]


def _other_scales(found: Mapping[str, Any], figures: Mapping[str, Any]) -> Advice:
    """All scales together see something else than the picture as it is."""
    best = found["together"]
    size = f", {100 * found['animal_share']:.0f} % of the picture," if found["animal_share"] else ""
    text = (
        f"the animal{size} is seen better at several scales: in {found['frames']} frames its keypoints lie "
        f"{100 * found['tried'][SINGLE]:.1f} % of its size elsewhere, other crops alone would move them by "
        f"{100 * found['limit']:.1f} %; mean likelihood {best:.2f} instead of {found['single']:.2f}"
    )
    lost = found["single"] < 0.8 * best or float(figures["detection"]["share"]) < 0.8
    step = 'look at several scales: "Animal size: small or huge" in Predict, or `superanimal predict --scales auto`'
    return Advice("problem" if lost else "note", "size", text, "scales", step, {"scales": found["scales"]})


def sizes_doubtful(card: ModelCard, figures: Mapping[str, Any]) -> bool:
    """Whether other scales are worth trying: animals are missed, unsure, or of a size that the model does not know."""
    if float(figures["detection"]["share"]) < 0.95 or not figures["likelihood"]["values"]:
        return True
    share, levels = figures["size"]["animal_share"], known_pictures(card).get("animal_share")
    sizes_known = share is None or levels is None or outside(share, levels) == 0
    return not sizes_known or float(figures["likelihood"]["share_sure"]) < 0.9


def _light(card: ModelCard, figures: Mapping[str, Any]) -> list[Advice]:
    known = known_pictures(card)
    odd = []
    for key in ("brightness", "contrast"):
        value, levels = figures["light"][key], known.get(key)
        if value is None or levels is None:
            continue
        if outside(value, levels) > 0:
            odd.append(
                f"{key} {value:.2f} (known: {float(levels['0.02']):.2f} to {float(levels['0.98']):.2f})"
            )
    if not odd:
        return (
            [Advice("good", "light", "brightness and contrast are like the model's own pictures")]
            if ("brightness" in known)
            else []
        )
    text = f"the light is unlike what the model knows: {', '.join(odd)}"
    return [Advice("note", "light", text, *_adapt_or_label(figures))]


def _adapt_or_label(figures: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    if can_adapt():
        return "adapt", "adapt the model to this video", {}
    n = labels_needed(float(figures["likelihood"]["mean"] or 0.0))
    return "label", label_words(n), {"frames": n}


def _familiarity(card: ModelCard, figures: Mapping[str, Any]) -> list[Advice]:
    like = familiarity(card, figures["novelty"])
    sure = float(figures["likelihood"]["share_sure"])
    profile = f"sure of {100 * sure:.0f} % of the points (likelihood of {card.threshold:.2f} or more)"
    if not is_calibrated(card):
        return [
            Advice(
                "note",
                "likelihood",
                f"the model is {profile}; its likelihood is not calibrated and promises too much",
                "label",
                "look at some frames before you trust it",
            )
        ]
    if like is None:
        return [Advice("note", "likelihood", f"the model is {profile}")]
    if like >= 1:
        return [
            Advice("good", "familiarity", f"the animals look like those the model knows; it is {profile}")
        ]
    if like > 0.3 or sure >= 0.5:
        return [Advice("note", "familiarity", f"the animals look unfamiliar to the model; it is {profile}")]
    return [
        Advice(
            "problem",
            "familiarity",
            f"the animals look as strange to the model as data it has never seen; it is {profile}",
            *_adapt_or_label(figures),
        )
    ]


def _sides(card: ModelCard, figures: Mapping[str, Any]) -> list[Advice]:
    steady = figures["steadiness"]
    swaps, turns, steps = (int(steady[k]) for k in ("side_swaps", "turns", "steps"))
    agreement, told = figures["sides"]["agreement"], int(figures["sides"]["told"])
    found = []
    if swaps or turns:
        parts = []
        if swaps:
            parts.append(f"left and right change places in {swaps}")
        if turns:
            parts.append(f"head and tail in {turns}")
        level: Level = "problem" if swaps + turns > 0.1 * steps else "note"
        found.append(
            Advice(
                level,
                "sides",
                f"{' and '.join(parts)} of {steps} pairs of neighbouring frames",
                "smooth",
                "after predicting, exchange swapped sides back with Clean up (or `superanimal smooth --fix swaps`)",
            )
        )
    elif steps:
        text = f"left and right keep their places in {steps} pairs of neighbouring frames"
        found.append(Advice("good", "sides", text))
    if told >= 20 and agreement is not None and agreement < 0.8 and "top" in card.view:
        found.append(
            Advice(
                "note",
                "sides",
                f"seen from above, left lies on the same side in only {100 * agreement:.0f} % of the frames",
                "label",
                label_words(LABELS[1][1]),
                {"frames": LABELS[1][1]},
            )
        )
    return found


def _steadiness(card: ModelCard, figures: Mapping[str, Any]) -> list[Advice]:
    jitter, triplets = figures["steadiness"]["jitter_relative"], int(figures["steadiness"]["triplets"])
    if jitter is None:
        return []
    error = known_pictures(card).get("error_relative")
    text = f"from frame to frame keypoints tremble by {100 * jitter:.1f} % of the animal's size ({triplets} looked at)"
    smooth = "after predicting, smooth the tracks with Clean up (or `superanimal smooth`)"
    if error is None:
        return [Advice("note", "steadiness", text, "smooth", smooth)]
    usual = NOISE_TO_JITTER * float(error["0.5"])
    text += f"; errors as usual on animals that the model knows would give {100 * usual:.1f} %"
    if jitter <= usual:
        return [Advice("good", "steadiness", text)]
    return [Advice("problem" if jitter > 3 * usual else "note", "steadiness", text, "smooth", smooth)]


def _speed(figures: Mapping[str, Any]) -> list[Advice]:
    fps, seconds = float(figures["speed"]["fps"]), float(figures["speed"]["expected_seconds"])
    text = f"{fps:.1f} frames per second here, about {duration(seconds)} for the whole video"
    if seconds <= LONG_S:
        return [Advice("good", "speed", text)]
    every = int(np.ceil(seconds / LONG_S))
    return [
        Advice(
            "note",
            "speed",
            text,
            "shorten",
            f"predict every {every}th frame first, or let it run overnight: it can be stopped and resumed",
            {"step": every},
        )
    ]
