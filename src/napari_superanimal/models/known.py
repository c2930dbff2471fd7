"""What the pictures are like that a model knows, as its card tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_superanimal.poses.proportions import Proportions, proportions_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_superanimal.models.card import ModelCard

#: Where distributions stand in a card's calibration.
KEY = "pictures"
#: Where the proportions of the animals stand that it was trained on.
PROPORTIONS = "proportions"
#: Beside the distributions: how many times smaller and larger the training showed them.
MARGIN = "size_margin"


def known_pictures(card: ModelCard, kind: str = "known") -> dict[str, dict[str, float]]:
    """Distributions in a card; empty where it has none.

    Parameters
    ----------
    kind : {"known", "unseen"}
        Datasets that the model was trained on, or others.
    """
    pictures: Any = card.calibration.get(KEY, {})
    found = pictures.get(kind, {}) if isinstance(pictures, dict) else {}
    return {k: v for k, v in found.items() if isinstance(v, dict) and v}


def is_calibrated(card: ModelCard) -> bool:
    """Whether the model's likelihood was fitted: else it is the network's raw confidence, which promises too much."""
    return "curve_seen" in card.calibration


def size_margin(card: ModelCard) -> float:
    """Factor by which the detector's training made animals smaller and larger than they are in its pictures."""
    pictures: Any = card.calibration.get(KEY, {})
    if isinstance(pictures, dict) and MARGIN in pictures:
        return float(pictures[MARGIN])
    return float(card.recipe.get("detector", {}).get("augmentation", {}).get("scale", 1.0))


def known_proportions(card: ModelCard, keypoints: Sequence[str]) -> Proportions | None:
    """Proportions of the labelled animals that a model was trained on; None where its card has none.

    Parameters
    ----------
    keypoints : sequence of str
        Those of the bodies to be judged, in their order.
    """
    found: Any = card.calibration.get(PROPORTIONS, {})
    return proportions_of(found, keypoints) if isinstance(found, dict) else None


def outside(value: float, levels: Mapping[str, float], margin: float = 1.0) -> float:
    """How far a value lies outside what a model knows, in its spread (half of the 5 to 95 % range); 0 inside.

    `margin` widens the range by a factor for quantities that training scales (sizes).
    """
    low, high = float(levels["0.02"]) / margin, float(levels["0.98"]) * margin
    spread = max((float(levels["0.95"]) - float(levels["0.05"])) / 2, 1e-6)
    return max(low - value, value - high, 0.0) / spread
