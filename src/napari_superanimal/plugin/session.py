"""A Points layer in a viewer: edits go to its store, window and overlays follow the playhead."""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.plugin import layers as pose_layers
from napari_superanimal.plugin.conventions import OURS, header
from napari_superanimal.plugin.graphics import use_canvas
from napari_superanimal.plugin.layers import defaults, point_table
from napari_superanimal.plugin.repaint import draw_overlay, restyle, set_points
from napari_superanimal.plugin.store import PointTable, PoseStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari.components import ViewerModel
    from napari.layers import Layer, Points

    from napari_superanimal.poses import Poses

_sessions: weakref.WeakKeyDictionary[Layer, LayerSession] = weakref.WeakKeyDictionary()
_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def session_of(layer: Layer) -> LayerSession | None:
    """The session of a Points layer that shows poses, None when it has none."""
    return _sessions.get(layer)


def watch(viewer: ViewerModel) -> None:
    """From now on every pose layer that enters `viewer`, from a reader or a duplicate, gets its session."""
    if viewer in _watched:
        return
    _watched.add(viewer)

    def entered(event: Any) -> None:
        attach(viewer, event.value)

    viewer.layers.events.inserted.connect(entered)
    viewer.layers.events.removing.connect(use_canvas)
    for layer in list(viewer.layers):
        attach(viewer, layer)


def watch_current() -> None:
    """`watch` the viewer that is in use, if there is one."""
    import napari

    viewer = napari.current_viewer()
    if viewer is not None:
        watch(viewer)


def attach(viewer: ViewerModel, layer: Layer) -> LayerSession | None:
    """Start to follow a layer; None when it is not one of our Points layers."""
    ours = layer.metadata.get(OURS)
    if not isinstance(ours, dict) or ours.get("role") != "points":
        return None
    if not isinstance(ours.get("store"), PoseStore):
        return None
    if (present := _sessions.get(layer)) is not None:
        return present
    if any(s.store is ours["store"] for s in _sessions.values()):
        # a duplicated layer: the two must not write into one table
        layer.metadata[OURS] = {**ours, "store": ours["store"].copy()}
    session = LayerSession(viewer, layer)
    _sessions[layer] = session
    return session


def show_poses(viewer: ViewerModel, poses: Poses, *, name: str, **options: Any) -> Points:
    """Add the layers of `poses` to a viewer and follow them.

    Parameters
    ----------
    options
        As for `poses_to_layers`.

    Returns
    -------
    napari.layers.Points
        The points; skeleton and boxes lie under them.
    """
    watch(viewer)
    added: Any = None
    for data, attrs, kind in pose_layers.poses_to_layers(poses, name=name, **options):
        added = getattr(viewer, f"add_{kind}")(data, **attrs)
    attach(viewer, added)
    return added


def update_poses(layer: Points, poses: Poses, *, growing: bool = False) -> None:
    """Show newer predictions in a layer; what a person placed, moved or deleted there stays.

    Parameters
    ----------
    growing : bool
        More will come. Until `LayerSession.settle` the layer holds only a window around the playhead, and is left
        alone while nothing in it changes: to replace all points again and again would slow down what makes them.

    Raises
    ------
    ValueError
        If the layer was not made by `show_poses` or is not in a viewer.
    """
    session = session_of(layer)
    if session is None:
        raise ValueError(f"layer {layer.name!r} shows no poses")
    session.update(poses, growing=growing)


