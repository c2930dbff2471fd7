"""`superanimal models` and `superanimal doctor`."""

from __future__ import annotations

import json
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest

from napari_superanimal.cli import main
from napari_superanimal.models.zoo import find_model

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_list_and_show(home: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "import", tiny) == 0
    assert run("models", "list", "--json", tmp_path / "list.json") == 0
    out = capsys.readouterr().out
    assert "mouse-topview-mini" in out
    assert "A tiny mouse model" in out
    names = [card["name"] for card in json.loads((tmp_path / "list.json").read_text())["models"]]
    assert names[-1] == "tiny"
    assert run("models", "show", "tiny") == 0
    assert "Trained on" in capsys.readouterr().out


def test_fetch_says_that_nothing_is_to_fetch(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "fetch", "mouse-topview-mini") == 0
    assert "no download" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["show", "fetch", "verify"])
def test_an_unknown_model_is_answered_with_those_there_are(
    action: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("models", action, "no-such-model") == 2
    line = capsys.readouterr().err
    assert "mouse-topview-mini" in line
    assert line.count("\n") == 1


def test_export_and_import_elsewhere(
    home: Path, tiny: Path, clip: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "tiny.zip"
    assert run("models", "export", tiny, packed) == 0
    assert run("models", "export", tiny, packed) == 2  # never replaced unasked
    assert run("models", "import", packed) == 0
    imported = find_model("tiny")
    assert imported.folder.parent.parent == home
    for name in ("card.json", "pose.safetensors", "detector.safetensors"):
        assert (imported.folder / name).read_bytes() == (tiny / name).read_bytes()
    assert run("models", "import", packed) == 2
    assert run("models", "import", packed, "--overwrite") == 0
    assert run("models", "verify", "tiny") == 0


def test_verify_finds_changed_weights(
    home: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(tiny, folder)
    data = bytearray((folder / "pose.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "pose.safetensors").write_bytes(data)
    assert run("models", "verify", folder) == 2
    captured = capsys.readouterr()
    assert "pose.safetensors: changed" in captured.out
    assert captured.err.count("\n") == 1
    assert run("models", "import", folder) == 2
    assert run("models", "export", folder, tmp_path / "x.zip") == 2
    assert not (tmp_path / "x.zip").exists()
    assert not (home / "models" / "tiny").exists()


@pytest.mark.parametrize("content", ["text", "empty zip", "two cards", "cut"])
def test_import_refuses_what_is_no_model(
    content: str, home: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.zip"
    if content == "text":
        file.write_text("no zip at all")
    elif content == "cut":
        assert run("models", "export", tiny, file) == 0
        file.write_bytes(file.read_bytes()[:-2000])
    else:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("readme.txt", "hello")
            if content == "two cards":
                archive.writestr("a/card.json", "{}")
                archive.writestr("b/card.json", "{}")
    capsys.readouterr()
    assert run("models", "import", file) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (home / "models").exists() or not list((home / "models").iterdir())


def test_a_zip_cannot_write_elsewhere(home: Path, tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "hostile.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("card.json", "pose.safetensors", "detector.safetensors"):
            archive.write(tiny / name, f"m/{name}")
        archive.writestr("m/../../escaped.txt", "x")
        archive.writestr("/escaped.txt", "x")
        archive.writestr("m\\..\\escaped.txt", "x")
    assert run("models", "import", file) == 0
    assert not list(tmp_path.rglob("escaped*"))


def test_doctor_says_usable_and_lists_what_it_looked_at(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("doctor", "--json", tmp_path / "d.json") == 0
    assert "usable" in capsys.readouterr().out
    findings = json.loads((tmp_path / "d.json").read_text())["findings"]
    names = {finding["name"] for finding in findings}
    assert {"versions", "cpu", "device", "video", "models folder", "model mouse-topview-mini"} <= names
    assert str(home) in next(f["text"] for f in findings if f["name"] == "models folder")


def test_doctor_finds_a_broken_model_of_the_user(
    home: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("models", "import", tiny) == 0
    (home / "models" / "tiny" / "pose.safetensors").write_bytes(b"x")
    (home / "models" / "bad").mkdir()
    (home / "models" / "bad" / "card.json").write_text("{")
    assert run("doctor") == 0  # the shipped models still work
    out = capsys.readouterr().out
    assert "pose.safetensors changed" in out
    assert "model bad" in out


def test_doctor_says_what_to_do_without_an_accelerator(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert run("doctor", "--device", "cuda") == 2
    captured = capsys.readouterr()
    assert "cuda is not available" in captured.err
    assert "-> use --device auto" in captured.out


def test_doctor_without_a_folder_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUPERANIMAL_HOME", str(tmp_path / "file"))
    assert run("doctor") == 0
    assert "SUPERANIMAL_HOME" in capsys.readouterr().out
