"""The whole adaptation on a small rendered clip: kept, reverted, stopped, resumed, and by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.adaptation.adapt import AdaptSettings
from napari_superanimal.demo.render import render_clip
from napari_superanimal.errors import UserError
from napari_superanimal.jobs.adapt import AdaptOptions, adapt_files
from napari_superanimal.jobs.adapt_outcome import keep, read_outcome, revert
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Progress
from napari_superanimal.jobs.video_labels import read_video_labels, rows_of
from napari_superanimal.keypoints import load_space
from napari_superanimal.models.zoo import find_model, import_model, sha256, verify
from napari_superanimal.poses import make_poses
from napari_superanimal.poses.formats import registry
from napari_superanimal.video import VideoWriter

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.jobs.adapt import Outcome

MODEL = "mouse-topview-mini"
QUICK = AdaptSettings(steps=6, batch_size=4, views=4, frames=36)
#: Steps so large that nothing of the model is left.
RUIN = replace(QUICK, steps=4, learning_rate=0.3)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames of one mouse, with `truth.h5` beside it."""
    folder = tmp_path_factory.mktemp("clip")
    clip = render_clip(60, size=(320, 240), seed=4)
    with VideoWriter(folder / "mouse.mp4", clip.fps, clip.size) as writer:
        for frame in clip.frames:
            writer.write(frame)
    registry.write(replace(clip.truth, scorer="truth"), folder / "truth.h5", "dlc-h5")
    return folder / "mouse.mp4"


def adapt(video: Path, out: Path, settings: AdaptSettings = QUICK, **options: object) -> Outcome:
    asked = AdaptOptions(model=MODEL, out=out, settings=settings, device="cpu", **options)  # type: ignore[arg-type]
    return adapt_files([video], asked)