class LayerSession:
    """Keeps one Points layer, its store and its overlays in step.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
    layer : napari.layers.Points
        With a `PoseStore` in its metadata.
    """

    def __init__(self, viewer: ViewerModel, layer: Points) -> None:
        self._viewer = weakref.ref(viewer)
        self._layer = weakref.ref(layer)
        self.store: PoseStore = layer.metadata[OURS]["store"]
        self._busy = False
        self._just_added = False
        self._growing = False
        self._drawn: dict[str, tuple[int, int]] = {}
        self._connections: list[tuple[Any, Callable[..., None]]] = []
        self._connect(layer.events.data, self._on_data)
        self._connect(layer.events.features, self._on_features)
        self._connect(layer.events.visible, self._on_step)
        self._connect(layer.events.mode, self._on_mode)
        self._connect(viewer.dims.events.current_step, self._on_step)
        self._connect(viewer.layers.events.inserted, self._on_inserted)
        self._connect(viewer.layers.events.removed, self._on_removed)
        for companion in self._companions():
            self._follow(companion)
        from napari_superanimal.plugin.editing import bind

        bind(layer)

    @property
    def layer(self) -> Points:
        """The layer.

        Raises
        ------
        ReferenceError
            If it is gone.
        """
        layer = self._layer()
        if layer is None:
            raise ReferenceError("the layer is gone")
        return layer

    @property
    def frame(self) -> int:
        """Frame number at the playhead, in the layer's own coordinates."""
        viewer, layer = self._viewer(), self.layer
        if viewer is None or viewer.dims.ndim < 3:
            return pose_layers.first_frame(self.store)
        world = viewer.dims.point[viewer.dims.ndim - 3]
        return int(np.rint((world - layer.translate[0]) / layer.scale[0]))

    def flush(self) -> int:
        """Take the layer's points over into the store; returns how many keypoints changed."""
        layer, store = self.layer, self.store
        table = point_table(np.asarray(layer.data), {"features": layer.features})
        changed = store.reconcile(table, store.view)
        if store.count(store.view) != len(layer.data):
            # two points on one keypoint, or points where there is no image: show what counts
            self.fill()
        elif changed:
            self._restyle()
        if changed:
            self._draw(force=True)
        return changed

    def fill(self) -> None:
        """Show the store's points anew."""
        layer, store = self.layer, self.store
        windowed = self._growing or store.n_points > pose_layers.ORDINARY_LIMIT
        store.view = pose_layers.window(store, self.frame) if windowed else None
        data, attrs = pose_layers.points(store)
        with self._quiet():
            layer.selected_data = set()
            set_points(layer, data, attrs)

    def update(self, poses: Poses, *, growing: bool = False) -> None:
        """See `update_poses`."""
        self.flush()
        self._growing = growing
        store = self.store
        before = store.table(store.view) if growing and store.view is not None else None
        if not poses.skeleton:
            edges = store.poses.skeleton
            if not edges:
                edges = pose_layers.skeleton_of(poses.keypoints, str(store.info.get("space", "")))
            poses = replace(poses, skeleton=edges)
        store.replace_predictions(poses)
        self.layer.metadata["header"] = header(store.poses, str(store.info.get("kind", "")))
        if before is not None and self._still_right(before):
            return
        self.fill()
        self._draw(force=True)

    def settle(self) -> None:
        """No more predictions will come: show all points, as far as there are not too many."""
        if self._growing:
            self._growing = False
            self.flush()
            self.fill()

    def set_threshold(self, threshold: float, hide: bool = False) -> None:
        """Points below `threshold` become doubtful: hollow, or hidden altogether."""
        store, layer = self.store, self.layer
        store.threshold = float(threshold)
        self._restyle(everything=True)
        likelihood = layer.features["likelihood"].to_numpy()
        human = layer.features["human"].to_numpy().astype(bool)
        layer.shown = ~((likelihood < threshold) & ~human) if hide else np.ones(len(layer.data), bool)
        self._draw(force=True)

    def undo(self) -> bool:
        """Take the last edit back; False when there is none."""
        self.flush()
        return self._again(self.store.undo())

    def redo(self) -> bool:
        """Repeat the edit undone last; False when there is none."""
        return self._again(self.store.redo())

    def choose(self, keypoint: str, individual: str | None = None) -> None:
        """The next added point is this keypoint."""
        layer, store = self.layer, self.store
        if individual is None:
            individual = str(layer.feature_defaults["id"].iloc[0])
        layer.feature_defaults = defaults(store, keypoint, individual)
        self._tell()

    def place(self, frame: int, points: list[tuple[str, str, float, float]]) -> int:
        """Put keypoints (keypoint, individual, y, x) on a frame, as a person's; returns how many changed."""
        self.flush()
        store = self.store
        have = store.table([frame])
        n = len(points)
        changed = store.reconcile(
            PointTable(
                frames=np.append(have.frames, np.full(n, frame)).astype(np.int64),
                xy=np.vstack([have.xy, np.array([(x, y) for _, _, y, x in points]).reshape(-1, 2)]),
                keypoint=np.append(have.keypoint, np.array([p[0] for p in points], object)),
                individual=np.append(have.individual, np.array([p[1] for p in points], object)),
                likelihood=np.append(have.likelihood, np.ones(n)),
                human=np.append(have.human, np.ones(n, bool)),
            ),
            [frame],
        )
        if changed:
            self.fill()
            self._draw(force=True)
        return changed

    def tell(self, text: str) -> None:
        """Say something in the viewer's status bar."""
        viewer = self._viewer()
        if viewer is not None:
            viewer.status = text

    def propose(self) -> None:
        """The next added point is the first keypoint missing at the playhead, after the present one."""
        layer = self.layer
        wanted = (str(layer.feature_defaults["label"].iloc[0]), str(layer.feature_defaults["id"].iloc[0]))
        keypoint, individual = self.next_free(self.frame, *wanted)
        layer.feature_defaults = defaults(self.store, keypoint, individual)
        self._tell()

    def next_free(self, frame: int, keypoint: str, individual: str) -> tuple[str, str]:
        """The keypoint asked for if `frame` lacks it, else the next missing one, this animal first."""
        poses = self.store.poses
        row = int(self.store.rows([frame])[0])
        keypoints, individuals = poses.keypoints, poses.individuals
        a = individuals.index(individual) if individual in individuals else 0
        k = keypoints.index(keypoint) if keypoint in keypoints else 0
        if row < 0 or not keypoints:
            return keypoint, individual
        for animal in (*range(a, len(individuals)), *range(a)):
            for point in (*range(k, len(keypoints)), *range(k)):
                if not poses.found[row, animal, point]:
                    return keypoints[point], individuals[animal]
            k = 0
        return keypoint, individual

    def _again(self, edit: Any) -> bool:
        if edit is None:
            return False
        self.fill()
        self._draw(force=True)
        return True

    def _on_data(self, event: Any) -> None:
        action = str(getattr(event, "action", ""))
        if self._busy or action not in ("added", "changed", "removed"):
            return
        if action == "added":
            self._name_added(event.data_indices)
        self.flush()

    def _on_features(self, event: Any) -> None:
        if self._busy:
            return
        if self._just_added:
            self._just_added = False
            with self._quiet():
                self.propose()
            return
        if len(self.layer.features) == len(self.layer.data):
            # a label changed in the features table moves the point to that keypoint
            self.flush()

    def _on_mode(self, event: Any = None) -> None:
        if str(self.layer.mode) == "add":
            self.propose()

    def _on_inserted(self, event: Any) -> None:
        if self._belongs(event.value):
            self._follow(event.value)

    def _on_removed(self, event: Any) -> None:
        if event.value is self._layer():
            self.detach()

    def _on_step(self, event: Any = None) -> None:
        layer, store = self._layer(), self.store
        if layer is None or self._busy:
            return
        if not layer.data.flags.f_contiguous and len(layer.data) > 5_000:
            # napari's add and remove give rows back; columns are what keeps a step of the slider fast
            with self._quiet():
                layer.data = np.asfortranarray(layer.data)
        if layer.visible and store.view is not None:
            frame, half = self.frame, pose_layers.window_half(store)
            inner = store.view[1:-1]
            centre = (int(inner[0]) + int(inner[-1])) / 2 if len(inner) else -np.inf
            if abs(frame - centre) > half / 2 and not self._same_window(frame):
                self.flush()
                self.fill()
        if str(layer.mode) == "add":
            self.propose()
        self._draw()

    def detach(self) -> None:
        """Stop following; the layer keeps what it has."""
        for emitter, callback in self._connections:
            emitter.disconnect(callback)
        self._connections.clear()
        layer = self._layer()
        if layer is not None:
            _sessions.pop(layer, None)

    def _still_right(self, shown: PointTable) -> bool:
        """Whether the layer, which shows `shown`, has what the store holds for its frames and near the playhead."""
        store, view = self.store, self.store.view
        assert view is not None  # what `shown` was made for
        half = max(pose_layers.window_half(store), pose_layers.OVERLAY_HALF)
        wanted = pose_layers.near(store, self.frame, half)
        return bool(np.isin(wanted, view).all()) and store.table(view).same(shown)

    def _same_window(self, frame: int) -> bool:
        view = self.store.view
        return view is not None and bool(np.array_equal(pose_layers.window(self.store, frame), view))

    def _name_added(self, indices: Any) -> None:
        """Give new points a keypoint that their frame lacks, in place, before the store reads them."""
        layer = self.layer
        features = layer.features
        at = {name: features.columns.get_loc(name) for name in ("label", "id", "likelihood", "human")}
        taken: set[tuple[int, str, str]] = set()
        for index in indices:
            row = int(index) % max(len(layer.data), 1)
            frame = int(np.rint(layer.data[row, 0]))
            wanted = str(features.iat[row, at["label"]]), str(features.iat[row, at["id"]])
            keypoint, individual = self.next_free(frame, *wanted)
            if (frame, keypoint, individual) in taken:
                continue
            taken.add((frame, keypoint, individual))
            features.iat[row, at["label"]] = keypoint
            features.iat[row, at["id"]] = individual
        self._just_added = True

    def _restyle(self, everything: bool = False) -> None:
        with self._quiet():
            restyle(self.layer, self.store, everything)

    def _companions(self) -> list[Layer]:
        viewer = self._viewer()
        return [] if viewer is None else [layer for layer in viewer.layers if self._belongs(layer)]

    def _belongs(self, layer: Layer) -> bool:
        ours = layer.metadata.get(OURS)
        return (
            isinstance(ours, dict)
            and ours.get("store") is self.store
            and ours.get("role") in ("skeleton", "boxes")
        )

    def _follow(self, companion: Layer) -> None:
        self._connect(companion.events.visible, self._on_step)

    def _draw(self, force: bool = False) -> None:
        """Skeleton and boxes around the playhead; hidden ones wait until they are shown."""
        store, frame = self.store, self.frame
        for companion in self._companions():
            role = companion.metadata[OURS]["role"]
            low, high = self._drawn.get(role, (1, 0))
            if not companion.visible:
                self._drawn.pop(role, None)
                continue
            if not force and low <= frame <= high:
                continue
            self._drawn[role] = (frame - pose_layers.OVERLAY_HALF, frame + pose_layers.OVERLAY_HALF)
            draw_overlay(companion, role, store, frame)

    def _tell(self) -> None:
        """Name the keypoint that a click would add, where the user looks."""
        row = self.layer.feature_defaults.iloc[0]
        who = f" of {row['id']}" if str(row["id"]) else ""
        self.tell(f"next point: {row['label']}{who}")

    def _connect(self, emitter: Any, callback: Callable[..., None]) -> None:
        emitter.connect(callback)
        self._connections.append((emitter, callback))

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Changes made inside are ours, not a person's."""
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before
