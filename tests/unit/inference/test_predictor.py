"""A model on frames: shapes, mirrors, sides, limits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_superanimal.errors import UserError
from napari_superanimal.inference.crops import letterbox
from napari_superanimal.inference.predictor import Predictor, pick_device
from napari_superanimal.inference.stream import forward_fps
from napari_superanimal.keypoints import load_space
from napari_superanimal.models.networks import standardise
from napari_superanimal.poses import facing

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_superanimal.models.load import LoadedModel

pytestmark = pytest.mark.usefixtures("one_thread")

SPACE = load_space("superanimal_topviewmouse")


def noise(n: int, height: int = 32, width: int = 32, seed: int = 0) -> list[np.ndarray]:
    """Pictures with structure at every scale, so that an untrained network answers differently everywhere."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (n, height // 8 + 1, width // 8 + 1, 3)).repeat(8, 1).repeat(8, 2)
    fine = rng.integers(0, 56, (n, height, width, 3))
    return list((coarse[:, :height, :width] + fine).astype(np.uint8))


def test_the_whole_frame_as_one_box(tiny_model: Callable[..., LoadedModel]) -> None:
    predictor = Predictor(tiny_model(detector=False), detector="whole-frame", max_individuals=2, device="cpu")
    frames = noise(3, 40, 60)
    found = predictor(frames)
    k = len(SPACE)
    assert found.xy.shape == (3, 2, k, 2)
    assert found.xy.dtype == np.float32
    assert found.likelihood.shape == (3, 2, k)
    np.testing.assert_array_equal(found.boxes[:, 0], np.tile([0, 0, 60, 40], (3, 1)))
    np.testing.assert_array_equal(found.box_scores[:, 0], 1)
    # nobody is in the second column
    for array in (found.xy, found.likelihood, found.boxes, found.box_scores):
        assert np.isnan(array[:, 1]).all()
    trained = [SPACE.index(n) for n in ("nose", "left_ear", "right_ear", "tail_base")]
    rest = np.setdiff1d(np.arange(k), trained)
    assert np.isfinite(found.xy[:, 0, trained]).all()
    assert np.isnan(found.xy[:, 0, rest]).all(), "keypoints it was never trained on stay missing"
    assert np.isnan(found.likelihood[:, 0, rest]).all()
    sure = found.likelihood[:, 0, trained]
    assert ((sure >= 0) & (sure <= 1)).all()
    assert predictor.scorer == "tiny_whole-frame"
    assert predictor.individuals == ("animal0", "animal1")


def test_the_model_s_own_detector(tiny_model: Callable[..., LoadedModel]) -> None:
    model = tiny_model()
    frames = noise(2, 64, 64)
    four = Predictor(model, max_individuals=4, device="cpu")
    assert four.scorer == "tiny"
    found = four(frames)
    count = np.isfinite(found.box_scores).sum(1)
    assert (count >= 1).all(), "an untrained detector without a threshold finds something"
    for n in range(2):
        scores = found.box_scores[n, : count[n]]
        assert (np.diff(scores) <= 0).all(), "best first"
        assert np.isfinite(found.xy[n, : count[n], SPACE.index("nose")]).all()
        assert np.isnan(found.xy[n, count[n] :]).all()
        assert np.isnan(found.boxes[n, count[n] :]).all()
    one = Predictor(model, max_individuals=1, device="cpu")(frames)
    np.testing.assert_allclose(one.boxes[:, 0], found.boxes[:, 0], rtol=1e-5)
    np.testing.assert_allclose(one.xy[:, 0], found.xy[:, 0], rtol=1e-4, atol=1e-3)


def test_a_detector_that_finds_nothing_leaves_everything_missing(
    tiny_model: Callable[..., LoadedModel],
) -> None:
    model = tiny_model(detector_threshold=1.1)
    found = Predictor(model, max_individuals=2, device="cpu")(noise(3, 64, 64))
    for array in (found.xy, found.likelihood, found.boxes, found.box_scores):
        assert len(array) == 3
        assert np.isnan(array).all()


def test_boxes_are_pixels_of_the_frame(tiny_model: Callable[..., LoadedModel]) -> None:
    """The detector sees a smaller picture; its boxes come back at the frame's size."""
    predictor = Predictor(tiny_model(), max_individuals=3, device="cpu")
    [large] = noise(1, 192, 128)
    image, scale = letterbox(large, 64)
    [(a, scores)] = predictor.detect([image.permute(1, 2, 0).numpy()])
    [(b, again)] = predictor.detect([large])
    assert scale == 1 / 3
    np.testing.assert_allclose(again, scores, atol=1e-5)
    np.testing.assert_allclose((b[:, :2] + 0.5) / 3, a[:, :2] + 0.5, atol=1e-3)
    np.testing.assert_allclose(b[:, 2:], 3 * a[:, 2:], rtol=1e-4)


def test_batches_do_not_change_answers(tiny_model: Callable[..., LoadedModel]) -> None:
    model = tiny_model()
    frames = noise(7, 48, 64)
    alone = [Predictor(model, device="cpu", batch_size=1)([f]) for f in frames]
    together = Predictor(model, device="cpu", batch_size=3)(frames)
    np.testing.assert_allclose(together.xy, np.concatenate([p.xy for p in alone]), atol=2e-3)
    np.testing.assert_allclose(together.likelihood, np.concatenate([p.likelihood for p in alone]), atol=1e-5)


