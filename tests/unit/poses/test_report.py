"""The validation report finds what is wrong, and only that."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_superanimal.keypoints import ConversionTable, load_space
from napari_superanimal.poses import Poses, make_poses, merge, project
from napari_superanimal.poses.report import report_merge, report_source
from napari_superanimal.poses.sides import check_sides

if TYPE_CHECKING:
    from pathlib import Path

SPACE = load_space("superanimal_topviewmouse")
NAMES = ("snout", "ear_l", "ear_r", "base", "toy", "hip_l")
TABLE = ConversionTable(
    "lab",
    (
        ("snout", "nose"),
        ("ear_l", "left_ear"),
        ("ear_r", "right_ear"),
        ("base", "tail_base"),
        ("hip_l", "left_hip"),
    ),
    SPACE.name,
)
#: Heading right, seen from above; y points down, so that the animal's left is up.
MOUSE = np.array([[60.0, 0], [45, -12], [45, 12], [-30, 0]])


def mice(tmp_path: Path, n: int = 24, seed: int = 0) -> Poses:
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    xy = np.full((n, 1, 6, 2), np.nan)
    xy[:, 0, :4] = np.einsum("nij,kj->nki", turn, MOUSE) + 150
    xy[:3, 0, 4] = 20.0
    for i in range(n):
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / f"{seed}_{i}.png")
    return make_poses(
        NAMES,
        xy,
        images=tuple(f"{seed}_{i}.png" for i in range(n)),
        image_sizes=np.full((n, 2), 300),
        root=tmp_path,
        human=True,
        metadata={"format": "coco", "path": "lab.json", "warnings": ["w"], "missing_images": ["gone.png"]},
    )


def test_what_a_dataset_holds_and_lacks(tmp_path: Path) -> None:
    poses = mice(tmp_path)
    report = report_source(poses, project(poses, TABLE, SPACE), SPACE, "lab")
    assert (report.images, report.individuals, report.points) == (24, 24, 96)
    assert report.labelled == {"nose": 24, "left_ear": 24, "right_ear": 24, "tail_base": 24, "left_hip": 0}
    assert report.unmapped == {"toy": 3}
    assert report.never_labelled == ("left_hip",)
    assert (report.out_of_image, report.side_unknown) == (0, 0)
    assert report.sides_exchanged == report.sides_differ == report.duplicate_images == ()
    text = "\n".join(report.lines())
    for word in ("toy (3 points)", "left_hip", "gone.png", "warning: w", "table lab"):
        assert word in text


def test_points_outside_and_animals_labelled_twice(tmp_path: Path) -> None:
    poses = mice(tmp_path)
    xy = np.repeat(poses.xy, 2, axis=1)
    xy[1:, 1] = np.nan
    xy[5, 0, 0] = [400, 20]
    double = make_poses(
        NAMES, xy, images=(*poses.images[:-1], poses.images[0]), image_sizes=poses.image_sizes, root=tmp_path
    )
    report = report_source(double, project(double, TABLE, SPACE), SPACE, "lab")
    assert report.out_of_image == 1
    assert report.duplicate_individuals == (poses.images[0],)
    assert report.duplicate_images == (poses.images[0],)


def test_left_and_right_that_look_exchanged(tmp_path: Path) -> None:
    poses = mice(tmp_path)
    wrong = poses.xy[:, :, [0, 2, 1, 3, 4, 5]]
    all_wrong = project(replace(poses, xy=wrong), TABLE, SPACE)
    assert check_sides(all_wrong, SPACE).exchanged == ("left_ear",)
    one_wrong = project(
        replace(poses, xy=np.where(np.arange(24)[:, None, None, None] == 7, wrong, poses.xy)), TABLE, SPACE
    )
    found = check_sides(one_wrong, SPACE)
    assert found.exchanged == ()
    assert found.rows == (7,)
    assert check_sides(project(poses, TABLE, SPACE), SPACE).rows == ()


def test_few_animals_or_short_axes_are_no_evidence(tmp_path: Path) -> None:
    poses = mice(tmp_path, 4)
    wrong = project(replace(poses, xy=poses.xy[:, :, [0, 2, 1, 3, 4, 5]]), TABLE, SPACE)
    assert check_sides(wrong, SPACE).exchanged == ()


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "train"), ("", "")])
def test_the_same_picture_in_two_datasets(tmp_path: Path, splits: tuple[str, str]) -> None:
    one, two = mice(tmp_path, 6, seed=1), mice(tmp_path, 6, seed=2)
    (tmp_path / "2_4.png").write_bytes((tmp_path / "1_3.png").read_bytes())
    parts = [
        project(replace(p, splits=(s,) * 6 if s else ()), TABLE, SPACE)
        for p, s in zip((one, two), splits, strict=True)
    ]
    merged = merge(parts, ["a", "b"])
    sources = [report_source(p, q, SPACE, n) for p, q, n in zip((one, two), parts, "ab", strict=True)]
    report = report_merge(merged, sources, SPACE)
    pair = ((tmp_path / "1_3.png").as_posix(), (tmp_path / "2_4.png").as_posix())
    assert report.shared_images == (pair,)
    assert report.leaks == ((pair,) if splits == ("train", "test") else ())
    assert report.points == 48
    assert report.labelled["nose"] == 12
    assert "left_hip" in report.never_labelled
    assert "neck" in report.never_labelled
    assert report.to_json()["sources"][1]["name"] == "b"
