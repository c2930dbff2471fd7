"""Write measured figures into the cards of the shipped models, from results/evaluation.json.

python benchmarks/update_cards.py && python docs/make_model_cards.py
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from common import RESULTS

from napari_superanimal.models.card import write_card
from napari_superanimal.models.zoo import find_model


def sentence(entry: dict[str, Any], boxes: str) -> str:
    """One line about one dataset."""
    e = entry[boxes]
    return (
        f"{e['n_images']} images, mean error {e['mean_error_px']:.2f} px, PCK@0.05 {e['pck']['0.05']:.2f}, "
        f"PCK@0.1 {e['pck']['0.1']:.2f}, mean likelihood {e['trust']['mean_likelihood']:.2f}"
    )


def figures(result: dict[str, Any]) -> dict[str, str]:
    """The card's metrics: held-out animals and datasets never seen, with the command that measures them again."""
    out = {"command": "python benchmarks/evaluate_minis.py --data DATA"}
    for dataset, entry in result["datasets"].items():
        role = "held-out animals" if entry["role"] == "validation" else "never trained on"
        for boxes, words in (("labels", "labelled boxes"), ("detector", "own detector")):
            if entry[boxes]["mean_error_px"] is not None and entry[boxes]["trust"]["n"]:
                out[f"{dataset} ({role}, {words})"] = sentence(entry, boxes)
    return out


def main() -> None:
    results = json.loads((RESULTS / "evaluation.json").read_text(encoding="utf-8"))["models"]
    for name, result in results.items():
        ref = find_model(name)
        if ref.card.sha256 != result["sha256"]:
            raise SystemExit(f"{name}: the figures are those of other weights; run evaluate_minis.py again")
        write_card(replace(ref.card, metrics=figures(result)), ref.folder)
        print(f"{name}: {len(result['datasets'])} datasets")


if __name__ == "__main__":
    main()
