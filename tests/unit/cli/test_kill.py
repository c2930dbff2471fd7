"""Killed without warning, ten times: what was predicted stays, and the end is that of an uninterrupted run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.cli import main
from napari_superanimal.demo.render import render_clip
from napari_superanimal.poses.formats import registry
from napari_superanimal.video import VideoWriter

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.poses import Poses

KILLS = 10
CHUNKS = 40
#: torch is imported once; each of its children predicts until it is killed.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import napari_superanimal.inference.build, napari_superanimal.inference.stream, napari_superanimal.video
from napari_superanimal.cli import main
chunks, kills, *words = sys.argv[1:]
chunks, chance, finished = Path(chunks), random.Random(0), []
size = lambda: chunks.stat().st_size if chunks.exists() else 0
for _ in range(int(kills)):
    before, wait = size(), chance.choice([0, 1, 1])
    child = os.fork()
    if not child:
        os._exit(main([*words, "--resume"]))
    began = time.monotonic()
    while wait and size() <= before and os.waitpid(child, os.WNOHANG)[0] == 0:
        time.sleep(0.002)
        assert time.monotonic() - began < 300
    # short enough that ten of them never finish the clip
    time.sleep(chance.uniform(0, 0.05 if wait else 0.3))
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    finished.append(size())
print(finished)
"""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two mice, 40 chunks of 16 frames."""
    path = tmp_path_factory.mktemp("video") / "mice.mp4"
    rendered = render_clip(CHUNKS * 4, size=(192, 144), n_mice=2, seed=3)
    frames = list(rendered.frames)
    with VideoWriter(path, rendered.fps, rendered.size) as writer:
        for frame in [*frames, *frames[::-1]] * 2:
            writer.write(frame)
    return path


def values(poses: Poses) -> dict[str, bytes]:
    arrays = {f.name: getattr(poses, f.name) for f in fields(poses)}
    return {name: array.tobytes() for name, array in arrays.items() if isinstance(array, np.ndarray)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are cheap to start")
def test_killed_ten_times_and_resumed(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", video, "--model", "mouse-topview-mini", "--max-individuals", 2, "--no-flip"]
    words = [str(word) for word in [*words, "--device", "cpu", "--format", "dlc-h5,dlc-csv"]]
    out, whole = [*words, "--out", str(tmp_path / "out")], [*words, "--out", str(tmp_path / "whole")]
    h5 = tmp_path / "out" / "mice_mouse-topview-mini.h5"
    chunks = h5.with_suffix(".chunks")

    command = [sys.executable, "-c", KILLER, str(chunks), str(KILLS), *out]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == 0, killed.stderr
    sizes = json.loads(killed.stdout.splitlines()[-1])
    # what was written stayed
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > KILLS / 3
    assert not h5.exists()

    # without --resume, or with other settings, what is there is neither used nor lost
    kept = chunks.read_bytes()
    assert main(out) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*out, "--resume", "--frames", "0:50"]) == 2
    assert "frame_range" in capsys.readouterr().err
    content = video.read_bytes()
    middle = len(content) // 2
    video.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    assert main([*out, "--resume"]) == 2
    assert "of another input" in capsys.readouterr().err
    video.write_bytes(content)
    assert chunks.read_bytes() == kept

    assert main([*out, "--resume"]) == 0
    assert main(whole) == 0
    card = json.loads(h5.with_suffix(".run.json").read_text())
    assert (card["status"], card["frames"]) == ("complete", CHUNKS * 16)
    assert card["frames_this_run"] < CHUNKS * 16
    assert not chunks.exists()
    resumed, uninterrupted = registry.read(h5), registry.read(tmp_path / "whole" / h5.name)
    assert values(resumed) == values(uninterrupted)
    assert np.isfinite(resumed.xy[:, 1]).any(), "there are two animals to keep apart"
    assert resumed.metadata["swap_risk"] == uninterrupted.metadata["swap_risk"]
    csv = h5.with_suffix(".csv")
    assert csv.read_bytes() == (tmp_path / "whole" / csv.name).read_bytes()
    assert sorted(p.name for p in h5.parent.iterdir()) == sorted(
        p.name for p in (tmp_path / "whole").iterdir()
    )
