"""The progress line: right in a terminal, silent elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from napari_superanimal.commands.common import clock, progress_text
from napari_superanimal.jobs.progress import Progress

CODE = (
    "from napari_superanimal.commands.common import ProgressLine\n"
    "from napari_superanimal.jobs.progress import Progress\n"
    "with ProgressLine('frames', every_s=0) as line:\n"
    "    for i in (50, 100): line(Progress(i, 100, 25.0, (100 - i) / 25, 'clip.mp4'))\n"
)


def test_text_for_a_person() -> None:
    text = progress_text(Progress(50, 100, 25.04, 125.0, "clip.mp4", {"loss": 0.12345, "step": 50}), "frames")
    assert text == "clip.mp4  50/100 frames (50%)  25.0/s  ETA 2:05  loss 0.1235"
    assert progress_text(Progress(3, 0), "steps") == "3 steps"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3725, "1:02:05")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_nothing_is_written_where_nobody_looks() -> None:
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert result.stdout == result.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_one_line_is_rewritten_in_a_terminal() -> None:
    import pty

    main_end, terminal = pty.openpty()
    subprocess.run([sys.executable, "-c", CODE], stderr=terminal, check=True)
    os.close(terminal)
    shown = os.read(main_end, 10_000).decode()
    os.close(main_end)
    assert "50/100 frames" in shown
    assert "100/100 frames" in shown
    assert shown.count("\n") == 1
    assert shown.endswith("\n")
