"""Conversion between formats and keypoint spaces, and the account of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.errors import UserError
from napari_superanimal.poses import Poses, make_poses
from napari_superanimal.poses.formats import registry
from napari_superanimal.poses.formats.convert import convert

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("target", ["a.json", "a.h5", "project"])
def test_chains_end_where_they_began(odd_project: Poses, tmp_path: Path, target: str) -> None:
    registry.write(odd_project, tmp_path / "start", "dlc-project")
    convert(tmp_path / "start", tmp_path / "x" / target)
    report = convert(tmp_path / "x" / target, tmp_path / "end")
    assert report.target_format == "dlc-project"
    assert report.individuals == 2
    assert report.labelled[odd_project.keypoints[0]] == 7
    assert list(report.never_labelled) == [odd_project.keypoints[3]]
    assert len(report.missing_images) == 1
    back = registry.read(tmp_path / "end")
    assert back.images == odd_project.images
    assert back.keypoints == odd_project.keypoints
    np.testing.assert_array_equal(back.xy, odd_project.xy)


def test_into_a_keypoint_space(tmp_path: Path) -> None:
    xy = np.arange(16.0).reshape(2, 1, 4, 2)
    poses = make_poses(
        ("snout", "leftear", "odd one", "tailbase"),
        xy,
        human=True,
        images=("v/1.png", "v/2.png"),
        image_sizes=np.array([[10, 10], [10, 10]]),
    )
    registry.write(poses, tmp_path / "a.h5", "dlc-h5")
    table = tmp_path / "t.csv"
    table.write_text("# space: superanimal_topviewmouse\nsource,keypoint\nsnout,nose\ntailbase,tail_base\n")
    report = convert(tmp_path / "a.h5", tmp_path / "b.json", table=table)
    assert report.unmapped == ("leftear", "odd one")
    assert (report.labelled["nose"], report.labelled["tail_base"]) == (2, 2)
    assert report.keypoints == 27
    assert len(report.undefined) == 25
    assert report.out_of_image == 1  # the second tail base, at (14, 15)
    json.dumps(report.to_json())
    assert any("leftear" in line for line in report.lines())
    back = registry.read(tmp_path / "b.json")
    np.testing.assert_array_equal(back.xy[:, 0, 0], xy[:, 0, 0])
    assert (back.visibility[:, 0, 1] == -1).all()


def test_what_a_csv_loses_is_said(predicted_video: Poses, tmp_path: Path) -> None:
    registry.write(predicted_video, tmp_path / "a.h5", "dlc-h5")
    report = convert(tmp_path / "a.h5", tmp_path / "a.csv")
    assert "boxes" in report.warnings[-1]
    assert "who placed a point" in report.warnings[-1]


def test_targets(predicted_video: Poses, tmp_path: Path) -> None:
    registry.write(predicted_video, tmp_path / "a.h5", "dlc-h5")
    folder = tmp_path / "out"
    folder.mkdir()
    report = convert(tmp_path / "a.h5", folder, to="coco")
    assert report.files == (str(folder / "a.json"),)
    with pytest.raises(UserError, match="no known format"):
        convert(tmp_path / "a.h5", tmp_path / "a.xlsx")
    with pytest.raises(UserError, match="read only"):
        convert(tmp_path / "a.h5", tmp_path / "a.json", to="stanfordextra")
    with pytest.raises(UserError, match="same file"):
        convert(tmp_path / "a.h5", tmp_path / "a.h5", overwrite=True)
    with pytest.raises(UserError, match="exists already"):
        convert(tmp_path / "a.h5", folder / "a.json")
    with pytest.raises(UserError, match="cannot tell which keypoints"):
        convert(tmp_path / "a.h5", tmp_path / "b.json", space="superanimal_bird")
    assert not (tmp_path / "b.json").exists()
