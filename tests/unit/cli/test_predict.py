"""`superanimal predict`: what it writes, what it refuses, how it is stopped and resumed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from napari_superanimal.cli import main
from napari_superanimal.jobs.predict import predict_files
from napari_superanimal.jobs.predict_plan import PredictOptions
from napari_superanimal.jobs.progress import CancelToken, Progress
from napari_superanimal.keypoints import load_space
from napari_superanimal.poses.formats import registry
from napari_superanimal.video import VideoWriter, open_video

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Recording


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_writes_what_the_contract_says(clip: Recording, tiny: Path, tmp_path: Path) -> None:
    report = tmp_path / "result.json"
    assert run("predict", clip.path, "--model", tiny, "--out", tmp_path, "--json", report) == 0
    table = pd.read_hdf(tmp_path / "mice_tiny.h5", "df_with_missing")
    assert table.columns.names == ["scorer", "individuals", "bodyparts", "coords"]
    assert table.columns.levels[0].tolist() == ["tiny"]
    assert table.columns.get_level_values("individuals").unique().tolist() == ["animal0"]
    names = table.columns.get_level_values("bodyparts").unique().tolist()
    assert names == list(load_space("superanimal_topviewmouse").keypoints)
    assert table.index.tolist() == list(range(60))
    assert np.issubdtype(table.index.dtype, np.integer)
    assert table.notna().to_numpy().any()

    card = json.loads((tmp_path / "mice_tiny.run.json").read_text(encoding="utf-8"))
    assert card["status"] == "complete"
    assert (card["model"], card["detector"], card["frames"]) == ("tiny", "tiny", 60)
    model_card = json.loads((tiny / "card.json").read_text(encoding="utf-8"))
    assert card["weights_sha256"] == {f"tiny/{k}": v for k, v in model_card["sha256"].items()}
    assert card["thresholds"] == {"likelihood": model_card["threshold"], "detector": 0.0}
    assert {"python", "torch", "napari-superanimal"} <= card["versions"].keys()
    assert card["fps"] == pytest.approx(60 / card["seconds"], rel=0.01)
    for field in ("forward_fps", "decode_fps", "peak_rss_mb", "seconds"):
        assert card[field] > 0, field
    # the result for programs holds the card, at the top and per input
    result = json.loads(report.read_text(encoding="utf-8"))
    assert result["exit_code"] == 0
    assert result["forward_fps"] == card["forward_fps"]
    assert result["runs"][0]["predictions"] == str(tmp_path / "mice_tiny.h5")


def test_forward_fps_is_measured_only_when_asked(clip: Recording, tiny: Path, tmp_path: Path) -> None:
    assert run("predict", clip.path, "--model", tiny, "--out", tmp_path, "--frames", ":8") == 0
    card = json.loads((tmp_path / "mice_tiny.run.json").read_text(encoding="utf-8"))
    assert "forward_fps" not in card


def test_frames_formats_and_individuals(clip: Recording, tiny: Path, tmp_path: Path) -> None:
    words = ("--frames", "10:50:4", "--max-individuals", 2, "--format", "dlc-csv,coco")
    assert run("predict", clip.path, "--model", tiny, "--out", tmp_path, *words) == 0
    h5 = registry.read(tmp_path / "mice_tiny.h5")
    csv = registry.read(tmp_path / "mice_tiny.csv")
    assert h5.frames.tolist() == csv.frames.tolist() == list(range(10, 50, 4))
    assert h5.individuals == csv.individuals == ("animal0", "animal1")
    np.testing.assert_array_equal(h5.xy, csv.xy)
    coco = json.loads((tmp_path / "mice_tiny.json").read_text(encoding="utf-8"))
    assert len(coco["images"]) == 10


def test_beside_the_video_by_default(clip: Recording, tiny: Path, tmp_path: Path) -> None:
    shutil.copy(clip.path, tmp_path / "my clip.v2.mp4")
    assert run("predict", tmp_path / "my clip.v2.mp4", "--model", tiny, "--frames", ":4") == 0
    assert (tmp_path / "my clip.v2_tiny.h5").exists()


def test_another_detector_is_part_of_the_name(clip: Recording, tiny: Path, tmp_path: Path) -> None:
    words = ("--detector", "whole-frame", "--frames", ":4")
    assert run("predict", clip.path, "--model", tiny, "--out", tmp_path, *words) == 0
    card = json.loads((tmp_path / "mice_tiny_whole-frame.run.json").read_text(encoding="utf-8"))
    assert (card["detector"], card["scorer"]) == ("whole-frame", "tiny_whole-frame")
    assert card["thresholds"]["detector"] is None
    assert registry.read(tmp_path / "mice_tiny_whole-frame.h5").scorer == "tiny_whole-frame"


def test_existing_results_are_kept_unless_asked(
    clip: Recording, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mice_tiny.h5"
    mine.write_bytes(b"three days of work")
    assert run("predict", clip.path, "--model", tiny, "--out", tmp_path, "--frames", ":4") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert mine.read_bytes() == b"three days of work"
    assert [p.name for p in tmp_path.iterdir()] == ["mice_tiny.h5"]
    # neither is a file without a run card taken for a run to resume
    assert run("predict", clip.path, "--model", tiny, "--out", tmp_path, "--frames", ":4", "--resume") == 2
    assert mine.read_bytes() == b"three days of work"
    assert run("predict", clip.path, "--model", tiny, "--out", tmp_path, "--frames", ":4", "--overwrite") == 0
    assert len(registry.read(mine)) == 4


def test_annotated_video_has_every_frame(clip: Recording, tiny: Path, tmp_path: Path) -> None:
    words = ("--frames", ":30:3", "--annotate")
    assert run("predict", clip.path, "--model", tiny, "--out", tmp_path, *words) == 0
    with open_video(tmp_path / "mice_tiny_annotated.mp4") as video, open_video(clip.path) as plain:
        assert len(video) == 10
        assert video.shape[1:] == plain.shape[1:]
        assert video.fps == pytest.approx(plain.fps / 3, rel=0.01)
        assert np.abs(video.frame(2).astype(int) - plain.frame(6)).max() > 60  # something is drawn


def test_drawing_is_told_can_be_cancelled_and_goes_on(clip: Recording, tiny: Path, tmp_path: Path) -> None:
    options = PredictOptions(model=tiny, out=tmp_path, annotate=True, frames=(0, 30, 1))
    token, told = CancelToken(), list[Progress]()

    def stop_while_drawing(progress: Progress) -> None:
        told.append(progress)
        if progress.message.startswith("drawing") and progress.done == 10:
            token.cancel()

    (stopped,) = predict_files([clip.path], options, on_progress=stop_while_drawing, token=token)
    assert stopped.status == "cancelled"
    assert told[-1].total == 30
    assert len(registry.read(tmp_path / "mice_tiny.h5")) == 30, "what was predicted is written"
    assert not (tmp_path / "mice_tiny_annotated.mp4").exists()

    (done,) = predict_files([clip.path], replace(options, resume=True), on_progress=told.append)
    assert done.status == "complete"
    assert done.card["frames"] == 30
    with open_video(tmp_path / "mice_tiny_annotated.mp4") as video:
        assert len(video) == 30


def test_folder_of_images_and_single_images(labels: Path, tiny: Path, tmp_path: Path) -> None:
    folder = labels.parent / "images"
    assert run("predict", folder, "--model", tiny, "--out", tmp_path, "--format", "coco", "--annotate") == 0
    poses = registry.read(tmp_path / "images_tiny.h5")
    assert [poses.image_path(row).resolve() for row in range(24)] == sorted(folder.iterdir())
    assert len(list((tmp_path / "images_tiny_annotated").glob("*.png"))) == 24
    coco = registry.read(tmp_path / "images_tiny.json")
    assert coco.image_path(5).samefile(folder / "img005.png")


@pytest.mark.parametrize("detector", ["model", "whole-frame"])
def test_images_of_different_sizes(detector: str, tiny: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (64, 80, 3)), ("b.jpg", (90, 50, 3))):
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(tmp_path / name)
    out = tmp_path / "out"
    words = ("--detector", detector, "--annotate", "--json", tmp_path / "result.json")
    assert run("predict", tmp_path / "a.png", tmp_path / "b.jpg", "--model", tiny, "--out", out, *words) == 0
    scorer = "tiny" if detector == "model" else "tiny_whole-frame"
    poses = registry.read(out / f"{tmp_path.name}_{scorer}.h5")
    assert [poses.image_path(row).name for row in range(2)] == ["a.png", "b.jpg"]
    known = poses.xy[:, 0][:, poses.found.any((0, 1))]
    # within the picture, or the crop's margin around it
    assert ((known[0] > -20) & (known[0] < (100, 100))).all()
    drawn = out / f"{tmp_path.name}_{scorer}_annotated"
    assert [Image.open(p).size for p in sorted(drawn.iterdir())] == [(80, 64), (50, 90)]


def test_inputs_that_share_a_name_are_refused(
    clip: Recording, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "day2").mkdir()
    other = shutil.copy(clip.path, tmp_path / "day2" / "mice.mp4")
    assert run("predict", clip.path, other, "--model", tiny, "--out", tmp_path / "out") == 2
    assert "both" in capsys.readouterr().err


@pytest.mark.parametrize("case", ["truncated", "absent", "model", "folder", "frames", "out"])
def test_bad_input_is_one_line_and_writes_nothing(
    case: str, clip: Recording, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, model, out = clip.path, tiny, tmp_path / "out"
    words: list[object] = []
    if case == "truncated":
        data = clip.path.read_bytes()
        video = tmp_path / "cut.mp4"
        video.write_bytes(data[: len(data) // 2])
        expected = "cut.mp4"
    elif case == "absent":
        video, expected = tmp_path / "absent.mp4", "absent.mp4"
    elif case == "model":
        model, expected = tmp_path / "no-such-model", "no-such-model"
    elif case == "folder":
        (tmp_path / "empty").mkdir()
        video, expected = tmp_path / "empty", "no images"
    elif case == "frames":
        words, expected = ["--frames", "60:"], "has 60"
    else:
        (tmp_path / "file").write_text("")
        out, expected = tmp_path / "file" / "out", "cannot write"
    assert run("predict", video, "--model", model, "--out", out, *words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert expected in lines[0]
    assert not out.is_dir() or not list(out.iterdir())


def test_one_broken_input_does_not_cost_the_others(
    clip: Recording, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "photos"
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(images / f"p{i:02d}.png")
    damaged = images / "p35.png"
    damaged.write_bytes(damaged.read_bytes()[:2000])  # the header is whole, the pixels are not
    out = tmp_path / "out"
    assert run("predict", images, clip.path, "--model", tiny, "--out", out) == 2
    assert "p35.png" in capsys.readouterr().err
    assert json.loads((out / "mice_tiny.run.json").read_text())["status"] == "complete"
    card = json.loads((out / "photos_tiny.run.json").read_text())
    assert card["status"] == "cancelled"
    assert "p35.png" in card["error"]
    assert len(registry.read(out / "photos_tiny.h5")) == card["frames"] >= 16


def long_clip(path: Path) -> Path:
    """600 frames: some seconds of work for the tiny model."""
    with VideoWriter(path, 30, (320, 240)) as writer:
        rng = np.random.default_rng(1)
        tiles = rng.integers(0, 255, (20, 240, 320, 3), dtype=np.uint8) // 4
        for i in range(600):
            writer.write(tiles[i % 20])
    return path


def test_ctrl_c_keeps_what_was_done_and_resume_continues(tiny: Path, tmp_path: Path) -> None:
    video = long_clip(tmp_path / "long.mp4")
    out, report = tmp_path / "out", tmp_path / "result.json"
    words = [video, "--model", tiny, "--out", out, "--max-individuals", 2, "--flip"]
    # a program that presses Ctrl-C as soon as the first frames are done
    code = (
        "import os, signal, sys\n"
        "from napari_superanimal.jobs.chunks import ChunkFile\n"
        "add = ChunkFile.add\n"
        "def press(self, *words, **options):\n"
        "    add(self, *words, **options)\n"
        "    if self.frames == 64: os.kill(os.getpid(), signal.SIGINT)\n"
        "ChunkFile.add = press\n"
        "from napari_superanimal.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, "predict", *map(str, words), "--json", str(report)]
    stopped = subprocess.run(command, capture_output=True, text=True, check=False)
    assert stopped.returncode == 130, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert json.loads(report.read_text())["status"] == "cancelled"
    card = json.loads((out / "long_tiny.run.json").read_text())
    assert card["status"] == "cancelled"
    assert 64 <= card["frames"] < 600
    part = registry.read(out / "long_tiny.h5")
    assert part.frames.tolist() == list(range(card["frames"]))
    assert (out / "long_tiny.chunks").exists()

    # other settings are another run
    assert (
        run("predict", video, "--model", tiny, "--out", out, "--max-individuals", 1, "--flip", "--resume")
        == 2
    )
    assert registry.read(out / "long_tiny.h5").frames.tolist() == part.frames.tolist()

    assert run("predict", *words, "--resume") == 0
    card = json.loads((out / "long_tiny.run.json").read_text())
    assert (card["status"], card["frames"]) == ("complete", 600)
    assert card["frames_this_run"] == 600 - len(part)
    assert not (out / "long_tiny.chunks").exists()
    assert run("predict", video, "--model", tiny, "--out", tmp_path / "whole", *words[5:]) == 0
    whole, resumed = registry.read(tmp_path / "whole" / "long_tiny.h5"), registry.read(out / "long_tiny.h5")
    assert resumed.frames.tolist() == whole.frames.tolist()
    for name in ("xy", "likelihood", "boxes", "box_scores"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
    assert resumed.metadata["swap_risk"] == whole.metadata["swap_risk"]
    # a complete run is left alone
    stamp = (out / "long_tiny.h5").stat().st_mtime_ns
    assert run("predict", *words, "--resume") == 0
    assert (out / "long_tiny.h5").stat().st_mtime_ns == stamp


def test_ctrl_c_while_loading_is_quiet(clip: Recording, tiny: Path, tmp_path: Path) -> None:
    # Ctrl-C at the moment when torch is first imported
    code = (
        "import os, signal, sys\n"
        "class Press:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            sys.meta_path.remove(self)\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Press())\n"
        "from napari_superanimal.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["predict", str(clip.path), "--model", str(tiny), "--out", str(tmp_path / "out")]
    stopped = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert stopped.returncode == 130, stopped.stderr
    assert "Traceback" not in stopped.stderr
    # nothing was done, so nothing stands in the way of the next run
    assert list((tmp_path / "out").iterdir()) == []
