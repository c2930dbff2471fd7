"""What a form hands to a worker: everything a job needs, nothing of Qt."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import write_text

if TYPE_CHECKING:
    from napari_superanimal.plugin.image_source import ArrayVideo
    from napari_superanimal.video import Video


@dataclass(frozen=True)
class PredictRequest:
    """One run of the Predict widget.

    Attributes
    ----------
    model : str
        Name of the model, or its folder.
    video : Video or ArrayVideo
        Frames with a decoder of their own; the worker closes it.
    frames : range
    max_individuals : int
    detector : {"model", "whole-frame"}
    scales : {"single", "auto"}
        Whether small or huge animals are searched for at several scales.
    """

    model: str
    video: Video | ArrayVideo
    frames: range
    max_individuals: int = 1
    detector: Literal["model", "whole-frame"] = "model"
    scales: Literal["single", "auto"] = "single"


@dataclass(frozen=True)
class FinetuneRequest:
    """One training of the Fine-tune widget; kept in the run's folder so that it can be resumed.

    Attributes
    ----------
    name : str
        Name of the new model.
    folder : str
        Folder of the run: training data, checkpoints, log.
    dataset : str
        File or folder with the labels, any format that `poses.formats` reads.
    model : str
        Model to start from.
    mode : str
        One of the keys of `training.modes.MODES`.
    steps : int
    labels : str
        What the user called the labels, for messages.
    table : str
        File of a conversion table; empty where the names tell.
    absent : bool
        A keypoint without a position was deleted by a person, rather than not labelled.
    compare : bool
        Compare all modes instead of making one model.
    """

    name: str
    folder: str
    dataset: str
    model: str
    mode: str
    steps: int
    labels: str = ""
    table: str = ""
    absent: bool = False
    compare: bool = False

    @property
    def out(self) -> Path:
        """Where the new model is written."""
        return Path(self.folder) / self.name

    @property
    def stop_file(self) -> Path:
        """The training stops when this file appears."""
        return Path(self.folder) / "stop"

    @property
    def log_file(self) -> Path:
        """Everything the training printed."""
        return Path(self.folder) / "log.txt"

    def arguments(self, *, resume: bool) -> list[str]:
        """The command line after ``superanimal``."""
        words = ["finetune", self.dataset, "--model", self.model]
        words += ["--compare", "--seeds", "1"] if self.compare else ["--mode", self.mode]
        if self.table:
            words += ["--table", self.table]
        if self.absent:
            words.append("--absent")
        words += ["--out", str(self.out), "--steps", str(self.steps)]
        words += ["--progress-lines", "--stop-file", str(self.stop_file)]
        return [*words, "--resume"] if resume else words

    def save(self) -> None:
        """Keep the request in its folder.

        Raises
        ------
        UserError
            If the folder cannot be written.
        """
        write_text(Path(self.folder) / "request.json", json.dumps(asdict(self), indent=1))

    @staticmethod
    def load(folder: Path) -> FinetuneRequest:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If the folder holds no training of ours.
        """
        path = folder / "request.json"
        try:
            return FinetuneRequest(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"not a training that can be resumed ({error})", path=path, remedy="start a new one"
            ) from error
