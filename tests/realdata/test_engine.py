"""The engine on real pictures: the shipped model, evaluation, samples, fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.errors import UserError
from napari_superanimal.keypoints import find_table, load_table
from napari_superanimal.poses import UNDEFINED, Poses, project
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.inference.predictor import Predictor

pytestmark = [pytest.mark.realdata, pytest.mark.usefixtures("one_thread")]

MODEL = "mouse-topview-mini"


@pytest.fixture(scope="module")
def mouse(one_thread: None) -> Predictor:
    from napari_superanimal.inference.predictor import Predictor
    from napari_superanimal.models.load import load_model

    return Predictor(load_model(MODEL), device="cpu")


def some(poses: Poses, count: int) -> Poses:
    """A few labelled images, spread over the dataset."""
    there = [i for i in range(len(poses)) if poses.found[i].any() and poses.image_path(i).is_file()]
    return poses.take(np.array(there)[np.linspace(0, len(there) - 1, count).astype(int)])


@pytest.mark.parametrize(("folder", "untrained"), [("mouse_openfield_dlc", set()), ("mouse_oft_dlc3", set())])
@pytest.mark.parametrize("boxes", ["detector", "labels"])
def test_the_shipped_mouse_model(
    shared_data: Path, mouse: Predictor, folder: str, untrained: set[str], boxes: str
) -> None:
    """On the laboratories it was trained on it must be good; the bar is loose, the benchmark measures."""
    from napari_superanimal.evaluation.run import evaluate_model

    poses = some(registry.read(shared_data / folder), 8)
    table = find_table(poses.keypoints, mouse.space)
    assert table is not None
    told = evaluate_model(poses, table, mouse, boxes=boxes).to_json()
    assert told["n_images"] == 8
    assert told["n_individuals"] == 8
    assert told["model"] == MODEL
    assert told["boxes"] == boxes
    assert set(told["not_trained"]) == untrained
    assert set(told["per_keypoint"]) <= set(mouse.card.keypoints)
    assert told["pck"]["0.1"] > 0.6
    assert told["median_error_px"] < 10
    if boxes == "labels":
        assert told["missed"] == 0


def test_labels_compared_with_themselves_are_perfect(shared_data: Path, mouse: Predictor) -> None:
    from napari_superanimal.evaluation.evaluate import evaluate_predictions

    poses = registry.read(shared_data / "mouse_openfield_dlc")
    truth = project(poses, load_table("openfield"), mouse.space)
    told = evaluate_predictions(truth, truth, mouse.space).to_json()
    assert (told["n_images"], told["n_keypoints"], told["missed"]) == (86, 344, 0)
    assert told["mean_error_px"] == told["rmse_px"] == 0
    assert told["map"] == pytest.approx(1)
    assert told["pck"] == {"0.05": 1.0, "0.1": 1.0}


def test_predictions_beside_a_dataset_of_several_animals(shared_data: Path) -> None:
    """SuperAnimal's own labels: several mice, undefined keypoints stay out of the figures."""
    from napari_superanimal.evaluation.run import evaluate_model
    from napari_superanimal.inference.predictor import Predictor
    from napari_superanimal.models.load import load_model

    predictor = Predictor(load_model(MODEL), max_individuals=3, device="cpu")
    poses = registry.read(shared_data / "superanimal_topview_gt" / "annotations" / "test.json")
    here = [i for i in range(len(poses)) if poses.image_path(i).is_file()]
    if not here:
        pytest.skip("the pictures of superanimal_topview_gt are not there")
    table = find_table(poses.keypoints, predictor.space)
    assert table is not None
    told = evaluate_model(poses.take(np.array(here)), table, predictor, boxes="labels").to_json()
    assert told["n_individuals"] >= len(here)
    assert set(told["per_keypoint"]) <= set(predictor.card.keypoints)
    assert told["not_trained"], "the labels have keypoints that the mini model does not know"
    assert 0 <= told["map"] <= 1


def test_a_dataset_without_pictures_says_so(shared_data: Path, mouse: Predictor, tmp_path: Path) -> None:
    from dataclasses import replace

    from napari_superanimal.evaluation.run import evaluate_model

    poses = replace(registry.read(shared_data / "mouse_openfield_dlc"), root=tmp_path)
    with pytest.raises(UserError, match="no labelled image") as caught:
        evaluate_model(poses, load_table("openfield"), mouse)
    assert caught.value.path == tmp_path


