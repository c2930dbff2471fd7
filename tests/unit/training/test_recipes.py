"""Recipes and the datasets they name."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import load_space, load_table
from napari_superanimal.models.networks import PoseNet
from napari_superanimal.poses import make_poses
from napari_superanimal.poses.formats import registry
from napari_superanimal.training.config import DatasetConfig, read_config
from napari_superanimal.training.datasets import load_dataset, validation_rows

SPACE = load_space("superanimal_topviewmouse")
RECIPES = Path(__file__).parents[3] / "benchmarks" / "recipes"

GOOD = """
name: m
space: superanimal_topviewmouse
datasets:
  - {name: a, path: a, weight: 2}
pose:
  network: {backbone: resnet10t, width: 8}
  loop: {steps: 5}
"""


def test_a_recipe_fills_in_what_it_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    config = read_config(path)
    assert config.name == "m"
    assert config.datasets == (DatasetConfig(name="a", path="a", weight=2),)
    assert config.pose.loop.steps == 5
    assert config.pose.network.width == 8
    assert config.detector is None
    assert config.masking
    assert config.folder == tmp_path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: m\n", ""),
        ("space: superanimal_topviewmouse\n", ""),
        ("weight: 2", "colour: 2"),
        ("steps: 5", "stepps: 5"),
        ("  network: {backbone: resnet10t, width: 8}\n", ""),
        ("pose:", "pose: 3\nrest:"),
        ("datasets:", "datasets: 3\nrest:"),
        ("name: m", "name: [m"),
        ("name: m", "name: m\ncontext: wide"),
        ("name: m", "name: m\nleave_one_out: many"),
        (GOOD, ""),
        (GOOD, "- a\n"),
    ],
)
def test_a_wrong_recipe_is_named_in_one_line(tmp_path: Path, old: str, new: str) -> None:
    assert old in GOOD
    path = tmp_path / "r.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UserError, match="not a training recipe") as caught:
        read_config(path)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a training recipe"):
        read_config(tmp_path / "none.yaml")
    (tmp_path / "bin.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a training recipe"):
        read_config(tmp_path / "bin.yaml")


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_the_recipes_of_this_repository_are_whole(path: Path) -> None:
    config = read_config(path)
    space = load_space(config.space)
    for dataset in config.datasets:
        if dataset.table:
            beside = path.parent / dataset.table
            table = load_table(beside if beside.is_file() else dataset.table)
            assert table.check([s for s, _ in table.rows], space) == ()
        if dataset.validation and not dataset.validation.startswith("match:"):
            assert (path.parent / dataset.validation).is_file()
        if not dataset.rendered:
            assert dataset.licence
    PoseNet(config.pose.network, 3)


def images(*names: str) -> object:
    return make_poses(("nose",), np.zeros((len(names), 1, 2)), images=names)


def test_validation_by_pattern(tmp_path: Path) -> None:
    poses = images("m1/a.png", "m2/b.png", "m1/c.png")
    assert validation_rows(poses, "match:^m1/", tmp_path).tolist() == [True, False, True]
    assert not validation_rows(poses, "", tmp_path).any()
    for rule in ("match:m", "match:m3"):
        with pytest.raises(UserError, match="chooses"):
            validation_rows(poses, rule, tmp_path)
    with pytest.raises(UserError, match="pattern"):
        validation_rows(poses, "match:m1(", tmp_path)


def test_validation_by_list(tmp_path: Path) -> None:
    poses = images("m1/a.png", "m2/b.png", "m1/c.png")
    (tmp_path / "held.txt").write_text("# animal 2\nb.png\n\nm1/c.png\n")
    assert validation_rows(poses, "held.txt", tmp_path).tolist() == [False, True, True]
    with pytest.raises(UserError, match="missing") as caught:
        validation_rows(poses, "none.txt", tmp_path)
    assert caught.value.path == tmp_path / "none.txt"


def test_a_dataset_is_read_converted_and_split(tmp_path: Path) -> None:
    project = tmp_path / "proj"
    for name in ("m1", "m2"):
        folder = project / "labeled-data" / name
        folder.mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (64, 48)).save(folder / f"{i}.png")
    names = tuple(f"labeled-data/{m}/{i}.png" for m in ("m1", "m2") for i in range(3))
    labels = make_poses(
        ("snout", "leftear", "rightear", "tailbase", "pen"),
        np.random.default_rng(0).uniform(5, 40, (6, 5, 2)),
        images=names,
        image_sizes=np.tile([64, 48], (6, 1)),
        root=project,
        human=True,
        scorer="Ann",
    )
    registry.write(labels, project / "labels.json", "coco")
    dataset = DatasetConfig(name="mine", path="proj/labels.json", validation="match:m2/")
    training, held = load_dataset(dataset, SPACE, tmp_path, tmp_path)
    assert training.keypoints == held.keypoints == SPACE.keypoints
    # rows without a picture are left out
    assert [Path(n).name for n in training.images] == ["0.png", "1.png"]
    assert all("m2" in n for n in held.images)
    assert training.sources == ("mine", "mine")
    assert training.metadata["unmapped"] == ["pen"]
    for image in project.rglob("*.png"):
        image.unlink()
    with pytest.raises(UserError, match="no labelled image") as caught:
        load_dataset(dataset, SPACE, tmp_path, tmp_path)
    assert caught.value.path == project / "labels.json"


def test_the_recipe_of_this_test_is_yaml() -> None:
    assert yaml.safe_load(textwrap.dedent(GOOD))["name"] == "m"
