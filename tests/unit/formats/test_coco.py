"""COCO as different programs write it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_superanimal.poses import LABELLED, OCCLUDED, UNDEFINED, UNLABELLED, Poses
from napari_superanimal.poses.formats import registry
from napari_superanimal.poses.formats.coco import read_coco

if TYPE_CHECKING:
    from pathlib import Path


def coco(annotations: list[dict[str, Any]], **rest: Any) -> dict[str, Any]:
    return {
        "images": rest.pop("images", [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}]),
        "annotations": [{"id": i, "image_id": 1, "category_id": 1, **a} for i, a in enumerate(annotations)],
        "categories": rest.pop(
            "categories",
            [{"id": 1, "name": "dog", "keypoints": ["nose", "tail", "paw"], "skeleton": [[1, 2], [3, 9]]}],
        ),
        **rest,
    }


def read(data: dict[str, Any], path: Path) -> Poses:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return registry.read(path)


def picture(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size).save(path)
    return path


def test_visibility_codes(tmp_path: Path) -> None:
    poses = read(
        coco(
            [{"keypoints": [1, 2, 2, 3, 4, 1.0, 0, 0, 0]}, {"keypoints": [5, 6, 0.25, -1, -1, -1, 7, 8, 0]}]
        ),
        tmp_path / "a.json",
    )
    assert poses.visibility[0].tolist() == [
        [LABELLED, OCCLUDED, UNLABELLED],
        [LABELLED, UNDEFINED, UNLABELLED],
    ]
    assert poses.likelihood[0, 1, 0] == 0.25
    assert poses.found[0].tolist() == [[True, True, False], [True, False, False]]
    assert poses.individuals == ("animal0", "animal1")
    assert poses.skeleton == (("nose", "tail"),)


def test_keypoints_that_stop_early_are_unlabelled(tmp_path: Path) -> None:
    poses = read(coco([{"keypoints": [1, 2, 2]}]), tmp_path / "a.json")
    assert poses.visibility[0, 0].tolist() == [LABELLED, UNLABELLED, UNLABELLED]
    assert "fewer keypoints" in poses.metadata["warnings"][0]


def test_several_categories_unite_their_keypoints(tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "animals"},
        {"id": 1, "name": "dog", "keypoints": ["nose", "tail"]},
        {"id": 2, "name": "bird", "keypoints": ["beak", "tail"]},
        {"id": 3, "name": "unused", "keypoints": ["fin"]},
    ]
    data = coco([{"keypoints": [1, 1, 2, 2, 2, 2]}, {"keypoints": [3, 3, 2, 4, 4, 2], "category_id": 2}])
    poses = read({**data, "categories": categories}, tmp_path / "a.json")
    assert poses.keypoints == ("nose", "tail", "beak")
    assert poses.xy[0, :, :, 0].tolist()[0][:2] == [1, 2]
    assert poses.xy[0, 1, 1:, 0].tolist() == [4, 3]
    assert poses.visibility[0].tolist() == [[2, 2, UNDEFINED], [UNDEFINED, 2, 2]]
    assert poses.metadata["categories"] == ["dog", "bird"]


def test_names_may_be_given_or_lie_beside(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    data = coco([{"keypoints": [1, 1, 2, 2, 2, 2]}], categories=[{"id": 1, "name": "dog"}])
    path.write_text(json.dumps(data))
    assert read_coco(path, ["x", "y"]).keypoints == ("x", "y")
    (tmp_path / "a.keypoints.txt").write_text("nose \n\ntail\n")
    assert registry.read(path).keypoints == ("nose", "tail")


def test_pictures_are_found_where_they_are(tmp_path: Path) -> None:
    root = tmp_path / "set"
    names = [
        "beside.png",
        "in_images.png",
        "deep.png",
        "/mnt/md0/author/images/foreign.png",
        "C:\\data\\windows.png",
        "gone.png",
        "left/same.png",
    ]
    for place in (
        "annotations/beside.png",
        "images/in_images.png",
        "images/train/deep.png",
        "images/foreign.png",
        "images/windows.png",
        "images/left/same.png",
        "images/right/same.png",
    ):
        picture(root / place)
    images = [{"id": i, "file_name": n} for i, n in enumerate(names)]
    poses = read(coco([], images=images), root / "annotations" / "a.json")
    assert poses.root == root
    assert poses.images == (
        "annotations/beside.png",
        "images/in_images.png",
        "images/train/deep.png",
        "images/foreign.png",
        "images/windows.png",
        "gone.png",
        "images/left/same.png",
    )
    assert poses.metadata["missing_images"] == ["gone.png"]
    assert poses.image_sizes.tolist() == [[40, 30]] * 5 + [[0, 0], [40, 30]]
    assert len(poses) == 7
    assert not poses.found.any()


def test_a_name_that_fits_two_pictures_is_not_guessed(tmp_path: Path) -> None:
    picture(tmp_path / "left" / "a.png")
    picture(tmp_path / "right" / "a.png")
    poses = read(coco([]), tmp_path / "a.json")
    assert poses.metadata["missing_images"] == ["a.png"]


def test_no_pictures_at_all(tmp_path: Path) -> None:
    poses = read(coco([{"keypoints": [1, 1, 2] * 3, "bbox": [0, 0, 5, 5]}]), tmp_path / "a.json")
    assert poses.metadata["missing_images"] == ["a.png"]
    assert poses.image_sizes.tolist() == [[40, 30]]
    assert poses.boxes[0, 0].tolist() == [0, 0, 5, 5]


def test_wrong_sizes_are_said_and_the_real_one_counts(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", (20, 15))
    poses = read(coco([]), tmp_path / "a.json")
    assert poses.image_sizes.tolist() == [[20, 15]]
    assert "size" in poses.metadata["warnings"][0]


def test_strays_and_crowds_are_left_out_and_said(tmp_path: Path) -> None:
    one = {"keypoints": [1, 1, 2] * 3}
    poses = read(coco([one, {**one, "iscrowd": 1}, {**one, "image_id": 77}]), tmp_path / "a.json")
    assert len(poses.individuals) == 1
    assert len(poses.metadata["warnings"]) == 2


def test_written_files_satisfy_coco_tools(predicted_video: Poses, tmp_path: Path) -> None:
    registry.write(predicted_video, tmp_path / "a.json", "coco")
    data = json.loads((tmp_path / "a.json").read_text())
    k = len(predicted_video.keypoints)
    assert [i["frame_index"] for i in data["images"]] == predicted_video.frames.tolist()
    assert len(data["annotations"]) == predicted_video.present.sum()
    for annotation in data["annotations"]:
        assert len(annotation["keypoints"]) == 3 * k
        assert annotation["num_keypoints"] == sum(v > 0 for v in annotation["keypoints"][2::3])
        assert len(annotation["bbox"]) == 4
        assert annotation["area"] > 0
    assert len({a["id"] for a in data["annotations"]}) == len(data["annotations"])


def test_boxes_drawn_around_keypoints_do_not_become_data(odd_project: Poses, tmp_path: Path) -> None:
    registry.write(odd_project, tmp_path / "a.json", "coco")
    data = json.loads((tmp_path / "a.json").read_text())
    assert all(a["bbox"][2] > 0 for a in data["annotations"])
    assert np.isnan(registry.read(tmp_path / "a.json").boxes).all()
