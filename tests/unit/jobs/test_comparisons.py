"""Modes side by side, and error by number of frames: what is measured, kept, resumed and drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from napari_superanimal.demo.render import render_clip
from napari_superanimal.errors import UserError
from napari_superanimal.jobs.charts import Band, Series, line_chart, nice_top
from napari_superanimal.jobs.compare import compare
from napari_superanimal.jobs.compare import table_of as compare_table
from napari_superanimal.jobs.few_shot import few_shot, frames_for, saving, zero_shot
from napari_superanimal.jobs.few_shot import table_of as few_shot_table
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Progress
from napari_superanimal.jobs.trials import START, Trials, forgetting, measure, prepare
from napari_superanimal.keypoints import ConversionTable, identity_table, load_space
from napari_superanimal.poses import Poses, make_poses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_superanimal.models.load import LoadedModel

pytestmark = pytest.mark.usefixtures("one_thread")

SPACE = load_space("superanimal_topviewmouse")
TABLE = ConversionTable("mine", (("snout", "nose"), ("rump", "tail_base")), SPACE.name)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Poses:
    """Eight rendered pictures with all keypoints."""
    root = tmp_path_factory.mktemp("pictures")
    clip = render_clip(16, (96, 80), seed=3)
    names = tuple(f"s{n // 4}/{n}.png" for n in range(8))
    for n, name in enumerate(names):
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(clip.frames[2 * n]).save(root / name)
    truth = clip.truth.take(np.arange(0, 16, 2))
    return make_poses(truth.keypoints, truth.xy, boxes=truth.boxes, images=names, root=root, human=True)


@pytest.fixture
def trials(pictures: Poses, tiny_model: Callable[..., LoadedModel]) -> Trials:
    return prepare(
        mine(pictures), tiny_model(), TABLE, others=(pictures, identity_table(SPACE.keypoints, SPACE))
    )


def mine(pictures: Poses) -> Poses:
    index = [SPACE.index("nose"), SPACE.index("tail_base")]
    return make_poses(
        ("snout", "rump"), pictures.xy[:, :, index], images=pictures.images, root=pictures.root, human=True
    )


def test_the_split_and_what_may_be_forgotten(
    trials: Trials, pictures: Poses, tiny_model: Callable[..., LoadedModel]
) -> None:
    assert (len(trials.training), len(trials.test)) == (6, 2)
    assert trials.known == ("snout", "rump")
    assert trials.others == ("left_ear", "right_ear")
    assert trials.reference is not None
    labelled = trials.reference.found.any((0, 1))
    assert {k for k, there in zip(SPACE.keypoints, labelled, strict=True) if there} == {
        "left_ear",
        "right_ear",
    }
    chosen = prepare(mine(pictures), tiny_model(), TABLE, test="match:s0/")
    assert chosen.test.images == pictures.images[:4]
    for rule in ("match:.", "match:nowhere"):
        with pytest.raises(UserError, match="of 8 labelled images would be measured on"):
            prepare(mine(pictures), tiny_model(), TABLE, test=rule)
    only_nose = replace(pictures, xy=np.where(np.arange(len(SPACE))[:, None] == 0, pictures.xy, np.nan))
    with pytest.raises(UserError, match="none of left_ear, right_ear is labelled there"):
        prepare(
            mine(pictures), tiny_model(), TABLE, others=(only_nose, identity_table(SPACE.keypoints, SPACE))
        )


class Oracle:
    """Answers with the truth, moved by a few pixels, for some keypoints."""

    def __init__(self, truth: Poses, model: LoadedModel, away: float, sure: float) -> None:
        self.card, self.space = model.card, model.space
        self.scorer, self.max_individuals, self.spare = "oracle", 1, 0
        self._truth, self._away, self._sure, self._row = truth, away, sure, -1

    def pose(self, frames: list, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._row += 1
        known = np.isin(self.space.keypoints, self.card.keypoints)
        xy = np.where(known[:, None], self._truth.xy[self._row] + [self._away, 0], np.nan)
        return xy, np.where(known, self._sure, np.nan)[None]


@pytest.mark.parametrize(("sure", "dropped"), [(0.9, 0), (0.4, 2)])
def test_forgetting_is_error_and_dropped_keypoints(
    sure: float, dropped: int, trials: Trials, pictures: Poses
) -> None:
    assert trials.reference is not None
    oracle = Oracle(pictures, trials.model, 3.0, sure)
    found = forgetting(trials.reference, trials.others, oracle)  # type: ignore[arg-type]
    assert found["others_error_px"] == pytest.approx(3)
    assert found["others_dropped"] == dropped
    assert found["others_dropped_share"] == dropped / 2


def test_a_model_without_the_keypoints_has_lost_them_all(
    trials: Trials, tiny_model: Callable[..., LoadedModel]
) -> None:
    bare = tiny_model(keypoints=("nose", "tail_base"))
    found = measure(trials, bare, TABLE)
    assert found["error_px"] > 0
    assert found["others_error_px"] is None
    assert found["others_pck"] == 0
    assert (found["others_dropped"], found["others_dropped_share"]) == (2, 1)


def test_keypoints_that_the_starting_model_never_knew_are_measured_apart(
    pictures: Poses, tiny_model: Callable[..., LoadedModel]
) -> None:
    index = [SPACE.index("nose"), SPACE.index("mouse_center")]
    labels = make_poses(
        ("snout", "belly"), pictures.xy[:, :, index], images=pictures.images, root=pictures.root, human=True
    )
    trials = prepare(labels, tiny_model(), ConversionTable("t", (("snout", "nose"),), SPACE.name))
    assert trials.known == ("snout",)
    start = measure(trials, trials.model, trials.table)
    assert start["error_px"] > 0
    assert start["new_error_px"] is None
    learned = measure(
        trials,
        tiny_model(keypoints=("nose", "mouse_center")),
        ConversionTable("t", (("snout", "nose"), ("belly", "mouse_center")), SPACE.name),
    )
    assert learned["error_px"] > 0
    assert learned["new_error_px"] > 0
    strange = prepare(labels, tiny_model(), ConversionTable("t", (), SPACE.name))
    assert measure(strange, strange.model, strange.table)["error_px"] is None


def test_a_comparison_is_written_resumed_and_drawn(trials: Trials, tmp_path: Path) -> None:
    told: list[Progress] = []
    token = CancelToken()

    def report(progress: Progress) -> None:
        told.append(progress)
        if "run 3 of 4" in progress.message:
            token.cancel()

    settings = {"modes": ("replay", "naive"), "seeds": 2, "steps": 2}
    with pytest.raises(Cancelled):
        compare(trials, tmp_path, **settings, on_progress=report, token=token)
    kept = json.loads((tmp_path / "compare.json").read_text())["runs"]
    assert [r["mode"] for r in kept] == [START, "replay", "naive"]
    with pytest.raises(UserError, match="a result in this folder already"):
        compare(trials, tmp_path, **settings)
    with pytest.raises(UserError, match="other settings"):
        compare(trials, tmp_path, **{**settings, "steps": 3}, resume=True)
    found = compare(trials, tmp_path, **settings, resume=True)
    assert [(r["mode"], r["seed"]) for r in found["runs"]] == [
        (START, None),
        ("replay", 0),
        ("naive", 0),
        ("replay", 1),
        ("naive", 1),
    ]
    assert found["runs"][1] == kept[1], "what was finished is not repeated"
    assert found["summary"]["naive"]["others_dropped"] == {"median": 2, "min": 2, "max": 2}
    assert found["others_are"] == "labelled"
    told_totals = {p.total for p in told if p.values}
    assert told_totals == {8}, "steps of all runs"
    for name in ("compare_learned.svg", "compare_forgotten.svg"):
        ElementTree.parse(tmp_path / name)
    text = compare_table(found)
    assert all(mode in text for mode in (START, "replay", "naive"))
    assert "left_ear, right_ear; measured against labels" in text


def test_the_curve_over_frames(trials: Trials, tmp_path: Path) -> None:
    told: list[Progress] = []
    found = few_shot(
        trials,
        tmp_path,
        modes=("replay", "scratch"),
        seeds=1,
        steps=2,
        baseline_steps=3,
        frames=(1, 6),
        on_progress=told.append,
    )
    done = [p.done for p in told if p.values]
    assert done == sorted(done)
    assert {p.total for p in told} == {10}, "scratch takes 3 steps, replay 2"
    assert [(r["frames"], r["mode"]) for r in found["runs"]] == [
        (1, "replay"),
        (1, "scratch"),
        (6, "replay"),
        (6, "scratch"),
    ]
    assert found["zero_shot"]["low"] <= found["zero_shot"]["error_px"] <= found["zero_shot"]["high"]
    assert json.loads((tmp_path / "few_shot.json").read_text())["curves"]["replay"][0]["frames"] == 1
    ElementTree.parse(tmp_path / "few_shot.svg")
    assert "untrained" in few_shot_table(found)
    with pytest.raises(UserError, match="7 frames asked for, 6 images"):
        few_shot(trials, tmp_path / "x", modes=("naive",), seeds=1, steps=1, frames=(7,))


def test_frames_saved_are_read_off_the_baseline() -> None:
    curve = [{"frames": 10.0, "error_px": 8.0}, {"frames": 100.0, "error_px": 2.0}]
    assert frames_for(8.0, curve) == (10.0, True)
    assert frames_for(4.0, curve) == (pytest.approx(10**1.5), True)
    assert frames_for(1.0, curve) == (100.0, False)
    assert frames_for(1.0, []) == (None, False)
    rows = [
        {"mode": "scratch", "frames": 10, "seed": 0, "error_px": 8.0},
        {"mode": "scratch", "frames": 100, "seed": 0, "error_px": 2.0},
        {"mode": "replay", "frames": 5, "seed": 0, "error_px": 2.0},
        {"mode": "replay", "frames": 5, "seed": 1, "error_px": 2.0},
        {"mode": "replay", "frames": 50, "seed": 0, "error_px": 1.0},
    ]
    few, many = saving(rows, "replay")
    assert (few["times_fewer"], few["at_least"]) == (pytest.approx(20), False)
    assert (many["baseline_frames"], many["at_least"]) == (100, True)
    assert zero_shot({}) is None
    band = zero_shot({"errors_px": [1.0, 2.0, 3.0] * 20})
    assert band is not None
    assert 1.5 < band["low"] < 2 < band["high"] < 2.5


def test_charts_put_points_where_they_belong() -> None:
    svg = line_chart(
        [Series("a & b", [(1, 10), (100, 0)])],
        title="t",
        x_title="x",
        y_title="y",
        band=Band("before", 4, 5, 6),
    )
    root = ElementTree.fromstring(svg)
    circles = [
        (float(c.get("cx", 0)), float(c.get("cy", 0)))
        for c in root.iter("{http://www.w3.org/2000/svg}circle")
    ]
    (x0, y0), (x1, y1) = circles
    assert x0 < x1
    assert y0 == 40, "the highest value at the top of the axis"
    assert y1 == 345, "zero at its bottom"
    assert "a &amp; b" in svg
    assert [nice_top(v) for v in (0, 0.9, 1.2, 3, 7, 10)] == [1, 1, 1.5, 5, 10, 10]
