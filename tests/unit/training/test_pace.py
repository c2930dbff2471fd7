"""Every model that a form may offer to fine-tune has a pace to expect."""

from __future__ import annotations

import pytest

from napari_superanimal.models.zoo import list_models
from napari_superanimal.training.modes import MODES
from napari_superanimal.training.pace import expected_pace


@pytest.mark.parametrize("mode", [*MODES, "compare"])
def test_every_model_has_a_pace(mode: str) -> None:
    cards = {ref.card.name: ref.card for ref in list_models()}
    assert any(card.official for card in cards.values())
    paces = {name: expected_pace(card, mode) for name, card in cards.items()}
    assert all(0.05 < pace < 30 for pace in paces.values()), paces
    assert paces["mouse-topview-mini"] > paces["quadruped-sideview-mini"], "crops have fewer pixels"


def test_rehearsal_takes_longer() -> None:
    for ref in list_models():
        assert expected_pace(ref.card, "replay") < expected_pace(ref.card, "naive")
