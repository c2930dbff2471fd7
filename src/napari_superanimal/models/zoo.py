"""Which models there are: those shipped with the package, SuperAnimal's own, and those the user made or imported."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import unwritable
from napari_superanimal.models.card import CARD_FILE, DETECTOR_FILE, POSE_FILE, ModelCard, read_card
from napari_superanimal.models.official.catalogue import (
    RELEASES,
    Release,
    card_of,
    find_release,
    named_file,
)

HOME_VARIABLE = "SUPERANIMAL_HOME"
DEFAULT_MODEL = "mouse-topview-mini"


@dataclass(frozen=True)
class ModelRef:
    """A model's card and the folder its weights are in."""

    card: ModelCard
    folder: Path

    @property
    def shipped(self) -> bool:
        """Comes with the package (and cannot be removed)."""
        return self.folder.parent == _shipped_folder()

    @property
    def official(self) -> bool:
        """One of the released SuperAnimal networks, or fine-tuned from one."""
        return bool(self.card.official)

    @property
    def here(self) -> bool:
        """On this computer; a released model that is not can be fetched."""
        return (self.folder / CARD_FILE).is_file()


def models_home() -> Path:
    """Folder of the user's own models; the environment variable SUPERANIMAL_HOME moves it."""
    chosen = os.environ.get(HOME_VARIABLE)
    base = Path(chosen).expanduser() if chosen else user_data_path("napari-superanimal", appauthor=False)
    return base / "models"


def cache_home() -> Path:
    """Folder of what can be made again: converted weights and networks; SUPERANIMAL_HOME moves it too."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser() / "cache"
    return user_cache_path("napari-superanimal", appauthor=False)


def _shipped_folder() -> Path:
    return Path(__file__).parent / "weights"


def list_models() -> list[ModelRef]:
    """Models that find keypoints: the shipped ones, SuperAnimal's (also where their weights are not here yet),
    the user's by name. A folder with a broken card is left out; `find_model` says what is wrong with it."""
    own = [ref for ref in _in_folder(models_home()) if ref.card.pose]
    found = {ref.card.name: ref for ref in (*_in_folder(_shipped_folder()), *_official("pose"))}
    for ref in own:
        found.setdefault(ref.card.name, ref)
    return list(found.values())


def list_detectors() -> list[ModelRef]:
    """Models that only find boxes: SuperAnimal's detectors, whether their weights are here or not."""
    return _official("detector")


def _in_folder(base: Path) -> list[ModelRef]:
    """The models of a folder whose cards can be read, by name."""
    found = []
    for folder in sorted(base.iterdir()) if base.is_dir() else ():
        if (folder / CARD_FILE).is_file():
            with contextlib.suppress(UserError):
                found.append(ModelRef(read_card(folder), folder))
    return found


def _official(kind: str) -> list[ModelRef]:
    found = []
    for release in RELEASES:
        if release.kind == kind:
            ref = ModelRef(card_of(release), models_home() / release.name)
            with contextlib.suppress(UserError):
                ref = official_model(release)
            found.append(ref)
    return found


def official_model(release: Release) -> ModelRef:
    """A released network: with the card of its weights if they are here, else with what is known beforehand.

    Raises
    ------
    UserError
        If its folder holds a broken card, or another model.
    """
    folder = models_home() / release.name
    if not (folder / CARD_FILE).is_file():
        return ModelRef(card_of(release), folder)
    card = read_card(folder)
    if card.official != release.name or card.parent:
        raise UserError(
            f"a model of yours has the name of SuperAnimal's {release.name}",
            path=folder,
            remedy="give it another name in its card.json, and its folder too",
        )
    return ModelRef(card, folder)


