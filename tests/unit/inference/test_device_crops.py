"""Crops and pictures made on the device: the same as on the CPU, here with the CPU as the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_superanimal.inference import device_frames
from napari_superanimal.inference.crops import cut_batch, letterbox_batches
from napari_superanimal.inference.device_crops import cut_on_device, letterbox_batches_on_device
from napari_superanimal.inference.device_frames import kept_on, on_device, stacked
from napari_superanimal.inference.official.crops import to_frame, top_down_crop
from napari_superanimal.inference.official.device_crops import top_down_crops
from napari_superanimal.inference.official.predictor import OfficialPredictor
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.keypoints import KeypointSpace
from napari_superanimal.models.official.build import build
from napari_superanimal.models.official.catalogue import card_of, find_release
from napari_superanimal.models.official.load import OfficialPose

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_superanimal.models.load import LoadedModel

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
BOXES = st.tuples(st.floats(-150, 250), st.floats(-150, 200), st.floats(1, 300), st.floats(1, 300))


def scene(height: int = 150, width: int = 210, seed: int = 0) -> np.ndarray:
    """Structure at every scale, up to single pixels of noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (height // 10 + 1, width // 10 + 1, 3)).repeat(10, 0).repeat(10, 1)
    return (coarse[:height, :width] + rng.integers(0, 56, (height, width, 3))).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(st.lists(BOXES, min_size=1, max_size=4), st.sampled_from([(64, 64), (48, 64), (256, 256)]))
def test_official_crops_are_equal_in_every_bit(boxes: list, size: tuple[int, int]) -> None:
    shots = [scene(seed=i % 2) if i < 3 else scene(90, 120) for i in range(len(boxes))]
    cut = top_down_crops(shots, np.array(boxes), size, CPU)
    expected = [top_down_crop(shot, np.array(box), size) for shot, box in zip(shots, boxes, strict=True)]
    assert cut.rows.tolist() == [i for i, crop in enumerate(expected) if crop is not None]
    crops = [crop for crop in expected if crop is not None]
    for pixels, crop in zip(cut.pixels, crops, strict=True):
        np.testing.assert_array_equal(pixels.numpy(), crop.pixels)
    if crops:
        xy = np.random.default_rng(0).uniform(0, 64, (len(crops), 3, 2))
        np.testing.assert_array_equal(cut.to_frame(xy), to_frame(xy, crops))


@pytest.mark.parametrize(
    "box", [(30, 20, 128, 128), (50, 40, 64, 64), (-20, -30, 128, 128), (-40, 60, 400, 30)]
)
def test_official_crops_of_round_factors(box: tuple[float, ...]) -> None:
    """Twice the size is an average of four pixels, the same size is a copy: both are special cases elsewhere."""
    (pixels,) = top_down_crops([scene()], np.array([box], float), (64, 64), CPU).pixels
    crop = top_down_crop(scene(), np.array(box, float), (64, 64))
    assert crop is not None
    np.testing.assert_array_equal(pixels.numpy(), crop.pixels)


def test_no_crop_at_all() -> None:
    cut = top_down_crops([scene()], np.array([[900.0, 900, 10, 10]]), (64, 48), CPU)
    assert len(cut) == 0
    assert cut.pixels.shape == (0, 48, 64, 3)
    assert cut.to_frame(np.empty((0, 5, 2))).shape == (0, 5, 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(BOXES, min_size=1, max_size=3), st.sampled_from([32, 96, 128]))
def test_small_models_crops_differ_by_one_grey_level_at_most(boxes: list, size: int) -> None:
    shots = [scene(seed=i) for i in range(len(boxes))]
    expected, squares = cut_batch(shots, np.array(boxes), 1.2, size)
    found, same = cut_on_device(shots, np.array(boxes), 1.2, size, CPU)
    np.testing.assert_array_equal(same, squares)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, found.round())
    assert (found - expected).abs().max() <= 1
    assert (found != expected).float().mean() < 0.35


@pytest.mark.parametrize("shape", [(150, 210), (64, 64), (300, 100), (37, 53)])
@pytest.mark.parametrize("longest", [64, 256])
def test_letterboxed_pictures_differ_by_one_grey_level_at_most(shape: tuple[int, int], longest: int) -> None:
    shots = [scene(*shape, seed=1), scene(99, 99), scene(*shape, seed=2)]
    expected = by_frame(letterbox_batches(shots, longest))
    batches = letterbox_batches_on_device(shots, longest, CPU)
    assert len(batches) == len(letterbox_batches(shots, longest))
    for row, (image, scale) in by_frame(batches).items():
        that, its_scale = expected[row]
        assert scale == its_scale
        assert image.shape == that.shape
        assert (image - that).abs().max() <= 1


def by_frame(batches: list) -> dict[int, tuple[torch.Tensor, float]]:
    return {
        row: (image, scale)
        for rows, images, scales in batches
        for row, image, scale in zip(rows, images, scales, strict=True)
    }


def test_a_frame_is_sent_once_while_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    send = device_frames._sent

    def noting(frame: np.ndarray, device: torch.device) -> torch.Tensor:
        sent.append(id(frame))
        return send(frame, device)

    monkeypatch.setattr(device_frames, "_sent", noting)
    shots = [scene(seed=i) for i in range(3)]
    with kept_on(shots):
        stacked(shots, CPU)
        cut_on_device([shots[0], shots[0], shots[2]], np.array([[5.0, 5, 50, 40]] * 3), 1.2, 32, CPU)
        assert torch.equal(on_device(shots[1], CPU), torch.from_numpy(shots[1]))
        assert len(sent) == 3
    on_device(shots[1], CPU)
    assert len(sent) == 4


def test_a_viewers_frames_are_read_only() -> None:
    frame = scene()
    frame.flags.writeable = False
    assert torch.equal(on_device(frame, CPU), torch.from_numpy(frame.copy()))


def test_a_small_model_finds_the_same(tiny_model: Callable[..., LoadedModel]) -> None:
    model = tiny_model()
    shots = [scene(seed=i) for i in range(4)]
    here = Predictor(model, max_individuals=2, device="cpu")
    there = Predictor(model, max_individuals=2, device="cpu", crops_on_device=True)
    assert not here.crops_on_device
    a, b = here(shots), there(shots)
    # an untrained detector has hardly any difference between cells: the boxes of one are given to both
    np.testing.assert_allclose(b.box_scores, a.box_scores, atol=0.02)
    boxes = a.boxes[:, 0].astype(np.float64)
    (xy, sure), (xy_there, sure_there) = here.pose(shots, boxes), there.pose(shots, boxes)
    np.testing.assert_allclose(sure_there, sure, atol=0.02)
    moved = np.linalg.norm(xy_there - xy, axis=-1)
    assert np.nanmedian(moved) < 0.05
    there.bare(shots)()


def test_an_official_model_finds_the_same_to_the_last_bit() -> None:
    torch.manual_seed(0)
    release = find_release("superanimal_quadruped_rtmpose_s")
    assert release is not None
    card = card_of(release)
    model = OfficialPose(card, KeypointSpace.from_json(card.space), build(release).eval())  # type: ignore[arg-type]
    shots = [scene(seed=i) for i in range(3)]
    boxes = np.array([[10, 20, 60, 50], [-30, -10, 80, 90], [500, 500, 9, 9]], np.float64)
    here = OfficialPredictor(model, detector="whole-frame", device="cpu")
    there = OfficialPredictor(model, detector="whole-frame", device="cpu", crops_on_device=True)
    for a, b in zip(here.pose(shots, boxes), there.pose(shots, boxes), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(here(shots).xy, there(shots).xy)
    there.bare(shots)()
