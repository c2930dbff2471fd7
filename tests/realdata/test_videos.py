"""The real videos, frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from napari_superanimal.video import open_video

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.realdata

COUNTS = {
    "m3v1mp4.mp4": 2330,
    "BrownHorseinShadow.mp4": 308,
    "EGS8X2MN4SSUGFWAV976.mp4": 1801,
    "DogRun.mp4": 789,
}


@pytest.mark.parametrize("name", COUNTS)
def test_frames_are_exact(shared_data: Path, name: str):
    path = shared_data / "videos" / name
    rng = np.random.default_rng(0)
    limit = min(COUNTS[name], 900)
    wanted = {int(i) for i in rng.integers(0, limit, 24)} | {0, limit - 1}
    truth, times = {}, []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            times.append(frame.time)
            if number in wanted:
                truth[number] = frame.to_ndarray(format="rgb24")
    video = open_video(path)
    assert len(video) == len(times) == COUNTS[name]
    assert np.allclose(video.times, np.array(times) - times[0], atol=1e-6)
    order = rng.permutation(sorted(wanted))
    for number in order:
        # a decoder that starts in the middle of the file must see what one from the start sees
        if number % 3 == 0:
            video = video.fork()
        assert np.array_equal(video[int(number)], truth[number])
    for number, frame in open_video(path).iter_frames(limit - 30, limit):
        if number in truth:
            assert np.array_equal(frame, truth[number])


def test_memory_stays_within_the_cache(shared_data: Path):
    video = open_video(shared_data / "videos" / "m3v1mp4.mp4", cache_bytes=20 * 2**20)
    for number in range(0, 200, 3):
        video.frame(number)
    assert video._cache.nbytes <= 20 * 2**20
    assert len(video._cache) == 20 * 2**20 // (640 * 480 * 3)


def test_image_folders(shared_data: Path):
    folder = shared_data / "mouse_openfield_dlc" / "labeled-data" / "m4s1"
    video = open_video(folder)
    assert video.shape[1:] == (480, 640, 3)
    assert len(video) == len(list(folder.glob("*.png")))
    assert video[0].std() > 10
