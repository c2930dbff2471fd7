"""Folders, lists and single images as videos."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_superanimal.errors import UserError
from napari_superanimal.video import open_video


def grey(value: int, size: tuple[int, int] = (20, 10)) -> Image.Image:
    return Image.new("L", size, value)


def test_natural_order(tmp_path):
    for number in (10, 9, 1, 100, 2):
        grey(number).save(tmp_path / f"img{number}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    grey(200).save(tmp_path / ".hidden.png")
    video = open_video(tmp_path)
    assert [int(frame[0, 0, 0]) for frame in video] == [1, 2, 9, 10, 100]
    assert video.shape == (5, 10, 20, 3)
    assert len(video.times) == 5
    assert [n for n, _ in video.iter_frames(4, 0, -2)] == [4, 2]


def test_list_keeps_its_order_and_one_image_is_a_video(tmp_path):
    files = []
    for number in (3, 1, 2):
        files.append(tmp_path / f"{number}.png")
        grey(number).save(files[-1])
    assert [int(f[0, 0, 0]) for f in open_video(files)] == [3, 1, 2]
    assert open_video(files[0]).shape == (1, 10, 20, 3)
    assert open_video([str(files[1])])[0][0, 0, 0] == 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "1", "CMYK"])
def test_modes_become_rgb(tmp_path, mode):
    rng = np.random.default_rng(0)
    original = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).convert(mode)
    path = tmp_path / f"a.{'tif' if mode == 'CMYK' else 'png'}"
    original.save(path)
    assert np.array_equal(open_video(path)[0], np.asarray(original.convert("RGB")))


def test_sixteen_bits_share_one_range(tmp_path):
    levels = np.array([[0, 1023], [2047, 4095]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "a1.png")
    Image.fromarray(levels // 4).save(tmp_path / "a2.png")
    video = open_video(tmp_path)
    assert video[0][..., 0].tolist() == [[0, 64], [127, 255]]  # a 12-bit camera in 16-bit files
    assert video[1][..., 0].tolist() == [[0, 16], [32, 64]]


def test_pages_of_a_tiff(tmp_path):
    pages = [grey(v) for v in (5, 50, 150)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    assert [int(f[0, 0, 0]) for f in open_video(tmp_path / "stack.tif")] == [5, 50, 150]


def test_different_sizes_name_the_file(tmp_path):
    grey(1).save(tmp_path / "a.png")
    grey(1, (21, 10)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match="21x10") as caught:
        open_video(tmp_path)
    assert caught.value.path == tmp_path / "b.png"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"no picture", "not an image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
    ],
)
def test_broken_image(tmp_path, content, says):
    grey(1).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        open_video(tmp_path)
    assert caught.value.path == tmp_path / "b.png"


def test_truncated_image_is_named_when_it_is_read(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[: len(content) // 2])
    video = open_video(tmp_path)
    assert np.array_equal(video[0], noise)
    with pytest.raises(UserError, match="not an image") as caught:
        video[1]
    assert caught.value.path == tmp_path / "b.png"


def test_videos_are_not_opened_together(tmp_path):
    grey(1).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="only images"):
        open_video([tmp_path / "a.png", tmp_path / "b.mp4"])
    with pytest.raises(UserError, match="no images"):
        open_video([])
