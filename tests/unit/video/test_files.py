"""Containers that lie, files that are broken, pictures that lie on their side."""

from __future__ import annotations

import struct
import warnings

import av
import numpy as np
import pytest

from napari_superanimal.errors import UserError
from napari_superanimal.video import open_video


def remedy_of(error: UserError) -> str:
    assert "\n" not in str(error)
    return error.remedy


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("text.mp4", b"this is not a video at all, it is a letter\n" * 40, "not a video"),
        ("empty.avi", b"", "empty"),
        ("pointer.mp4", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "LFS"),
        ("noise.mkv", np.random.default_rng(0).bytes(5000), "not a video"),
    ],
)
def test_not_a_video(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        open_video(path)
    assert str(path) in str(caught.value)
    assert remedy_of(caught.value)
    assert path.read_bytes() == content


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        open_video(tmp_path / "gone.mp4")
    with pytest.raises(UserError, match="no images"):
        open_video(tmp_path)


def test_sound_only(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(UserError, match="no video track"):
        open_video(path)


def test_mp4_without_its_index(tmp_path, samples, encode):
    path = tmp_path / "cut.mp4"
    whole = encode(tmp_path / "whole.mp4", 60, codec="mpeg4").read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])  # the index is at the end
    with pytest.raises(UserError, match="moov"):
        open_video(path)


@pytest.mark.parametrize("name", ["cut.mkv", "cut.avi", "cut.ts", "faststart.mp4"])
def test_cut_stream_opens_with_what_decodes(tmp_path, name, encode, decode):
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    whole = encode(tmp_path / ("whole" + name), 80, codec="mpeg4", b_frames=2, gop=10, container=options)
    reference = decode(whole).frames
    path = tmp_path / name
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.6)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        video = open_video(path)
    assert 20 < len(video) < 70
    if name in ("cut.avi", "faststart.mp4"):  # these say how many frames there should be
        assert any("cut off" in str(w.message) for w in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = [frame for _, frame in video.iter_frames()]
        backwards = [video[i] for i in range(len(video) - 1, -1, -1)][::-1]
    assert len(read) == len(video)
    good = len(video) - 3  # the last picture may be half there
    assert np.array_equal(np.stack(read[:good]), reference[:good])
    assert np.array_equal(np.stack(backwards[:good]), reference[:good])


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_damage_in_the_middle_never_stops_reading(tmp_path, suffix, encode, decode, h264):
    whole = encode(tmp_path / f"whole.{suffix}", 90, options={"g": "15", "bf": "2"})
    reference = decode(whole).frames
    content = bytearray(whole.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1500] = np.random.default_rng(1).bytes(1500)
    path = tmp_path / f"damaged.{suffix}"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        video = open_video(path)
        frames = [frame for _, frame in video.iter_frames()]
        again = [video[i] for i in range(len(video) - 1, -1, -1)]
    assert len(frames) == len(again) == len(video)
    assert len(video) > 60
    assert np.array_equal(frames[5], reference[5])
    assert np.array_equal(frames[-1], reference[-1])


def test_frame_count_in_the_header_is_not_believed(tmp_path, encode):
    path = encode(tmp_path / "liar.avi", 25, codec="mjpeg", pixels="yuvj420p")
    content = bytearray(path.read_bytes())
    main, stream = content.index(b"avih") + 8, content.index(b"strh") + 8
    content[main + 16 : main + 20] = struct.pack("<I", 7)
    content[stream + 32 : stream + 36] = struct.pack("<I", 7)
    path.write_bytes(content)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 7
    assert len(open_video(path)) == 25


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), -1), ((0, -1, 1, 0), 1), ((-1, 0, 0, -1), 2)])
def test_phone_rotation(tmp_path, matrix, turns, encode, decode):
    upright = encode(tmp_path / "upright.mp4", 12, codec="mpeg4", gop=4)
    content = bytearray(upright.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # the display matrix of a version 0 track header
    a, b, c, d = (v * 65536 for v in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path = tmp_path / "phone.mp4"
    path.write_bytes(content)
    video, plain = open_video(path), decode(upright).frames
    expected = np.rot90(plain, turns, axes=(1, 2))
    assert video.shape == expected.shape
    assert np.array_equal(np.asarray(video), expected)


def test_hidden_frames_of_an_edit_list_are_left_out(tmp_path, encode, decode, h264):
    """Cutting without re-encoding leaves frames before the cut in the file, marked not to be shown."""
    source = encode(tmp_path / "source.mp4", 60, options={"g": "20", "bf": "2"})
    path = tmp_path / "trimmed.mp4"
    with av.open(str(source)) as a, av.open(str(path), "w") as b:
        video = a.streams.video[0]
        copy = b.add_stream_from_template(video)
        shift = int(10 / 30 / video.time_base)
        for packet in a.demux(video):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copy
                b.mux(packet)
    shown = decode(path)
    opened = open_video(path)
    assert len(opened) == len(shown.frames)
    assert np.array_equal(np.asarray(opened), shown.frames)


def test_one_frame(tmp_path, encode, decode):
    path = encode(tmp_path / "one.mp4", 1, codec="mpeg4")
    video = open_video(path)
    assert len(video) == 1
    assert video.fps > 0
    assert np.array_equal(video[-1], decode(path).frames[0])


def test_pattern_survives(samples):
    """The numbered pictures really differ, so that equality above means the right frame."""
    frames = samples["mjpeg.avi"].frames
    for number, frame in enumerate(frames):
        bits = [int(frame[2:6, 8 * bit + 2 : 8 * bit + 6].mean() > 127) for bit in range(8)]
        assert sum(bit << i for i, bit in enumerate(bits)) == number
