"""Every folder of real data that the formats cover: exact counts, and round trips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.poses import UNDEFINED
from napari_superanimal.poses.formats import registry
from napari_superanimal.poses.formats.convert import convert

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.realdata

COCO = "annotations/train_annotations.coco.json"
#: path: format, rows, individuals, keypoints, points found, pictures missing, boxes
EXPECTED = {
    "mouse_openfield_dlc": ("dlc-project", 86, 1, 4, 344, 0, 0),
    "mouse_oft_dlc3": ("dlc-project", 160, 1, 4, 474, 0, 0),
    "rat_sideview_dlc": ("dlc-project", 40, 1, 15, 331, 20, 0),
    "ma_horse_dog_ostrich_dlc": ("dlc-project", 40, 3, 11, 416, 22, 0),
    "mouse_mirror_lp/CollectedData.csv": ("dlc-csv", 90, 1, 17, 1396, 0, 0),
    "horse10_video_gt/BrownHorseinShadow_gt.h5": ("dlc-h5", 308, 1, 22, 4642, 308, 0),
    "horse10_video_gt/no_images_CollectedData_Byron_Brownhorseoutofshadow.h5": (
        "dlc-h5",
        341,
        1,
        22,
        5632,
        341,
        0,
    ),
    "videos/EGS8X2MN4SSUGFWAV976.h5": ("dlc-h5", 1800, 3, 12, 64800, 0, 0),
    "quad_livestock_pool/annotations/cattle.json": ("coco", 397, 1, 18, 7126, 0, 397),
    "quad_livestock_pool/annotations/horse.json": ("coco", 370, 1, 18, 6660, 0, 370),
    "quad_livestock_pool/annotations/sheep.json": ("coco", 273, 1, 18, 4914, 0, 273),
    "quad_cattle_coco/annotations/_annotations.coco.json": ("coco", 16, 1, 18, 281, 0, 16),
    f"quad_horse_coco/{COCO}": ("coco", 16, 1, 18, 288, 0, 16),
    f"quad_sheep_coco/{COCO}": ("coco", 16, 1, 18, 288, 0, 16),
    "mmpose_samples/ap10k/test_ap10k.json": ("coco", 2, 1, 17, 32, 0, 2),
    "mmpose_samples/animalpose/test_animalpose.json": ("coco", 2, 1, 20, 32, 0, 2),
    "mmpose_samples/horse10/test_horse10.json": ("coco", 3, 1, 22, 52, 0, 3),
    "mmpose_samples/zebra/test_zebra.json": ("coco", 2, 1, 9, 18, 0, 2),
    "mmpose_samples/fly/test_fly.json": ("coco", 2, 1, 32, 64, 0, 2),
    "superanimal_topview_gt/annotations/test.json": ("coco", 4, 3, 27, 70, 0, 7),
    "irodent/annotations.json": ("coco", 1, 1, 20, 6, 0, 1),
    "dog_stanfordextra/StanfordExtra_sample.json": ("stanfordextra", 12, 1, 24, 187, 0, 12),
}


@pytest.mark.parametrize("path", EXPECTED)
def test_counts(shared_data: Path, path: str) -> None:
    name, rows, individuals, keypoints, points, missing, boxes = EXPECTED[path]
    assert registry.sniff(shared_data / path) == name
    poses = registry.read(shared_data / path)
    assert poses.xy.shape == (rows, individuals, keypoints, 2)
    assert poses.found.sum() == points
    assert np.isfinite(poses.boxes).all(-1).sum() == boxes
    assert len(poses.metadata["missing_images"]) == missing
    if not poses.is_video:
        there = [poses.image_path(i).is_file() for i in range(rows)]
        assert there.count(False) == missing
        known = (poses.image_sizes > 0).all(1)
        assert known[there].all()
        inside = (poses.xy < poses.image_sizes[:, None, None, :] + 1)[poses.found & known[:, None, None]]
        assert missing == rows or inside.mean() > 0.99


#: What the single-animal COCO and label sets are in another format and back.
CHAINS = [
    (path, target)
    for path in EXPECTED
    for target in ("a.h5", "a.json", "project")
    if not (target == "project" and path.startswith("videos/"))
]


@pytest.mark.parametrize(("path", "target"), CHAINS)
def test_another_format_holds_the_same(shared_data: Path, tmp_path: Path, path: str, target: str) -> None:
    poses = registry.read(shared_data / path)
    options = {"pictures": "link"} if target == "project" else {}
    report = convert(shared_data / path, tmp_path / target, **options)
    back = registry.read(tmp_path / target)
    assert back.keypoints == poses.keypoints
    assert back.individuals == poses.individuals
    assert sum(report.labelled.values()) == EXPECTED[path][4]
    # a project sorts its folders by name
    order = [back.images.index(_in_project(n)) for n in poses.images] if target == "project" else ...
    for name in ("xy", "likelihood", "human"):
        np.testing.assert_array_equal(getattr(back, name)[order], getattr(poses, name), err_msg=name)
    here = poses.present
    np.testing.assert_array_equal(back.visibility[order][here], poses.visibility[here])
    np.testing.assert_array_equal(back.boxes[order], poses.boxes)


def _in_project(image: str) -> str:
    folder, name = image.split("/")[-2:] if "/" in image else ("images", image)
    folder = "images" if folder == "labeled-data" else folder
    return f"labeled-data/{folder}/{name}"


def test_openfield_config(shared_data: Path) -> None:
    poses = registry.read(shared_data / "mouse_openfield_dlc")
    assert poses.keypoints == ("snout", "leftear", "rightear", "tailbase")
    assert poses.metadata["tables"]["superanimal_topviewmouse"]["leftear"] == "left_ear"
    assert poses.image_sizes.tolist() == [[640, 480]] * 86
    assert poses.human.all()


def test_oft_slip_is_pointed_out(shared_data: Path) -> None:
    """The README says that objectA was never labelled; in one picture every label slipped by one."""
    poses = registry.read(shared_data / "mouse_oft_dlc3")
    assert any(w.startswith("objectA is labelled in only 1 of 160") for w in poses.metadata["warnings"])
    (row,) = np.flatnonzero(poses.found[:, 0, 3])
    assert poses.images[row] == "labeled-data/7_D1/img00054.png"


def test_multi_animal_defects(shared_data: Path) -> None:
    poses = registry.read(shared_data / "ma_horse_dog_ostrich_dlc")
    assert "lefthanbdtop" in poses.keypoints
    assert poses.individuals == ("individual1", "individual2", "individual3")
    assert poses.metadata["warnings"] == [
        "videoplayback: CSV and H5 differ, the H5 was taken: "
        "1 rows only in the H5 (labeled-data/videoplayback/img727.png)"
    ]


def test_superanimal_codes_survive(shared_data: Path) -> None:
    poses = registry.read(shared_data / "superanimal_topview_gt/annotations/test.json")
    assert (poses.visibility == UNDEFINED).sum() == 119
    assert all(i.startswith("images/") for i in poses.images)


def test_dogs_have_the_names_of_the_data_set(shared_data: Path) -> None:
    poses = registry.read(shared_data / "dog_stanfordextra/StanfordExtra_sample.json")
    assert poses.keypoints[:3] == (
        "Left front leg: paw",
        "Left front leg: middle joint",
        "Left front leg: top",
    )
    assert poses.metadata["never_labelled"] == ["Left eye", "Right eye", "Withers", "Throat"]
    from napari_superanimal.poses.formats.stanfordextra import KEYPOINTS

    assert poses.keypoints == KEYPOINTS


def test_tracks_made_by_a_machine_are_not_human(shared_data: Path) -> None:
    poses = registry.read(shared_data / "videos/EGS8X2MN4SSUGFWAV976.h5")
    assert not poses.human.any()
    assert poses.is_video
    assert poses.individuals == ("mouse1", "mouse2", "mouse3")


@pytest.mark.parametrize(
    "path",
    [
        "sleap_samples/small_robot.000_small_robot_3_frame.analysis.h5",
        "sleap_samples/minimal.annotations.nwb",
        "mice_pair_alphatracker/train9.json",
        "quad_awa_pose/README.md",
        "videos/m3v1mp4.mp4",
        "videos",
    ],
)
def test_other_formats_are_not_claimed(shared_data: Path, path: str) -> None:
    assert (shared_data / path).exists()
    assert registry.sniff(shared_data / path) is None
