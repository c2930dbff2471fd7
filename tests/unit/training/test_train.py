"""A recipe from pictures on disk to a model folder, in a few steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from napari_superanimal.demo.render import render_clip
from napari_superanimal.errors import UserError
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Progress
from napari_superanimal.keypoints import load_space
from napari_superanimal.models.known import is_calibrated, known_pictures, known_proportions
from napari_superanimal.models.load import load_model
from napari_superanimal.models.zoo import find_model, verify
from napari_superanimal.poses import make_poses
from napari_superanimal.poses.formats import registry
from napari_superanimal.training.config import read_config
from napari_superanimal.training.train import train

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_thread")

#: Two laboratories that label different keypoints under different names.
LABS = {
    "openfield": {"snout": "nose", "leftear": "left_ear", "rightear": "right_ear", "tailbase": "tail_base"},
    "oft": {"NOSE": "nose", "HEAD": "head_midpoint", "TAIL": "tail_base"},
}
RECIPE = """
name: two-labs
space: superanimal_topviewmouse
datasets:
  - {name: openfield, path: openfield/labels.json, validation: "match:000", licence: MIT, source: here}
  - {name: oft, path: oft/labels.json, validation: "match:000"}
pose:
  network: &net
    {backbone: resnet10t, backbone_args: {channels: [8, 8, 16, 16], stem_width: 8}, width: 8, input_size: 32}
  augmentation: {background: 0.5, neighbour: 0.3}
  loop: {steps: 3, batch_size: 4, validate_every: 2, seed: 1}
detector:
  network: {<<: *net, stride: 8, input_size: 64}
  augmentation: {background: 0.5}
  loop: {steps: 2, batch_size: 4, validate_every: 2, seed: 1}
outline: {body: [left_ear, right_ear, tail_base], lines: [[nose, tail_base], [nose, head_midpoint]], reach: 0.3}
leave_one_out: 2
card: {title: Two labs, view: top view, licence: CC BY 4.0}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    space = load_space("superanimal_topviewmouse")
    for seed, (lab, names) in enumerate(LABS.items()):
        (root / lab).mkdir()
        clip = render_clip(30, (96, 80), seed=seed)
        rows = np.array([0, 8, 16, 24])
        images = tuple(f"{r:03d}.png" for r in rows)
        for name, row in zip(images, rows, strict=True):
            Image.fromarray(clip.frames[int(row)]).save(root / lab / name)
        xy = clip.truth.xy[rows][:, :, [space.index(t) for t in names.values()]]
        labels = make_poses(
            tuple(names),
            xy,
            images=images,
            image_sizes=np.tile([96, 80], (4, 1)),
            root=root / lab,
            human=True,
        )
        registry.write(labels, root / lab / "labels.json", "coco")
    (root / "recipe.yaml").write_text(RECIPE)
    return root


def test_a_recipe_makes_a_model_and_a_stop_changes_nothing(data: Path, tmp_path: Path) -> None:
    config = read_config(data / "recipe.yaml")
    told: list[Progress] = []
    train(config, data, tmp_path / "whole", on_progress=told.append)
    ref = find_model(tmp_path / "whole")
    verify(ref)
    card = ref.card
    assert card.keypoints == ("nose", "left_ear", "right_ear", "tail_base", "head_midpoint")
    assert card.title == "Two labs"
    assert [(d["name"], d["images"]) for d in card.trained_on] == [("openfield", 3), ("oft", 3)]
    assert str(data) not in str(card.to_json()), "no paths of this machine"
    assert card.threshold == card.calibration["threshold"]
    assert set(card.calibration["leave_one_dataset_out_pck_0.1"]) <= set(LABS)
    # `check` compares with these; two held-out pictures and six animals are too few for errors and proportions
    assert is_calibrated(card)
    assert {"animal_px", "animal_share", "brightness", "contrast"} == set(known_pictures(card))
    assert 0 < known_pictures(card)["animal_share"]["0.5"] < 1
    assert known_proportions(card, card.space["keypoints"]) is None
    messages = {p.message for p in told}
    assert {"training the pose network", "training the detector"} <= messages
    assert any("openfield/error_px" in p.values for p in told)

    model = load_model(tmp_path / "whole")
    assert model.calibration["knows"].tolist() == [[1, 1, 1, 1, 0], [1, 0, 0, 1, 1]]
    predictor = Predictor(replace(model, card=replace(card, detector_threshold=0.0)), device="cpu")
    found = predictor([np.array(Image.open(data / "oft" / "008.png"))])
    assert np.isfinite(found.xy[0, 0]).all(-1).sum() == 5

    token = CancelToken()

    def cancel(progress: Progress) -> None:
        if progress.values.get("step") == 1:
            token.cancel()

    with pytest.raises(Cancelled):
        train(config, data, tmp_path / "two", on_progress=cancel, token=token)
    assert not (tmp_path / "two" / "card.json").exists()
    train(config, data, tmp_path / "two", resume=True)
    again = load_model(tmp_path / "two")
    for network in ("pose", "detector"):
        for name, value in getattr(model, network).state_dict().items():
            assert torch.equal(getattr(again, network).state_dict()[name], value), name
    assert again.card.calibration == card.calibration


