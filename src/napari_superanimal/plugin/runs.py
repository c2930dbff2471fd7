"""The folder with trainings: those that can go on, and how fast this computer trains."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import write_text
from napari_superanimal.models.zoo import list_models, models_home
from napari_superanimal.plugin.requests import REQUEST_FILE, FinetuneRequest, Run, RunRequest

if TYPE_CHECKING:
    from collections.abc import Callable

#: Written when a training's model has been added to the list: nothing is left to resume.
DONE_FILE = "done"
SPEED_FILE = "speed.json"
COMPARISON_FILE = "compare.json"


def runs_folder() -> Path:
    """Where trainings keep data, checkpoints and logs, beside the user's models."""
    return models_home().parent / "runs"


def check_name(name: str) -> None:
    """Whether a new model may be called so.

    Raises
    ------
    UserError
        If the name is no file name, or taken by a model or by a training that can still be resumed.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", name):
        raise UserError(
            f"{name!r} cannot be a model's name", remedy="use letters, digits, dots, dashes and underscores"
        )
    if any(ref.card.name == name for ref in list_models()):
        raise UserError(f"a model called {name!r} exists already", remedy="choose another name")
    if can_resume(runs_folder() / name):
        raise UserError(
            f"a training called {name!r} was not finished",
            remedy="resume or discard it, or choose another name",
        )


def free_name(wanted: str) -> str:
    """`wanted` made into a name that is not taken yet."""
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-._")[:50] or "my-model"
    taken = {ref.card.name for ref in list_models()}
    if (folder := runs_folder()).is_dir():
        taken |= {entry.name for entry in folder.iterdir()}
    number = 1
    while f"{base}-{number}" in taken:
        number += 1
    return f"{base}-{number}"


def new_run(request: FinetuneRequest) -> None:
    """An empty folder for a training.

    Raises
    ------
    UserError
        As `check_name`, or if the folder cannot be written.
    """
    check_name(request.name)
    shutil.rmtree(request.folder, ignore_errors=True)
    request.save()


def can_resume(folder: Path) -> bool:
    """Whether a training has begun, has a checkpoint and is not finished."""
    return (folder / REQUEST_FILE).is_file() and not (folder / DONE_FILE).exists() and has_checkpoint(folder)


def has_checkpoint(folder: Path) -> bool:
    """Whether training has got so far that there is something to go on from."""
    return any(folder.rglob("*checkpoint*"))


def unfinished_runs() -> list[FinetuneRequest]:
    """Trainings that can be resumed, newest first."""
    return resumable(runs_folder(), FinetuneRequest, can_resume)


def resumable(folder: Path, kind: type[Run], can_go_on: Callable[[Path], bool]) -> list[Run]:
    """Runs of a kind among the subfolders that `can_go_on`, newest first."""
    if not folder.is_dir():
        return []
    found = []
    for entry in sorted(folder.iterdir(), key=lambda e: e.stat().st_mtime, reverse=True):
        if can_go_on(entry):
            try:
                found.append(kind.load(entry))
            except UserError:
                continue
    return found


def discard_run(request: RunRequest) -> None:
    """Delete a run's folder with its checkpoints; data sets outside it are not touched."""
    shutil.rmtree(request.folder, ignore_errors=True)


def finish_run(request: FinetuneRequest) -> None:
    """Note that the model is in the list; checkpoints and the copy of the weights are not needed any more."""
    write_text(Path(request.folder) / DONE_FILE, "")
    shutil.rmtree(request.out, ignore_errors=True)


def keep_comparison(request: FinetuneRequest) -> dict[str, Any]:
    """Keep figures and charts of a finished comparison in the run's folder, drop its models; gives the figures.

    Raises
    ------
    UserError
        If the figures cannot be read.
    """
    folder = Path(request.folder)
    try:
        for path in [*request.out.glob("*.json"), *request.out.glob("*.svg")]:
            shutil.move(path, folder / path.name)
        found: dict[str, Any] = json.loads((folder / COMPARISON_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"the comparison cannot be read ({error})", path=folder, remedy="start it again"
        ) from error
    finish_run(request)
    return found


def remember_speed(model: str, steps_per_s: float) -> None:
    """Keep how fast a model was fine-tuned on this computer; a failure to do so does no harm."""
    speeds = known_speeds()
    speeds[model] = round(steps_per_s, 3)
    try:
        write_text(runs_folder() / SPEED_FILE, json.dumps(speeds))
    except UserError:
        return


def known_speeds() -> dict[str, float]:
    """Steps per second of models that were fine-tuned here before."""
    try:
        data = json.loads((runs_folder() / SPEED_FILE).read_text(encoding="utf-8"))
        return {str(k): float(v) for k, v in data.items() if float(v) > 0}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
