"""Wrong input of every kind: exit code 2, one line that names file and remedy, and nothing written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from napari_superanimal.cli import main
from napari_superanimal.models.zoo import find_model
from napari_superanimal.poses import make_poses
from napari_superanimal.poses.formats import registry
from napari_superanimal.video import VideoWriter

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "mouse-topview-mini"
HEADER = "scorer,s,s\nbodyparts,a,a\ncoords,x,y\n"
COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1, 2, 2]}],
    "categories": [{"id": 1, "name": "mouse", "keypoints": ["nose"]}],
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command runs in an empty folder with an empty home."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def video(work: Path) -> Path:
    with VideoWriter(work / "clip.mp4", 30.0, (64, 48)) as writer:
        for i in range(6):
            writer.write(np.full((48, 64, 3), 30 * i, np.uint8))
    return work / "clip.mp4"


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(capsys: pytest.CaptureFixture[str], work: Path, *words: object) -> str:
    """The one line that a command answers with; everything on disk is as it was."""
    before = files(work)
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    *notes, line = captured.err.splitlines() or [""]
    assert code == 2, captured.err
    assert line.startswith("error: "), captured.err
    # finetune says what it begins with, evaluate which table it found
    assert all(note.startswith(("conversion table", "3 labelled images")) for note in notes), captured.err
    assert "fault of superanimal" not in line
    assert captured.out == ""
    assert files(work) == before
    return line


def no_frames(path: Path) -> None:
    """A video track without a picture in it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame) + stream.encode(None))


def picture(path: Path) -> None:
    Image.new("RGB", (32, 32)).save(path, format="PNG")


VIDEOS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "absent": ("a.mp4", lambda p: None, "check the path"),
    "empty": ("a.mp4", lambda p: p.touch(), "again"),
    "without a frame": ("a.mkv", no_frames, "convert it"),
    "sound only": ("a.mp4", sound_only, "not sound alone"),
    "a picture": ("a.mp4", picture, "real ending"),
    "text called mp4": ("a.mp4", lambda p: p.write_text("hello\n" * 99), "mp4"),
    "text": ("notes.txt", lambda p: p.write_text("hello\n" * 99), "mp4"),
    "LFS pointer": (
        "a.mp4",
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"),
        "git lfs pull",
    ),
    "a table": ("a.csv", lambda p: p.write_text(HEADER + "0,1,2\n"), "mp4"),
    "folder without images": ("folder", lambda p: p.mkdir(), "png"),
    "folder of an empty video": ("folder", lambda p: (p.mkdir(), (p / "a.mp4").touch()), "a.mp4: is empty"),
    "damaged image": ("a.png", lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\nnothing"), "replace it"),
    "empty image": ("a.jpg", lambda p: p.touch(), "replace it"),
}