def test_masking_is_what_keeps_undefined_keypoints_out(data: Path, tmp_path: Path) -> None:
    """Only the comparison without masking teaches a lab's undefined keypoints as absent."""
    config = read_config(data / "recipe.yaml")
    config = replace(config, detector=None, leave_one_out=0)
    train(config, data, tmp_path / "masked")
    train(replace(config, masking=False), data, tmp_path / "naive")
    masked, naive = load_model(tmp_path / "masked"), load_model(tmp_path / "naive")
    assert masked.detector is None
    assert masked.card.recipe["masking"]
    assert not naive.card.recipe["masking"]
    assert not torch.equal(masked.pose.heatmaps.weight, naive.pose.heatmaps.weight)


def test_rendered_sets_join_the_real_ones(data: Path, tmp_path: Path) -> None:
    config = read_config(data / "recipe.yaml")
    drawn = [replace(config.datasets[0], name=n, path="", rendered=3, validation="") for n in ("one", "two")]
    drawn[1] = replace(drawn[1], rendered=60)
    config = replace(config, datasets=(*config.datasets, *drawn), detector=None, leave_one_out=0)
    train(config, data, tmp_path / "out")
    card = find_model(tmp_path / "out").card
    assert [d["name"] for d in card.trained_on] == ["openfield", "oft", "one", "two"]
    assert not is_calibrated(card), "what it knows is no calibration of its likelihood"
    usual = known_proportions(card, card.keypoints)
    assert usual is not None
    assert np.isfinite(usual.mean).all(), "rendered animals have all five"
    # only keypoints that real pictures label
    assert card.keypoints == ("nose", "left_ear", "right_ear", "tail_base", "head_midpoint")


def test_other_backgrounds_need_an_outline(data: Path, tmp_path: Path) -> None:
    config = replace(read_config(data / "recipe.yaml"), outline=None)
    with pytest.raises(UserError, match="outline"):
        train(config, data, tmp_path / "out")


def test_half_precision_learns_the_same(data: Path, tmp_path: Path) -> None:
    """Computed in bfloat16, the first steps lose about what exact ones lose, and weights stay float32."""
    losses = {}
    for precision in ("fp32", "bf16"):
        config = read_config(data / "recipe.yaml")
        loop = replace(config.pose.loop, precision=precision)
        config = replace(config, detector=None, leave_one_out=0, pose=replace(config.pose, loop=loop))
        told: list[float] = []
        train(
            config,
            data,
            tmp_path / precision,
            on_progress=lambda p, told=told: told.append(p.values["loss"]) if "loss" in p.values else None,
        )
        losses[precision] = told[-1]
        assert all(v.dtype == torch.float32 for v in load_model(tmp_path / precision).pose.parameters())
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


def test_data_that_are_not_there(data: Path, tmp_path: Path) -> None:
    config = read_config(data / "recipe.yaml")
    with pytest.raises(UserError) as caught:
        train(config, tmp_path, tmp_path / "out")
    assert caught.value.path == tmp_path / "openfield" / "labels.json"
