"""Poses to napari layers and back. No viewer, no Qt: plain data, so that everything here is easy to test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import load_space
from napari_superanimal.plugin.conventions import AXES, OURS, dlc_metadata, read_header
from napari_superanimal.plugin.store import PointTable, PoseStore, codes
from napari_superanimal.plugin.style import (
    individual_colors,
    keypoint_colors,
    looks,
    point_size,
    text_style,
)
from napari_superanimal.poses import LABELLED, SINGLE, UNLABELLED, Poses, make_poses

LayerTuple = tuple[Any, dict[str, Any], str]

#: Up to here one ordinary Points layer holds all points; measured, see benchmarks/scrub.py.
ORDINARY_LIMIT = 150_000
#: About so many points are in a window around the playhead when there are more.
WINDOW_POINTS = 6_000
#: Frames on each side of the playhead whose skeletons and boxes are drawn.
OVERLAY_HALF = 12
#: Points of a plain layer that do not say what they are.
UNNAMED = "point"


def poses_to_layers(
    poses: Poses,
    *,
    name: str,
    space: str = "",
    model: str = "",
    video: Path | None = None,
    source: Path | None = None,
    kind: str | None = None,
    threshold: float | None = None,
    visible: bool = True,
) -> list[LayerTuple]:
    """Points, skeleton and boxes of `poses`, as napari LayerData tuples in drawing order.

    Parameters
    ----------
    poses : Poses
    name : str
        Of the Points layer; skeleton and boxes append to it.
    space : str
        Keypoint space: gives colours, and a skeleton when `poses` has none.
    model : str
        Name of the model that predicted, for provenance.
    video : Path, optional
        The video the frames belong to.
    source : Path, optional
        File the poses were read from.
    kind : {"labels", "predictions"}, optional
        Default: "labels" when every keypoint was placed by a person or the rows are images.
    threshold : float, optional
        Likelihood below which a point is doubtful; default 0.6, or what the poses' metadata say.

    Returns
    -------
    list of (data, attributes, layer type)
        Boxes only when there are any, a skeleton only when it is known; the Points layer comes last, on top.
        All share one `PoseStore` in ``metadata["superanimal"]["store"]``.
    """
    if kind is None:
        kind = _kind_of(poses)
    space = space or str(poses.metadata.get("space", ""))
    cut = float(poses.metadata.get("threshold", 0.6)) if threshold is None else threshold
    info = {
        "kind": kind,
        "model": model or str(poses.metadata.get("model", "")),
        "video": str(video or poses.metadata.get("video", "") or ""),
        "space": space,
        "source": str(source or ""),
    }
    if not poses.skeleton:
        poses = replace(poses, skeleton=skeleton_of(poses.keypoints, space))
    store = PoseStore(poses, threshold=cut, info=info)
    size = point_size(poses)
    store.info["size"] = size
    frame = first_frame(store)
    if store.n_points > ORDINARY_LIMIT:
        store.view = window(store, frame)

    shared = {"visible": visible, "blending": "translucent", "axis_labels": AXES}
    around = overlay_frames(store, frame)
    out: list[LayerTuple] = []
    if np.isfinite(poses.boxes).all(-1).any():
        vectors, attrs = boxes(store, around)
        # hidden until asked for: boxes clutter the animal, and a hidden layer costs no time
        attrs |= shared | {"name": f"{name} boxes", "metadata": _role("boxes", store), "visible": False}
        out.append((vectors, attrs, "vectors"))
    if poses.skeleton:
        vectors, attrs = skeleton(store, around)
        attrs |= shared | {"name": f"{name} skeleton", "metadata": _role("skeleton", store)}
        out.append((vectors, attrs, "vectors"))
    data, attrs = points(store)
    attrs |= shared | {
        "name": name,
        "size": size,
        "border_width_is_relative": True,
        "text": text_style(poses.individuals != (SINGLE,)),
        "feature_defaults": defaults(store),
        "metadata": {**dlc_metadata(poses, kind, name, source), **_role("points", store)},
    }
    out.append((data, attrs, "points"))
    return out


def layer_to_poses(layer: Any) -> Poses:
    """Poses of a Points layer: the exact inverse of `poses_to_layers`, edits included.

    Parameters
    ----------
    layer : napari.layers.Points or (data, attributes) or (data, attributes, "points")
        One of ours, one made by napari-deeplabcut, or any Points layer of (frame, y, x) whose features may
        have ``label``, ``id`` and ``likelihood``.

    Returns
    -------
    Poses
        Independent of the layer: further edits do not change it.

    Raises
    ------
    UserError
        If the layer is not two-dimensional over time.
    """
    return layer_store(layer).poses


def layer_store(layer: Any) -> PoseStore:
    """A copy of the store behind a layer with the layer's present points taken over; see `layer_to_poses`."""
    data, attrs = layer_parts(layer)
    metadata = attrs.get("metadata") or {}
    store = (metadata.get(OURS) or {}).get("store")
    if not isinstance(store, PoseStore):
        return PoseStore(foreign_poses(data, attrs), info={"kind": foreign_kind(metadata)})
    fresh = store.copy()
    fresh.reconcile(point_table(data, attrs), fresh.view)
    return fresh