@pytest.mark.parametrize("case", VIDEOS)
def test_predict_what_is_no_video(case: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, make, remedy = VIDEOS[case]
    make(work / name)
    line = refused(capsys, work, "predict", work / name, "--model", MODEL, "--out", work / "out")
    assert name in line
    assert remedy in line


OPTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "frames in words": (("--frames", "all"), "START:STOP"),
    "one frame": (("--frames", "3"), "START:STOP"),
    "too many colons": (("--frames", "1:2:3:4"), "START:STOP"),
    "frames backwards": (("--frames", "4:2"), "has 6"),
    "frames beyond the end": (("--frames", "6:"), "has 6"),
    "a step of 0": (("--frames", "::0"), "step"),
    "a step backwards": (("--frames", "::-1"), "step"),
    "no individuals": (("--max-individuals", "0"), "above zero"),
    "fewer than no individuals": (("--max-individuals", "-2"), "above zero"),
    "individuals in words": (("--max-individuals", "two"), "above zero"),
    "batches of 0": (("--batch-size", "0"), "above zero"),
    "an unknown format": (("--format", "xlsx"), "dlc-csv"),
    "no format": (("--format", ","), "dlc-csv"),
    "an unknown device": (("--device", "tpu"), "cuda"),
    "an unknown precision": (("--precision", "fp64"), "bf16"),
    "an unknown model": (("--model", "mouse-topview-maxi"), MODEL),
    "an empty model": (("--model", ""), "card.json"),
    "a video as model": (("--model", "clip.mp4"), MODEL),
    "a folder that is no model": (("--model", "."), "card.json"),
    "an unknown detector": (("--detector", "yolo"), MODEL),
    "resume and overwrite": (("--resume", "--overwrite"), "exclude"),
    "an unknown option": (("--animals", "2"), "--help"),
    "out is a file": (("--out", "clip.mp4"), "clip.mp4"),
    "out in a file": (("--out", "clip.mp4/out"), "clip.mp4"),
    "the report is a folder": (("--json", "."), "name a file"),
    "the report in a file": (("--json", "clip.mp4/report.json"), "clip.mp4"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_predict_with_wrong_options(
    case: str, video: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, expected = OPTIONS[case]
    assert expected in refused(capsys, work, "predict", "clip.mp4", "--model", MODEL, *words)


def test_the_same_video_twice(video: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "both write" in refused(capsys, work, "predict", "clip.mp4", "./clip.mp4", "--model", MODEL)


def test_predict_without_a_gpu(video: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    line = refused(capsys, work, "predict", video, "--model", MODEL, "--device", "cuda")
    assert "--device auto or cpu" in line


def weightless(folder: Path) -> None:
    (folder / "pose.safetensors").unlink()


def truncated(folder: Path) -> None:
    path = folder / "pose.safetensors"
    path.write_bytes(path.read_bytes()[:20_000])


def exchanged(folder: Path) -> None:
    shutil.copy(folder / "detector.safetensors", folder / "pose.safetensors")


def card(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        data = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        changed = change(data)
        (folder / "card.json").write_text(json.dumps(data if changed is None else changed), encoding="utf-8")

    return spoil


#: What is wrong with a model folder, and the file that the message names.
MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (weightless, "pose.safetensors"),
    "truncated weights": (truncated, "pose.safetensors"),
    "weights of another network": (exchanged, "pose.safetensors"),
    "LFS pointer": (
        lambda f: (f / "pose.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
        "pose.safetensors",
    ),
    "no detector's weights": (lambda f: (f / "detector.safetensors").unlink(), "detector.safetensors"),
    "no card": (lambda f: (f / "card.json").unlink(), "card.json"),
    "an empty card": (lambda f: (f / "card.json").write_text(""), "card.json"),
    "half a card": (lambda f: (f / "card.json").write_text('{"name": "x",'), "card.json"),
    "a card in another encoding": (
        lambda f: (f / "card.json").write_bytes('{"name": "Mäuse"}'.encode("latin-1")),
        "card.json",
    ),
    "a list as card": (card(lambda d: [d]), "card.json"),
    "a card without a name": (card(lambda d: d.pop("name") and None), "card.json"),
    "a card without a network": (card(lambda d: d.update(pose={})), "card.json|is a detector"),
    "an unknown backbone": (card(lambda d: d["pose"].update(backbone="resnet1000")), "card.json"),
    "keypoints that are a number": (card(lambda d: d.update(keypoints=5)), "card.json"),
    "keypoints of another space": (card(lambda d: d.update(keypoints=["wing"])), "wing|card.json|pose"),
    "a card without a space": (card(lambda d: d.update(space={})), "card.json"),
}


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("command", ["predict", "evaluate", "finetune"])
def test_a_model_folder_that_is_broken(
    case: str, command: str, video: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, named = MODELS[case]
    folder = work / "model"
    shutil.copytree(find_model(MODEL).folder, folder)
    spoil(folder)
    labels = write_labels(work)
    words: dict[str, tuple[object, ...]] = {
        "predict": ("predict", video),
        "evaluate": ("evaluate", "--labels", labels),
        "finetune": ("finetune", labels, "--mode", "naive", "--out", work / "new", "--steps", 1),
    }
    line = refused(capsys, work, *words[command], "--model", folder)
    assert any(name in line for name in named.split("|")), line
    assert ";" in line, "a remedy is named"


def write_labels(work: Path, pictures: bool = True) -> Path:
    """Three labelled pictures in COCO format, under the model's own names."""
    names = tuple(f"p{i}.png" for i in range(3))
    for name in names if pictures else ():
        Image.new("RGB", (64, 48)).save(work / name)
    xy = np.random.default_rng(0).uniform(5, 40, (3, 1, 4, 2))
    points = ("nose", "left_ear", "right_ear", "tail_base")
    labels = make_poses(
        points, xy, images=names, human=True, root=work, image_sizes=np.tile([64, 48], (3, 1))
    )
    registry.write(labels, work / "labels.json", "coco")
    return work / "labels.json"


def foreign_h5(path: Path) -> None:
    pd.DataFrame({"speed": [1.0, 2.0]}).to_hdf(path, key="results", mode="w")


def coco(**change: Any) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps({**COCO, **change}))


def annotation(**change: Any) -> Callable[[Path], object]:
    return coco(annotations=[{**COCO["annotations"][0], **change}])


#: Files of labels that cannot be read, and what the message has to say besides the name.
LABELS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "absent": ("a.h5", lambda p: None, "check the path"),
    "an empty table": ("a.h5", lambda p: p.touch(), "again"),
    "a folder of something": ("folder", lambda p: p.mkdir(), "known formats"),
    "text": ("a.txt", lambda p: p.write_text("hello"), "known formats"),
    "text called h5": ("a.h5", lambda p: p.write_text("hello"), "again"),
    "another program's h5": ("a.h5", foreign_h5, "not a DeepLabCut table"),
    "csv in latin-1": (
        "a.csv",
        lambda p: p.write_bytes((HEADER + "0,1,2\nMäuse/1.png,1,2\n").encode("latin-1")),
        "UTF-8",
    ),
    "csv header in latin-1": (
        "a.csv",
        lambda p: p.write_bytes(HEADER.replace("a", "Öhrchen").encode("latin-1")),
        "UTF-8",
    ),
    "csv late in latin-1": (
        "a.csv",
        lambda p: p.write_bytes((HEADER + "v/1.png,1,2\n" * 9 + "ö/1.png,1,2\n").encode("latin-1")),
        "UTF-8",
    ),
    "csv in UTF-16": ("a.csv", lambda p: p.write_text(HEADER + "0,1,2\n", encoding="utf-16"), ""),
    "csv without a header": ("a.csv", lambda p: p.write_text("0,1,2\n1,3,4\n"), "scorer"),
    "csv of Excel": ("a.csv", lambda p: p.write_text(HEADER.replace(",", ";") + "0;1;2\n"), ""),
    "csv with an animal twice": (
        "a.csv",
        lambda p: p.write_text(
            "scorer,s,s,s,s\nindividuals,m,m,m,m\nbodyparts,a,a,a,a\ncoords,x,y,x,y\n0,1,2,3,4\n"
        ),
        "two columns",
    ),
    "csv with words": ("a.csv", lambda p: p.write_text(HEADER + "0,1,left\n"), "spreadsheet"),
    "json cut short": ("a.json", lambda p: p.write_text('{"images": ['), "again"),
    "json of something": ("a.json", lambda p: p.write_text('{"a": 1}'), "COCO"),
    "json in latin-1": ("a.json", lambda p: p.write_bytes('{"images": "ä"}'.encode("latin-1")), "again"),
    "coco without names": ("a.json", coco(categories=[{"id": 1, "name": "mouse"}]), "keypoint names"),
    "coco with text as box": ("a.json", annotation(bbox=["a", "b", "c", "d"]), "correct that entry"),
    "coco with text as score": ("a.json", annotation(score="high"), "correct that entry"),
    "coco with text as keypoints": ("a.json", annotation(keypoints="123"), "1"),
    "coco with a list as image": ("a.json", annotation(image_id=[1]), "correct that entry"),
    "coco with a list as id": ("a.json", coco(images=[{"id": [1], "file_name": "a.png"}]), "correct"),
    "coco with a skeleton of numbers": (
        "a.json",
        coco(categories=[{**COCO["categories"][0], "skeleton": [1, 2]}]),
        "correct that entry",
    ),
    "stanfordextra with text as box": (
        "a.json",
        lambda p: p.write_text(
            json.dumps([{"img_path": "a.jpg", "joints": [[1, 2, 1]] * 24, "img_bbox": ["a"] * 4}])
        ),
        "correct that entry",
    ),
}


@pytest.mark.parametrize("case", LABELS)
def test_convert_what_cannot_be_read(case: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, make, expected = LABELS[case]
    make(work / name)
    line = refused(capsys, work, "convert", work / name, work / "out.json")
    assert name in line
    assert expected in line


def test_not_a_number_in_coco_is_a_missing_point(work: Path) -> None:
    """Python's json writes NaN, and reads it: a point without a place, as null is."""
    nan = float("nan")
    annotation(keypoints=[nan, nan, 2], bbox=[nan] * 4, score=nan)(work / "a.json")
    assert main(["convert", str(work / "a.json"), str(work / "b.json")]) == 0
    assert not registry.read(work / "b.json").found.any()
    assert "NaN" not in (work / "b.json").read_text(encoding="utf-8")


CONVERT: dict[str, tuple[tuple[str, ...], str]] = {
    "onto itself": (("labels.json",), "same file"),
    "onto another file": (("p0.png", "--to", "coco"), "p0.png"),
    "an unknown ending": (("out.xlsx",), "--to"),
    "an unknown target format": (("out.json", "--to", "yolo"), "coco"),
    "a format that is only read": (("out.json", "--to", "stanfordextra"), "coco"),
    "an unknown source format": (("out.json", "--from", "yolo"), "coco"),
    "the wrong source format": (("out.json", "--from", "dlc-h5"), "labels.json"),
    "into a file": (("p0.png/out.json",), "p0.png"),
    "an unknown space": (("out.json", "--space", "mouse"), "superanimal_topviewmouse"),
    "a picture as space": (("out.json", "--space", "p0.png"), "p0.png"),
    "a space that does not fit": (("out.json", "--space", "superanimal_bird"), "--table"),
    "a missing table": (("out.json", "--space", "superanimal_topviewmouse", "--table", "no.csv"), "no.csv"),
    "a picture as table": (
        ("out.json", "--space", "superanimal_topviewmouse", "--table", "p0.png"),
        "p0.png",
    ),
    "labels as table": (
        ("out.json", "--space", "superanimal_topviewmouse", "--table", "labels.json"),
        "source,keypoint",
    ),
    "a table of another space": (
        ("out.json", "--space", "superanimal_topviewmouse", "--table", "ap10k"),
        "not a keypoint",
    ),
}


@pytest.mark.parametrize("case", CONVERT)
def test_convert_with_wrong_options(case: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_labels(work)
    words, expected = CONVERT[case]
    assert expected in refused(capsys, work, "convert", "labels.json", *words)


EVALUATE: dict[str, tuple[tuple[str, ...], str]] = {
    "absent labels": (("--labels", "no.json", "--model", MODEL), "no.json"),
    "a picture as labels": (("--labels", "p0.png", "--model", MODEL), "p0.png"),
    "absent predictions": (("--labels", "labels.json", "--predictions", "no.h5"), "no.h5"),
    "neither model nor predictions": (("--labels", "labels.json"), "--model"),
    "both": (("--labels", "labels.json", "--model", MODEL, "--predictions", "x.h5"), "not allowed"),
    "boxes for predictions": (
        ("--labels", "labels.json", "--predictions", "labels.json", "--boxes", "labels"),
        "needs --model",
    ),
    "no such image": (("--labels", "labels.json", "--model", MODEL, "--only", "match:mouse9"), "none of the"),
    "a broken pattern": (("--labels", "labels.json", "--model", MODEL, "--only", "match:("), "pattern"),
    "an absent list": (("--labels", "labels.json", "--model", MODEL, "--only", "list.txt"), "list.txt"),
    "a picture as list": (("--labels", "labels.json", "--model", MODEL, "--only", "p0.png"), "p0.png"),
    "an absent table": (("--labels", "labels.json", "--model", MODEL, "--table", "no.csv"), "no.csv"),
    "a table of another space": (
        ("--labels", "labels.json", "--model", MODEL, "--table", "ap10k"),
        "not a keypoint",
    ),
}


@pytest.mark.parametrize("case", EVALUATE)
def test_evaluate_with_wrong_input(case: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_labels(work)
    words, expected = EVALUATE[case]
    assert expected in refused(capsys, work, "evaluate", *words)


TRAINING: dict[str, tuple[tuple[str, ...], str]] = {
    "finetune on nothing": (("finetune", "no.json", "--model", MODEL, "--mode", "naive"), "no.json"),
    "finetune on a picture": (("finetune", "p0.png", "--model", MODEL, "--mode", "naive"), "p0.png"),
    "finetune no model": (("finetune", "labels.json", "--model", "x", "--mode", "naive"), MODEL),
    "an unknown mode": (("finetune", "labels.json", "--model", MODEL, "--mode", "magic"), "naive"),
    "no steps": (
        ("finetune", "labels.json", "--model", MODEL, "--mode", "naive", "--steps", "0"),
        "above zero",
    ),
    "a table of another space": (
        ("finetune", "labels.json", "--model", MODEL, "--mode", "naive", "--table", "ap10k"),
        "not a keypoint",
    ),
    "an absent table": (
        ("finetune", "labels.json", "--model", MODEL, "--mode", "naive", "--table", "no.csv"),
        "no.csv",
    ),
    "train on nothing": (("train",), "--config"),
    "train on both": (("train", "labels.json", "--config", "recipe.yaml"), "--config"),
    "train without a space": (("train", "labels.json", "--backbone", "resnet18"), "--space"),
    "train without a backbone": (
        ("train", "labels.json", "--space", "superanimal_topviewmouse"),
        "--backbone",
    ),
    "train on an absent set": (
        ("train", "no.json", "--space", "superanimal_topviewmouse", "--backbone", "resnet18"),
        "no.json",
    ),
    "train on an unknown space": (
        ("train", "labels.json", "--space", "mouse", "--backbone", "resnet18"),
        "superanimal_topviewmouse",
    ),
    "train an unknown backbone": (
        ("train", "labels.json", "--space", "superanimal_topviewmouse", "--backbone", "resnet1000"),
        "resnet1000",
    ),
    "train with an absent table": (
        ("train", "labels.json=no.csv", "--space", "superanimal_topviewmouse", "--backbone", "resnet18"),
        "no.csv",
    ),
    "an absent recipe": (("train", "--config", "no.yaml"), "no.yaml"),
    "a picture as recipe": (("train", "--config", "p0.png"), "p0.png"),
    "labels as recipe": (("train", "--config", "labels.json"), "labels.json"),
}


@pytest.mark.parametrize("case", TRAINING)
def test_training_on_wrong_input(case: str, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_labels(work)
    words, expected = TRAINING[case]
    assert expected in refused(capsys, work, *words, "--out", work / "new")


def test_labels_whose_pictures_are_gone(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = write_labels(work, pictures=False)
    for words in (
        ("evaluate", "--labels", labels, "--model", MODEL),
        ("finetune", labels, "--model", MODEL, "--mode", "naive", "--out", work / "new"),
        (
            "train",
            labels,
            "--space",
            "superanimal_topviewmouse",
            "--backbone",
            "resnet18",
            "--out",
            work / "new",
        ),
    ):
        line = refused(capsys, work, *words)
        assert "image" in line
        assert "labels.json" in line


def test_poses_of_a_video_are_no_training_set(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    poses = make_poses(("nose", "tail_base"), np.ones((5, 1, 2, 2)), individuals=("animal0",), scorer="s")
    registry.write(poses, work / "clip_x.h5", "dlc-h5")
    line = refused(
        capsys, work, "finetune", "clip_x.h5", "--model", MODEL, "--mode", "naive", "--out", work / "new"
    )
    assert "CollectedData" in line
    assert "CollectedData" in refused(capsys, work, "evaluate", "--labels", "clip_x.h5", "--model", MODEL)


def damaged_zip(path: Path) -> None:
    """A zip whose packed bytes are not what its directory says."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/card.json", json.dumps({"name": "m", "text": list(range(2000))}))
    data = bytearray(path.read_bytes())
    data[60:200] = bytes(140)
    path.write_bytes(data)


def escaping_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "m/card.json", json.dumps({"name": "../../evil", "sha256": {"pose.safetensors": "0"}})
        )


ARCHIVES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "absent": ("m.zip", lambda p: None),
    "empty": ("m.zip", lambda p: p.touch()),
    "text": ("m.zip", lambda p: p.write_text("hello")),
    "a folder of something": ("folder", lambda p: p.mkdir()),
    "a damaged zip": ("m.zip", damaged_zip),
    "a zip of something": ("m.zip", lambda p: zipfile.ZipFile(p, "w").writestr("a.txt", "hello")),
    "a zip that leads elsewhere": ("m.zip", escaping_zip),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_import_what_is_no_model(
    case: str, tmp_path: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, make = ARCHIVES[case]
    made = make(work / name)
    if isinstance(made, zipfile.ZipFile):
        made.close()
    line = refused(capsys, work, "models", "import", work / name)
    assert name in line or "card.json" in line
    assert files(tmp_path) == {f"work/{k}": v for k, v in files(work).items()}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("show", "x"), MODEL),
        (("fetch", "x"), MODEL),
        (("verify", "x"), MODEL),
        (("export", "x", "a.zip"), MODEL),
        (("export", MODEL, "clip.mp4/a.zip"), "clip.mp4"),
        (("export", MODEL), "FILE"),
        ((), "ACTION"),
        (("remove", MODEL), "import"),
    ],
)
def test_models_with_wrong_words(
    words: tuple[str, ...], expected: str, video: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refused(capsys, work, "models", *words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--frames", "0"), "above zero"),
        (("--mice", "none"), "above zero"),
        (("--model", "x"), MODEL),
        (("--out", "clip.mp4"), "clip.mp4"),
    ],
)
def test_demo_with_wrong_words(
    words: tuple[str, ...], expected: str, video: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refused(capsys, work, "demo", "--no-view", *words)


def test_a_run_card_that_is_none(video: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / f"clip_{MODEL}.h5").write_bytes(b"mine")
    (work / f"clip_{MODEL}.run.json").write_text("{")
    line = refused(capsys, work, "predict", video, "--model", MODEL, "--resume")
    assert "run.json" in line
    assert "--overwrite" in line


def open_to_all(folder: Path) -> bool:
    """Whether any user may go there."""
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in (folder, *folder.parents))


@pytest.mark.skipif(
    not hasattr(os, "geteuid")
    or os.geteuid() != 0
    or not open_to_all(find_model(MODEL).folder)
    or not open_to_all(Path(os.__file__).parent),
    reason="only root can become somebody else, who must be able to read the package and Python",
)
def test_a_folder_that_may_only_be_read(video: Path, work: Path, tmp_path: Path) -> None:
    """As another user: results go beside the video unless told otherwise, and here they may not."""
    for folder in (tmp_path, work, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    # modules first: Python itself may lie where only root can read
    code = (
        "import os, sys\n"
        "import napari_superanimal.jobs.predict, napari_superanimal.video.file\n"
        "from napari_superanimal.cli import main\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["predict", str(video), "--model", MODEL]
    home = {**os.environ, "SUPERANIMAL_HOME": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=work,
        env=home,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "Permission denied" in line
    assert "choose another folder" in line
    assert files(work) == {"clip.mp4": video.read_bytes()}
