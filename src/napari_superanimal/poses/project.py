"""The generalized data converter's core: a dataset's keypoints carried into a keypoint space."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_superanimal.keypoints.table import SIDE
from napari_superanimal.poses.poses import UNDEFINED, Poses

if TYPE_CHECKING:
    from napari_superanimal.keypoints import ConversionTable, KeypointSpace

#: Below this share of the animal's extent between head and hind end, an animal counts as seen from the front.
SIDEWAYS = 0.2


def facing(
    xy: npt.NDArray[np.float64], space: KeypointSpace, weight: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.int8]:
    """Which way animals face, from keypoints (..., K, 2): -1 left, 1 right, 0 unknown or frontal.

    The mean of the space's `front` keypoints is compared with that of its `rear` keypoints along x,
    relative to the extent of all keypoints. `weight` (..., K) counts keypoints by their likelihood.
    """
    finite = np.asarray(np.isfinite(xy).all(-1))
    share = np.asarray(finite if weight is None else np.where(finite, np.nan_to_num(weight), 0.0), np.float64)
    x = np.asarray(np.where(finite, xy[..., 0], 0.0))

    def mean_x(names: tuple[str, ...]) -> npt.NDArray[np.float64]:
        index = [space.index(n) for n in names]
        total = share[..., index].sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(total > 0, (share[..., index] * x[..., index]).sum(-1) / total, np.nan)

    spread = np.where(finite[..., None], xy, -np.inf).max(-2) - np.where(finite[..., None], xy, np.inf).min(
        -2
    )
    extent = np.where(np.isfinite(spread), spread, np.nan).max(-1)
    ahead = mean_x(space.front) - mean_x(space.rear)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = ahead / extent
    side = np.zeros(ratio.shape, np.int8)
    side[ratio > SIDEWAYS] = 1
    side[ratio < -SIDEWAYS] = -1
    return side


def project(poses: Poses, table: ConversionTable, space: KeypointSpace) -> Poses:
    """`poses` in the keypoints of `space`.

     Mapped keypoints are copied with everything that belongs to them; keypoints of the space that the
     dataset does not define become visibility -1. Source keypoints without a target are listed in
     ``metadata["unmapped"]``; ``source_keypoints`` and ``table_rows`` say how to get back (`unproject`).
    Targets of the form ``left|right`` go to the side that the camera sees
     (an animal that faces left shows its left side) and are undefined where the facing is unknown.

     Raises
     ------
     UserError
         If the table names a keypoint that the space lacks, or none of the dataset's.
    """
    unmapped = table.check(poses.keypoints, space)
    t, a, k = len(poses), len(poses.individuals), len(space)
    xy = np.full((t, a, k, 2), np.nan)
    visibility = np.full((t, a, k), UNDEFINED, np.int8)
    likelihood = np.full((t, a, k), np.nan)
    human = np.zeros((t, a, k), bool)

    plain: list[tuple[int, int]] = []
    sided: list[tuple[int, int, int]] = []
    for i, name in enumerate(poses.keypoints):
        target = table.target(name)
        if target is None:
            continue
        first, _, second = target.partition(SIDE)
        if second:
            sided.append((i, space.index(first), space.index(second)))
        else:
            plain.append((i, space.index(first)))

    def copy(source: int, target: int, where: npt.NDArray[np.bool_]) -> None:
        xy[where, target] = poses.xy[where, source]
        visibility[where, target] = poses.visibility[where, source]
        likelihood[where, target] = poses.likelihood[where, source]
        human[where, target] = poses.human[where, source]

    everywhere = np.ones((t, a), bool)
    for source, index in plain:
        copy(source, index, everywhere)
    if sided:
        # the head's own keypoints may be side-dependent too: look at them on either side
        seen = xy.copy()
        for source, left, right in sided:
            seen[:, :, left] = poses.xy[:, :, source]
            seen[:, :, right] = poses.xy[:, :, source]
        side = facing(seen, space)
        for source, left, right in sided:
            copy(source, left, side < 0)
            copy(source, right, side > 0)
    return replace(
        poses,
        keypoints=space.keypoints,
        xy=xy,
        visibility=visibility,
        likelihood=likelihood,
        human=human,
        skeleton=space.skeleton,
        metadata={
            **poses.metadata,
            "space": space.name,
            "table": table.name,
            "table_rows": [list(row) for row in table.rows],
            "source_keypoints": list(poses.keypoints),
            "unmapped": list(unmapped),
        },
    )
