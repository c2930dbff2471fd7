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
    keeps : bool
        The new model still gives the keypoints that the labels lack.
    """

    title: str
    explanation: str
    keeps: bool = False


#: In the order in which to try them.
MODES: dict[str, Mode] = {
    "replay": Mode(
        "Learn mine, keep the others",
        "While the new model learns from your labels it rehearses what the old one knows: on your own images, the "
        "keypoints that you did not label are filled in wherever the old model is sure of them. "
        "Choose this unless you have a reason not to.",
        keeps=True,
    ),
    "naive": Mode(
        "Learn mine, forget the others",
        "Starts from everything the model knows and ends with a model of your keypoints alone. "
        "Choose it when you will never need the others.",
    ),
    "backbone": Mode(
        "Learn mine anew, keep its eyes",
        "Keeps what the model knows about pictures, and learns your keypoints from your labels alone: "
        "for keypoints with other meanings. Needs more labels.",
    ),
    "scratch": Mode(
        "Start from nothing",
        "Only the shape of the network is taken over: for comparison, or for animals unlike the model's.",
    ),
}
