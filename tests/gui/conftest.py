"""What the tests in a real window share: a rendered video, a model, a home of its own."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_superanimal.demo.render import render_clip
from napari_superanimal.models import zoo
from napari_superanimal.plugin.safe_import import import_torch
from napari_superanimal.poses.formats import registry
from napari_superanimal.video import VideoWriter

if TYPE_CHECKING:
    from napari_superanimal.demo.render import Clip

#: Folder of another model to run these tests with, while the shipped one is being trained.
MODEL_VARIABLE = "SUPERANIMAL_TEST_MODEL"
SIZE = (320, 240)
#: Long enough that a run can be cancelled in its midst.
N_FRAMES = 400
#: What the labelled pictures call the rendered keypoints; the model does not know the last one.
HIDDEN = {"nose": "p1", "left_ear": "p2", "right_ear": "p3", "tail_base": "p4", "tail_end": "p5"}

# some tests look at networks in this thread, after a window was there
import_torch()


@pytest.fixture(scope="session")
def clip() -> Clip:
    """Rendered frames of one mouse, with truth."""
    return render_clip(N_FRAMES, SIZE, seed=3)


@pytest.fixture(scope="session")
def clip_file(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered frames as a video."""
    path = tmp_path_factory.mktemp("clip") / "mouse.mp4"
    with VideoWriter(path, 30.0, SIZE) as writer:
        for frame in clip.frames:
            writer.write(frame)
    return path


@pytest.fixture
def model(home: Path) -> str:
    """Name of an installed top-view mouse model."""
    if other := os.environ.get(MODEL_VARIABLE):
        return zoo.import_model(Path(other)).card.name
    if zoo.DEFAULT_MODEL not in {ref.card.name for ref in zoo.list_models()}:
        pytest.skip(f"the weights of {zoo.DEFAULT_MODEL} are not in this tree")
    return zoo.DEFAULT_MODEL


@pytest.fixture
def every_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predicted points are shown with every chunk."""
    monkeypatch.setattr("napari_superanimal.plugin.workers.SHOW_EVERY_S", 0.0)
    monkeypatch.setattr("napari_superanimal.plugin.workers.SHOW_GROWTH", 0.0)


@pytest.fixture
def hidden_names() -> dict[str, str]:
    """What `dataset` calls the rendered keypoints."""
    return HIDDEN


@pytest.fixture
def dataset(clip: Clip, tmp_path: Path) -> Path:
    """Eight labelled pictures under names that say nothing."""
    rows = np.arange(0, 400, 50)
    keep = [clip.truth.keypoints.index(k) for k in HIDDEN]
    for row in rows:
        Image.fromarray(clip.frames[int(row)]).save(tmp_path / f"{row:03d}.png")
    truth = clip.truth.take(rows)
    labels = replace(
        truth,
        keypoints=tuple(HIDDEN.values()),
        frames=np.arange(len(rows)),
        xy=truth.xy[:, :, keep],
        visibility=truth.visibility[:, :, keep],
        likelihood=truth.likelihood[:, :, keep],
        human=truth.found[:, :, keep],
        images=tuple(f"{row:03d}.png" for row in rows),
        root=tmp_path,
        skeleton=(),
        metadata={},
    )
    registry.write(labels, tmp_path / "lab.json", "coco")
    return tmp_path / "lab.json"
