"""Rendered top-view mice as a training set: every picture another animal, arena, camera and light."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_superanimal.demo.render import random_style, render_clip
from napari_superanimal.poses import UNDEFINED, Poses, merge

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_superanimal.keypoints import KeypointSpace

#: Frames taken from each rendered clip, far apart in time.
PER_CLIP = 3


def rendered_dataset(
    count: int, known: set[str], space: KeypointSpace, seed: int, name: str
) -> tuple[Poses, Callable[[Poses, int], npt.NDArray[np.uint8]]]:
    """About `count` rendered pictures with truth, and the reader that gives their pixels.

    Only keypoints in `known` (those that real data label) stay defined: a keypoint must not rest on rendering alone.
    """
    parts, pictures = [], {}
    unknown = np.array([k not in known for k in space.keypoints])
    for clip_number in range(max(1, count // PER_CLIP)):
        rng = np.random.default_rng((seed, clip_number))
        mice = int(rng.choice([1, 1, 2, 3]))
        size = (640, 480) if rng.random() < 0.5 else (500, 500)
        clip = render_clip(90, size, n_mice=mice, seed=int(rng.integers(1 << 30)), style=random_style(rng))
        rows = np.linspace(5, 85, PER_CLIP).astype(int)
        truth = clip.truth.take(rows)
        visibility = truth.visibility.copy()
        visibility[..., unknown] = UNDEFINED
        names = tuple(f"{name}/{clip_number:05d}-{r:03d}" for r in rows)
        for picture, row in zip(names, rows, strict=True):
            pictures[picture] = clip.frames[int(row)]
        sizes = np.tile(np.array(size), (len(rows), 1))
        parts.append(
            replace(
                truth,
                visibility=visibility,
                images=names,
                image_sizes=sizes,
                frames=np.arange(len(rows)),
                root=None,
            )
        )
    # clips are merged under names of their own, but are one dataset
    merged = merge(parts, [f"{name} {i}" for i in range(len(parts))])
    merged = replace(merged, sources=(name,) * len(merged))
    return merged, lambda poses, row: pictures[poses.images[row]]
