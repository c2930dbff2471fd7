"""Opening files: narrow claims, exact frames, clear words."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from napari.utils.notifications import notification_manager
from PIL import Image

from napari_superanimal.errors import UserError
from napari_superanimal.plugin.conventions import OURS
from napari_superanimal.plugin.image_source import open_source
from napari_superanimal.plugin.layers import layer_to_poses
from napari_superanimal.plugin.reader import find_video, get_reader, read_path
from napari_superanimal.plugin.sample_data import open_field, open_field_with_truth
from napari_superanimal.poses import make_poses
from napari_superanimal.poses.formats import registry
from napari_superanimal.video import VideoWriter, open_video

if TYPE_CHECKING:
    from pathlib import Path


def create(path: Path) -> list[Layer]:
    return [Layer.create(*t) for t in read_path(str(path))]


def told() -> str:
    return "\n".join(str(r.message) for r in notification_manager.records)


@pytest.fixture(autouse=True)
def no_old_notifications() -> None:
    notification_manager.records.clear()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "m3.mp4"
    with VideoWriter(path, 25.0, (64, 48)) as writer:
        for i in range(12):
            writer.write(np.full((48, 64, 3), 20 * i, np.uint8))
    return path


def predictions(path: Path, t: int = 12) -> None:
    rng = np.random.default_rng(0)
    poses = make_poses(
        ("nose", "tail_base"), rng.uniform(0, 40, (t, 1, 2, 2)), individuals=("animal0",), scorer="mini"
    )
    registry.write(poses, path, "dlc-h5")


def test_video(video: Path) -> None:
    assert get_reader(str(video)) is not None
    (layer,) = create(video)
    assert layer.data.shape == (12, 48, 64, 3)
    assert layer.rgb
    assert layer.metadata[OURS]["video"] == str(video)
    assert abs(int(layer.data[7][5, 5, 0]) - 140) < 6


def test_a_folder_of_images_of_different_sizes(tmp_path: Path) -> None:
    folder = tmp_path / "photos.2024"
    folder.mkdir()
    for number, (width, height, grey) in enumerate([(40, 30, 50), (20, 60, 100), (40, 30, 200)], 8):
        Image.new("L", (width, height), grey).save(folder / f"p{number}.png")
    Image.fromarray(np.full((30, 40), 1000, np.uint16)).save(folder / "p11.png")
    assert get_reader(str(folder)) is not None
    (layer,) = create(folder)
    assert layer.name == "photos.2024"
    # p8, p9, p10, p11: each at the top left, black around it
    assert layer.data.shape == (4, 60, 40, 3)
    assert [int(layer.data[i][0, 0, 0]) for i in range(4)] == [50, 100, 200, 249]
    assert (layer.data[1][:, 20:] == 0).all()
    assert (layer.data[0][30:] == 0).all()
    # what is predicted on has no padding
    source = open_source(layer)
    assert [source.frame(i).shape[:2] for i in range(4)] == [(30, 40), (60, 20), (30, 40), (30, 40)]
    assert [f.shape[:2] for _, f in source.iter_frames(1, 3)] == [(60, 20), (30, 40)]


def test_predictions_find_their_video(video: Path) -> None:
    for name in ("m3_mini.h5", "m3DLC_resnet50_x.h5"):
        predictions(video.parent / name)
        layers = create(video.parent / name)
        assert layers[0].name == "m3"
        assert layers[-1].metadata[OURS]["video"] == str(video)
        assert layer_to_poses(layers[-1]).frames.tolist() == list(range(12))
    assert told() == ""


def test_the_longest_name_wins(video: Path) -> None:
    longer = video.with_name("m3_late.mp4")
    shutil.copy(video, longer)
    predictions(video.parent / "m3_late_mini.h5")
    assert find_video(video.parent / "m3_late_mini.h5", make_poses(("a",), np.zeros((1, 1, 2)))) == longer


def test_the_run_card_knows_the_video(video: Path, tmp_path: Path) -> None:
    out = tmp_path / "far" / "away"
    out.mkdir(parents=True)
    predictions(out / "x_mini.h5")
    (out / "x_mini.run.json").write_text(json.dumps({"video": str(video)}))
    assert create(out / "x_mini.h5")[0].name == "m3"


def test_no_video(tmp_path: Path) -> None:
    predictions(tmp_path / "lonely.h5")
    layers = create(tmp_path / "lonely.h5")
    assert [type(layer).__name__ for layer in layers] == ["Points"] or layers[-1].name == "lonely"
    assert "video was not found" in told()


def test_more_frames_than_the_video(video: Path) -> None:
    predictions(video.parent / "m3_mini.h5", t=20)
    create(video.parent / "m3_mini.h5")
    assert "frame 19" in told()
    assert "12 frames" in told()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"x,y\n1,2\n"),
        ("a.h5", b"nothing"),
        ("a.json", b'{"a": 1}'),
        ("a.json", b"["),
        ("config.yaml", b"a: 1\n"),
        ("a.png", b""),
    ],
)
def test_files_of_others_are_left_alone(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert get_reader(str(tmp_path / name)) is None


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    assert get_reader(str(tmp_path)) is None
    (tmp_path / "a.tif").touch()
    (tmp_path / "b.txt").touch()
    assert get_reader(str(tmp_path)) is None
    assert get_reader(str(tmp_path / "not there")) is None
    assert get_reader([str(tmp_path)]) is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.h5", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "LFS"),
        ("CollectedData_me.csv", b",bodyparts,nose\n0,1,2\n", "header|DeepLabCut"),
        ("a.mp4", b"\x00\x00\x00\x20ftypisom" + b"\x00" * 100, "cannot|not a|truncated|damaged|no video"),
        (
            "a.json",
            b'{"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}]}',
            "keypoint|annotation|image",
        ),
    ],
)
def test_damaged_files_say_so_in_one_line(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    reader = get_reader(str(path))
    assert reader is not None
    with pytest.raises(UserError, match=words) as error:
        reader(str(path))
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_folder_of_images(tmp_path: Path) -> None:
    for i in range(11):
        Image.fromarray(np.full((20, 30, 3), i * 20, np.uint8)).save(tmp_path / f"img{i}.png")
    assert get_reader(str(tmp_path)) is not None
    (layer,) = create(tmp_path)
    assert layer.data.shape == (11, 20, 30, 3)
    # natural order: img2 before img10
    assert [int(layer.data[i][0, 0, 0]) for i in (2, 10)] == [40, 200]


def test_images_of_different_sizes_and_missing_ones(tmp_path: Path) -> None:
    sizes = [(30, 20), (50, 10), (8, 8)]
    for i, size in enumerate(sizes[:2]):
        Image.new("RGB", size, (100 + i, 0, 0)).save(tmp_path / f"{i}.png")
    annotation: dict[str, Any] = {
        "category_id": 1,
        "bbox": [0, 0, 5, 5],
        "num_keypoints": 1,
        "area": 25,
        "iscrowd": 0,
    }
    data = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": w, "height": h} for i, (w, h) in enumerate(sizes)
        ],
        "categories": [{"id": 1, "name": "mouse", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]}],
        "annotations": [
            {**annotation, "id": i, "image_id": i, "keypoints": [3 + i, 4, 2, 0, 0, 0]} for i in range(3)
        ],
    }
    (tmp_path / "labels.json").write_text(json.dumps(data))
    layers = create(tmp_path / "labels.json")
    stack = layers[0].data
    assert stack.shape == (3, 20, 50, 3)
    assert stack[1][9, 49].tolist() == [101, 0, 0]
    assert stack[1][10, 0].tolist() == [0, 0, 0]
    assert not stack[2].any()
    assert "1 of 3 images are missing" in told()
    poses = layer_to_poses(layers[-1])
    np.testing.assert_array_equal(poses.xy[:, 0, 0], [[3, 4], [4, 4], [5, 4]])
    np.testing.assert_array_equal(np.asarray(stack)[1], stack[1])


def test_sample_data() -> None:
    ((data, attrs, kind),) = open_field()
    layer = Layer.create(data, attrs, kind)
    assert layer.data.shape == (300, 480, 640, 3)
    assert np.asarray(layer.data[200]).std() > 5
    layers = [Layer.create(*t) for t in open_field_with_truth()]
    viewer = ViewerModel()
    for each in layers:
        viewer.add_layer(each)
    assert viewer.dims.range[0].stop == 299
    truth = layer_to_poses(layers[-1])
    assert len(truth) == 300
    assert len(truth.keypoints) == 27


@pytest.mark.realdata
def test_a_real_project(shared_data: Path) -> None:
    source = shared_data / "mouse_openfield_dlc"
    config = next(source.rglob("config.yaml"))
    assert get_reader(str(config)) is not None
    assert get_reader(str(config.parent)) is not None
    layers = create(config.parent)
    image, points = layers[0], layers[-1]
    poses = layer_to_poses(points)
    assert len(image.data) == len(poses)
    # the frame that a row names is the frame that is shown
    for row in (0, len(poses) // 2, len(poses) - 1):
        if poses.image_path(row).is_file():
            np.testing.assert_array_equal(image.data[row], open_video(poses.image_path(row)).frame(0))
    assert points.metadata["paths"] == list(poses.images)
    assert layers[0].visible


@pytest.mark.realdata
@pytest.mark.parametrize("folder", ["quad_sheep_coco", "mouse_oft_dlc3", "superanimal_topview_gt"])
def test_real_labels_lie_on_their_images(shared_data: Path, folder: str) -> None:
    files = [
        p for p in sorted((shared_data / folder).rglob("*")) if p.suffix == ".json" or p.name == "config.yaml"
    ]
    path = next(p for p in files if get_reader(str(p)) is not None)
    layers = create(path)
    assert type(layers[0]).__name__ == "Image"
    points = [layer for layer in layers if layer.metadata.get(OURS, {}).get("role") == "points"]
    stacks = [layer for layer in layers if type(layer).__name__ == "Image"]
    for image, layer in zip(stacks, points, strict=False):
        poses = layer_to_poses(layer)
        assert len(image.data) == len(poses)
        height, width = image.data.shape[1:3]
        if len(layer.data):
            assert (layer.data[:, 1] < height + 20).all()
            assert (layer.data[:, 2] < width + 20).all()
    # only the first folder is shown at first
    assert sum(layer.visible for layer in stacks) == 1


@pytest.mark.realdata
def test_real_predictions_beside_their_video(shared_data: Path) -> None:
    path = shared_data / "videos" / "EGS8X2MN4SSUGFWAV976.h5"
    layers = create(path)
    assert layers[0].name == "EGS8X2MN4SSUGFWAV976"
    poses = layer_to_poses(layers[-1])
    assert poses.frames.max() < len(layers[0].data)
    assert len(poses.individuals) >= 3
