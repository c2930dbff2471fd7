"""The command line as such: help, options, exit codes, one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from napari_superanimal.cli import COMMANDS, build_parser, main

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [module.__name__.rpartition(".")[2] for module in COMMANDS]


def one_error_line(captured: pytest.CaptureResult[str]) -> str:
    """The only line on stderr."""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_and_the_shared_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    for option in ("--help", "--json", "--seed", "--device", "--debug"):
        assert option in text


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from napari_superanimal.cli import main; code = main(['predict', '--help']); "
        "heavy = {'torch', 'timm', 'numpy', 'pandas', 'av', 'napari', 'qtpy'} & set(sys.modules); "
        "assert not heavy, heavy; sys.exit(code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_installed_command_runs() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "napari_superanimal.cli", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0
    assert result.stdout.startswith("superanimal ")


@pytest.mark.parametrize(
    "words",
    [
        ["predict"],
        ["predict", "a.mp4", "--model", "m", "--frames", "1"],
        ["predict", "a.mp4", "--model", "m", "--max-individuals", "0"],
        ["predict", "a.mp4", "--model", "m", "--format", "dlc-h5,xls"],
        ["finetune", "data", "--model", "m", "--mode", "rehearse", "--out", "o"],
        ["evaluate", "--labels", "x"],
        ["models"],
        ["nonsense"],
    ],
)
def test_wrong_words_are_one_line_and_exit_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "--help" in one_error_line(capsys.readouterr())


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "predict" in capsys.readouterr().out


def test_errors_are_in_the_json_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "deep" / "result.json"
    assert (
        main(["convert", str(tmp_path / "absent.h5"), str(tmp_path / "x.json"), "--json", str(target)]) == 2
    )
    line = one_error_line(capsys.readouterr())
    result = json.loads(target.read_text(encoding="utf-8"))
    assert result["status"] == "error"
    assert result["exit_code"] == 2
    assert f"error: {result['error']}" == line
    assert "absent.h5" in line


def test_a_json_file_that_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("a file, no folder")
    assert main(["doctor", "--json", str(tmp_path / "file" / "x.json")]) == 2
    captured = capsys.readouterr()
    assert "cannot write" in one_error_line(captured)
    assert captured.out == ""


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path / "absent.h5"), str(tmp_path / "x.json"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_shared_options_work_before_and_after_an_action() -> None:
    parser = build_parser()
    before = parser.parse_args(["models", "--json", "a.json", "list"])
    after = parser.parse_args(["models", "list", "--json", "a.json"])
    assert str(before.json) == str(after.json) == "a.json"
    assert parser.parse_args(["models", "list"]).device == "auto"
