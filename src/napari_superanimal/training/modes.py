"""The ways to fine-tune, in words; free of torch, so that forms and help texts can read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """One way to make a new model from an old one.

    Attributes
    ----------
    title : str
        What it does, for a list of choices.
    explanation : str
        When to choose it.
    """

    title: str
    explanation: str


#: In the order in which to try them.
MODES: dict[str, Mode] = {
    "naive": Mode(
        "Learn my keypoints only",
        "Starts from everything the model knows: the fewest labels are needed. "
        "Keypoints that your labels lack may be forgotten.",
    ),
    "backbone": Mode(
        "Keep what it sees, learn my keypoints anew",
        "Keeps what the model knows about pictures, and learns your keypoints from your labels alone: "
        "for keypoints with other names or meanings. Needs more labels.",
    ),
    "scratch": Mode(
        "Start from nothing",
        "Only the shape of the network is taken over: for comparison, or for animals unlike the model's.",
    ),
}
