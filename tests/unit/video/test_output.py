"""Writing videos, drawing poses, remembering frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_superanimal.errors import UserError
from napari_superanimal.video import VideoWriter, open_video
from napari_superanimal.video.cache import FrameCache
from napari_superanimal.video.draw import contact_sheet, default_colors, draw_poses, read_image, write_png


@pytest.mark.parametrize("size", [(64, 48), (65, 49), (33, 48)])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "mov"])
def test_written_video_reads_back(tmp_path, size, suffix):
    path = tmp_path / f"clip.{suffix}"
    width, height = size
    ramp = np.linspace(0, 120, width, dtype=np.uint8)
    frames = [np.repeat(np.tile(ramp + 10 * i, (height, 1))[..., None], 3, -1) for i in range(8)]
    with VideoWriter(path, 29.97, size) as writer:
        for frame in frames:
            writer.write(frame)
        assert not path.exists()  # appears at the end
    video = open_video(path)
    assert video.shape == (8, height + height % 2, width + width % 2, 3)
    assert video.fps == pytest.approx(29.97, rel=0.01)
    for written, read in zip(frames, video, strict=True):
        assert np.abs(read[:height, :width].astype(int) - written).mean() < 4
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_failed_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(path, 30, (32, 32)) as writer:  # noqa: PT012
        writer.write(np.zeros((32, 32, 3), np.uint8))
        raise RuntimeError("stop")
    assert path.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_wrong_size_and_unwritable_folder(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 30, (32, 32)) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
        with pytest.raises(ValueError, match="shape"):
            writer.write(np.zeros((16, 32, 3), np.uint8))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"), VideoWriter(tmp_path / "file" / "a.mp4", 30, (8, 8)):
        pass


def test_full_disk_is_a_user_error():
    from pathlib import Path

    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    import contextlib

    import napari_superanimal.video.write as module

    @contextlib.contextmanager
    def full(path):
        yield Path("/dev/full")

    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)

    def fill() -> None:
        with VideoWriter(Path("x.mp4"), 30, (320, 240)) as writer:
            for _ in range(40):
                writer.write(noise)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "atomic_path", full)
        with pytest.raises(UserError, match="cannot write"):
            fill()


def test_points_are_drawn_where_they_are():
    frame = np.full((120, 160, 3), 200, np.uint8)
    xy = np.array([[[30.0, 40.0], [100.0, 80.0], [np.nan, np.nan]]])
    colors = np.array([[255, 0, 0], [0, 0, 255], [0, 255, 0]])
    drawn = draw_poses(frame, xy, np.ones((1, 3)), [(0, 1), (1, 2)], colors, radius=4)
    assert (frame == 200).all()  # the original is untouched
    assert np.abs(drawn[40, 30].astype(int) - [255, 0, 0]).max() < 12
    assert np.abs(drawn[80, 100].astype(int) - [0, 0, 255]).max() < 12
    assert (drawn[60, 65] != 200).any()  # the skeleton between them
    changed = np.argwhere((drawn != frame).any(-1))
    assert changed.min(0).tolist() >= [32, 22]
    assert changed.max(0).tolist() <= [88, 108]


def test_likelihood_shows():
    frame = np.full((60, 200, 3), 255, np.uint8)
    xy = np.array([[[30.0, 30], [90.0, 30], [150.0, 30]]])
    colors = np.tile([200, 0, 0], (3, 1))
    drawn = draw_poses(frame, xy, [[1.0, 0.65, 0.3]], [(1, 2)], colors, threshold=0.6, radius=6).astype(int)
    strength = [255 - drawn[30, x, 1] for x in (30, 90, 150)]
    assert strength[0] > strength[1] > strength[2] == 0  # a hollow ring in the end
    assert (drawn[24:37, 144:157] != 255).any()
    assert (drawn[30, 120] == 255).all()  # no skeleton to an unsure point


def test_boxes_and_nothing():
    frame = np.zeros((80, 100, 3), np.uint8)
    missing = np.full((2, 3, 2), np.nan)
    boxes = np.array([[20, 30, 40, 30], [np.nan] * 4])
    drawn = draw_poses(frame, missing, boxes=boxes, names=["a", "b"], box_scores=[0.5, np.nan])
    assert drawn[45, 20].any()
    assert not drawn[45, 40].any()
    assert np.array_equal(draw_poses(frame, missing), frame)
    assert np.array_equal(draw_poses(frame, np.full((1, 1, 2), 900.0)), frame)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 13), st.integers(0, 12))
def test_contact_sheet_holds_every_frame(count, named):
    frames = [np.full((12, 16, 3), 10 + 15 * i, np.uint8) for i in range(count)]
    names = [f"keypoint_{i}" for i in range(named)]
    sheet = contact_sheet(
        frames, captions=[str(i) for i in range(count)], legend=(names, default_colors(named)), width=400
    )
    assert sheet.shape[1] == 400
    for i in range(count):
        assert ((sheet == 10 + 15 * i).all(-1)).sum() > 200


def test_png_round_trip(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    write_png(tmp_path / "new" / "a.png", image)
    assert np.array_equal(read_image(tmp_path / "new" / "a.png"), image)
    (tmp_path / "b.png").write_text("no")
    with pytest.raises(UserError, match="not an image"):
        read_image(tmp_path / "b.png")


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 50)), max_size=60), st.integers(0, 100))
def test_cache_is_bounded_and_keeps_the_latest(items, limit):
    cache = FrameCache(limit)
    model: dict[int, int] = {}
    for key, size in items:
        cache.put(key, np.zeros(size, np.uint8))
        model.pop(key, None)
        if size <= limit:
            model[key] = size
        while sum(model.values()) > limit:
            del model[next(iter(model))]
        assert cache.nbytes == sum(model.values()) <= limit
        assert all((found := cache.get(k)) is not None and found.size == v for k, v in list(model.items()))
    cache.clear()
    assert len(cache) == cache.nbytes == 0
