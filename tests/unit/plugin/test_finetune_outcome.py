"""What the Fine-tune form says at the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_superanimal.models.zoo import find_model
from napari_superanimal.plugin.widgets.finetune_outcome import outcome_text


@pytest.mark.parametrize(("now", "advice"), [(1.25, False), (1.75, True)])
def test_before_and_after_are_told_and_a_loss_stands_out(now: float, advice: bool) -> None:
    card = replace(
        find_model("mouse-topview-mini").card,
        metrics={
            "validation val_error_px": 2.0,
            "validation start_error_px": 1.5,
            "validation known_error_px": now,
            "others kept": 0.97,
        },
        recipe={"replay": {"animals": 60, "unmatched": 4}},
    )
    text = outcome_text(card)
    assert "2.00 px from your labels" in text
    assert f"1.50 px before, {now:.2f} px now" in text
    assert ("<b>" in text) == ("Label more frames" in text) == advice
    assert "97% are found as before" in text
    assert "4 of 60 labelled animals" in text


def test_a_card_that_tells_nothing_is_silent() -> None:
    assert outcome_text(replace(find_model("mouse-topview-mini").card, metrics={}, recipe={})) == ""
