"""A rendered clip, a labelled data set and a small model made by the commands themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from napari_superanimal.cli import main
from napari_superanimal.demo.render import render_clip
from napari_superanimal.poses.formats import registry
from napari_superanimal.video import VideoWriter

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.poses import Poses

RECIPE = """
name: tiny
space: superanimal_topviewmouse
datasets:
  - {name: rendered, path: labels.json, validation: "match:img02", licence: none, source: this test}
pose:
  network: {backbone: test_resnet, width: 16, input_size: 32}
  augmentation: {photometric: 0.0}
  loop: {steps: 6, batch_size: 4, validate_every: 3}
detector:
  network: {backbone: test_resnet, width: 16, stride: 8, input_size: 64}
  augmentation: {photometric: 0.0}
  loop: {steps: 4, batch_size: 4, validate_every: 4}
card: {view: top, title: A tiny mouse model, detector_threshold: 0.0}
"""


@dataclass(frozen=True)
class Recording:
    """A video and the true poses in it."""

    path: Path
    truth: Poses


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """60 frames of two mice, 320x240."""
    path = tmp_path_factory.mktemp("clip") / "mice.mp4"
    rendered = render_clip(60, size=(320, 240), n_mice=2, seed=3)
    with VideoWriter(path, rendered.fps, rendered.size) as writer:
        for frame in rendered.frames:
            writer.write(frame)
    return Recording(path, rendered.truth)


@pytest.fixture(scope="session")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO file of 24 labelled pictures; `labels.parent` has the recipe of the tiny model too."""
    folder = tmp_path_factory.mktemp("labels")
    (folder / "images").mkdir()
    rendered = render_clip(24, size=(320, 240), seed=5)
    names = [f"images/img{i:03d}.png" for i in range(24)]
    for name, frame in zip(names, rendered.frames, strict=True):
        Image.fromarray(frame).save(folder / name)
    truth = replace(rendered.truth, images=tuple(names), root=folder, human=rendered.truth.found)
    registry.write(truth, folder / "labels.json", "coco")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder / "labels.json"


@pytest.fixture(scope="session")
def tiny(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that `superanimal train` wrote from the recipe."""
    out = tmp_path_factory.mktemp("models") / "tiny"
    code = main(["train", "--config", str(labels.parent / "recipe.yaml"), "--out", str(out)])
    assert code == 0
    return out
