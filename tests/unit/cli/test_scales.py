"""`superanimal predict --scales` and what `check` says about sizes, on a mouse lost in a large scene."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from napari_superanimal.cli import main
from napari_superanimal.demo.render import render_clip
from napari_superanimal.jobs.check import check_file
from napari_superanimal.video import VideoWriter

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "mouse-topview-mini"
CORNER = np.array([600, 500])


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """A video of a mouse in a far corner of a large floor, its keypoints (T, K, 2) and sizes (T,)."""
    clip = render_clip(4, (320, 240), seed=4)
    path = tmp_path_factory.mktemp("hall") / "hall.mp4"
    rng = np.random.default_rng(0)
    floor = rng.normal(np.median(clip.frames[0]), 4, (960, 1280, 1)).clip(0, 255).astype(np.uint8)
    with VideoWriter(path, 30.0, (1280, 960)) as writer:
        for frame in clip.frames:
            scene = np.repeat(floor, 3, axis=2)
            x, y = CORNER
            scene[y : y + 240, x : x + 320] = frame
            writer.write(scene)
    return path, clip.truth.xy[:, 0] + CORNER, np.sqrt(np.prod(clip.truth.boxes[:, 0, 2:], -1))


def error(h5: Path, truth: np.ndarray, size: np.ndarray) -> float:
    """Mean error of the nose and the tail base, in sizes of the animal."""
    from napari_superanimal.keypoints import load_space

    space = load_space("superanimal_topviewmouse")
    table = pd.read_hdf(h5, "df_with_missing")
    assert isinstance(table, pd.DataFrame)
    off = []
    for name in ("nose", "tail_base"):
        part = table.xs(name, axis=1, level="bodyparts")
        at = np.stack([part.xs(c, axis=1, level="coords").to_numpy()[:, 0] for c in ("x", "y")], -1)
        off.append(np.linalg.norm(at - truth[:, space.index(name)], axis=-1) / size)
    return float(np.mean(off))


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_auto_finds_the_scale_that_check_recommends(
    hall: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    video, truth, size = hall
    advice = next(a for a in check_file(video, (MODEL,), device="cpu").best.advice if a.topic == "size")
    assert advice.action == "scales"
    assert "--scales auto" in advice.step
    assert "of its size elsewhere" in advice.text
    assert max(advice.values["scales"]) >= 2

    assert run("predict", video, "--model", MODEL, "--out", tmp_path, "--scales", "auto", "--no-flip") == 0
    card = json.loads((tmp_path / f"hall_{MODEL}.run.json").read_text(encoding="utf-8"))
    assert card["scales"]["asked"] == "auto"
    assert max(card["scales"]["used"]) >= 2
    assert card["scales"]["survey"]["animal_share"] < 0.1
    assert error(tmp_path / f"hall_{MODEL}.h5", truth, size) < 0.1


def test_scales_named_are_used_and_belong_to_the_run(
    hall: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, truth, size = hall
    words = ("predict", video, "--model", MODEL, "--out", tmp_path, "--no-flip")
    assert run(*words, "--scales", "4,1", "--frames", ":2") == 0
    card = json.loads((tmp_path / f"hall_{MODEL}.run.json").read_text(encoding="utf-8"))
    assert card["scales"] == {"asked": [1.0, 4.0], "used": [1.0, 4.0]}
    assert error(tmp_path / f"hall_{MODEL}.h5", truth[:2], size[:2]) < 0.1
    assert "looked at scales 1, 4" in capsys.readouterr().out
    # the same work is complete, with other scales it is other work
    assert run(*words, "--scales", "1,4", "--frames", ":2", "--resume") == 0
    assert run(*words, "--scales", "1,2", "--frames", ":2", "--resume") == 2
    assert "other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--scales", "huge"), "scales are numbers"),
        (("--scales", "0"), "scales are numbers"),
        (("--scales", "auto", "--detector", "whole-frame"), "without a detector there are no scales"),
        (("--scales", "1,2", "--reference"), "--reference looks at one scale"),
    ],
)
def test_scales_that_make_no_sense_are_refused(
    hall: tuple[Path, np.ndarray, np.ndarray],
    tmp_path: Path,
    words: tuple[str, ...],
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("predict", hall[0], "--model", MODEL, "--out", tmp_path, *words) == 2
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
