"""The reference's own numbers: networks rebuilt from a recipe of weights, on real pictures."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_superanimal.models.zoo import ModelRef

pytestmark = [pytest.mark.realdata, pytest.mark.usefixtures("one_thread")]

POSE = "superanimal_quadruped_hrnet_w32"
DETECTOR = "superanimal_topviewmouse_fasterrcnn_mobilenet_v3_large_fpn"


@pytest.fixture(scope="module")
def shots(golden: Path) -> list[np.ndarray]:
    return [np.array(Image.open(path).convert("RGB")) for path in sorted((golden / "images").glob("*.png"))]


@pytest.fixture(scope="module")
def models(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ModelRef]]:
    """Snapshots with the recipe's weights, named on the command line's way."""
    import torch

    from napari_superanimal.models.zoo import HOME_VARIABLE, find_model

    spec = importlib.util.spec_from_file_location("recipe", golden / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    recipe: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    folder = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(folder / "home"))
        found = {}
        for name in (POSE, DETECTOR):
            keys = json.loads((golden / f"{name}.keys.json").read_text())["keys"]
            weights = recipe.state_dict_from_keys(keys, model=name.split("_", 2)[2])
            torch.save({"model": weights, "metadata": {"epoch": 190}}, folder / "snapshot.pt")
            found[name] = find_model(f"{name}:{folder / 'snapshot.pt'}")
            (folder / "snapshot.pt").unlink()
        yield found


def test_every_listed_model_has_exactly_the_weights_of_its_snapshots(golden: Path) -> None:
    import torch

    from napari_superanimal.models.official.build import build
    from napari_superanimal.models.official.catalogue import find_release
    from napari_superanimal.models.official.networks import shapes_of

    lists = sorted(golden.glob("*.keys.json"))
    assert len(lists) == 8
    for path in lists:
        release = find_release(path.name.removesuffix(".keys.json"))
        assert release is not None
        with torch.device("meta"):
            network = build(release)
        expected = {name: tuple(shape) for name, shape, _ in json.loads(path.read_text())["keys"]}
        assert shapes_of(network) == expected, release.name


def test_crops(golden: Path) -> None:
    import torch

    from napari_superanimal.inference.official.crops import top_down_crop
    from napari_superanimal.inference.official.device_crops import top_down_crops

    y, x = np.mgrid[:480, :640]
    frame = np.repeat(((3 * y + 5 * x) % 256).astype(np.uint8)[..., None], 3, 2)
    cases = json.loads((golden / "crop_oks_gaussian_vectors.json").read_text())["top_down_crop"]
    assert len(cases) == 12
    for case in cases:
        assert case["image_hw"] == [480, 640]
        crop = top_down_crop(frame, np.array(case["bbox_xywh"]), tuple(case["out_wh"]))
        assert crop is not None
        assert crop.offset.tolist() == case["offset"]
        assert crop.scale.tolist() == pytest.approx(case["scale"], abs=1e-12)
        pixels = crop.pixels.astype(np.int64)
        middle = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2, 0]
        got = [pixels.sum(), pixels[0, 0, 0], middle, pixels[-1, -1, 0]]
        assert got == [case[k] for k in ("crop_sum", "px_0_0", "px_mid", "px_last")]
        # where a graphics card cuts, too
        box = np.array([case["bbox_xywh"]])
        there = top_down_crops([frame], box, tuple(case["out_wh"]), torch.device("cpu"))
        np.testing.assert_array_equal(there.pixels[0].numpy(), crop.pixels)


def skip_without(runtime: str) -> None:
    from napari_superanimal.inference.runtime.engine import has_openvino

    if runtime == "openvino" and not has_openvino():
        pytest.skip("the extra openvino is not installed")


@pytest.mark.parametrize(
    "how",
    [
        {"reference": True},
        {"runtime": "torch"},
        {"runtime": "torch", "on_device": True},
        {"runtime": "openvino"},
    ],
    ids=["as it is", "folded", "cut on the device", "openvino"],
)
def test_heatmaps_and_keypoints(
    golden: Path, models: dict[str, ModelRef], shots: list[np.ndarray], how: dict[str, Any]
) -> None:
    import torch

    skip_without(how.get("runtime", ""))

    from napari_superanimal.inference.build import build_predictor
    from napari_superanimal.inference.official.images import normalise
    from napari_superanimal.inference.official.predictor import OfficialPredictor

    asked = {k: v for k, v in how.items() if k != "on_device"}
    predictor = build_predictor(models[POSE], detector="whole-frame", device="cpu", precision="fp32", **asked)
    assert isinstance(predictor, OfficialPredictor)
    predictor.crops_on_device = "on_device" in how
    truth = np.load(golden / "golden_superanimal_quadruped_hrnet_w32.npz")
    compared = 0
    for i, frame in enumerate(shots):
        boxes = truth[f"{i}.bboxes"]
        _, crops = predictor.crops([frame] * len(boxes), boxes)
        pixels = np.stack([c.pixels for c in crops])
        np.testing.assert_array_equal(pixels, truth[f"{i}.crop_uint8"])
        np.testing.assert_array_equal([c.offset for c in crops], truth[f"{i}.offsets"])
        np.testing.assert_allclose([c.scale for c in crops], truth[f"{i}.scales"])
        if i == 0:
            patch = normalise(pixels, torch.device("cpu"))[..., 96:160, 96:160].numpy()
            np.testing.assert_allclose(patch, truth["0.input_f32_patch"], atol=1e-6)
        output = predictor.forward(crops)
        heatmaps = output[0].numpy()
        np.testing.assert_allclose(heatmaps[:1], truth[f"{i}.heatmap"].astype(np.float32), atol=1e-3)
        np.testing.assert_allclose(heatmaps.mean((-1, -2)), truth[f"{i}.heatmap_mean_std"][0], atol=1e-5)
        xy, score = predictor.pose([frame] * len(boxes), boxes)
        expected = truth[f"{i}.pose_full"][: len(boxes)]
        clear = truth[f"{i}.argmax_gap"] > 1e-4
        np.testing.assert_allclose(xy[clear], expected[clear][:, :2], atol=1e-3)
        np.testing.assert_allclose(score, expected[..., 2], atol=1e-3)
        compared += int(clear.sum())
    assert compared > 100


@pytest.mark.parametrize("runtime", ["", "torch", "openvino"], ids=["as it is", "folded", "openvino"])
def test_boxes_and_scores(
    golden: Path, models: dict[str, ModelRef], shots: list[np.ndarray], runtime: str
) -> None:
    import torch

    from napari_superanimal.inference.official.detect import BoxFinder
    from napari_superanimal.inference.runtime.engine import Engine
    from napari_superanimal.models.official.load import load_detector

    skip_without(runtime)
    finder = BoxFinder(load_detector(models[DETECTOR]), torch.device("cpu"))
    if runtime:
        finder.use(Engine(runtime))
    truth = np.load(golden / "golden_fasterrcnn_mobilenet_v3_large_fpn.npz")
    for i, frame in enumerate(shots):
        ((boxes, scores),) = finder.raw([frame])
        np.testing.assert_allclose(boxes.numpy(), truth[f"{i}.boxes_xyxy"], atol=0.05)
        np.testing.assert_allclose(scores.numpy(), truth[f"{i}.scores"], atol=1e-3)
        corners, kept = boxes.numpy()[:10], scores.numpy()[:10]
        sizes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        np.testing.assert_allclose(sizes, truth[f"{i}.dlc_bboxes_xywh"], atol=0.05)
        np.testing.assert_allclose(kept, truth[f"{i}.dlc_bbox_scores"], atol=1e-3)