@pytest.fixture(scope="module")
def kept(video: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A kept adaptation (whatever so few steps do to the proof), and what was told of it."""
    out = tmp_path_factory.mktemp("adapted") / "my-mouse"
    return out, adapt(video, out, keep_anyway=True, labels=video.with_name("truth.h5"))


def test_a_kept_model_is_a_model_folder_with_its_own_card(kept: tuple[Path, Outcome], video: Path) -> None:
    out, outcome = kept
    model = find_model(out)
    verify(model)
    card = model.card
    assert (card.name, card.parent) == ("my-mouse", MODEL)
    assert card.recipe["mode"] == "adapt"
    assert card.recipe["videos"] == [str(video)]
    assert card.recipe["status"] == outcome.decision == "kept"
    assert "mouse.mp4" in card.summary
    assert card.calibration == find_model(MODEL).card.calibration
    verify(find_model(MODEL))


def test_the_proof_is_on_frames_that_were_not_learned(kept: tuple[Path, Outcome]) -> None:
    out, outcome = kept
    found = read_outcome(out)
    assert found["decision"] == "kept"
    proof = found["proofs"][0]
    assert set(proof["arms"]) == {"zero-shot", "adapted", "median", "kalman"}
    assert proof["arms"]["zero-shot"]["labels"] > 0
    assert proof["arms"]["zero-shot"]["error_px"] < 5
    before = registry.read(out / f"mouse_{MODEL}_heldout.h5")
    after = registry.read(out / "mouse_my-mouse_heldout.h5")
    assert before.frames.tolist() == after.frames.tolist()
    assert len(before) == proof["frames"] < 60
    assert outcome.pseudo_labels
    assert (out / "jitter.svg").read_text().startswith("<svg")
    rows = (out / "proof.csv").read_text().splitlines()
    assert len(rows) == 1 + 4 * len(find_model(out).card.keypoints)


def test_reverting_by_hand_and_back(
    kept: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = kept
    monkeypatch.setenv("SUPERANIMAL_HOME", str(tmp_path))
    import_model(out)
    assert find_model("my-mouse").folder == tmp_path / "models" / "my-mouse"
    digest = sha256(out / "pose.safetensors")
    before = (out / f"mouse_{MODEL}_heldout.h5").read_bytes()
    revert(out)
    with pytest.raises(UserError, match="reverted"):
        find_model(out)
    with pytest.raises(UserError, match="no model is called"):
        find_model("my-mouse")
    assert read_outcome(out)["decision"] == "reverted"
    revert(out)  # twice is once
    keep(out)
    assert sha256(out / "pose.safetensors") == digest
    assert find_model(out).card.recipe["status"] == "kept"
    assert read_outcome(out)["by"] == "user"
    assert not (out / "REVERTED.txt").exists()
    assert (out / f"mouse_{MODEL}_heldout.h5").read_bytes() == before


def test_a_model_that_got_worse_is_reverted_and_nothing_else_changes(video: Path, tmp_path: Path) -> None:
    weights = find_model(MODEL).folder / "pose.safetensors"
    digest = sha256(weights)
    outcome = adapt(video, tmp_path / "bad", RUIN)
    assert outcome.decision == "reverted"
    assert not outcome.passes
    assert outcome.reasons
    assert not (tmp_path / "bad" / "card.json").exists()
    note = (tmp_path / "bad" / "REVERTED.txt").read_text()
    assert outcome.reasons[0] in note
    with pytest.raises(UserError, match="reverted"):
        find_model(tmp_path / "bad")
    assert find_model(tmp_path / "bad" / "rejected").card.recipe["status"] == "reverted"
    assert sha256(weights) == digest


def test_a_stopped_run_goes_on_to_the_same_model(
    video: Path, tmp_path: Path, kept: tuple[Path, Outcome]
) -> None:
    token = CancelToken()

    def stop(progress: Progress) -> None:
        if progress.message == "adapting" and progress.done == 3:
            token.cancel()

    out = tmp_path / "my-mouse"
    options = AdaptOptions(model=MODEL, out=out, settings=QUICK, keep_anyway=True, device="cpu")
    with pytest.raises(Cancelled):
        adapt_files([video], options, on_progress=stop, token=token)
    assert (out / "pose.checkpoint.pt").is_file()
    assert not (out / "card.json").exists()
    with pytest.raises(UserError, match="other settings"):
        adapt_files([video], replace(options, resume=True, settings=replace(QUICK, steps=9)))
    steps: list[int] = []

    def note(progress: Progress) -> None:
        if progress.message == "adapting":
            steps.append(progress.done)

    adapt_files([video], replace(options, resume=True), on_progress=note)
    assert steps == [4, 5, 6]
    assert sha256(out / "pose.safetensors") == sha256(kept[0] / "pose.safetensors")


def test_mistakes_are_one_line(video: Path, tmp_path: Path, kept: tuple[Path, Outcome]) -> None:
    with pytest.raises(UserError, match="finished adaptation"):
        adapt(video, kept[0])
    options = AdaptOptions(model=MODEL, out=tmp_path / "a", settings=QUICK)
    with pytest.raises(UserError, match="named twice"):
        adapt_files([video, video], options)
    with pytest.raises(UserError, match="network of SuperAnimal's"):
        adapt_files([video], replace(options, model="superanimal_quadruped_hrnet_w32"))
    short = tmp_path / "short.mp4"
    with VideoWriter(short, 30.0, (64, 64)) as writer:
        for _ in range(12):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(UserError, match="too few"):
        adapt_files([short], options)


def test_a_video_without_the_animal_cannot_be_learned_from(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    with VideoWriter(empty, 30.0, (160, 120)) as writer:
        for _ in range(45):
            writer.write(np.full((120, 160, 3), 200, np.uint8))
    outcome = adapt(empty, tmp_path / "out", keep_anyway=True)
    assert outcome.decision == "reverted"
    assert not outcome.trained
    assert any("too little to learn from" in reason for reason in outcome.reasons)
    assert "Nothing was trained" in (tmp_path / "out" / "REVERTED.txt").read_text()
    assert not (tmp_path / "out" / "rejected").exists()
    with pytest.raises(UserError, match="nothing was trained"):
        keep(tmp_path / "out")


class _Clip:
    def __init__(self, path: Path, frames: int) -> None:
        self.path, self.frames = path, frames


def test_labels_find_their_frames(tmp_path: Path) -> None:
    space = load_space("superanimal_topviewmouse")
    names = ("nose", "tail_base")

    def labels(images: list[str]) -> object:
        return make_poses(names, np.full((len(images), 2, 2), 5.0), images=tuple(images), root=tmp_path)

    clip = _Clip(tmp_path / "clip.mp4", 10)
    rows, frames = rows_of(
        labels(["labeled-data/clip/img003.png", "labeled-data/other/img004.png"]), clip, alone=False
    )
    assert (rows.tolist(), frames.tolist()) == ([0], [3])
    # all frames of the video, numbered from 50 on
    _, frames = rows_of(labels([f"labeled-data/clip/{i:04d}.png" for i in range(50, 60)]), clip, alone=True)
    assert frames.tolist() == list(range(10))
    poses = make_poses(names, np.full((3, 2, 2), 5.0), frames=[2, 4, 99])
    registry.write(replace(poses, scorer="me"), tmp_path / "labels.h5", "dlc-h5")
    said: list[str] = []
    found = read_video_labels(tmp_path / "labels.h5", None, space, [clip], said.append)
    assert found[clip.path].frames.tolist() == [2, 4]
    assert said == ["labels of 2 frames of clip.mp4"]
    with pytest.raises(UserError, match="none of the labels"):
        read_video_labels(tmp_path / "labels.h5", None, space, [_Clip(tmp_path / "clip.mp4", 2)], said.append)
    assert read_video_labels(None, None, space, [clip], said.append) == {}


def test_the_outcome_is_plain_json(kept: tuple[Path, Outcome]) -> None:
    out, outcome = kept
    assert json.loads((out / "proof.json").read_text())["reasons"] == list(outcome.reasons)
    assert outcome.metrics()["adaptation to mouse.mp4"].startswith("held-out frames")
