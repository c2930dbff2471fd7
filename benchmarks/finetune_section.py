"""Section of the results page on fine-tuning SuperAnimal's own networks."""

from __future__ import annotations

from typing import Any

from common import number, table


def official_finetune(result: dict[str, Any] | None) -> list[str]:
    """What a step costs, and that what is learned is found again; see official_finetune.py."""
    if result is None:
        return []
    out = [
        "## Fine-tuning SuperAnimal's own networks",
        "",
        "```bash",
        "python benchmarks/official_finetune.py --data DATA",
        "```",
        "",
        "With random weights, as the released ones were not at hand: this says what a step costs and that training, "
        "writing and predicting fit together, not how well a released model becomes yours. CPU seconds per crop of a "
        "training step on one thread of a busy machine; `replay` rehearses, the other ways do not.",
        "",
    ]
    rows = [
        [
            name,
            f"{each['parameters'] / 1e6:.1f}",
            number(each["plain"]["median"]),
            number(each["rehearsed"]["median"]),
        ]
        for name, each in result["cost"].items()
    ]
    out += [table(["network", "million weights", "CPU s per crop", "with rehearsal"], rows), ""]
    if (learned := result.get("learning")) is not None:
        out += [
            f"HRNet-w32 that learned from nothing for {learned['steps']} steps of {learned['images']} frames of the "
            f"open field, on crops of {learned['crop_px']} px: {number(learned['error_px'])} px from the labels on "
            f"{learned['held_back']} frames held back, predicted from the written model. Saying of every keypoint "
            f"where it lies in the box on average: {number(learned['error_of_the_mean_place_px'])} px.",
            "",
        ]
    if (kept := result.get("keeping")) is not None:
        before, after = kept["before"], kept["replay"]
        mine, others = ", ".join(kept["mine"]), ", ".join(kept["others"])
        out += [
            f"That network then learned on for {kept['steps']} steps from the labels of {mine} alone, with memory "
            f"replay ({kept['pseudo']} keypoints filled in). Before and after, on the frames held back: {mine} "
            f"{number(before['error_px'])} and {number(after['error_px'])} px; {others}, which nobody labelled, "
            f"{number(before['others_error_px'])} and {number(after['others_error_px'])} px. One seed.",
            "",
        ]
    return out
