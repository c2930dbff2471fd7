"""Models as files: checking them, and carrying them from one computer to another."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import atomic_path
from napari_superanimal.jobs.outputs import check_new, file_safe
from napari_superanimal.models.card import CARD_FILE, ModelCard, read_card
from napari_superanimal.models.official.catalogue import Release, named_file, release_of_file
from napari_superanimal.models.zoo import (
    ModelRef,
    detector_of,
    find_model,
    import_model,
    list_detectors,
    list_models,
    models_home,
    sha256,
)

#: A model's zip holds nothing larger; a larger claim is a damaged or hostile file.
LARGEST_MEMBER_BYTES = 4_000_000_000
#: Larger files are not compressed.
LARGE_BYTES = 8_000_000
#: Suffixes of snapshots.
SNAPSHOTS = (".pt", ".pth", ".safetensors")


def verify_model(model: ModelRef) -> dict[str, str]:
    """State per weight file: ``ok``, ``missing``, ``changed``; ``unlisted`` for a card without checksums."""
    if not model.card.sha256:
        return {CARD_FILE: "unlisted"}
    states = {}
    for name, expected in model.card.sha256.items():
        path = model.folder / name
        if not path.is_file():
            states[name] = "missing"
        else:
            states[name] = "ok" if sha256(path) == expected else "changed"
    return states


def _readable(model: ModelRef) -> bool:
    """False for one of SuperAnimal's whose folder holds a card that cannot be read."""
    return not model.official or not model.here or bool(model.card.sha256)


def broken_models() -> dict[str, str]:
    """The user's model folders whose card cannot be read, with what is wrong."""
    home = models_home()
    found = {}
    if home.is_dir():
        names = {ref.folder for ref in (*list_models(), *list_detectors()) if _readable(ref)}
        for folder in sorted(home.iterdir()):
            if folder in names or folder.name.startswith(".") or not folder.is_dir():
                continue
            try:
                find_model(folder)
            except UserError as error:
                found[folder.name] = str(error)
    return found


def export_model(model: ModelRef, target: Path, *, overwrite: bool = False) -> Path:
    """Write a model as one zip of its card and weights; a detector that it needs goes with it if it is here.

    Raises
    ------
    UserError
        If the model is not here or damaged, or `target` exists and `overwrite` is False, or cannot be written.
    """
    if target.suffix.lower() != ".zip":
        target = target.with_name(f"{target.name}.zip")
    if not overwrite:
        check_new([target])
    for each in bundle(model):
        if not each.here:
            raise UserError(
                f"the weights of {each.card.name} are not on this computer",
                remedy=f"get them first: superanimal models fetch {each.card.name}",
            )
        bad = [f"{name} is {state}" for name, state in verify_model(each).items() if state != "ok"]
        if bad:
            raise UserError(", ".join(bad), path=each.folder, remedy="install or import the model again")
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in bundle(model):
            folder = file_safe(each.card.name)
            for name in (CARD_FILE, *each.card.sha256):
                file = each.folder / name
                # float32 weights hardly get smaller, and packing them takes long
                packing = zipfile.ZIP_STORED if file.stat().st_size > LARGE_BYTES else zipfile.ZIP_DEFLATED
                archive.write(file, f"{folder}/{name}", packing)
    return target


def bundle(model: ModelRef) -> list[ModelRef]:
    """What a model needs on another computer: itself, and the detector that its card names where that is here."""
    detector = detector_of(model)
    return [model] if detector is None or not detector.here else [model, detector]


def import_any(path: str | Path, *, overwrite: bool = False) -> list[ModelRef]:
    """Add models to the user's: a model folder, the zip that `export_model` wrote, or a snapshot of SuperAnimal's.

    Parameters
    ----------
    path : str or Path
        A folder, a zip, a snapshot whose name tells which model it is, or ``NAME:FILE``.

    Raises
    ------
    UserError
        If it is none of these, is damaged or does not fit, or another model of that name exists.
    """
    named = named_file(str(path))
    if named is not None:
        return [_import_snapshot(*named, overwrite)]
    path = Path(path).expanduser()
    if path.is_dir():
        return [import_model(path, overwrite=overwrite)]
    if not path.is_file():
        raise UserError("no such file or folder", path=path, remedy="check the path")
    if path.suffix.lower() in SNAPSHOTS:
        release = release_of_file(path)
        if release is None:
            raise UserError(
                "which of SuperAnimal's models this is cannot be told from its name",
                path=path,
                remedy=f"say it: superanimal models import superanimal_quadruped_hrnet_w32:{path.name}",
            )
        return [_import_snapshot(release, path, overwrite)]
    if not zipfile.is_zipfile(path):
        raise UserError(
            "not a model: neither a folder with a card.json nor a .zip of one",
            path=path,
            remedy="give a folder that train or finetune wrote, a .zip from `superanimal models export`, "
            "or a snapshot of SuperAnimal (.pt)",
        )
    with tempfile.TemporaryDirectory(prefix="superanimal-import-") as scratch:
        folders = _unpack(path, Path(scratch))
        # all are looked at before the first is kept
        wanted = [folder for folder in folders if len(folders) == 1 or not _same_is_here(folder)]
        if not overwrite:
            for folder in wanted:
                refuse_taken(read_card(folder))
        imported = {folder: import_model(folder, overwrite=overwrite) for folder in wanted}
        return [imported.get(folder) or find_model(read_card(folder).name) for folder in folders]


def _same_is_here(folder: Path) -> bool:
    """Whether the very same weights are among the user's models: a bundle's detector often is."""
    card = read_card(folder)
    there = models_home() / card.name
    return (there / CARD_FILE).is_file() and read_card(there).sha256 == card.sha256


def refuse_taken(card: ModelCard) -> None:
    """Make sure that no model of the user has this card's name.

    Raises
    ------
    UserError
        If one has.
    """
    target = models_home() / card.name
    if target.exists():
        raise UserError(
            f"a model called {card.name!r} exists already",
            path=target,
            remedy="pass --overwrite to replace it",
        )


def _import_snapshot(release: Release, path: Path, overwrite: bool) -> ModelRef:
    from napari_superanimal.models.official.install import install

    return install(release, path, {}, overwrite=overwrite)


def _unpack(path: Path, scratch: Path) -> list[Path]:
    """The model folders of a zip, unpacked into folders of `scratch`."""
    made = []
    try:
        with zipfile.ZipFile(path) as archive:
            cards = [m for m in archive.infolist() if Path(m.filename).name == CARD_FILE]
            if not 1 <= len(cards) <= 2:
                raise UserError(
                    f"the archive holds {len(cards)} model cards, one was expected, or two",
                    path=path,
                    remedy="import the output of `superanimal models export`",
                )
            for number, card in enumerate(cards):
                target = scratch / str(number)
                target.mkdir()
                _unpack_folder(archive, card.filename.removesuffix(CARD_FILE), target)
                made.append(target)
    # damage shows as any of these; a RuntimeError is an encrypted archive or an unknown compression
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"the archive is damaged ({error})", path=path, remedy="copy it again") from error
    return made


def _unpack_folder(archive: zipfile.ZipFile, folder: str, target: Path) -> None:
    for member in archive.infolist():
        name = member.filename.removeprefix(folder)
        # only the files of that folder, under their bare names: a path cannot lead elsewhere
        wanted = member.filename.startswith(folder) and name and "/" not in name and "\\" not in name
        if not wanted or member.is_dir() or member.file_size > LARGEST_MEMBER_BYTES:
            continue
        with archive.open(member) as packed, open(target / name, "wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
