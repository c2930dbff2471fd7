"""How fast a model is fine-tuned until this computer has tried; free of torch, so that forms can read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_superanimal.training.modes import MODES

if TYPE_CHECKING:
    from napari_superanimal.models.card import ModelCard

#: Steps of eight crops per second, without and with the old model's rehearsal, on one core of a busy server: more
#: cores are faster. Of our own networks per pixel of a crop; of SuperAnimal's as `benchmarks/official_finetune.py`
#: measured it.
MINI = (1.6e5, 1.2e5)
OFFICIAL = {
    "hrnet_w32": (0.22, 0.17),
    "resnet_50": (0.24, 0.19),
    "rtmpose_s": (1.6, 1.25),
    "rtmpose_x": (0.12, 0.10),
}


def expected_pace(card: ModelCard, mode: str) -> float:
    """Steps per second to expect of a fine-tuning from a model."""
    if card.official:
        plain, rehearsed = OFFICIAL[str(card.pose["architecture"])]
    else:
        plain, rehearsed = (pace / int(card.pose["input_size"]) ** 2 for pace in MINI)
    return rehearsed if mode in MODES and MODES[mode].keeps else plain
