"""Streams: order, completeness, cancelling, failures, memory, tracks; and what is collected of them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from napari_superanimal.inference.chunk import CHUNK
from napari_superanimal.inference.collect import Collector
from napari_superanimal.inference.likeness import evidence
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.inference.stream import SPARE, PredictionStream, forward_fps
from napari_superanimal.inference.tracks import CERTAIN
from napari_superanimal.jobs.progress import CancelToken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_superanimal.models.load import LoadedModel

pytestmark = pytest.mark.usefixtures("one_thread")


class Recording:
    """Frames in memory: a bright spot wanders over a dark floor; counts what was read."""

    def __init__(self, n: int, fails_at: int | None = None) -> None:
        self.n, self.fails_at, self.read = n, fails_at, 0

    def __len__(self) -> int:
        return self.n

    def frame(self, i: int) -> np.ndarray:
        frame = np.random.default_rng(i).integers(0, 60, (32, 32, 3)).astype(np.uint8)
        frame[4 + i % 20 : 10 + i % 20, 3 + i % 23 : 9 + i % 23] = 240
        return frame

    def iter_frames(
        self, start: int = 0, stop: int | None = None, step: int = 1
    ) -> Iterator[tuple[int, np.ndarray]]:
        for i in range(start, self.n if stop is None else stop, step):
            if i == self.fails_at:
                raise OSError("the disk is gone")
            self.read += 1
            yield i, self.frame(i)


@pytest.fixture
def predictor(tiny_model: Callable[..., LoadedModel]) -> Predictor:
    return Predictor(tiny_model(detector=False), detector="whole-frame", device="cpu")


@pytest.mark.parametrize("frames", [range(70), range(5, 60, 3), range(3), range(16), range(0)])
def test_every_frame_comes_once_and_in_order(predictor: Predictor, frames: range) -> None:
    video = Recording(70)
    stream = PredictionStream(video, predictor, frames)
    chunks = list(stream)
    assert np.concatenate([c.frames for c in chunks] or [[]]).tolist() == list(frames)
    assert all(0 < len(c.frames) <= CHUNK for c in chunks)
    assert stream.stats.frames == len(frames)
    if len(frames):
        assert stream.stats.seconds > 0
        assert stream.stats.fps > 0
        assert stream.stats.pose_cpu_s > 0
        assert stream.stats.peak_rss_mb > 10
    told = stream.stats.to_json()
    assert told["frames"] == len(frames)
    assert set(told["cpu_ms_per_frame"]) == {"decode", "detector", "pose"}


def test_a_stream_says_what_the_predictor_says(predictor: Predictor) -> None:
    """Chunks carry the predictions of their own frames."""
    video = Recording(50)
    for chunk in PredictionStream(video, predictor, range(0, 50, 2)):
        row = len(chunk.frames) // 2
        alone = predictor([video.frame(int(chunk.frames[row]))])
        np.testing.assert_allclose(chunk.xy[row], alone.xy[0], atol=2e-3)
        np.testing.assert_allclose(chunk.likelihood[row], alone.likelihood[0], atol=1e-5)


def test_cancelling_keeps_a_prefix(predictor: Predictor) -> None:
    video, token = Recording(4000), CancelToken()
    seen: list[int] = []
    for n, chunk in enumerate(PredictionStream(video, predictor, range(4000), token=token)):
        seen += chunk.frames.tolist()
        if n == 2:
            token.cancel()
    assert seen == list(range(len(seen)))
    assert 3 * CHUNK <= len(seen) < 600


def test_cancelled_before_it_began(predictor: Predictor) -> None:
    token = CancelToken()
    token.cancel()
    assert (
        sum(len(c.frames) for c in PredictionStream(Recording(500), predictor, range(500), token=token))
        <= CHUNK
    )


def test_a_failing_video_gives_what_came_before_and_then_its_error(predictor: Predictor) -> None:
    seen: list[int] = []
    stream = PredictionStream(Recording(100, fails_at=37), predictor, range(100))
    with pytest.raises(OSError, match="the disk is gone"):
        seen.extend(i for chunk in stream for i in chunk.frames.tolist())
    assert seen == list(range(37))


def test_a_caller_that_leaves_ends_the_threads(predictor: Predictor) -> None:
    iterator = iter(PredictionStream(Recording(5000), predictor, range(5000)))
    next(iterator)
    iterator.close()
    for _ in range(100):
        if not any(t.name.startswith("superanimal-") for t in threading.enumerate()):
            break
        time.sleep(0.05)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("superanimal-")]


def test_frames_are_not_read_far_ahead(predictor: Predictor) -> None:
    """However slow the consumer, memory stays bounded."""
    video = Recording(3000)
    workers = psutil.cpu_count() or 1
    # the queue, what waits for a worker, one chunk being filled
    ahead = CHUNK * ((workers + 1) + (workers + 2) + 1)
    done = 0
    for n, chunk in enumerate(PredictionStream(video, predictor, range(3000))):
        done += len(chunk.frames)
        if n in (0, 3):
            time.sleep(0.4)
            assert video.read - done <= ahead
        if n == 3:
            break
    assert video.read < 3000


def test_individuals_keep_their_columns(tiny_model: Callable[..., LoadedModel]) -> None:
    """The same detections, in columns by nearness with tracking and by score without.

    Tracking chooses from some more than there are columns. A weak detection does not take over the column of an
    individual that was lost a moment ago.
    """
    predictor = Predictor(tiny_model(), max_individuals=3, device="cpu")
    everything = Predictor(tiny_model(), max_individuals=3 + SPARE, device="cpu")
    video = Recording(40)
    plain = list(PredictionStream(video, everything, range(40), track=False))
    tracked = list(PredictionStream(video, predictor, range(40), track=True))
    shared = 0
    for a, b in zip(plain, tracked, strict=True):
        assert a.frames.tolist() == b.frames.tolist()
        for n in range(len(a.frames)):
            here, kept = np.isfinite(a.box_scores[n]), np.isfinite(b.box_scores[n])
            scores, boxes = a.box_scores[n, here], a.boxes[n, here]
            assert (np.diff(scores) <= 1e-6).all()
            apart = np.abs(b.boxes[n, kept][:, None] - boxes).max(-1)
            same = apart.argmin(1)
            assert len(set(same)) == len(same), "no detection in two columns"
            np.testing.assert_allclose(b.boxes[n, kept], boxes[same], rtol=1e-3, atol=1e-2)
            np.testing.assert_allclose(b.box_scores[n, kept], scores[same], atol=1e-5)
            if not kept.all():
                weight = evidence(scores, a.likelihood[n, here])[:3]
                left_out = np.delete(weight, same[same < 3])
                assert (left_out < CERTAIN * weight.max()).all()
            np.testing.assert_array_equal(
                np.isfinite(b.xy[n]).any((-1, -2)), kept, "keypoints move with their box"
            )
            shared += len(same)
    assert shared > 40


def test_what_is_collected_at_any_time(predictor: Predictor) -> None:
    frames = range(10, 60, 2)
    collector = Collector(predictor, frames)
    assert (collector.done, collector.complete) == (0, False)
    assert len(collector.poses()) == 0
    chunks = list(PredictionStream(Recording(60), predictor, frames))
    collector.add(chunks[0])
    assert (collector.done, collector.complete) == (CHUNK, False)
    part = collector.poses(video="clip.mp4")
    assert part.frames.tolist() == list(frames)[:CHUNK]
    assert part.is_video
    assert part.scorer == predictor.scorer
    assert part.individuals == ("animal0",)
    assert not part.human.any()
    assert part.metadata["video"] == "clip.mp4"
    assert part.metadata["model"] == "tiny"
    collector.add(chunks[1])
    assert collector.complete
    whole = collector.poses()
    np.testing.assert_array_equal(whole.xy.astype(np.float32), np.concatenate([c.xy for c in chunks]))
    np.testing.assert_array_equal(whole.frames, list(frames))


def test_the_bare_network_s_speed(tiny_model: Callable[..., LoadedModel]) -> None:
    frames = [Recording(4).frame(i) for i in range(4)]
    assert forward_fps(Predictor(tiny_model(), device="cpu"), frames, 1, repeats=1) > 0
