"""What `superanimal demo` shows, in a real viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.commands.demo import show
from napari_superanimal.jobs.demo import run_demo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari import Viewer

pytestmark = pytest.mark.gui


def test_demo_opens_clip_predictions_and_hidden_truth(
    make_napari_viewer: Callable[[], Viewer], tmp_path: Path
) -> None:
    result = run_demo(tmp_path, n_frames=20, seed=1)
    viewer = make_napari_viewer()
    show(result, viewer)
    predicted = viewer.layers[result.prediction.predictions.stem]
    truth = viewer.layers["true poses"]
    assert predicted.visible
    assert not truth.visible
    images = [layer for layer in viewer.layers if layer.data.ndim == 4]
    assert [layer.data.shape for layer in images] == [(20, 480, 640, 3)]
    # the layers hold what was measured, as (frame, y, x)
    row, _, k = np.argwhere(result.predicted.found)[0]
    x, y = result.predicted.xy[row, 0, k]
    assert (np.abs(predicted.data - [row, y, x]).max(1) < 1e-3).any()
    assert len(truth.data) == result.truth.found.sum()