def layer_parts(layer: Any) -> tuple[npt.NDArray[np.float64], Mapping[str, Any]]:
    """Data and attributes of a layer, or of the tuple that napari hands to a writer."""
    if isinstance(layer, tuple):
        data, attrs = layer[0], layer[1]
    else:
        data = layer.data
        attrs = {"features": layer.features, "metadata": layer.metadata, "name": layer.name}
    return np.asarray(data, np.float64), attrs


def point_table(data: npt.NDArray[np.float64], attrs: Mapping[str, Any]) -> PointTable:
    """The layer's points with their names.

    Raises
    ------
    UserError
        If points have neither two nor three coordinates.
    """
    if data.ndim != 2 or data.shape[1] not in (2, 3):
        if data.size == 0:
            data = np.zeros((0, 3))
        else:
            raise UserError(
                f"points have {data.shape[-1]} coordinates",
                remedy="use a points layer over one video or image stack: (frame, y, x)",
            )
    n = len(data)
    features = attrs.get("features")
    if features is None:
        features = attrs.get("properties") or {}
    table = pd.DataFrame(features) if not isinstance(features, pd.DataFrame) else features

    def column(name: str, default: Any, dtype: Any) -> npt.NDArray[Any]:
        if name not in table or len(table) != n:
            return np.full(n, default, dtype)
        return table[name].to_numpy().astype(dtype)

    def names(name: str, default: str) -> npt.NDArray[np.object_]:
        if name not in table or len(table) != n:
            return np.full(n, default, object)
        given = table[name]
        text = given.astype(object).to_numpy()
        absent = given.isna().to_numpy()
        return np.where(absent, default, text) if absent.any() else text

    label = names("label", UNNAMED)
    frames = np.zeros(n, np.int64)
    if data.shape[1] == 3:
        finite = np.where(np.isfinite(data[:, 0]), data[:, 0], 0)
        frames = np.rint(finite).astype(np.int64)
    if "label" not in table and n:
        label = numbered(frames)
    return PointTable(
        frames=frames,
        xy=data[:, [-1, -2]],
        keypoint=label,
        individual=names("id", SINGLE),
        likelihood=column("likelihood", np.nan, np.float64),
        human=column("human", False, bool),
    )


def numbered(frames: npt.NDArray[np.int64]) -> npt.NDArray[np.object_]:
    """Names for points that have none: point1, point2, ... anew in every frame."""
    order = np.argsort(frames, kind="stable")
    _, starts, counts = np.unique(frames[order], return_index=True, return_counts=True)
    rank = np.arange(len(frames)) - np.repeat(starts, counts)
    out = np.empty(len(frames), object)
    out[order] = [f"{UNNAMED}{i + 1}" for i in rank]
    return out


