"""`superanimal predict` with --runtime, --precision and --detect-every: what computes is said, kept and resumed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_superanimal.cli import main
from napari_superanimal.inference.runtime import self_test
from napari_superanimal.inference.runtime.engine import engines
from napari_superanimal.jobs.chunks import chunks_path, read_header
from napari_superanimal.jobs.predict import predict_files
from napari_superanimal.jobs.predict_plan import PredictOptions
from napari_superanimal.models.official.build import build
from napari_superanimal.models.official.catalogue import find_release
from napari_superanimal.poses.formats import registry

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.jobs.progress import Progress

    from .conftest import Recording

POSE = "superanimal_quadruped_rtmpose_s"


def run(*words: object) -> int:
    return main([str(word) for word in words])


def killed(clip: Path, options: PredictOptions, after: int) -> None:
    """A run that is killed after some frames: its chunks are left as they were at that moment, and nothing else."""
    assert options.out is not None
    left: dict[str, bytes] = {}

    def watch(progress: Progress) -> None:
        if progress.done >= after and not left:
            left.update({path.name: path.read_bytes() for path in options.out.glob("*.chunks")})

    (result,) = predict_files([clip], options, on_progress=watch)
    for file in result.files:
        file.unlink()
    assert list(left) == [chunks_path(result.predictions).name]
    (options.out / next(iter(left))).write_bytes(next(iter(left.values())))


def test_an_engine_by_name_and_few_looks(
    home: Path, clip: Recording, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", tiny, "--max-individuals", 2, "--runtime", "torch", "--precision", "bf16"]
    assert run("predict", clip.path, *words, "--detect-every", "auto", "--out", tmp_path) == 0
    card = json.loads((tmp_path / f"{clip.path.stem}_tiny.run.json").read_text())
    assert (card["runtime"], card["precision"], card["detect_every"]) == ("torch", "bf16", 8)
    assert card["self_test"] is None
    assert card["options"]["detect_every"] == 8
    # the small models are computed exactly unless something else is asked for
    assert run("predict", clip.path, "--model", tiny, "--frames", "0:5", "--out", tmp_path / "plain") == 0
    card = json.loads((tmp_path / "plain" / f"{clip.path.stem}_tiny.run.json").read_text())
    assert (card["runtime"], card["precision"], card["detect_every"]) == ("torch", "fp32", 1)
    capsys.readouterr()


def test_few_looks_are_resumed_as_if_nothing_had_happened(
    home: Path, clip: Recording, tiny: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "model": tiny,
        "detector": "mouse-topview-mini",
        "max_individuals": 2,
        "detect_every": 4,
        "precision": "fp32",
        "runtime": "torch",
        "device": "cpu",
    }
    (whole,) = predict_files([clip.path], PredictOptions(**options, out=tmp_path / "whole"))
    out = tmp_path / "parts"
    killed(clip.path, PredictOptions(**options, out=out), after=20)
    (again,) = predict_files([clip.path], PredictOptions(**options, out=out, resume=True))
    one, two = registry.read(whole.predictions), registry.read(again.predictions)
    assert 0 < again.card["frames_this_run"] < 60 == len(two)
    np.testing.assert_array_equal(one.xy, two.xy)
    np.testing.assert_array_equal(one.likelihood, two.likelihood)


def test_a_self_test_chooses_says_so_and_is_not_repeated(
    home: Path,
    clip: Recording,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(self_test, "WORTH_IT", 6)
    torch.manual_seed(0)
    release = find_release(POSE)
    assert release is not None
    torch.save({"model": build(release).state_dict()}, tmp_path / "pose.pt")
    model = f"{POSE}:{tmp_path / 'pose.pt'}"
    words = ["--model", model, "--detector", "whole-frame", "--device", "cpu", "--precision", "fp32"]
    assert run("predict", clip.path, *words, "--frames", "0:12", "--out", tmp_path / "whole") == 0
    said = capsys.readouterr().out
    (path,) = (tmp_path / "whole").glob("*.run.json")
    card = json.loads(path.read_text())
    wanted = [str(e) for e in engines(torch.device("cpu"), precision="fp32")]
    if len(wanted) == 1:
        assert card["self_test"] is None
        assert card["runtime"] == "torch"
        return
    assert f"computed by {card['runtime']} fp32" in said
    assert sorted(t["engine"] for t in card["self_test"]["trials"]) == sorted(wanted)
    assert card["self_test"]["chosen"] == f"{card['runtime']} {card['precision']}"

    options: dict[str, Any] = {
        "model": model,
        "detector": "whole-frame",
        "frames": (0, 12, None),
        "device": "cpu",
        "out": tmp_path / "parts",
    }
    # keypoints of random weights stand for nothing: only what is bound to agree may be chosen here
    options["precision"] = "fp32"
    killed(clip.path, PredictOptions(**options), after=4)
    (chunks,) = (tmp_path / "parts").glob("*.chunks")
    before = read_header(chunks).work["engine"]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("tried again")

    monkeypatch.setattr(self_test, "choose_engine", never)
    (result,) = predict_files([clip.path], PredictOptions(**options, resume=True))
    assert {name: result.card[name] for name in before} == before
    assert len(registry.read(result.predictions)) == 12
    # few frames are not worth it
    monkeypatch.setattr(self_test, "WORTH_IT", 100)
    (short,) = predict_files([clip.path], PredictOptions(**{**options, "out": tmp_path / "short"}))
    assert (short.card["runtime"], short.card["self_test"]) == ("torch", None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--detect-every", "0"], "not a whole number above zero"),
        (["--reference", "--detect-every", "4"], "--reference computes every frame"),
        (["--reference", "--precision", "bf16"], "--reference computes every frame"),
    ],
)
def test_what_does_not_go_together(
    words: list[str], said: str, home: Path, clip: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = run("predict", clip.path, "--model", POSE, *words)
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    assert code == 2
    assert said in capsys.readouterr().err
