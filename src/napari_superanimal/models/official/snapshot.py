"""Snapshots of the released models: read without running anything in them, compared with their network."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

#: Names written out per kind of misfit; the rest is counted.
NAMED = 3


@dataclass(frozen=True)
class Snapshot:
    """Weights and what their file says about itself.

    Attributes
    ----------
    tensors : dict of str to Tensor
    epoch : int or None
        Of the training.
    """

    tensors: dict[str, Tensor]
    epoch: int | None = None


def read_snapshot(path: Path) -> Snapshot:
    """Weights of a DeepLabCut snapshot (``.pt``), a bare state dict (``.pth``) or a safetensors file.

    Raises
    ------
    UserError
        If the file is absent or damaged, holds anything but weights, or has none.
    """
    if not path.is_file():
        raise UserError("no such file", path=path, remedy="check the path")
    if path.suffix.lower() == ".safetensors":
        return Snapshot(_read_safetensors(path))
    content = _read_pickle(path)
    weights = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not weights:
        raise UserError("holds no weights under 'model'", path=path, remedy="give a DeepLabCut snapshot")
    strange = [str(k) for k, v in weights.items() if not isinstance(v, Tensor)]
    if strange:
        raise UserError(
            f"is no snapshot: {strange[0]!r} is not a tensor", path=path, remedy="give a DeepLabCut snapshot"
        )
    metadata = content.get("metadata") if weights is not content else None
    epoch = metadata.get("epoch") if isinstance(metadata, Mapping) else None
    return Snapshot({str(k): v.detach() for k, v in weights.items()}, None if epoch is None else int(epoch))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"the weights cannot be read ({error})", path=path, remedy="get the file again"
        ) from error


def _numpy_scalars() -> list[Any]:
    """What old snapshots hold besides tensors: their metrics are numpy numbers."""
    core = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = (np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType)
    return [core, (core, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _read_pickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message is a page of advice on how to load it unsafely; what a person needs is one line
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise _damaged(path) from error
        raise UserError(
            f"refused: the file holds more than weights ({found[1]})",
            path=path,
            remedy="take the file from its authors' page; nothing in it was run",
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> UserError:
    return UserError("is no snapshot, or a damaged one", path=path, remedy="get the file again")


def check_fit(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], name: str, path: Path
) -> None:
    """Make sure that weights are exactly those that a network wants.

    Parameters
    ----------
    expected : mapping of str to shape
        From `networks.shapes_of`.
    name : str
        The model that the file was taken for.

    Raises
    ------
    UserError
        Names what is missing, what is too much and what has another shape.
    """
    missing = [k for k in expected if k not in tensors]
    unexpected = [k for k in tensors if k not in expected]
    shaped = [
        f"{k} is {_shape(tensors[k].shape)}, not {_shape(shape)}"
        for k, shape in expected.items()
        if k in tensors and tuple(tensors[k].shape) != shape
    ]
    groups = [("missing", missing), ("unexpected", unexpected), ("of another shape", shaped)]
    parts = [f"{len(names)} {what} ({_some(names)})" for what, names in groups if names]
    if parts:
        raise UserError(
            f"does not fit {name}, of {len(expected)} weights: {'; '.join(parts)}",
            path=path,
            remedy="check that the file is the one that this name stands for",
        )
    broken = [k for k, v in tensors.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if broken:
        raise UserError(
            f"holds numbers that are none ({_some(broken)})", path=path, remedy="get the file again"
        )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape) or "a single number"


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
