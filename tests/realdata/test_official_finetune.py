"""SuperAnimal's HRNet-w32, its weights made from the recipe, fine-tuned on frames of the open field."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.models.official.load import OfficialPose
    from napari_superanimal.poses import Poses

pytestmark = [pytest.mark.realdata, pytest.mark.usefixtures("one_thread")]

NAME = "superanimal_topviewmouse_hrnet_w32"
#: What is labelled, and which of the model's keypoints it is; the last one no SuperAnimal knows.
MINE = {"snout": "nose", "leftear": "left_ear", "rightear": "right_ear", "tailbase": None}


@pytest.fixture(scope="module")
def hrnet(golden: Path) -> OfficialPose:
    """The network of 27 keypoints with the weights that `recipe.py` makes of its parameters' names."""
    from napari_superanimal.keypoints import KeypointSpace
    from napari_superanimal.models.official.build import build_pose
    from napari_superanimal.models.official.catalogue import card_of, find_release
    from napari_superanimal.models.official.load import OfficialPose
    from napari_superanimal.models.official.networks import fill

    spec = importlib.util.spec_from_file_location("recipe", golden / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    recipe: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    keys = json.loads((golden / f"{NAME}.keys.json").read_text())["keys"]
    release = find_release(NAME)
    assert release is not None
    network = build_pose(release)
    fill(network, recipe.state_dict_from_keys(keys, model="hrnet_w32"))
    card = card_of(release)
    return OfficialPose(card, KeypointSpace.from_json(card.space), network)


@pytest.fixture(scope="module")
def frames(shared_data: Path) -> Poses:
    """Four labelled frames."""
    from napari_superanimal.poses.formats import registry

    poses = registry.read(shared_data / "mouse_openfield_dlc")
    rows = [i for i in range(len(poses)) if poses.found[i].any() and poses.image_path(i).is_file()]
    return poses.take(np.array(rows)[[0, 1, 2, 3]])


def test_the_loss_of_the_users_keypoints_falls(hrnet: OfficialPose, frames: Poses, tmp_path: Path) -> None:
    from PIL import Image

    from napari_superanimal.inference.build import build_predictor
    from napari_superanimal.keypoints import ConversionTable
    from napari_superanimal.models.zoo import find_model, verify
    from napari_superanimal.training.finetune import finetune

    assert set(MINE) <= set(frames.keypoints)
    table = ConversionTable("mine", tuple((s, t) for s, t in MINE.items() if t))
    losses: list[float] = []

    def told(progress: Any) -> None:
        if "loss" in progress.values:
            losses.append(progress.values["loss"])

    out = finetune(
        frames,
        hrnet,
        mode="naive",
        out=tmp_path / "mine",
        steps=12,
        table=table,
        batch_size=2,
        on_progress=told,
    )
    assert len(losses) == 12
    # the loss that is told is smoothed: 2 % of every new one
    assert losses[-1] < 0.97 * losses[0]
    ref = find_model(out)
    verify(ref)
    predictor = build_predictor(ref, detector="whole-frame", device="cpu")
    found = predictor([np.array(Image.open(frames.image_path(0)).convert("RGB"))])
    assert np.isfinite(found.xy).all()
    assert predictor.space.keypoints == frames.keypoints


def test_replay_keeps_the_head_of_keypoints_that_nobody_defines(
    hrnet: OfficialPose, frames: Poses, tmp_path: Path
) -> None:
    """A real step on real frames: undefined keypoints have no gradient, the user's and new ones do."""
    import torch

    from napari_superanimal.keypoints import ConversionTable
    from napari_superanimal.training.augment import mild
    from napari_superanimal.training.finetune import take_over
    from napari_superanimal.training.head import head_of
    from napari_superanimal.training.pose_stage import draw_batches
    from napari_superanimal.training.samples import read_image
    from napari_superanimal.training.task import labelled_part, replay_task

    table = ConversionTable("mine", tuple((s, t) for s, t in MINE.items() if t))
    # nothing is sure enough to be filled in: what the labels lack is undefined
    task = replay_task(labelled_part(frames.take([0, 1])), hrnet, table, 1.1, False, read_image, None, None)
    assert task.counts is not None
    assert task.counts.pseudo == 0
    assert task.channels[-1] == "tailbase"
    head = head_of(hrnet)
    network = head.build(len(task.channels))
    take_over(network, hrnet, task.come_from)
    step = draw_batches(
        task.samples,
        head.size,
        mild("top", flip=False),
        2,
        lambda net, batch: head.loss(net, batch, None),
        swap=None,
    )
    step(network.eval(), np.random.default_rng(0)).backward()
    weights = dict(network.named_parameters())
    defined = (task.samples.visibility >= 0).any(0)
    assert 0 < defined.sum() < len(task.channels)
    for row in head.rows:
        gradient = weights[row.name].grad
        assert gradient is not None
        for k, name in enumerate(task.channels):
            largest = float(row.of({row.name: gradient}, k).abs().max())
            assert (largest > 0) == bool(defined[k]), (row.name, name)
    assert torch.isfinite(weights["backbone.model.conv1.weight"].grad).all()  # type: ignore[arg-type]
