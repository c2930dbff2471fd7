"""What a form hands to a worker: everything a job needs, nothing of Qt."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import write_text

if TYPE_CHECKING:
    from napari_superanimal.plugin.image_source import ArrayVideo
    from napari_superanimal.video import Video


#: What a run was started with, in its folder.
REQUEST_FILE = "request.json"


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
    detect_every : int or "auto"
        Frames from one look of the detector to the next; 1 looks at all of them.
    """

    model: str
    video: Video | ArrayVideo
    frames: range
    max_individuals: int = 1
    detector: Literal["model", "whole-frame"] = "model"
    scales: Literal["single", "auto"] = "single"
    detect_every: int | Literal["auto"] = 1


@dataclass(frozen=True)
class RunRequest(ABC):
    """What a process that trains needs to know; kept in the run's folder so that it can be resumed.

    Attributes
    ----------
    name : str
        Name of the new model.
    folder : str
        Folder of the run: the model is in the subfolder `out`, its log and what it may need beside that.
    """

    name: str
    folder: str

    @property
    @abstractmethod
    def title(self) -> str:
        """What the run is called in a list."""

    @abstractmethod
    def arguments(self, *, resume: bool) -> list[str]:
        """The command line after ``superanimal``."""

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

    def save(self) -> None:
        """Keep the request in its folder.

        Raises
        ------
        UserError
            If the folder cannot be written.
        """
        write_text(Path(self.folder) / REQUEST_FILE, json.dumps(vars(self), indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        UserError
            If the folder holds no such run.
        """
        path = folder / REQUEST_FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"not a training that can be resumed ({error})", path=path, remedy="start a new one"
            ) from error


Run = TypeVar("Run", bound=RunRequest)


@dataclass(frozen=True)
class AdaptRequest(RunRequest):
    """One adaptation of the Adapt widget.

    Attributes
    ----------
    video : str
        File or folder to adapt to.
    model : str
        Model to start from.
    steps : int
    frames : int
        Frames to learn from.
    max_individuals : int
    layer : str
        What the user called the video, for messages.
    """

    video: str
    model: str
    steps: int
    frames: int
    max_individuals: int = 1
    layer: str = ""

    @property
    def title(self) -> str:
        return f"{self.name} (to {self.layer or self.video})"

    def arguments(self, *, resume: bool) -> list[str]:
        words = ["adapt", self.video, "--model", self.model, "--out", str(self.out)]
        words += ["--steps", str(self.steps), "--frames", str(self.frames)]
        words += ["--max-individuals", str(self.max_individuals)]
        words += ["--progress-lines", "--stop-file", str(self.stop_file)]
        return [*words, "--resume"] if resume else words


@dataclass(frozen=True)
class FinetuneRequest(RunRequest):
    """One training of the Fine-tune widget.

    Attributes
    ----------
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

    dataset: str
    model: str
    mode: str
    steps: int
    labels: str = ""
    table: str = ""
    absent: bool = False
    compare: bool = False

    @property
    def title(self) -> str:
        return f"{self.name} (from {self.labels or self.dataset})"

    def arguments(self, *, resume: bool) -> list[str]:
        words = ["finetune", self.dataset, "--model", self.model]
        words += ["--compare", "--seeds", "1"] if self.compare else ["--mode", self.mode]
        if self.table:
            words += ["--table", self.table]
        if self.absent:
            words.append("--absent")
        words += ["--out", str(self.out), "--steps", str(self.steps)]
        words += ["--progress-lines", "--stop-file", str(self.stop_file)]
        return [*words, "--resume"] if resume else words
