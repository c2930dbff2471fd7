"""`superanimal check`: figures, advice and ranking; and the command on a real video."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_superanimal.cli import main
from napari_superanimal.demo.render import render_clip
from napari_superanimal.errors import UserError
from napari_superanimal.inference.pictures import animal_figures, distribution
from napari_superanimal.jobs.check import check_video, installed, sample
from napari_superanimal.jobs.check_advice import Advice, advise, expected_right
from napari_superanimal.jobs.check_figures import measure
from napari_superanimal.jobs.progress import Cancelled, CancelToken
from napari_superanimal.keypoints import load_space
from napari_superanimal.models.card import ModelCard
from napari_superanimal.models.known import KEY, outside
from napari_superanimal.models.zoo import DEFAULT_MODEL, find_model, list_models
from napari_superanimal.video import VideoWriter

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.poses import Poses

SPACE = load_space("superanimal_topviewmouse")
CURVE = [{"likelihood": 0.1, "right": 0.1, "n": 50}, {"likelihood": 0.9, "right": 0.9, "n": 50}]
UNSEEN = [{"likelihood": 0.1, "right": 0.0, "n": 50}, {"likelihood": 0.9, "right": 0.5, "n": 50}]
LEVELS = ("0.02", "0.05", "0.25", "0.5", "0.75", "0.95", "0.98")


def levels(*values: float) -> dict[str, float]:
    return dict(zip(LEVELS, values, strict=True))


@pytest.fixture
def card() -> ModelCard:
    known = {
        "animal_share": levels(0.1, 0.12, 0.18, 0.2, 0.25, 0.3, 0.32),
        "brightness": levels(0.3, 0.32, 0.35, 0.4, 0.5, 0.6, 0.65),
        "contrast": levels(0.1, 0.12, 0.15, 0.2, 0.22, 0.24, 0.25),
        "novelty": levels(-0.8, -0.7, -0.4, -0.2, 0.0, 0.4, 0.6),
        "error_relative": levels(0.001, 0.002, 0.01, 0.02, 0.03, 0.05, 0.06),
    }
    unseen = {"novelty": levels(-0.3, -0.2, 0.1, 0.5, 0.8, 1.4, 1.6)}
    return ModelCard(
        name="m",
        space=SPACE.to_json(),
        keypoints=SPACE.keypoints,
        view="top view",
        threshold=0.6,
        calibration={"curve_seen": CURVE, "curve_unseen": UNSEEN, KEY: {"known": known, "unseen": unseen}},
    )


@pytest.fixture(scope="module")
def clip() -> Any:
    return render_clip(40, (320, 240), seed=3)


def as_predicted(truth: Poses, likelihood: float = 0.9) -> Poses:
    """The truth as a model with one animal column too many would give it."""
    sure = np.where(truth.found, likelihood, np.nan)
    return replace(truth, likelihood=sure, box_scores=np.full(truth.box_scores.shape, 0.8))


@pytest.fixture
def figures(clip: Any, card: ModelCard) -> dict[str, Any]:
    found = measure(as_predicted(clip.truth), list(clip.frames), card, SPACE, None)
    return {**found, "novelty": 0.0, "speed": {"fps": 20.0, "expected_seconds": 60.0}}


def topics(found: list[Advice]) -> dict[str, str]:
    return {a.topic: a.level for a in found}


def test_frames_are_spread_with_bursts() -> None:
    numbers = sample(3000)
    assert 20 <= len(numbers) <= 24
    assert numbers[0] == 0
    assert numbers[-1] == 2999
    steps = np.diff(numbers)
    assert (steps == 1).sum() == 12  # four bursts of four
    np.testing.assert_array_equal(sample(7), np.arange(7))


def test_the_truth_is_steady(figures: dict[str, Any]) -> None:
    assert figures["detection"]["share"] == 1.0
    assert figures["animals"]["frames_by_count"] == {1: 40}
    steady = figures["steadiness"]
    assert steady["steps"] == 39
    assert steady["side_swaps"] == steady["turns"] == 0
    assert steady["jitter_relative"] < 0.03
    assert steady["steady_share"] == 1.0
    assert figures["sides"]["agreement"] > 0.95


def test_swapped_sides_and_turned_bodies_are_counted(clip: Any, card: ModelCard) -> None:
    truth = as_predicted(clip.truth)
    mirrored = replace(truth, xy=truth.xy.copy())
    mirrored.xy[20] = truth.xy[20][:, SPACE.swap]
    found = measure(mirrored, list(clip.frames), card, SPACE, None)["steadiness"]
    assert found["side_swaps"] == 2  # there and back
    turned = replace(truth, xy=truth.xy.copy())
    turned.xy[20] = 2 * np.nanmean(truth.xy[20], axis=1, keepdims=True) - truth.xy[20]
    assert measure(turned, list(clip.frames), card, SPACE, None)["steadiness"]["turns"] == 2


def test_all_well_says_predict(card: ModelCard, figures: dict[str, Any]) -> None:
    share = figures["size"]["animal_share"]
    light = figures["light"]
    fits = {
        **figures,
        "size": {"animal_share": 0.2, "animal_px": 60.0},
        "light": {"brightness": 0.4, "contrast": 0.2},
    }
    assert share
    assert light
    right, calibrated = expected_right(card, fits)
    assert calibrated
    assert right == pytest.approx(0.9, abs=0.01)
    advice = advise(card, fits, right)
    assert {a.level for a in advice} == {"good"}
    assert advice[0].action == "predict"


def test_strange_pictures_lower_what_is_expected(card: ModelCard, figures: dict[str, Any]) -> None:
    """By the curve of unseen data at their median familiarity; to nothing beyond all of them."""
    at = {n: expected_right(card, {**figures, "novelty": n})[0] for n in (0.0, 0.45, 0.5, 1.05, 1.6)}
    assert at[0.0] == pytest.approx(0.9, abs=0.01)
    assert at[0.5] == pytest.approx(0.5, abs=0.01)
    assert at[0.5] < at[0.45] < at[0.0]
    assert at[1.05] == pytest.approx(0.25, abs=0.01)
    assert at[1.6] == 0.0


@pytest.mark.parametrize(
    ("change", "topic", "action"),
    [
        ({"size": {"animal_share": 0.02, "animal_px": 12.0}}, "size", "scales"),
        ({"light": {"brightness": 0.9, "contrast": 0.2}}, "light", "label"),
        ({"detection": {"share": 0.3, "score": 0.4}}, "detection", "whole-frame"),
        ({"speed": {"fps": 0.5, "expected_seconds": 7200.0}}, "speed", "shorten"),
        (
            {"novelty": 1.5, "likelihood": {"share_sure": 0.1, "mean": 0.2, "values": [0.2]}},
            "familiarity",
            "label",
        ),
    ],
)
def test_each_finding_has_one_step(
    change: dict[str, Any], topic: str, action: str, card: ModelCard, figures: dict[str, Any]
) -> None:
    changed = {**figures, **change}
    (found,) = [a for a in advise(card, changed, expected_right(card, changed)[0]) if a.topic == topic]
    assert found.level != "good"
    assert found.action in (action, "adapt")
    assert found.step


def test_size_step_tells_the_factor(card: ModelCard, figures: dict[str, Any]) -> None:
    small = {**figures, "size": {"animal_share": 0.05, "animal_px": 30.0}}
    (found,) = [a for a in advise(card, small, 0.9) if a.topic == "size"]
    assert found.values["factor"] == pytest.approx(4.0)
    assert "4.0 times larger" in found.step


def test_a_better_model_is_named(card: ModelCard, figures: dict[str, Any]) -> None:
    advice = advise(card, figures, 0.3, better=[("other", 0.8)])
    assert advice[0].action == "use-model"
    assert advice[0].values == {"model": "other"}


def test_a_card_without_distributions_still_gives_advice(card: ModelCard, figures: dict[str, Any]) -> None:
    bare = replace(card, calibration={k: v for k, v in card.calibration.items() if k != KEY})
    right, calibrated = expected_right(bare, figures)
    assert calibrated
    assert right == pytest.approx(0.9, abs=0.01)
    found = topics(advise(bare, figures, right))
    assert "size" not in found
    assert found["verdict"] == "good"
    raw = replace(card, calibration={})
    right, calibrated = expected_right(raw, figures)
    assert not calibrated
    assert "not calibrated" in " ".join(a.text for a in advise(raw, figures, right))


def test_distances_from_what_is_known() -> None:
    spread = levels(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert outside(0.4, spread) == 0.0
    assert outside(0.9, spread) == pytest.approx(1.0)
    assert outside(0.0, spread) == pytest.approx(0.5)
    assert outside(0.9, spread, margin=1.5) == 0.0
    assert distribution(range(101))["0.5"] == 50.0
    assert distribution([np.nan]) == {}


def test_light_is_that_around_the_animal() -> None:
    frame = np.zeros((100, 200, 3), np.uint8)
    frame[40:60, 100:140] = 255
    found = animal_figures(frame, (100, 40, 40, 20))
    assert found["animal_px"] == 40
    assert found["animal_share"] == pytest.approx(0.2)
    assert found["brightness"] > 0.4 > float(frame.mean()) / 255


@pytest.fixture(scope="module")
def video(clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "mouse.mp4"
    with VideoWriter(path, clip.fps, clip.size) as writer:
        for frame in clip.frames:
            writer.write(frame)
    return path


@pytest.fixture
def shipped(home: Path) -> str:
    if DEFAULT_MODEL not in {ref.card.name for ref in list_models()}:
        pytest.skip(f"the weights of {DEFAULT_MODEL} are not in this tree")
    return DEFAULT_MODEL


def test_the_command_prefers_the_mouse_model_on_a_mouse(
    video: Path, shipped: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "check.json"
    assert main(["check", str(video), "--json", str(target)]) == 0
    report = json.loads(target.read_text("utf-8"))
    assert report["best"] == shipped
    assert report["input_frames"] == 40
    assert len(report["models"]) == len(installed())
    best = report["models"][0]
    assert best["figures"]["detection"]["share"] > 0.8
    assert best["advice"][0]["topic"] == "verdict"
    printed = capsys.readouterr().out
    for part in ("expected right", shipped, "->", "frames per second here"):
        assert part in printed
    rights = [m["expected_right"] for m in report["models"]]
    assert rights == sorted(rights, reverse=True)


def test_wrong_input_is_one_line(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["check", str(tmp_path / "none.mp4")], "none.mp4"),
        (["check", str(video), "--model", "nobody"], "nobody"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert said in error
        assert error.count("\n") == 1


def test_a_model_that_is_not_here_is_said(shipped: str) -> None:
    absent = [ref.card.name for ref in list_models() if not ref.here]
    if not absent:
        pytest.skip("all released models are on this computer")
    with pytest.raises(UserError, match="not on this computer"):
        installed([absent[0]])


def test_cancelling_stops_between_frames(clip: Any, shipped: str) -> None:
    class Clip:
        def __len__(self) -> int:
            return len(clip.frames)

        def frame(self, i: int) -> Any:
            return clip.frames[i]

    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        check_video(Clip(), [find_model(shipped)], token=token)
