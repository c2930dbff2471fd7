"""Every way to ask for a frame gives the pixels that decoding from the start gives."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_superanimal.video import Video, open_video

quick = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def test_count_times_and_rate(sample):
    video = open_video(sample.path)
    assert video.shape == sample.frames.shape
    assert np.allclose(video.times, sample.times, atol=2e-3)  # mkv counts milliseconds
    expected = (len(sample.times) - 1) / sample.times[-1]
    assert video.fps == pytest.approx(expected, rel=0.01)


def test_sequence(sample):
    video = open_video(sample.path)
    numbers = []
    for number, frame in video.iter_frames():
        assert np.array_equal(frame, sample.frames[number])
        numbers.append(number)
    assert numbers == list(range(len(sample.frames)))


@quick
@given(data=st.data())
def test_any_order(sample, data):
    count = len(sample.frames)
    order = data.draw(st.lists(st.integers(-count, count - 1), min_size=1, max_size=25))
    video = open_video(sample.path, cache_bytes=data.draw(st.sampled_from([0, 60_000, 2**20])))
    for number in order:
        assert np.array_equal(video[number], sample.frames[number])


@quick
@given(data=st.data())
def test_runs_in_both_directions(sample, data):
    count = len(sample.frames)
    video = open_video(sample.path, cache_bytes=0)
    for _ in range(3):
        start = data.draw(st.integers(0, count - 1))
        step = data.draw(st.sampled_from([-3, -2, -1, 1, 2, 5]))
        for number in range(count)[start::step][:20]:
            assert np.array_equal(video.frame(number), sample.frames[number])


@quick
@given(data=st.data())
def test_iter_frames_is_a_range(sample, data):
    count = len(sample.frames)
    start = data.draw(st.integers(-count, count))
    stop = data.draw(st.none() | st.integers(-count, count + 5))
    step = data.draw(st.sampled_from([1, 2, 7, -1, -4]))
    found = list(open_video(sample.path).iter_frames(start, stop, step))
    assert [n for n, _ in found] == list(range(count))[start:stop:step]
    assert all(np.array_equal(frame, sample.frames[n]) for n, frame in found)


part = st.one_of(
    st.integers(-20, 19),
    st.slices(20),
    st.just(Ellipsis),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(key=st.lists(part, min_size=1, max_size=4))
def test_indexing_is_numpys(samples, key):
    sample = samples["mjpeg.avi"]
    video, array = _opened(sample.path), sample.frames[:20]
    key = tuple(key)
    try:
        expected = array[key]
    except IndexError:
        with pytest.raises(IndexError):
            video[key]
        return
    found = video[key]
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


_videos: dict[object, Video] = {}


def _opened(path) -> Video:
    return _videos.setdefault(path, open_video(path))


def test_lists_masks_and_scalars_choose_frames(samples):
    sample = samples["mjpeg.avi"]
    video = open_video(sample.path)
    mask = np.arange(20) % 3 == 0
    assert np.array_equal(video[[3, 1, -1]], sample.frames[[3, 1, -1]])
    assert np.array_equal(video[mask], sample.frames[mask])
    assert np.array_equal(video[np.int64(4)], sample.frames[4])
    assert np.array_equal(video[np.array(4), :, 5], sample.frames[4, :, 5])
    assert np.array_equal(np.asarray(video), sample.frames)
    for wrong in (20, -21, None, "a", 1.5, [[1]], (0, 0, 0, 0, 0), (..., ...), np.ones(3, bool)):
        with pytest.raises(IndexError):
            video[wrong]
    with pytest.raises(ValueError, match="zero"):
        video[::0]


def test_frames_are_protected_and_iterated_ones_are_free(samples):
    video = open_video(samples["mpeg4.avi"].path)
    with pytest.raises(ValueError, match="read-only"):
        video.frame(0)[0] = 0
    _, frame = next(video.iter_frames())
    frame[:] = 0
    assert video.frame(0).any()


def test_scrubbing_while_iterating(sample):
    """A viewer jumps about in two threads while inference reads the same object."""
    video = open_video(sample.path, cache_bytes=40_000)
    count = len(sample.frames)
    wrong: list[int] = []
    stop = threading.Event()

    def scrub(seed: int) -> int:
        rng, done = np.random.default_rng(seed), 0
        while not stop.is_set() or done < 20:
            number = int(rng.integers(count))
            if not np.array_equal(video.frame(number), sample.frames[number]):
                wrong.append(number)
            done += 1
        return done

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(scrub, seed) for seed in (1, 2)]
        for _ in range(2):
            for number, frame in video.iter_frames():
                if not np.array_equal(frame, sample.frames[number]):
                    wrong.append(number)
        stop.set()
        assert all(job.result(60) >= 20 for job in jobs)
    assert not wrong


def test_fork_and_close(sample):
    video = open_video(sample.path)
    other = video.fork()
    assert np.array_equal(video[1], other[1])
    video.close()
    assert np.array_equal(other[-1], sample.frames[-1])
    assert np.array_equal(video[2], sample.frames[2])  # opens again
    with open_video(sample.path) as third:
        assert len(third) == len(sample.frames)


def test_abandoned_iteration_closes_its_decoder(samples, monkeypatch):
    video = open_video(samples["mpeg4.avi"].path)
    closed = []
    make = video.source.reader

    def reader(**options):
        made = make(**options)
        shut = made.close
        made.close = lambda: (closed.append(True), shut())
        return made

    monkeypatch.setattr(video.source, "reader", reader)
    frames = video.iter_frames()
    next(frames)
    frames.close()
    assert closed == [True]


def test_refuses_to_load_everything(samples, monkeypatch):
    from napari_superanimal.errors import UserError

    video = open_video(samples["mjpeg.avi"].path)
    monkeypatch.setattr("napari_superanimal.video.video.MAX_LOAD_BYTES", video.nbytes // 2)
    for load in (lambda: np.asarray(video), lambda: video[:], lambda: video[...]):
        with pytest.raises(UserError, match="iter_frames"):
            load()
    assert video[:5].shape == (5, *video.shape[1:])
    assert video[:, 0, 0].shape == (20, 3)  # a small part of every frame is fine
