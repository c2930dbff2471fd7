"""The folder with adaptations: those that can go on, what came of the others, keeping and reverting."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.adapt import REQUEST
from napari_superanimal.jobs.adapt_outcome import KEPT, OUTCOME, keep, read_outcome, revert
from napari_superanimal.models import zoo
from napari_superanimal.plugin import runs
from napari_superanimal.plugin.requests import REQUEST_FILE, AdaptRequest

if TYPE_CHECKING:
    from napari_superanimal.poses import Poses


@dataclass(frozen=True)
class Finished:
    """A finished adaptation.

    Attributes
    ----------
    request : AdaptRequest
    outcome : dict
        ``proof.json``.
    """

    request: AdaptRequest
    outcome: dict[str, Any]

    @property
    def kept(self) -> bool:
        return bool(self.outcome["decision"] == KEPT)

    @property
    def trained(self) -> bool:
        """False where the starting model's own predictions gave nothing to learn from: there is no adapted model."""
        return bool(self.outcome.get("trained", True))

    @property
    def frames(self) -> int:
        """Held-out frames."""
        return int(self.outcome["proofs"][0]["frames"])

    def predictions(self) -> tuple[Poses, Poses]:
        """Held-out frames as the starting and as the adapted model sees them.

        Raises
        ------
        UserError
            If they cannot be read.
        """
        from napari_superanimal.poses.formats import registry

        paths = [self.request.out / name for name in self.outcome["files"] if name.endswith(".h5")]
        if not self.outcome.get("trained", True):
            paths *= 2  # nothing was trained, so nothing changed
        if len(paths) < 2:
            raise UserError(
                "the predictions before and after are not there",
                path=self.request.out,
                remedy="adapt the model again",
            )
        before, after = (registry.read(path) for path in paths[:2])
        return before, after


def home() -> Path:
    """Where adaptations keep checkpoints, proofs and logs, beside the user's models."""
    return zoo.models_home().parent / "adaptations"


def free_name(model: str, video: str) -> str:
    """A name for `model` adapted to `video` that no model and no adaptation has."""
    name = runs.free_name(f"{model}-{Path(video).stem}")
    while (home() / name).exists():
        base, _, number = name.rpartition("-")
        name = f"{base}-{int(number) + 1}"
    return name


def start(request: AdaptRequest) -> None:
    """An empty folder for an adaptation.

    Raises
    ------
    UserError
        If the name is taken, or the folder cannot be written.
    """
    runs.check_name(request.name)
    if can_resume(Path(request.folder)) or (request.out / OUTCOME).exists():
        raise UserError(
            f"an adaptation called {request.name!r} exists already",
            remedy="resume or discard it, or choose another name",
        )
    shutil.rmtree(request.folder, ignore_errors=True)
    request.save()


def can_resume(folder: Path) -> bool:
    """Whether an adaptation has begun and is not finished."""
    name = folder.name
    return (
        (folder / REQUEST_FILE).is_file()
        and (folder / name / REQUEST).is_file()
        and not (folder / name / OUTCOME).exists()
    )


def unfinished() -> list[AdaptRequest]:
    """Adaptations that can be resumed, newest first."""
    return runs.resumable(home(), AdaptRequest, can_resume)


def conclude(request: AdaptRequest) -> Finished:
    """Read what came of an adaptation; a model that was kept joins the list.

    Raises
    ------
    UserError
        If the proof or the model cannot be read.
    """
    found = Finished(request, read_outcome(request.out))
    if found.kept:
        zoo.import_model(request.out, overwrite=True)
    return found


def keep_it(found: Finished) -> Finished:
    """The adapted model into the list, whatever the proof says.

    Raises
    ------
    UserError
        If a folder cannot be written.
    """
    keep(found.request.out)
    return conclude(found.request)


def revert_it(found: Finished) -> Finished:
    """The adapted model out of use and out of the list.

    Raises
    ------
    UserError
        If a folder cannot be written.
    """
    revert(found.request.out)
    return conclude(found.request)
