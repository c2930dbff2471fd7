"""Predictions that grow in a viewer while they are made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_superanimal.plugin.conventions import OURS
from napari_superanimal.plugin.image_source import pixels
from napari_superanimal.plugin.session import session_of, show_poses, update_poses
from napari_superanimal.plugin.store import PoseStore, reindex
from napari_superanimal.poses import joined_risk
from napari_superanimal.video import Video

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer, Points

    from napari_superanimal.models.card import ModelCard
    from napari_superanimal.plugin.session import LayerSession
    from napari_superanimal.poses import Poses


class LivePredictions:
    """The layers of one run.

    Parameters
    ----------
    viewer : ViewerModel
    image : Image
        Layer that is predicted on; the points lie on it, whatever its scale.
    card : ModelCard
    threshold : float
        Likelihood below which points are doubtful.
    extend : bool
        Add to the newest predictions of this model on this image, if there are any, instead of making layers.
    """

    def __init__(
        self, viewer: ViewerModel, image: Image, card: ModelCard, threshold: float, *, extend: bool = False
    ) -> None:
        self._viewer = viewer
        self._image = image
        self._card = card
        self._threshold = threshold
        self._older: Poses | None = None
        self.layer: Points | None = None
        self.found = False
        if extend:
            self.layer = self._newest()
        if self.layer is not None:
            session = session_of(self.layer)
            assert session is not None  # what _newest looks for
            session.flush()
            self._older = session.store.poses

    @property
    def name(self) -> str:
        """Name of the Points layer."""
        return self.layer.name if self.layer is not None else f"{self._image.name} {self._card.name}"

    @property
    def shown(self) -> bool:
        """Whether the points are in the viewer."""
        return self.layer is not None and self.layer in self._viewer.layers

    def show(self, poses: Poses) -> bool:
        """Show what was predicted so far; what a person edited meanwhile stays.

        Parameters
        ----------
        poses : Poses
            All frames of the run that are done.

        Returns
        -------
        bool
            False when the user has removed the points, or the video.
        """
        self.found |= bool(poses.found.any())
        there = self._image in self._viewer.layers
        if self.layer is not None:
            if not self.shown:
                return False
            whole = poses if self._older is None else replace_frames(self._older, poses)
            update_poses(self.layer, whole, growing=True)
        elif self.found and there:
            self._retire()
            self.layer = show_poses(
                self._viewer,
                poses,
                name=self.name,
                space=self._card.space_name,
                model=self._card.name,
                video=self._path(),
                kind="predictions",
                threshold=self._threshold,
            )
            lay_on(self._viewer, self._image, self.layer)
        return there

    def finish(self) -> None:
        """The run has ended: the layer gets all its points."""
        if self._session is not None:
            self._session.settle()

    def set_threshold(self, threshold: float) -> None:
        """Change which points count as doubtful, in the layer and for what is still to come."""
        self._threshold = threshold
        if self._session is not None:
            self._session.set_threshold(threshold)

    @property
    def _session(self) -> LayerSession | None:
        return session_of(self.layer) if self.layer is not None else None

    def _newest(self) -> Points | None:
        for layer in reversed(self._viewer.layers):
            store = store_of(layer)
            if (
                store is not None
                and session_of(layer) is not None
                and store.info.get("kind") == "predictions"
                and store.info.get("model") == self._card.name
                and store.info.get("image") == self._image.name
            ):
                return layer
        return None

    def _retire(self) -> None:
        """Hide older predictions on the same image: two skeletons on one animal are hard to read."""
        for layer in self._viewer.layers:
            ours = layer.metadata.get(OURS)
            store = ours.get("store") if isinstance(ours, dict) else None
            if isinstance(store, PoseStore) and store.info.get("image") == self._image.name:
                layer.visible = False

    def _path(self) -> Path | None:
        return file_of(self._image)


def file_of(image: Image) -> Path | None:
    """The file or folder that an image layer shows; None where there is none."""
    data = pixels(image)
    if isinstance(data, Video):
        return Path(data.path)
    return Path(image.source.path) if image.source.path else None


def layers_of(viewer: ViewerModel, points: Points) -> list[Layer]:
    """Points, skeleton and boxes that show the same poses."""
    store = store_of(points)
    found = []
    for layer in viewer.layers:
        ours = layer.metadata.get(OURS)
        if store is not None and isinstance(ours, dict) and ours.get("store") is store:
            found.append(layer)
    return found


def lay_on(viewer: ViewerModel, image: Image, points: Points) -> None:
    """Lay points, skeleton and boxes on the image, which may be scaled or shifted."""
    store = store_of(points)
    assert store is not None
    store.info["image"] = image.name
    scale, shift = np.ones(3), np.zeros(3)
    n = min(image.ndim, 3)
    scale[-n:], shift[-n:] = image.scale[-n:], image.translate[-n:]
    for layer in layers_of(viewer, points):
        layer.scale, layer.translate = scale, shift


def store_of(layer: Layer) -> PoseStore | None:
    """The poses behind a Points layer of ours."""
    ours = layer.metadata.get(OURS)
    if isinstance(ours, dict) and ours.get("role") == "points" and isinstance(ours.get("store"), PoseStore):
        return ours["store"]
    return None


def replace_frames(old: Poses, new: Poses) -> Poses:
    """`old` with the frames of `new` in place of its own; names that only one of them has are kept."""
    frames = np.union1d(old.frames, new.frames).astype(np.int64)
    individuals = tuple(dict.fromkeys((*old.individuals, *new.individuals)))
    keypoints = tuple(dict.fromkeys((*old.keypoints, *new.keypoints)))
    base = reindex(old, frames, individuals, keypoints)
    fresh = reindex(new, frames, individuals, keypoints)
    rows = np.isin(frames, new.frames)
    for name in ("xy", "visibility", "likelihood", "human", "boxes", "box_scores"):
        getattr(base, name)[rows] = getattr(fresh, name)[rows]
    return replace(base, metadata={**base.metadata, **joined_risk(old, new)})
