"""Layer metadata that napari-deeplabcut writes and understands; everything else of ours has its own key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from napari_superanimal.poses import SINGLE, Poses

#: Our own part of a layer's metadata.
OURS = "superanimal"
#: What the axes of our layers are called; napari writes the first one beside its slider.
AXES = ("frame", "y", "x")


def dlc_metadata(poses: Poses, kind: str, name: str, source: Path | None) -> dict[str, Any]:
    """Header, paths and provenance the way napari-deeplabcut expects them.

    Parameters
    ----------
    kind : str
        "labels" or "predictions".
    name : str
        The layer's name.
    source : Path or None
        File the poses came from.
    """
    metadata: dict[str, Any] = {"header": header(poses, kind), "name": name}
    if poses.images:
        metadata["paths"] = list(poses.images)
    root = poses.root or (source.parent if source is not None else None)
    if root is not None:
        metadata["root"] = str(root)
    if source is not None:
        metadata["io"] = {
            "schema_version": 1,
            "project_root": str(root),
            "source_relpath_posix": relative(source, root),
            "kind": "gt" if kind == "labels" else "machine",
            "dataset_key": "df_with_missing",
        }
    return metadata


def header(poses: Poses, kind: str) -> dict[str, Any]:
    """Column tuples of the DeepLabCut table that the poses would make."""
    several = poses.individuals != (SINGLE,)
    coords = ("x", "y", "likelihood") if kind == "predictions" else ("x", "y")
    scorer = poses.scorer or "superanimal"
    names = ["scorer", *(["individuals"] if several else []), "bodyparts", "coords"]
    columns = [
        (scorer, *([individual] if several else []), keypoint, coord)
        for individual in poses.individuals
        for keypoint in poses.keypoints
        for coord in coords
    ]
    return {"columns": columns, "names": names}


def read_header(metadata: Mapping[str, Any]) -> tuple[str, list[str], list[str]]:
    """Scorer, individuals and keypoints of a foreign layer's header, in order; empty when it has none."""
    found = metadata.get("header")
    columns = found.get("columns") if isinstance(found, Mapping) else getattr(found, "columns", None)
    if columns is None:
        return "", [], []
    tuples: Sequence[tuple[str, ...]] = [tuple(map(str, column)) for column in columns]
    scorers = list(dict.fromkeys(c[0] for c in tuples if len(c) >= 3))
    individuals = list(dict.fromkeys(c[1] for c in tuples if len(c) == 4))
    keypoints = list(dict.fromkeys(c[-2] for c in tuples if len(c) >= 3))
    return (scorers[0] if scorers else ""), individuals, keypoints


def relative(path: Path, root: Path | None) -> str:
    """`path` relative to `root` with forward slashes, absolute when it lies elsewhere."""
    try:
        inside = path.relative_to(root) if root is not None else path
    except ValueError:
        inside = path
    return str(PurePosixPath(inside.as_posix()))