def find_model(name: str | Path, *, dataset: str = "") -> ModelRef:
    """A model by name, by the folder that train or finetune wrote, or as ``NAME:FILE`` with a snapshot of SuperAnimal.

    Parameters
    ----------
    dataset : str
        A SuperAnimal whose detectors may be named without it (``fasterrcnn_resnet50_fpn_v2``).

    Raises
    ------
    UserError
        If there is no such model, naming those there are; or if the snapshot is unsafe or does not fit.
    """
    if (named := named_file(str(name), dataset)) is not None:
        from napari_superanimal.models.official.install import cached

        return cached(*named)
    if (release := find_release(str(name), dataset)) is not None:
        return official_model(release)
    for ref in list_models():
        if ref.card.name == str(name):
            return ref
    folder = Path(name).expanduser()
    if folder.is_dir():
        return ModelRef(read_card(folder), folder)
    if (models_home() / str(name)).is_dir():
        return ModelRef(read_card(models_home() / str(name)), models_home() / str(name))
    names = ", ".join(ref.card.name for ref in list_models())
    raise UserError(
        f"no model is called {str(name)!r}", remedy=f"use one of: {names}; or give a model folder"
    )


def detector_of(model: ModelRef) -> ModelRef | None:
    """The detector that a model's card names; None where it is a part of the model, or there is none.

    Raises
    ------
    UserError
        If there is no detector of that name.
    """
    name = model.card.detector.get("name")
    return find_model(str(name)) if name else None


def import_model(folder: Path, *, overwrite: bool = False) -> ModelRef:
    """Copy a model folder among the user's models.

    Raises
    ------
    UserError
        If it is no model, its files do not match its card, its names are no plain names, or a model of that name
        exists already.
    """
    card = read_card(folder)
    _require_plain_names(card, folder)
    verify(ModelRef(card, folder))
    if any(ref.card.name == card.name and ref.shipped for ref in list_models()):
        raise UserError(
            f"{card.name!r} is the name of a model that comes with the package",
            path=folder,
            remedy="give the model another name in its card.json",
        )
    if card.parent and find_release(card.name) is not None:
        raise UserError(
            f"{card.name!r} is the name of a model of SuperAnimal's",
            path=folder,
            remedy="give the model another name in its card.json",
        )
    target = models_home() / card.name
    if target.resolve() == folder.resolve():
        return ModelRef(card, folder)
    if target.exists() and not overwrite:
        raise UserError(
            f"a model called {card.name!r} exists already",
            path=target,
            remedy="pass --overwrite to replace it",
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=".import-"))
        try:
            for name in (CARD_FILE, *card.sha256):
                shutil.copyfile(folder / name, staging / name)
            if target.exists():
                shutil.rmtree(target)
            staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise unwritable(target, error) from error
    return ModelRef(read_card(target), target)


def _require_plain_names(card: ModelCard, folder: Path) -> None:
    """Cards come from other people: nothing in them may lead out of the folders that are copied.

    Raises
    ------
    UserError
        If the model's name or a file's is a path, or the weights have no checksum.
    """
    for name in (card.name, *card.sha256):
        if not name or name.startswith(".") or any(c in name for c in "/\\:"):
            raise UserError(
                f"{name!r} is no name for a model or its file",
                path=folder / CARD_FILE,
                remedy="use letters, digits and hyphens, without folders",
            )
    if not {POSE_FILE, DETECTOR_FILE} & card.sha256.keys():
        raise UserError(
            "the card has no checksum of the weights",
            path=folder / CARD_FILE,
            remedy="export the model again",
        )


def sha256(path: Path) -> str:
    """Checksum of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def verify(ref: ModelRef) -> None:
    """Check that a model's weight files are the ones its card names.

    Raises
    ------
    UserError
        If a file is missing or has changed.
    """
    for name, expected in ref.card.sha256.items():
        path = ref.folder / name
        if not path.is_file():
            raise UserError(
                "the weight file is missing", path=path, remedy="install or import the model again"
            )
        if sha256(path) != expected:
            raise UserError(
                "the weight file does not match its card (damaged or exchanged)",
                path=path,
                remedy="install or import the model again",
            )
