"""Bringing a Points layer and its overlays up to date with their store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.plugin import layers as pose_layers
from napari_superanimal.plugin.layers import point_table
from napari_superanimal.plugin.store import PoseStore, codes
from napari_superanimal.plugin.style import keypoint_colors, looks

if TYPE_CHECKING:
    from napari.layers import Points, Vectors


def set_points(layer: Points, data: Any, attrs: dict[str, Any]) -> None:
    """Replace all points; `data` and `attrs` come from `layers.points`."""
    layer.data = data
    layer.features = attrs["features"]
    if len(data):
        layer.face_color = attrs["face_color"]
        layer.border_color = attrs["border_color"]
        layer.symbol = attrs["symbol"]
        layer.border_width = attrs["border_width"]
        layer.shown = np.ones(len(data), bool)


def restyle(layer: Points, store: PoseStore, everything: bool = False) -> None:
    """Likelihood, human and looks of the points on screen, where they differ from the store.

    Parameters
    ----------
    everything : bool
        All points, because the threshold has changed.
    """
    poses = store.poses
    table = point_table(np.asarray(layer.data), {"features": layer.features})
    t = store.rows(table.frames)
    a = codes(table.individual, poses.individuals)
    k = codes(table.keypoint, poses.keypoints)
    likelihood, human = poses.likelihood[t, a, k], poses.human[t, a, k]
    colors = keypoint_colors(poses.keypoints, str(store.info.get("space", "")))[k]
    stale = (human != table.human) | (likelihood != table.likelihood)
    stale |= ~np.isclose(layer.face_color[:, :3], colors[:, :3], atol=1e-3).all(-1)
    # a new point may look like the one selected before it
    stale |= human & (np.array([str(s) for s in layer.symbol]) != "square")
    rows = np.arange(len(stale)) if everything else np.flatnonzero(stale)
    if not len(rows):
        return
    layer.features["likelihood"] = likelihood
    layer.features["human"] = human
    risk = store.risk(t, a, k)
    if risk is not None and "swap_risk" in layer.features:
        layer.features["swap_risk"] = risk
    look = looks(colors[rows], likelihood[rows], human[rows], store.threshold)
    for name, values in (
        ("face_color", look.face),
        ("border_color", look.border),
        ("symbol", look.symbol),
        ("border_width", look.width),
    ):
        whole = np.array(getattr(layer, name))
        whole[rows] = values
        setattr(layer, name, whole)
    if layer.text.visible:
        layer.refresh_text()


def draw_overlay(layer: Vectors, role: str, store: PoseStore, frame: int) -> None:
    """Skeletons or boxes of the frames around `frame`."""
    frames = pose_layers.overlay_frames(store, frame)
    make = pose_layers.skeleton if role == "skeleton" else pose_layers.boxes
    data, attrs = make(store, frames)
    if len(data) and data.shape == layer.data.shape:
        # in place: new data make napari work out the extent of all layers again, which is the video's anyway
        layer.data[...] = data
        layer.refresh()
    else:
        layer.data = data
    if len(data) and len(store.poses.individuals) > 1:
        layer.edge_color = attrs["edge_color"]
