"""Model cards: what a model is, what it was trained on, and when not to use it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

CARD_FILE = "card.json"
#: What the names of the labels that a model was fine-tuned on became, where it kept the old names.
TABLE_FILE = "table.csv"
POSE_FILE = "pose.safetensors"
DETECTOR_FILE = "detector.safetensors"


@dataclass(frozen=True)
class ModelCard:
    """Everything a user, the widgets and the loader need to know about a model folder.

    Attributes
    ----------
    name : str
        How it is chosen on the command line; also the scorer in files.
    title, summary : str
        For people.
    space : dict
        The keypoint space of the output, as `KeypointSpace.to_json`.
    keypoints : tuple of str
        The keypoints it was really trained on: its channels, in order. Others of the space stay missing.
    species, view : str
    licence : str
        Of the weights.
    not_for : str
        When not to use it.
    trained_on : tuple of dict
        ``name``, ``licence``, ``source``, ``images``, ``animals`` per dataset.
    pose, detector : dict
        Network configurations; an empty detector means that the model needs boxes or whole frames.
    context : float
        Side of the crop relative to the longer side of the box.
    side_canonical : bool
        Paired channels mean near and far side; left and right follow from the way the animal faces.
    flip : bool
        Predict every crop together with its mirror image.
    threshold : float
        Likelihood below which a keypoint is doubtful; chosen from the calibration, where datasets the model
        has never seen count as much as those it knows.
    detector_threshold : float
        Lowest score of a box.
    calibration : dict
        How raw confidence becomes likelihood (`training.calibration`).
    metrics : dict
        Figures measured on validation animals, each with the command that made it.
    parent : str
        The model it was fine-tuned from.
    created : str
        ISO date.
    recipe : dict
        Settings that made it.
    sha256 : dict
        File name to checksum.
    official : str
        The released SuperAnimal network that the weights belong to, or that they were fine-tuned from: it says how
        crops are made and keypoints decoded. Empty for models of ours.
    source : dict
        Where converted weights came from: ``repository`` and ``revision``, ``file``, its ``sha256``, ``epoch``.
    """

    name: str
    title: str = ""
    summary: str = ""
    space: dict[str, Any] = field(default_factory=dict)
    keypoints: tuple[str, ...] = ()
    species: str = ""
    view: str = ""
    licence: str = ""
    not_for: str = ""
    trained_on: tuple[dict[str, Any], ...] = ()
    pose: dict[str, Any] = field(default_factory=dict)
    detector: dict[str, Any] = field(default_factory=dict)
    context: float = 1.2
    side_canonical: bool = False
    flip: bool = False
    threshold: float = 0.5
    detector_threshold: float = 0.3
    calibration: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    parent: str = ""
    created: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    official: str = ""
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def space_name(self) -> str:
        return str(self.space.get("name", ""))

    def _space_line(self) -> str:
        known = len(self.space.get("keypoints", ()))
        return f"{self.space_name} ({known} keypoints)" if known else ""

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        data["keypoints"] = list(self.keypoints)
        data["trained_on"] = list(self.trained_on)
        return data

    @staticmethod
    def from_json(data: dict[str, Any]) -> ModelCard:
        known = {f.name for f in fields(ModelCard)}
        values = {k: v for k, v in data.items() if k in known}
        values["keypoints"] = tuple(values.get("keypoints", ()))
        values["trained_on"] = tuple(values.get("trained_on", ()))
        return ModelCard(**values)

    def markdown(self) -> str:
        """The card as a page for people."""
        lines = [f"# {self.title or self.name}", "", self.summary, ""]
        facts = [
            ("Name", f"`{self.name}`"),
            ("Species and view", ", ".join(x for x in (self.species, self.view) if x)),
            ("Keypoint space", self._space_line()),
            ("Keypoints it knows", ", ".join(self.keypoints)),
            ("Doubtful below", f"likelihood {self.threshold:.2f}" if self.keypoints else ""),
            (
                "Boxes below this score are left out",
                f"{self.detector_threshold:.2f}" if self.official else "",
            ),
            ("Licence of the weights", self.licence),
            (
                "Weights converted from",
                ", ".join(f"{k} {v}" for k, v in self.source.items() if v is not None),
            ),
            ("Network, crops and decoding of", self.official if self.parent else ""),
            ("Fine-tuned from", self.parent),
            ("Made", self.created),
        ]
        lines += [f"- **{name}**: {value}" for name, value in facts if value]
        if self.not_for:
            lines += ["", "## When not to use it", "", self.not_for]
        if self.trained_on:
            lines += ["", "## Trained on", "", "| dataset | images | licence | source |", "|---|---|---|---|"]
            lines += [
                f"| {d.get('name', '')} | {d.get('images', '')} | {d.get('licence', '')} | {d.get('source', '')} |"
                for d in self.trained_on
            ]
        if self.metrics:
            lines += ["", "## Measured", ""]
            for name, value in self.metrics.items():
                lines.append(f"- {name}: {value}")
        return "\n".join(lines) + "\n"


def read_card(folder: Path) -> ModelCard:
    """The card of a model folder.

    Raises
    ------
    UserError
        If the folder has no readable card.
    """
    path = folder / CARD_FILE
    try:
        card = ModelCard.from_json(json.loads(path.read_text(encoding="utf-8")))
        if card.pose and not {"name", "keypoints"} <= card.space.keys():
            raise ValueError("it names no keypoint space")
        return card
    except FileNotFoundError as error:
        if (folder / "REVERTED.txt").is_file():
            raise UserError(
                "holds an adapted model that was reverted, and none to use",
                path=folder,
                remedy="read REVERTED.txt in it; the model that it started from is as it was",
            ) from error
        raise UserError(
            "not a model folder (it has no card.json)",
            path=folder,
            remedy="give a model's name (`superanimal models list`) or a folder that train or finetune wrote",
        ) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"the model card cannot be read ({error})", path=path, remedy="install or import the model again"
        ) from error


def write_card(card: ModelCard, folder: Path) -> None:
    """Write the card into a model folder, atomically."""
    write_text(folder / CARD_FILE, json.dumps(card.to_json(), indent=1) + "\n")