@pytest.mark.parametrize(
    ("path", "table"),
    [
        ("quad_livestock_pool/annotations/cattle.json", "livestock_cattle"),
        ("quad_livestock_pool/annotations/horse.json", "livestock"),
        ("quad_livestock_pool/annotations/sheep.json", "livestock"),
        ("dog_stanfordextra/StanfordExtra_sample.json", "stanfordextra"),
        ("mmpose_samples/ap10k/test_ap10k.json", "ap10k"),
        ("horse10_video_gt/BrownHorseinShadow_gt.h5", "horse10"),
    ],
)
def test_quadrupeds_are_told_apart_by_their_names(shared_data: Path, path: str, table: str) -> None:
    from napari_superanimal.keypoints import load_space

    space = load_space("superanimal_quadruped")
    poses = registry.read(shared_data / path)
    found = find_table(poses.keypoints, space)
    assert found is not None
    assert found.name == table
    projected = project(poses, found, space)
    # what is mapped is there, nothing appears that nobody labelled
    mapped = [poses.keypoints.index(s) for s, _ in found.rows if s in poses.keypoints]
    assert projected.found.sum() <= poses.found[..., mapped].sum()
    assert projected.found.sum() > 0.8 * poses.found[..., mapped].sum()
    never = [k for k in space.keypoints if not any(k in t.split("|") for _, t in found.rows)]
    index = [space.index(k) for k in never]
    assert (projected.visibility[..., index] == UNDEFINED).all()


def test_side_view_samples_mean_near_and_far(shared_data: Path) -> None:
    """Of a horse that faces right the near channels carry its right side, and left ones if it faces left."""
    from napari_superanimal.keypoints import load_space
    from napari_superanimal.poses import facing
    from napari_superanimal.training.samples import gather_pose_samples

    space = load_space("superanimal_quadruped")
    poses = some(registry.read(shared_data / "quad_livestock_pool/annotations/horse.json"), 6)
    if not len(poses):
        pytest.skip("the pictures of quad_livestock_pool are not there")
    truth = project(poses, load_table("livestock"), space)
    samples = gather_pose_samples(truth, space, input_size=64, context=1.2, side_canonical=True)
    assert len(samples) == 6
    near, far = space.index("front_left_paw"), space.index("front_right_paw")
    side = facing(truth.xy[:, 0], space)
    for n in range(6):
        row = int(samples.rows[n, 0])
        order = {-1: (near, far), 1: (far, near)}.get(int(side[row]))
        if order is None:
            assert (samples.visibility[n, [near, far]] == UNDEFINED).all()
            continue
        for channel, original in zip((near, far), order, strict=True):
            assert samples.visibility[n, channel] == truth.visibility[row, 0, original]
        there = np.isfinite(samples.xy[n]).all(-1)
        size = samples.crops.shape[-1]
        assert ((samples.xy[n, there] > 0) & (samples.xy[n, there] < size)).all()


def test_fine_tuning_on_real_labels(shared_data: Path, tmp_path: Path) -> None:
    """A few steps from the shipped model on a laboratory's own names."""
    from napari_superanimal.evaluation.run import evaluate_model
    from napari_superanimal.inference.predictor import Predictor
    from napari_superanimal.keypoints import identity_table
    from napari_superanimal.models.load import load_model
    from napari_superanimal.training.finetune import finetune

    poses = some(registry.read(shared_data / "mouse_openfield_dlc"), 6)
    out = finetune(
        poses,
        load_model(MODEL),
        mode="naive",
        out=tmp_path / "mine",
        steps=3,
        table=load_table("openfield"),
        batch_size=4,
    )
    model = load_model(out)
    assert model.card.keypoints == poses.keypoints
    told = evaluate_model(
        poses, identity_table(poses.keypoints, model.space), Predictor(model, device="cpu"), boxes="labels"
    ).to_json()
    assert told["n_keypoints"] == 24
    assert told["pck"]["0.1"] > 0.4, "three gentle steps do not spoil what the model knew"


def test_a_folder_of_photos_of_different_sizes(shared_data: Path, tmp_path: Path) -> None:
    """Seven photos of six sizes: predicted together as each of them alone."""
    from napari_superanimal.cli import main
    from napari_superanimal.jobs.frames import ImageFrames
    from napari_superanimal.video.folder import images_in

    folder = shared_data / "quad_awa_pose" / "images"
    files = images_in(folder)
    sizes = ImageFrames(files).sizes()
    assert (len(files), len(np.unique(sizes, axis=0))) == (7, 6)
    words = ["--model", "quadruped-sideview-mini", "--max-individuals", "2", "--no-track", "--device", "cpu"]
    assert main(["predict", str(folder), *words, "--out", str(tmp_path / "all")]) == 0
    together = registry.read(tmp_path / "all" / "images_quadruped-sideview-mini.h5")
    assert [together.image_path(row).name for row in range(7)] == [f.name for f in files]
    assert together.found.any((1, 2)).sum() >= 5, "most photos show one large animal"
    for row, file in enumerate(files):
        out = tmp_path / file.stem
        assert main(["predict", str(file), *words, "--out", str(out)]) == 0
        alone = registry.read(out / f"{file.stem}_quadruped-sideview-mini.h5")
        np.testing.assert_allclose(together.xy[row], alone.xy[0], atol=0.1)
        known = together.xy[row][together.found[row]]
        # the box's margin may reach over the border, another photo's size must not
        assert (known > -0.3 * sizes[row]).all()
        assert (known < 1.3 * sizes[row]).all()
