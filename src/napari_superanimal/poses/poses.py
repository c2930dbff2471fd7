"""The data model: labels and predictions as one table of named arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

LABELLED = 2
OCCLUDED = 1
UNLABELLED = 0
UNDEFINED = -1

#: The individual's name in a table that knows only one animal (DeepLabCut writes no such level then).
SINGLE = ""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Poses:
    """Keypoints of every individual in every frame: human labels, predictions, or both.

    Frames are either frames of a video (`images` empty, `frames` the frame numbers) or single images
    (`images[t]` the file of row t, `frames[t]` == t). Coordinates are pixels of the full frame, (x, y), the
    centre of the top-left pixel at (0, 0).

    Attributes
    ----------
    keypoints : tuple of str, length K
    individuals : tuple of str, length A
        ``("",)`` for a table that knows only one animal.
    frames : (T,) int64
    xy : (T, A, K, 2) float64, px
        NaN where a keypoint is missing.
    visibility : (T, A, K) int8
        2 labelled, 1 labelled but occluded, 0 defined but not labelled here, -1 not defined in the source.
    likelihood : (T, A, K) float64, 0..1
        NaN where missing; human labels have 1.
    human : (T, A, K) bool
        Placed or moved by a person.
    boxes : (T, A, 4) float64, px
        x, y (top-left corner), width, height; NaN where there is none.
    box_scores : (T, A) float64
        NaN where there is none.
    images : tuple of str
        Paths with forward slashes, relative to `root` (or absolute), one per row; empty for a video.
    image_sizes : (T, 2) int64
        Width, height per row; zeros when unknown.
    root : Path or None
        Folder that `images` are relative to.
    sources : tuple of str
        Name of the dataset each row came from; empty means one unnamed source.
    splits : tuple of str
        What each row is for ("train", "test", "val" or ""); empty means that nobody said.
    ids : tuple of str
        What each picture is called in the file it came from; empty where files do not number pictures.
    scorer : str
        Who labelled or which model predicted.
    skeleton : tuple of (str, str)
    metadata : dict
        Provenance that is carried along: origin file, space, model card, video.
    """

    keypoints: tuple[str, ...]
    individuals: tuple[str, ...]
    frames: npt.NDArray[np.int64]
    xy: Floats
    visibility: npt.NDArray[np.int8]
    likelihood: Floats
    human: npt.NDArray[np.bool_]
    boxes: Floats
    box_scores: Floats
    images: tuple[str, ...] = ()
    image_sizes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    root: Path | None = None
    sources: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    scorer: str = ""
    skeleton: tuple[tuple[str, str], ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        t, a, k = len(self.frames), len(self.individuals), len(self.keypoints)
        expected = {
            "xy": (t, a, k, 2),
            "visibility": (t, a, k),
            "likelihood": (t, a, k),
            "human": (t, a, k),
            "boxes": (t, a, 4),
            "box_scores": (t, a),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, expected {shape}")
        if len(self.image_sizes) == 0 and t:
            object.__setattr__(self, "image_sizes", np.zeros((t, 2), np.int64))
        for name in ("images", "sources", "splits", "ids"):
            if len(getattr(self, name)) not in (0, t):
                raise ValueError(f"{name} has {len(getattr(self, name))} entries for {t} frames")
        if len(set(self.keypoints)) != k or len(set(self.individuals)) != a:
            raise ValueError("keypoints and individuals must have different names each")

    def __len__(self) -> int:
        """Number of rows (frames or images)."""
        return len(self.frames)

    @property
    def is_video(self) -> bool:
        """Rows are frames of one video rather than image files."""
        return not self.images

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """(T, A, K) keypoints that have a position."""
        return np.asarray(np.isfinite(self.xy).all(-1))

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """(T, A) individuals that have a keypoint or a box."""
        return np.asarray(self.found.any(-1) | np.isfinite(self.boxes).all(-1))

    def image_path(self, row: int) -> Path:
        """File of an image row."""
        path = Path(self.images[row])
        return path if path.is_absolute() or self.root is None else self.root / path

    def take(self, rows: npt.ArrayLike) -> Poses:
        """The rows given (indices or a boolean mask), in that order."""
        index = np.asarray(rows)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        index = index.astype(np.int64)
        frames = np.arange(len(index)) if self.images else self.frames[index]
        return replace(
            self,
            frames=frames,
            xy=self.xy[index],
            visibility=self.visibility[index],
            likelihood=self.likelihood[index],
            human=self.human[index],
            boxes=self.boxes[index],
            box_scores=self.box_scores[index],
            images=tuple(self.images[i] for i in index) if self.images else (),
            image_sizes=self.image_sizes[index],
            sources=tuple(self.sources[i] for i in index) if self.sources else (),
            splits=tuple(self.splits[i] for i in index) if self.splits else (),
            ids=tuple(self.ids[i] for i in index) if self.ids else (),
        )


def animal_names(count: int) -> tuple[str, ...]:
    """Names of individuals that nobody has named, as SuperAnimal's files call them."""
    return tuple(f"animal{i}" for i in range(count))


def make_poses(
    keypoints: Sequence[str],
    xy: npt.ArrayLike,
    *,
    frames: npt.ArrayLike | None = None,
    individuals: Sequence[str] | None = None,
    likelihood: npt.ArrayLike | None = None,
    visibility: npt.ArrayLike | None = None,
    human: npt.ArrayLike | bool = False,
    boxes: npt.ArrayLike | None = None,
    box_scores: npt.ArrayLike | None = None,
    **rest: Any,
) -> Poses:
    """`Poses` from its coordinates, everything else filled in consistently.

    Parameters
    ----------
    xy : (T, A, K, 2) or (T, K, 2)
        Pixels; a keypoint with a NaN in x or y is missing.
    likelihood, visibility, human, boxes, box_scores
        As in `Poses`; defaults are 1 and 2 where a keypoint was found, NaN and 0 elsewhere, no boxes.
    rest
        Other fields of `Poses`.
    """
    points = np.array(xy, dtype=np.float64)
    if points.ndim == 3:
        points = points[:, None]
    t, a, k, _ = points.shape
    missing = ~np.isfinite(points).all(-1)
    points[missing] = np.nan
    if individuals is None:
        individuals = (SINGLE,) if a == 1 else animal_names(a)
    seen = np.where(missing, np.nan, 1.0) if likelihood is None else np.array(likelihood, np.float64)
    seen = np.where(missing, np.nan, seen.reshape(t, a, k))
    codes = np.where(missing, UNLABELLED, LABELLED) if visibility is None else np.array(visibility)
    codes = codes.reshape(t, a, k).astype(np.int8)
    hand = np.broadcast_to(np.asarray(human, dtype=bool), (t, a, k)).copy() & ~missing
    return Poses(
        keypoints=tuple(keypoints),
        individuals=tuple(individuals),
        frames=np.arange(t) if frames is None else np.asarray(frames, dtype=np.int64),
        xy=points,
        visibility=codes,
        likelihood=seen,
        human=hand,
        boxes=np.full((t, a, 4), np.nan) if boxes is None else np.array(boxes, np.float64),
        box_scores=np.full((t, a), np.nan) if box_scores is None else np.array(box_scores, np.float64),
        **rest,
    )