def foreign_poses(data: npt.NDArray[np.float64], attrs: Mapping[str, Any]) -> Poses:
    """Poses of a layer that another plugin or the user made."""
    metadata = attrs.get("metadata") or {}
    table = point_table(data, attrs)
    scorer, individuals, keypoints = read_header(metadata)
    individuals = list(dict.fromkeys((*individuals, *table.individual.tolist()))) or [SINGLE]
    keypoints = list(dict.fromkeys((*keypoints, *table.keypoint.tolist())))
    paths = [str(p).replace("\\", "/") for p in (metadata.get("paths") or ())]
    frames = np.arange(len(paths)) if paths else np.unique(table.frames)
    keep = np.isfinite(table.xy).all(-1) & np.isin(table.frames, frames)
    t = np.searchsorted(frames, table.frames[keep])
    a = codes(table.individual[keep], individuals)
    k = codes(table.keypoint[keep], keypoints)
    xy = np.full((len(frames), len(individuals), len(keypoints), 2), np.nan)
    likelihood = np.full(xy.shape[:3], np.nan)
    human = np.zeros(xy.shape[:3], bool)
    xy[t, a, k] = table.xy[keep]
    # without a likelihood it is a person's point
    given = table.likelihood[keep]
    likelihood[t, a, k] = np.where(np.isnan(given), 1.0, given)
    human[t, a, k] = table.human[keep] | np.isnan(given) | (foreign_kind(metadata) == "labels")
    root = metadata.get("root")
    return make_poses(
        keypoints,
        xy,
        frames=frames,
        individuals=individuals,
        likelihood=likelihood,
        visibility=np.where(np.isfinite(xy).all(-1), LABELLED, UNLABELLED),
        human=human,
        images=tuple(paths),
        root=Path(root) if root and paths else None,
        scorer=scorer,
    )


def foreign_kind(metadata: Mapping[str, Any]) -> str:
    """Labels or predictions: a foreign layer's ``io`` says so, else it holds labels if it lists images."""
    io = metadata.get("io")
    given = io.get("kind") if isinstance(io, Mapping) else getattr(io, "kind", None)
    kind = str(getattr(given, "value", given))
    if kind in ("gt", "machine"):
        return "labels" if kind == "gt" else "predictions"
    return "labels" if metadata.get("paths") else "predictions"


def points(store: PoseStore) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
    """Data (N, 3) and the attributes that depend on it, of what the store has in view."""
    table = store.table(store.view)
    poses = store.poses
    features = pd.DataFrame(
        {
            "label": pd.Categorical(table.keypoint, categories=list(poses.keypoints)),
            "id": pd.Categorical(table.individual, categories=list(poses.individuals)),
            "likelihood": table.likelihood,
            "human": table.human,
        }
    )
    if (risk := store.risk(*store.cells(store.view))) is not None:
        features["swap_risk"] = risk
    # one column after the other in memory: napari asks for the extent of every column at every step, which is
    # eight times faster this way
    data = np.empty((len(table), 3), np.float64, order="F")
    data[:, 0], data[:, 1], data[:, 2] = table.frames, table.xy[:, 1], table.xy[:, 0]
    colors = keypoint_colors(poses.keypoints, str(store.info.get("space", "")))
    look = looks(colors[features["label"].cat.codes], table.likelihood, table.human, store.threshold)
    attrs: dict[str, Any] = {
        "ndim": 3,
        "features": features,
        "face_color": look.face if len(data) else "white",
        "border_color": look.border if len(data) else "black",
        "symbol": look.symbol if len(data) else "disc",
        "border_width": look.width if len(data) else 0.1,
    }
    return data, attrs


