"""Small videos of every awkward kind, encoded here, with what a plain decode from the start gives."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """A video file and the truth about it."""

    path: Path
    frames: np.ndarray
    times: np.ndarray


def picture(number: int, size: tuple[int, int]) -> np.ndarray:
    """A frame that shows its number as a pattern, with texture that moves."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack(
        [(x * 3 + number * 7) % 256, (y * 5 + number * 3) % 256, (x + y + number * 11) % 256], -1
    )
    for bit in range(8):
        image[:8, bit * 8 : bit * 8 + 8] = 255 if number >> bit & 1 else 0
    return image.astype(np.uint8)


def encode_video(
    path: Path,
    count: int,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    size: tuple[int, int] = (96, 64),
    pts: list[int] | None = None,
    options: dict[str, str] | None = None,
    b_frames: int | None = None,
    gop: int | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """Encode `count` numbered pictures at 30 fps, or at the times `pts` in 1/600 s."""
    with av.open(str(path), "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=30, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        if gop is not None:
            stream.codec_context.gop_size = gop
        unit = Fraction(1, 600) if pts else Fraction(1, 30)
        stream.codec_context.time_base = unit
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(i, size), format="rgb24")
            frame.pts = pts[i] if pts else i
            frame.time_base = unit
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def decode_video(path: Path) -> Sample:
    """Every frame, decoded from the start in one go by PyAV itself."""
    frames, times = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24"))
            times.append(frame.time)
    return Sample(path, np.stack(frames), np.array(times) - times[0])


@pytest.fixture(scope="session")
def encode() -> Callable[..., Path]:
    """`encode_video`, for tests that make their own file."""
    return encode_video


@pytest.fixture(scope="session")
def decode() -> Callable[[Path], Sample]:
    """`decode_video`."""
    return decode_video


@pytest.fixture(scope="session")
def h264() -> None:
    """Skips where FFmpeg has no encoder for H.264."""
    try:
        av.Codec("libx264", "w")
    except ValueError:
        pytest.skip("this FFmpeg has no libx264 encoder")


KINDS = (
    "bframes.mp4",
    "opengop.mkv",
    "vfr.mp4",
    "offset.mkv",
    "mpeg4.avi",
    "yuv444.mov",
    "mjpeg.avi",
    "stream.ts",
    "mpeg4.ts",
)


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    """One file of every kind; those of H.264 are missing where FFmpeg cannot encode it."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(5)
    uneven = [int(v) for v in np.cumsum(rng.choice([7, 20, 20, 61, 200], 70))]
    made = [encode_video(folder / "mpeg4.avi", 60, codec="mpeg4", b_frames=2, gop=12)]
    made.append(encode_video(folder / "mpeg4.ts", 45, codec="mpeg4", b_frames=2, gop=10))
    made.append(encode_video(folder / "mjpeg.avi", 20, codec="mjpeg", pixels="yuvj420p"))
    try:
        av.Codec("libx264", "w")
    except ValueError:
        pass
    else:
        bframes = {"bf": "3", "g": "17", "b-pyramid": "normal"}
        made += [
            encode_video(folder / "bframes.mp4", 75, options=bframes),
            encode_video(
                folder / "opengop.mkv",
                75,
                options={"x264-params": "bframes=4:keyint=15:open-gop=1:scenecut=0"},
            ),
            encode_video(folder / "vfr.mp4", 70, options=bframes, pts=uneven),
            encode_video(folder / "offset.mkv", 50, options=bframes, pts=[9000 + 20 * i for i in range(50)]),
            encode_video(folder / "yuv444.mov", 40, options={"g": "20"}, pixels="yuv444p"),
            encode_video(folder / "stream.ts", 45, options=bframes),
        ]
    return {path.name: decode_video(path) for path in made}


@pytest.fixture(params=KINDS)
def sample(request: pytest.FixtureRequest, samples: dict[str, Sample]) -> Sample:
    if request.param not in samples:
        pytest.skip("this FFmpeg has no H.264 encoder")
    return samples[request.param]