def test_frames_of_different_sizes_are_what_each_is_alone(tiny_model: Callable[..., LoadedModel]) -> None:
    """Photos of all shapes in one batch: wide, tall, small, square, and two of one size."""
    model = tiny_model()
    shapes = [(48, 64), (96, 40), (20, 30), (64, 64), (48, 64)]
    frames = [noise(1, h, w, seed=i)[0] for i, (h, w) in enumerate(shapes)]
    predictor = Predictor(model, max_individuals=2, device="cpu")
    together = predictor(frames)
    assert np.isfinite(together.box_scores[:, 0]).all()
    for i, frame in enumerate(frames):
        alone = predictor([frame])
        np.testing.assert_allclose(together.boxes[i], alone.boxes[0], atol=1e-3)
        np.testing.assert_allclose(together.xy[i], alone.xy[0], atol=2e-3)
    assert forward_fps(predictor, frames, workers=1, repeats=1) > 0


def test_another_model_s_detector(tiny_model: Callable[..., LoadedModel]) -> None:
    pose, finder = tiny_model(detector=False), tiny_model(seed=3, name="finder")
    with pytest.raises(UserError, match="has no detector"):
        Predictor(pose)
    mixed = Predictor(pose, detector=finder, device="cpu")
    assert mixed.scorer == "tiny_finder"
    frames = noise(2, 64, 64)
    np.testing.assert_array_equal(mixed(frames).boxes, Predictor(finder, device="cpu")(frames).boxes)
    with pytest.raises(UserError, match="finder2"):
        Predictor(pose, detector=tiny_model(detector=False, name="finder2"))


def test_a_mirrored_picture_has_mirrored_keypoints_with_flip(tiny_model: Callable[..., LoadedModel]) -> None:
    predictor = Predictor(
        tiny_model(detector=False, context=1.0), detector="whole-frame", device="cpu", flip=True
    )
    frames = noise(4)
    straight, turned = predictor(frames), predictor([f[:, ::-1] for f in frames])
    back = turned.xy[:, :, SPACE.swap]
    back[..., 0] = 31 - back[..., 0]
    np.testing.assert_allclose(back, straight.xy, atol=2e-3)
    np.testing.assert_allclose(turned.likelihood[:, :, SPACE.swap], straight.likelihood, atol=1e-5)
    plain = Predictor(predictor.model, detector="whole-frame", device="cpu")([f[:, ::-1] for f in frames])
    assert np.nanmax(np.abs(plain.xy - turned.xy)) > 0.1, "without flip an untrained network knows no mirror"


def test_near_and_far_become_left_and_right(tiny_model: Callable[..., LoadedModel]) -> None:
    """The same network, once with channels that mean left and right, once near and far."""
    plain = tiny_model(detector=False, seed=1)
    near = replace(plain, card=replace(plain.card, side_canonical=True))
    frames = noise(40)
    as_is = Predictor(plain, detector="whole-frame", device="cpu")(frames)
    sided = Predictor(near, detector="whole-frame", device="cpu")(frames)
    side = facing(as_is.xy[:, 0].astype(np.float64), SPACE, as_is.likelihood[:, 0])
    assert (side > 0).any(), "the test needs animals that face either way"
    assert (side < 0).any()
    for n in range(len(frames)):
        order = SPACE.swap if side[n] > 0 else np.arange(len(SPACE))
        np.testing.assert_allclose(sided.xy[n, 0], as_is.xy[n, 0, order], atol=1e-4)
        np.testing.assert_allclose(sided.likelihood[n, 0], as_is.likelihood[n, 0, order], atol=1e-6)


def test_half_precision_stays_close(tiny_model: Callable[..., LoadedModel]) -> None:
    model = tiny_model(detector=False)
    frames = noise(6)
    exact = Predictor(model, detector="whole-frame", device="cpu")(frames)
    coarse = Predictor(model, detector="whole-frame", device="cpu", precision="bf16")(frames)
    assert np.isfinite(coarse.xy).sum() == np.isfinite(exact.xy).sum()
    np.testing.assert_allclose(coarse.likelihood, exact.likelihood, atol=0.05)


def test_calibration_reaches_the_likelihood(tiny_model: Callable[..., LoadedModel]) -> None:
    model = tiny_model(detector=False)
    size = model.pose.trunk.embedding_size
    calibration = {
        "weights": torch.tensor([-30.0, 0.1, 0.0]),
        "means": torch.zeros(1, size),
        "deviations": torch.ones(1, size),
        "knows": torch.ones(1, 4),
    }
    doubtful = Predictor(replace(model, calibration=calibration), detector="whole-frame", device="cpu")
    assert np.nanmax(doubtful(noise(2)).likelihood) < 1e-6


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_brightness_and_contrast_are_taken_out(layout: torch.memory_format, dtype: torch.dtype) -> None:
    images = torch.randint(0, 120, (3, 3, 16, 16)).to(dtype).contiguous(memory_format=layout)
    before = images.clone()
    x = standardise(images)
    assert torch.equal(images, before), "the picture itself is left alone"
    mean, spread = images.float().mean((1, 2, 3), keepdim=True), images.float().std((1, 2, 3), keepdim=True)
    torch.testing.assert_close(x, (images.float() - mean) / (spread + 5), atol=1e-5, rtol=1e-4)
    # also a view, as a mirrored batch is
    torch.testing.assert_close(standardise(images.flip(-1)), x.flip(-1), atol=1e-5, rtol=1e-4)
    assert torch.isfinite(standardise(torch.zeros(1, 3, 8, 8))).all()


def test_a_device_that_is_not_there() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="cuda"):
            pick_device("cuda")
    with pytest.raises(UserError, match="toaster"):
        pick_device("toaster")
