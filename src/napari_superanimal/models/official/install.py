"""From a snapshot to a model folder: converted once, with checksums of what came and of what it became."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.files import atomic_path
from napari_superanimal.models.card import CARD_FILE, DETECTOR_FILE, POSE_FILE, read_card, write_card
from napari_superanimal.models.official.build import build, build_detector
from napari_superanimal.models.official.catalogue import Release, card_of
from napari_superanimal.models.official.networks import shapes_of
from napari_superanimal.models.official.snapshot import check_fit, read_snapshot
from napari_superanimal.models.zoo import ModelRef, cache_home, models_home, sha256, verify

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


def weights_file(release: Release) -> str:
    """Name of the weights in a model folder."""
    return POSE_FILE if release.kind == "pose" else DETECTOR_FILE


def snapshots_home() -> Path:
    """Folder of converted snapshots that were named on the command line, one folder per content."""
    return cache_home() / "snapshots"


def install(release: Release, path: Path, source: dict[str, Any], *, overwrite: bool = False) -> ModelRef:
    """Convert a snapshot into the user's models.

    Parameters
    ----------
    path : Path
        The snapshot, or a safetensors file with the same weights.
    source : dict
        Where the file comes from (repository, revision); its name, checksum and the date are added.
    overwrite : bool
        Replace weights of this name that came from another file.

    Raises
    ------
    UserError
        If the file is unsafe, damaged or does not fit; if the model is here already from a file with another
        checksum and `overwrite` is False; or if nothing can be written.
    """
    digest = sha256(_existing(path))
    target = models_home() / release.name
    here = _installed(target)
    if here is not None and not overwrite:
        if here.card.source.get("sha256") == digest:
            verify(here)
            return here
        raise UserError(
            f"{release.name} is here already, from a file with another checksum "
            f"({here.card.source.get('sha256', '?')[:12]}..., this one has {digest[:12]}...)",
            path=path,
            remedy="pass --overwrite if the new file is the one you trust",
        )
    return convert(release, path, target, {**source, "sha256": digest})


def cached(release: Release, path: Path) -> ModelRef:
    """A snapshot that was named as ``NAME:FILE``, converted at its first use.

    Raises
    ------
    UserError
        As `install`.
    """
    digest = sha256(_existing(path))
    folder = snapshots_home() / f"{release.name}-{digest[:16]}"
    here = _installed(folder)
    if here is not None and here.card.source.get("sha256") == digest:
        try:
            verify(here)
        except UserError:
            shutil.rmtree(folder, ignore_errors=True)  # only a copy: made anew from the file
        else:
            return here
    return convert(release, path, folder, {"sha256": digest})


def convert(release: Release, path: Path, folder: Path, source: dict[str, Any]) -> ModelRef:
    """Write a model folder from a snapshot: weights as safetensors, as precise as they are, and the card.

    Raises
    ------
    UserError
        If the file is unsafe, damaged or does not fit, or the folder cannot be written.
    """
    snapshot = read_snapshot(path)
    tensors = _from_coco(release, path, snapshot.tensors) if release.coco else snapshot.tensors
    check_fit(tensors, shapes_of(build(release)), release.name, path)
    name = weights_file(release)
    with atomic_path(folder / name) as temporary:
        # clones: a snapshot may keep several tensors in one block of memory, which safetensors refuses
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, temporary)
    source = {
        **source,
        "file": path.name,
        "epoch": snapshot.epoch,
        "converted": datetime.now(UTC).date().isoformat(),
    }
    card = replace(card_of(release), sha256={name: sha256(folder / name)}, source=source)
    write_card(card, folder)
    return ModelRef(card, folder)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError("no such file", path=path, remedy="check the path")
    return path


def _installed(folder: Path) -> ModelRef | None:
    return ModelRef(read_card(folder), folder) if (folder / CARD_FILE).is_file() else None


def _from_coco(release: Release, path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's own weights under the names of today's torchvision, which renamed some of their layers."""
    if all(name.startswith("model.") for name in tensors):
        return tensors  # converted before
    network = build_detector(release)
    try:
        with torch.no_grad():
            network.model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"does not fit {release.name}: {reason}", path=path, remedy="take torchvision's own file"
        ) from error
    return network.state_dict()
