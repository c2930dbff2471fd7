"""Matches on the animal: labels and what a model sees as layers, and the thread that finds out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.qt.threading import thread_worker

from napari_superanimal.jobs.match import MatchOptions, MatchResult, match_dataset
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Progress
from napari_superanimal.keypoints.table import SIDE
from napari_superanimal.plugin.safe_import import import_torch
from napari_superanimal.plugin.style import keypoint_colors, point_size
from napari_superanimal.plugin.workers import Failed, explain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_superanimal.plugin.layers import LayerTuple

#: Predictions with less likelihood than this are not drawn.
FAINT = 0.1
#: Points of keypoints other than the one looked at.
DIMMED = 0.15


@thread_worker
def match_worker(
    dataset: Path, options: MatchOptions, token: CancelToken, tell: Callable[[Progress], None]
) -> MatchResult | Failed | None:
    """Match in the background; None when it was cancelled.

    Parameters
    ----------
    tell : callable
        Called from the thread; a Qt signal's `emit`.
    """
    try:
        tell(Progress(0, 0, message="Loading the model…"))
        import_torch()
        return match_dataset(dataset, options, on_progress=tell, token=token)
    except Cancelled:
        return None
    except Exception as error:
        return Failed(explain(error, "Matching"))


class MatchView:
    """Layer data of a `MatchResult`; the choices change, the result stays.

    Attributes
    ----------
    result : MatchResult
    colors : dict of str to (4,) float64
        RGBA per keypoint of the dataset.
    """

    def __init__(self, result: MatchResult) -> None:
        self.result = result
        sources = [m.source for m in result.matching.matches]
        self.colors = dict(zip(sources, keypoint_colors(sources), strict=True))
        self.sources = sources
        self._space = result.space
        labels = result.poses.xy[result.rows, result.slots]
        n, s = np.nonzero(np.isfinite(labels).all(-1))
        self.label_source = np.array(sources, object)[s]
        self.label_data = self._points(n, labels[n, s])
        shown = np.isfinite(result.predictions).all(-1) & (np.nan_to_num(result.likelihood) >= FAINT)
        n, k = np.nonzero(shown)
        self.seen_keypoint = np.array(self._space.keypoints, object)[k]
        self.seen_data = self._points(n, result.predictions[n, k])
        self.size = point_size(result.poses)

    def _points(self, animals: npt.NDArray, xy: npt.NDArray) -> npt.NDArray[np.float64]:
        return np.column_stack([self.result.rows[animals], xy[:, 1], xy[:, 0]]).astype(np.float64)

    def layers(self, choices: dict[str, str]) -> list[LayerTuple]:
        """Connections, predictions and labels, in drawing order."""
        links, link_colors = self.links(choices)
        faces, borders = self.seen_colors(choices)
        return [
            (
                links,
                {
                    "name": "pairs",
                    "edge_color": link_colors if len(links) else "white",
                    "edge_width": max(0.5, 0.15 * self.size),
                    "vector_style": "line",
                    "ndim": 3,
                },
                "vectors",
            ),
            (
                self.seen_data,
                {
                    "name": "what the model sees",
                    "features": {"keypoint": self.seen_keypoint},
                    "face_color": faces,
                    "border_color": borders,
                    "border_width": 0.1,
                    "symbol": "disc",
                    "size": 1.3 * self.size,
                    "ndim": 3,
                },
                "points",
            ),
            (
                self.label_data,
                {
                    "name": "your labels",
                    "features": {"keypoint": self.label_source},
                    "face_color": self.label_colors(),
                    "border_color": "white",
                    "border_width": 0.15,
                    "symbol": "square",
                    "size": self.size,
                    "text": {"string": "{keypoint}", "size": 8, "color": "white", "visible": False},
                    "ndim": 3,
                },
                "points",
            ),
        ]

    def label_colors(self, looked_at: str = "") -> npt.NDArray[np.float64]:
        """(M, 4) of the labels; other keypoints are dimmed when one is looked at."""
        colors = np.array([self.colors[name] for name in self.label_source]).reshape(-1, 4)
        if looked_at:
            colors[self.label_source != looked_at, 3] = DIMMED
        return colors

    def seen_colors(
        self, choices: dict[str, str], looked_at: str = ""
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Face and border (M, 4) of the predictions: rings in the colour of the label that they belong to."""
        owner = {part: source for source, target in choices.items() if target for part in target.split(SIDE)}
        grey = np.array([0.6, 0.6, 0.6, 0.6])
        owners = np.array([owner.get(name, "") for name in self.seen_keypoint], object)
        borders = np.array([self.colors.get(name, grey) for name in owners]).reshape(-1, 4)
        if looked_at:
            borders[owners != looked_at, 3] = DIMMED
        faces = borders.copy()
        faces[:, 3] = 0.0
        return faces, borders

    def links(
        self, choices: dict[str, str], looked_at: str = ""
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Vectors (M, 2, 3) from labels to the predictions chosen for them, and their colours (M, 4)."""
        parts, colors = [], []
        for i, source in enumerate(self.sources):
            if not choices.get(source) or (looked_at and source != looked_at):
                continue
            start = self.result.poses.xy[self.result.rows, self.result.slots, i]
            gap = self.target_xy(choices[source]) - start
            n = np.flatnonzero(np.isfinite(gap).all(-1))
            vectors = np.zeros((len(n), 2, 3))
            vectors[:, 0] = self._points(n, start[n])
            vectors[:, 1, 1:] = gap[n][:, ::-1]
            parts.append(vectors)
            colors.append(np.tile(self.colors[source], (len(n), 1)))
        if not parts:
            return np.zeros((0, 2, 3)), np.zeros((0, 4))
        return np.concatenate(parts), np.concatenate(colors)

    def target_xy(self, target: str) -> npt.NDArray[np.float64]:
        """(N, 2) where the model sees a target; of ``left|right`` the side that is seen."""
        left, _, right = target.partition(SIDE)
        xy = self.result.predictions[:, self._space.index(left)].copy()
        if right:
            turned = self.result.facing > 0
            xy[turned] = self.result.predictions[turned, self._space.index(right)]
            xy[self.result.facing == 0] = np.nan
        return xy

    def best_row(self, source: str, target: str) -> int | None:
        """The picture on which a keypoint and its target can be judged best: typical, not the closest."""
        i = self.sources.index(source)
        start = self.result.poses.xy[self.result.rows, self.result.slots, i]
        there = np.isfinite(start).all(-1)
        if target:
            gap = np.linalg.norm(self.target_xy(target) - start, axis=-1)
            seen = np.flatnonzero(there & np.isfinite(gap))
            if len(seen):
                return int(self.result.rows[seen[np.argsort(gap[seen])[len(seen) // 2]]])
        rows = self.result.rows[there]
        return int(rows[0]) if len(rows) else None


def clicked(layer: Any, event: Any) -> str:
    """The keypoint of the point under the mouse, empty where there is none."""
    at = layer.get_value(
        event.position, view_direction=event.view_direction, dims_displayed=event.dims_displayed, world=True
    )
    return str(layer.features["keypoint"].iloc[at]) if at is not None else ""