def skeleton(store: PoseStore, frames: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
    """Vectors (M, 2, 3) of the skeleton in some frames: edges whose ends are both above the threshold."""
    poses = store.poses
    rows = store.rows(frames)
    rows = rows[rows >= 0]
    index = {name: i for i, name in enumerate(poses.keypoints)}
    edges = np.array([(index[a], index[b]) for a, b in poses.skeleton if a in index and b in index], np.int64)
    edges = edges.reshape(-1, 2)
    sure = (poses.found[rows]) & ~(poses.likelihood[rows] < store.threshold)
    t, a, e = np.nonzero(sure[..., edges[:, 0]] & sure[..., edges[:, 1]])
    start = poses.xy[rows[t], a, edges[e, 0]]
    end = poses.xy[rows[t], a, edges[e, 1]]
    data = np.zeros((len(t), 2, 3))
    data[:, 0, 0] = poses.frames[rows[t]]
    data[:, 0, 1:] = start[:, ::-1]
    data[:, 1, 1:] = (end - start)[:, ::-1]
    colors = individual_colors(len(poses.individuals))
    return data, {
        "ndim": 3,
        "edge_color": colors[a] if len(t) else "white",
        "edge_width": max(0.8, 0.25 * float(store.info.get("size", 8.0))),
        "vector_style": "line",
    }


def boxes(store: PoseStore, frames: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
    """Vectors (4 M, 2, 3), the sides of the M boxes in some frames.

    Sides instead of a Shapes layer's rectangles: measured, Shapes cost twice as much per step of the slider.
    """
    poses = store.poses
    rows = store.rows(frames)
    rows = rows[rows >= 0]
    t, a = np.nonzero(np.isfinite(poses.boxes[rows]).all(-1))
    x, y, w, h = poses.boxes[rows[t], a].T.reshape(4, -1)
    zero = np.zeros_like(x)
    frame = poses.frames[rows[t]].astype(np.float64)
    sides = [(y, x, zero, w), (y, x + w, h, zero), (y + h, x + w, zero, -w), (y + h, x, -h, zero)]
    data = np.stack(
        [
            np.stack([np.stack([frame, sy, sx], -1), np.stack([zero, dy, dx], -1)], 1)
            for sy, sx, dy, dx in sides
        ],
        1,
    ).reshape(-1, 2, 3)
    colors = individual_colors(len(poses.individuals))
    return data, {
        "ndim": 3,
        "edge_color": np.repeat(colors[a], 4, axis=0) if len(t) else "white",
        "edge_width": max(0.8, 0.2 * float(store.info.get("size", 8.0))),
        "vector_style": "line",
    }


def window(store: PoseStore, frame: int) -> npt.NDArray[np.int64]:
    """Frames to show around `frame` when there are too many points for one layer.

    The first and the last frame are always among them, so that the slider keeps its whole range.
    """
    frames = store.poses.frames
    return np.unique(np.concatenate([frames[:1], near(store, frame, window_half(store)), frames[-1:]]))


def window_half(store: PoseStore) -> int:
    """Frames on each side of the playhead in a window of about `WINDOW_POINTS` points."""
    per_frame = max(1, store.n_points // max(1, len(store.poses)))
    return int(np.clip(WINDOW_POINTS // (2 * per_frame), 5, 200))


def overlay_frames(store: PoseStore, frame: int) -> npt.NDArray[np.int64]:
    """Frame numbers around the playhead whose skeletons and boxes are drawn."""
    return near(store, frame, OVERLAY_HALF)


def near(store: PoseStore, frame: int, half: int) -> npt.NDArray[np.int64]:
    """Frame numbers of the table within `half` of `frame`."""
    frames = store.poses.frames
    return frames[(frames >= frame - half) & (frames <= frame + half)]


def first_frame(store: PoseStore) -> int:
    """Frame number of the first row; 0 for an empty table."""
    return int(store.poses.frames[0]) if len(store.poses) else 0


def defaults(store: PoseStore, keypoint: str | None = None, individual: str | None = None) -> pd.DataFrame:
    """One row: the features that the next added point gets."""
    poses = store.poses
    keypoints, individuals = list(poses.keypoints), list(poses.individuals)
    first = keypoints[0] if keypoints else None
    followed = isinstance(poses.metadata.get("swap_risk"), Mapping)
    columns = {"swap_risk": np.zeros(1, np.float32)} if followed else {}
    return pd.DataFrame(
        {
            "label": pd.Categorical([keypoint if keypoint is not None else first], categories=keypoints),
            "id": pd.Categorical([individual if individual is not None else individuals[0]], individuals),
            "likelihood": [1.0],
            "human": [True],
            **columns,
        }
    )


def skeleton_of(keypoints: tuple[str, ...], space: str) -> tuple[tuple[str, str], ...]:
    """The part of a space's skeleton whose keypoints exist here."""
    if not space:
        return ()
    try:
        edges = load_space(space).skeleton
    except UserError:
        return ()
    return tuple((a, b) for a, b in edges if a in keypoints and b in keypoints)


def _kind_of(poses: Poses) -> str:
    dlc = poses.metadata.get("dlc")
    if isinstance(dlc, Mapping) and dlc.get("kind") in ("labels", "predictions"):
        return str(dlc["kind"])
    found = poses.found
    by_hand = bool(found.any() and poses.human[found].all())
    return "labels" if poses.images or by_hand else "predictions"


def _role(role: str, store: PoseStore) -> dict[str, Any]:
    return {OURS: {"role": role, "store": store, **store.info}}
