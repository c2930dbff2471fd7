"""`superanimal adapt`: the contract of the command line."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

import pytest

from napari_superanimal.cli import main
from napari_superanimal.models.zoo import find_model

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Recording

MODEL = "mouse-topview-mini"


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_stopped_resumed_kept_and_used(
    clip: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report, stop = tmp_path / "two-mice", tmp_path / "report.json", tmp_path / "stop"
    words = ["adapt", clip.path, "--model", MODEL, "--out", out, "--steps", 4, "--frames", 24]
    words += ["--max-individuals", 2, "--keep-anyway", "--seed", 3, "--json", report]

    def stop_soon() -> None:
        while not (out / "adapt.json").exists():
            time.sleep(0.02)
        stop.touch()

    threading.Thread(target=stop_soon, daemon=True).start()
    assert run(*words, "--stop-file", stop) == 130
    assert json.loads(report.read_text())["status"] == "cancelled"
    assert not (out / "card.json").exists()
    capsys.readouterr()

    assert run(*words, "--resume") == 0
    told = capsys.readouterr()
    result = json.loads(report.read_text())
    assert result["decision"] == "kept"
    assert result["settings"]["seed"] == 3
    assert result["reasons"]
    assert result["proofs"][0]["arms"]["adapted"]["jitter_px"] > 0
    assert told.out.startswith("kept: ")
    assert "--model" in told.out
    assert find_model(out).card.parent == MODEL
    predicted = tmp_path / "predicted"
    assert run("predict", clip.path, "--model", out, "--frames", "0:4", "--out", predicted) == 0
    assert (predicted / "mice_two-mice.h5").is_file()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--model", "superanimal_quadruped_hrnet_w32"], "a network of SuperAnimal's"),
        (["--model", "no-such-model"], "no model is called"),
        (["--model", MODEL, "--threshold", "2"], "not a number from 0 to 1"),
        (["--model", MODEL, "--labels", "absent.h5"], "absent.h5"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], hint: str, clip: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("adapt", clip.path, "--out", tmp_path / "out", *words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert hint in told
    assert told.count("\n") == 1


def test_a_missing_video_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("adapt", tmp_path / "absent.mp4", "--model", MODEL, "--out", tmp_path / "out") == 2
    assert "absent.mp4" in capsys.readouterr().err
    assert not (tmp_path / "out" / "card.json").exists()
