"""Rendered mice as a training set."""

from __future__ import annotations

import numpy as np

from napari_superanimal.keypoints import load_space
from napari_superanimal.poses import UNDEFINED
from napari_superanimal.training.rendered import rendered_dataset


def test_several_clips_are_one_dataset_with_pixels():
    space = load_space("superanimal_topviewmouse")
    poses, reader = rendered_dataset(6, {"nose", "tail_base"}, space, seed=3, name="drawn")
    assert len(poses) == 6
    assert set(poses.sources) == {"drawn"}
    assert len(set(poses.images)) == 6
    frames = [reader(poses, i) for i in range(6)]
    assert all(
        f.dtype == np.uint8 and f.shape[:2] == (h, w)
        for f, (w, h) in zip(frames, poses.image_sizes, strict=True)
    )
    nose, ear = (poses.visibility[..., space.index(k)] for k in ("nose", "left_ear"))
    assert (nose > 0).any()
    # no real dataset labels an ear here, so rendering must not define it
    assert (ear == UNDEFINED).all()
