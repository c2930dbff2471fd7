"""DeepLabCut projects: read, written, updated."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import yaml

from napari_superanimal.errors import UserError
from napari_superanimal.poses import Poses, make_poses
from napari_superanimal.poses.formats import registry
from napari_superanimal.poses.formats.dlc_project_write import folder_names
from napari_superanimal.poses.formats.update import update_labels

if TYPE_CHECKING:
    from pathlib import Path


def test_round_trip(odd_project: Poses, tmp_path: Path) -> None:
    target = tmp_path / "new project"
    written = registry.write(odd_project, target, "dlc-project")
    assert all(p.is_file() for p in written)
    assert registry.sniff(target) == "dlc-project"
    back = registry.read(target)
    assert back.keypoints == odd_project.keypoints
    assert back.individuals == odd_project.individuals
    assert back.images == odd_project.images
    assert back.skeleton == odd_project.skeleton
    assert back.scorer == "Ann"
    for name in ("xy", "human", "likelihood", "image_sizes"):
        np.testing.assert_array_equal(getattr(back, name), getattr(odd_project, name), err_msg=name)
    assert back.metadata["missing_images"] == [odd_project.images[3]]
    assert back.metadata["never_labelled"] == [odd_project.keypoints[3]]
    for row in range(3):
        assert back.image_path(row).read_bytes() == odd_project.image_path(row).read_bytes()
        assert back.image_path(row).is_relative_to(target)
    # every entry into the project leads to the same
    for entry in (target / "config.yaml", target / "labeled-data"):
        assert registry.sniff(entry) == "dlc-project"
        np.testing.assert_array_equal(registry.read(entry).xy, back.xy)
    one = registry.read(target / "labeled-data" / "日本 clip")
    np.testing.assert_array_equal(one.xy, odd_project.xy[2:])


def test_pictures_may_be_linked_or_left(odd_project: Poses, tmp_path: Path) -> None:
    registry.write(odd_project, tmp_path / "linked", "dlc-project", pictures="link")
    linked = registry.read(tmp_path / "linked")
    assert linked.image_path(0).is_symlink()
    registry.write(odd_project, tmp_path / "bare", "dlc-project", pictures="none")
    assert len(registry.read(tmp_path / "bare").metadata["missing_images"]) == 4
    with pytest.raises(UserError, match="not one of"):
        registry.write(odd_project, tmp_path / "x", "dlc-project", pictures="move")


def test_config_is_deeplabcuts(odd_project: Poses, tmp_path: Path) -> None:
    registry.write(odd_project, tmp_path / "p", "dlc-project")
    config = yaml.safe_load((tmp_path / "p" / "config.yaml").read_text(encoding="utf-8"))
    assert config["bodyparts"] == "MULTI!"
    assert config["multianimalbodyparts"] == list(odd_project.keypoints)
    assert config["individuals"] == list(odd_project.individuals)
    assert [v["crop"] for v in config["video_sets"].values()] == ["0, 64, 0, 48"] * 2
    single = make_poses("ab", np.ones((1, 2, 2)), images=("v/1.png",), human=True, scorer="x/y")
    registry.write(single, tmp_path / "s", "dlc-project")
    config = yaml.safe_load((tmp_path / "s" / "config.yaml").read_text())
    assert (config["multianimalproject"], config["bodyparts"], config["scorer"]) == (False, ["a", "b"], "x_y")
    assert pd.read_hdf(tmp_path / "s" / "labeled-data" / "v" / "CollectedData_x_y.h5").columns.nlevels == 3


def test_csv_and_h5_that_differ(odd_project: Poses, tmp_path: Path) -> None:
    registry.write(odd_project, tmp_path / "p", "dlc-project")
    folder = tmp_path / "p" / "labeled-data" / "日本 clip"
    text = folder / "CollectedData_Ann.csv"
    lines = text.read_text(encoding="utf-8").splitlines()
    text.write_text("\n".join(lines[:-1]), encoding="utf-8")
    back = registry.read(tmp_path / "p")
    np.testing.assert_array_equal(back.xy, odd_project.xy)
    assert back.metadata["warnings"] == [
        "日本 clip: CSV and H5 differ, the H5 was taken: "
        "1 rows only in the H5 (labeled-data/日本 clip/img007.png)"
    ]
    (folder / "CollectedData_Ann.h5").unlink()
    assert len(registry.read(tmp_path / "p")) == 3


def test_a_renamed_folder_still_finds_its_pictures(odd_project: Poses, tmp_path: Path) -> None:
    registry.write(odd_project, tmp_path / "p", "dlc-project")
    data = tmp_path / "p" / "labeled-data"
    (data / "日本 clip").rename(data / "clip2")
    back = registry.read(tmp_path / "p")
    assert "labeled-data/clip2/img003.png" in back.images
    assert len(back.metadata["missing_images"]) == 1


def test_declared_but_absent_bodyparts_are_undefined(odd_project: Poses, tmp_path: Path) -> None:
    registry.write(odd_project, tmp_path / "p", "dlc-project")
    path = tmp_path / "p" / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["multianimalbodyparts"].append("whisker")
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    back = registry.read(tmp_path / "p")
    assert back.keypoints[-1] == "whisker"
    assert "whisker" in back.metadata["never_labelled"]


def test_an_existing_project_is_updated_and_nothing_in_it_lost(odd_project: Poses, tmp_path: Path) -> None:
    target = tmp_path / "p"
    registry.write(odd_project, target, "dlc-project")
    (target / "notes.txt").write_text("mine")
    config = (target / "config.yaml").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        registry.write(odd_project, target, "dlc-project")
    moved = replace(odd_project.take([0]), xy=odd_project.xy[:1] + 5)
    registry.write(moved, target, "dlc-project", overwrite=True)
    back = registry.read(target)
    assert len(back) == 4
    np.testing.assert_array_equal(back.xy[0], odd_project.xy[0] + 5)
    np.testing.assert_array_equal(back.xy[1:], odd_project.xy[1:])
    assert (target / "notes.txt").read_text() == "mine"
    assert (target / "config.yaml").read_bytes() == config


def test_a_machines_points_go_to_machinelabels(odd_project: Poses, tmp_path: Path) -> None:
    target = tmp_path / "p"
    registry.write(odd_project, target, "dlc-project")
    machine = replace(odd_project, human=np.zeros_like(odd_project.human), xy=odd_project.xy + 50)
    registry.write(machine, target, "dlc-project", overwrite=True)
    np.testing.assert_array_equal(registry.read(target).xy, odd_project.xy)
    made = registry.read(target / "labeled-data" / "日本 clip" / "machinelabels-iter0.h5")
    np.testing.assert_array_equal(made.xy, machine.xy[2:])
    assert not made.human.any()
    assert len(registry.read(target).metadata["machinelabels"]) == 2


def test_what_is_no_project_is_not_touched(
    odd_project: Poses, predicted_video: Poses, tmp_path: Path
) -> None:
    target = tmp_path / "photos"
    target.mkdir()
    (target / "a.txt").write_text("mine")
    with pytest.raises(UserError, match="something other"):
        registry.write(odd_project, target, "dlc-project", overwrite=True)
    assert [p.name for p in target.iterdir()] == ["a.txt"]
    with pytest.raises(UserError, match="frames of a video"):
        registry.write(predicted_video, tmp_path / "v", "dlc-project")
    assert not (tmp_path / "v").exists()


def test_folders_of_the_same_name_stay_apart() -> None:
    images = ("a/train/1.png", "b/train/1.png", "a/train/2.png", "3.png", "labeled-data/4.png", "C:/d/5.png")
    names = folder_names(images)
    assert names[0] == names[2] == "train"
    assert names[1] == "b__train"
    assert len({names[0], names[1], names[3], names[4], names[5]}) == 5


def test_update_never_puts_a_machine_over_a_person() -> None:
    def one(values: list[float], human: list[bool]) -> Poses:
        xy = np.repeat(np.array(values)[None, :, None], 2, 2)
        return make_poses("abcd", xy, human=np.array([[human]]), images=("v/1.png",))

    before = one([1, 2, 3, np.nan], [True, False, True, False])
    machine = update_labels(before, one([9, 9, np.nan, 9], [False] * 4))
    assert machine.xy[0, 0, :, 0].tolist() == [1, 9, 3, 9]
    assert machine.human[0, 0].tolist() == [True, False, True, False]
    person = update_labels(before, one([9, 9, np.nan, 9], [False, True, False, False]))
    np.testing.assert_array_equal(person.xy[0, 0, :, 0], [1, 9, np.nan, 9])
    assert person.human[0, 0].tolist() == [True, True, False, False]


def test_update_unites_rows_individuals_and_keypoints() -> None:
    a = make_poses("ab", np.ones((2, 1, 2, 2)), individuals=["m"], images=("1.png", "2.png"), human=True)
    b = make_poses("bc", np.full((2, 1, 2, 2), 7.0), individuals=["n"], images=("2.png", "3.png"), human=True)
    both = update_labels(a, b)
    assert (both.images, both.individuals, both.keypoints) == (
        ("1.png", "2.png", "3.png"),
        ("m", "n"),
        ("a", "b", "c"),
    )
    assert both.found.sum() == 2 + 4
    assert both.found[0].sum() == 2
    assert both.xy[2, 1, 2, 0] == 7
    with pytest.raises(ValueError, match="video"):
        update_labels(a, make_poses("a", np.ones((1, 1, 2))))
