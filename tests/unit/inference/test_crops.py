"""Crops and letterboxed pictures: where a pixel of the network lies in the frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_superanimal.inference.crops import cut, cut_batch, letterbox, square_crop, to_crop, to_frame

pytestmark = pytest.mark.usefixtures("one_thread")


def ramp(height: int, width: int) -> np.ndarray:
    """Red is x, green is y: a pixel's colour is where it is."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 9)], -1).astype(np.uint8)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.floats(-500, 500), st.floats(-500, 500), st.floats(1, 2000)), min_size=1, max_size=4
    ),
    st.sampled_from([32, 128, 256]),
    st.integers(0, 99),
)
def test_crop_and_frame_coordinates_are_inverse(squares: list, size: int, seed: int) -> None:
    where = np.array(squares)
    xy = np.random.default_rng(seed).uniform(-size, 2 * size, (len(where), 5, 2))
    xy[0, 0] = np.nan
    np.testing.assert_allclose(to_crop(to_frame(xy, where, size), where, size), xy, atol=1e-9)
    np.testing.assert_allclose(to_frame(to_crop(xy, where, size), where, size), xy, atol=1e-9)


@pytest.mark.parametrize("box", [(40, 30, 60, 20), (41.5, 30.3, 17, 23.7), (10, 10, 130, 90), (60, 60, 2, 3)])
@pytest.mark.parametrize("size", [32, 64])
def test_a_crop_shows_what_its_coordinates_say(box: tuple, size: int) -> None:
    """Enlarged or reduced, each crop pixel has the colour of the place that `to_frame` gives for it."""
    crops, squares = cut_batch([ramp(180, 220)], np.array([box], np.float64), 1.2, size)
    assert crops.shape == (1, 3, size, size)
    assert crops.dtype == torch.uint8
    y, x = np.mgrid[2 : size - 2, 2 : size - 2]
    at = to_frame(np.stack([x, y], -1).reshape(1, -1, 2), squares, size)[0]
    # a pixel beside the frame's border has some of the black outside in it
    border = 2 * max(squares[0, 2] / size, 1.0)
    inside = ((at >= border) & (at <= [219 - border, 179 - border])).all(-1)
    assert inside.sum() > 100
    shown = crops[0, :2].permute(1, 2, 0).numpy()[2 : size - 2, 2 : size - 2].reshape(-1, 2).astype(float)
    difference = (shown - at)[inside]
    # colours are rounded to whole numbers, so single pixels may be half a pixel off, their mean may not
    assert np.abs(difference).max() <= 0.6
    assert np.abs(difference.mean(0)).max() < 0.06


def test_the_square_is_around_the_middle_of_the_box() -> None:
    left, top, side = square_crop((10, 20, 30, 50), 1.2)
    assert side == pytest.approx(60)
    assert (left + side / 2, top + side / 2) == pytest.approx((25, 45))
    assert square_crop((10, 20, 1, 2), 1.2) == pytest.approx((6.5, 17, 8))


def test_a_crop_of_its_own_size_is_not_resampled() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    crop, *square = cut(frame, 10.0, 20.0, 32.0, 32)
    assert square == [10.0, 20.0, 32.0]
    np.testing.assert_array_equal(crop.permute(1, 2, 0).numpy(), frame[20:52, 10:42])


def test_outside_of_the_frame_is_black() -> None:
    frame = np.full((40, 50, 3), 200, np.uint8)
    crop, *square = cut(frame, -8.0, 24.0, 32.0, 32)
    assert square == [-8.0, 24.0, 32.0]
    assert (crop[:, :16, 8:] == 200).all()
    assert (crop[:, 16:] == 0).all()
    assert (crop[:, :, :8] == 0).all()
    for left, top in ((-100, 0), (0, -100), (60, 0), (0, 41), (1e6, 1e6)):
        assert (cut(frame, left, top, 32.0, 64)[0] == 0).all()


@pytest.mark.parametrize("shape", [(120, 160), (160, 90), (33, 200), (64, 64)])
def test_a_letterboxed_picture_shows_what_its_scale_says(shape: tuple[int, int]) -> None:
    image, scale = letterbox(ramp(*shape), 64)
    assert max(image.shape[1:]) == 64
    assert all(n % 32 == 0 for n in image.shape[1:])
    height, width = round(shape[0] * scale), round(shape[1] * scale)
    y, x = np.mgrid[1 : height - 1, 1 : width - 1]
    at = (np.stack([x, y]) + 0.5) / scale - 0.5
    difference = image[:2, 1 : height - 1, 1 : width - 1].numpy() - at
    # the shorter side is rounded to whole pixels
    assert np.abs(difference).max() <= 0.5 + 0.5 / scale
    assert (image[:, height:] == 0).all()
    assert (image[:, :, width:] == 0).all()
