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
from napari_superanimal.models.card import CARD_FILE
from napari_superanimal.models.zoo import ModelRef, find_model, import_model, list_models, models_home, sha256

#: A model's zip holds nothing larger; a larger claim is a damaged or hostile file.
LARGEST_MEMBER_BYTES = 4_000_000_000


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


def broken_models() -> dict[str, str]:
    """The user's model folders whose card cannot be read, with what is wrong."""
    home = models_home()
    found = {}
    if home.is_dir():
        names = {ref.folder for ref in list_models()}
        for folder in sorted(home.iterdir()):
            if folder in names or folder.name.startswith(".") or not folder.is_dir():
                continue
            try:
                find_model(folder)
            except UserError as error:
                found[folder.name] = str(error)
    return found


def export_model(model: ModelRef, target: Path, *, overwrite: bool = False) -> Path:
    """Write a model as one zip of its card and weights.

    Raises
    ------
    UserError
        If the model is damaged, or `target` exists and `overwrite` is False, or cannot be written.
    """
    if target.suffix.lower() != ".zip":
        target = target.with_name(f"{target.name}.zip")
    if not overwrite:
        check_new([target])
    bad = [f"{name} is {state}" for name, state in verify_model(model).items() if state != "ok"]
    if bad:
        raise UserError(", ".join(bad), path=model.folder, remedy="install or import the model again")
    folder = file_safe(model.card.name)
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (CARD_FILE, *model.card.sha256):
            archive.write(model.folder / name, f"{folder}/{name}")
    return target


def import_any(path: Path, *, overwrite: bool = False) -> ModelRef:
    """Add a model folder, or the zip that `export_model` wrote, to the user's models.

    Raises
    ------
    UserError
        If it is neither, is damaged, or a model of that name exists.
    """
    if path.is_dir():
        return import_model(path, overwrite=overwrite)
    if not path.is_file():
        raise UserError("no such file or folder", path=path, remedy="check the path")
    if not zipfile.is_zipfile(path):
        raise UserError(
            "not a model: neither a folder with a card.json nor a .zip of one",
            path=path,
            remedy="give a folder that train or finetune wrote, or a .zip from `superanimal models export`",
        )
    with tempfile.TemporaryDirectory(prefix="superanimal-import-") as scratch:
        return import_model(_unpack(path, Path(scratch)), overwrite=overwrite)


def _unpack(path: Path, scratch: Path) -> Path:
    """The one model folder of a zip, unpacked into `scratch`."""
    try:
        with zipfile.ZipFile(path) as archive:
            cards = [m for m in archive.infolist() if Path(m.filename).name == CARD_FILE]
            if len(cards) != 1:
                raise UserError(
                    f"the archive holds {len(cards)} model cards, one was expected",
                    path=path,
                    remedy="import the output of `superanimal models export`",
                )
            folder = cards[0].filename.removesuffix(CARD_FILE)
            for member in archive.infolist():
                name = member.filename.removeprefix(folder)
                # only the files of that folder, under their bare names: a path cannot lead elsewhere
                wanted = member.filename.startswith(folder) and name and "/" not in name and "\\" not in name
                if not wanted or member.is_dir() or member.file_size > LARGEST_MEMBER_BYTES:
                    continue
                with archive.open(member) as packed, open(scratch / name, "wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
    # damage shows as any of these; a RuntimeError is an encrypted archive or an unknown compression
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(f"the archive is damaged ({error})", path=path, remedy="copy it again") from error
    return scratch
