"""Write docs/models/*.md from the cards of the shipped and the released models: run it after a card has changed.

`python docs/make_model_cards.py` writes, `--check` only says (exit code 1) whether a page is out of date.
"""

from __future__ import annotations

import sys
from importlib.resources import as_file, files
from pathlib import Path

from napari_superanimal.models.card import ModelCard, read_card
from napari_superanimal.models.official.catalogue import RELEASES, card_of

PAGES = Path(__file__).parent / "models"
NOTE = "<!-- written by docs/make_model_cards.py from the model's card.json: do not edit -->\n\n"


def shipped() -> list[ModelCard]:
    """Cards of the models inside the package, by name."""
    with as_file(files("napari_superanimal.models") / "weights") as folder:
        return [read_card(card.parent) for card in sorted(folder.glob("*/card.json"))]


def pages() -> dict[str, str]:
    """File name to text."""
    cards = shipped()
    index = ["# Models\n", "What is shipped inside the package and works offline:\n"]
    index.append("| model | what | keypoints | licence of the weights |")
    index.append("|---|---|---|---|")
    for card in cards:
        name = f"[{card.name}]({card.name}.md)"
        index.append(f"| {name} | {card.summary or card.title} | {len(card.keypoints)} | {card.licence} |")
    released = [card_of(release) for release in RELEASES]
    index.append("\nSuperAnimal's own, downloaded at their first use ([how to](../official-models.md)):\n")
    index.append("| model | what | licence of the weights |")
    index.append("|---|---|---|")
    for card in released:
        licence = "research only" if "research" in card.licence else card.licence
        index.append(f"| [{card.name}]({card.name}.md) | {card.summary} | {licence} |")
    index.append("\n`superanimal models show NAME` prints the same cards, and those of your own models.\n")
    texts = {f"{card.name}.md": NOTE + card.markdown() for card in (*cards, *released)}
    return {"index.md": NOTE + "\n".join(index), **texts}


def main() -> int:
    stale = []
    for name, text in pages().items():
        page = PAGES / name
        if not page.is_file() or page.read_text("utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv[1:]:
                page.write_text(text, encoding="utf-8")
                print(f"wrote {page}")
    if stale and "--check" in sys.argv[1:]:
        print(f"out of date: {', '.join(stale)}; run `python docs/make_model_cards.py`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
