"""napari's image layer takes a video as it is."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel

from napari_superanimal.video import open_video


def test_video_is_an_image_layer(samples):
    sample = samples["mjpeg.avi"]
    viewer = ViewerModel()
    layer = viewer.add_image(open_video(sample.path), rgb=True)
    assert layer.multiscale is False
    assert layer.ndim == 3
    assert viewer.dims.nsteps[0] == len(sample.frames)
    for number in (0, 7, 19, 3):
        viewer.dims.set_current_step(0, number)
        layer.set_view_slice()
        assert np.array_equal(np.asarray(layer._data_view), sample.frames[number])
    assert layer.get_value((7, 10, 20)) is not None
