"""What a trained model's card tells of the animals that it learned from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.demo.render import render_clip
from napari_superanimal.keypoints import load_space
from napari_superanimal.models.card import ModelCard
from napari_superanimal.models.known import KEY, MARGIN, PROPORTIONS, known_pictures, known_proportions
from napari_superanimal.poses import Poses, merge
from napari_superanimal.poses.proportions import ROOM
from napari_superanimal.training.knowledge import inherited, joined_levels, knowledge, tried

if TYPE_CHECKING:
    from collections.abc import Callable

SPACE = load_space("superanimal_topviewmouse")
OWN = ("nose", "left_ear", "right_ear", "tail_base", "mouse_center")


def mice(count: int, seed: int) -> Poses:
    """Labelled pictures of a rendered mouse, five of its keypoints."""
    clip = render_clip(8 * count, (160, 120), seed=seed)
    truth = clip.truth.take(np.arange(0, 8 * count, 8))
    other = np.array([k not in OWN for k in SPACE.keypoints])
    xy = np.where(other[:, None], np.nan, truth.xy)
    names = tuple(f"{seed}-{n:03d}.png" for n in range(count))
    visibility = np.where(other, -1, np.where(np.isfinite(xy).all(-1), 2, 0))
    return replace(
        truth,
        xy=xy,
        visibility=visibility.astype(truth.visibility.dtype),
        images=names,
        sources=(str(seed),) * count,
    )


def painted(level: int, read: list[str] | None = None) -> Callable[[Poses, int], np.ndarray]:
    """A reader of grey pictures that remembers which it was asked for."""

    def reader(poses: Poses, row: int) -> np.ndarray:
        if read is not None:
            read.append(poses.images[row])
        return np.full((120, 160, 3), level, np.uint8)

    return reader


def card(**calibration: object) -> ModelCard:
    return ModelCard("m", space=SPACE.to_json(), keypoints=OWN, view="top view", calibration=calibration)


def test_labels_tell_sizes_light_and_proportions() -> None:
    labels = merge([mice(60, 1), mice(4, 2)], ["a", "b"])
    labels = replace(labels, sources=("a",) * 60 + ("b",) * 4)
    read: list[str] = []
    made = card(**knowledge(labels, SPACE, "top view", reader=painted(51, read)))
    assert len(read) == len(set(read)), "no picture is read twice"
    known = known_pictures(made)
    assert known["brightness"]["0.5"] == pytest.approx(0.2)
    assert known["contrast"]["0.98"] < 1e-4
    assert 0.05 < known["animal_share"]["0.5"] < 0.6
    assert known["animal_px"]["0.5"] == pytest.approx(160 * known["animal_share"]["0.5"], rel=1e-3)
    usual = known_proportions(made, SPACE.keypoints)
    assert usual is not None
    assert not usual.mirrored
    other = mice(40, 3).xy[:, 0]
    assert np.nanmedian(usual.distances(other), axis=0).max() < 1
    swapped = other[:, SPACE.swap]
    assert np.nanmedian(usual.distances(swapped), axis=0).max() > ROOM


def test_too_few_animals_have_no_proportions() -> None:
    made = card(**knowledge(mice(8, 1), SPACE, "top view", reader=painted(51)))
    assert known_pictures(made)["animal_share"]
    assert known_proportions(made, SPACE.keypoints) is None
    # rendered ones have bodies, but no pictures
    read: list[str] = []
    real, drawn = mice(8, 1), mice(40, 2)
    made = card(**knowledge(real, SPACE, "top view", reader=painted(51, read), of=(real, drawn)))
    assert set(read) <= set(real.images)
    assert known_proportions(made, SPACE.keypoints) is not None


def test_figures_of_held_out_animals() -> None:
    relative = np.concatenate([np.full(30, 0.05), np.full(10, 0.3), [np.inf, np.nan]])
    found = tried([0.5, 1.0], [0.8, 0.9], relative)
    assert found["right"] == {"share": round(30 / 41, 4), "n": 41}
    assert found["error_relative"]["0.5"] == 0.05
    assert found["likelihood"]["0.5"] == pytest.approx(0.85)
    assert "novelty" not in tried((), (), relative), "what cannot be told is left out"
    assert tried((), (), np.full(5, 0.1)) == {}, "a few points say nothing"


def test_a_fine_tuned_model_knows_what_its_parent_knew() -> None:
    names = {k: k for k in SPACE.keypoints}
    parent = card(**knowledge(mice(60, 1), SPACE, "top view", reader=painted(51)))
    parent = replace(parent, recipe={"detector": {"augmentation": {"scale": 1.8}}})
    few = mice(8, 2)
    own = knowledge(few, SPACE, "top view", reader=painted(204))
    made = card(**inherited(own, parent, names, few.xy[:, 0], SPACE))
    known = known_pictures(made)
    assert known["brightness"]["0.02"] == pytest.approx(0.2, abs=0.01)
    assert known["brightness"]["0.98"] == pytest.approx(0.8, abs=0.01)
    assert made.calibration[KEY][MARGIN] == 1.8
    assert made.calibration[PROPORTIONS] == parent.calibration[PROPORTIONS], (
        "too few animals to learn them anew"
    )
    # a network from scratch knows its own pictures; the detector still knows the parent's sizes
    made = card(**inherited(own, parent, names, few.xy[:, 0], SPACE, features=False))
    assert known_pictures(made)["brightness"]["0.02"] == pytest.approx(0.8, abs=0.01)
    assert known_pictures(made)["animal_px"] == known["animal_px"]
    assert PROPORTIONS not in made.calibration
    # nothing is made up where the parent's card tells nothing
    made = card(**inherited(own, card(), names, few.xy[:, 0], SPACE))
    assert known_pictures(made) == {}


def test_enough_animals_of_the_user_s_join() -> None:
    parent = card(**knowledge(mice(60, 1), SPACE, "top view", reader=painted(51)))
    many = mice(40, 2)
    slim = replace(many, xy=many.xy * [1.0, 1.0])
    mean = np.nanmean(slim.xy, axis=2, keepdims=True)
    slim.xy[:, :, [SPACE.index("left_ear"), SPACE.index("right_ear")]] = (
        0.2 * slim.xy[:, :, [SPACE.index("left_ear"), SPACE.index("right_ear")]] + 0.8 * mean
    )
    names = {k: k for k in SPACE.keypoints}
    own = knowledge(slim, SPACE, "top view", reader=painted(51))
    usual = known_proportions(card(**inherited(own, parent, names, slim.xy[:, 0], SPACE)), SPACE.keypoints)
    before = known_proportions(parent, SPACE.keypoints)
    assert usual is not None
    assert before is not None
    assert np.nanmedian(before.distances(slim.xy[:, 0]), axis=0).max() > ROOM
    for xy in (slim.xy[:, 0], mice(40, 4).xy[:, 0]):
        assert np.nanmedian(usual.distances(xy), axis=0).max() < 1


def test_names_of_the_user_s_own() -> None:
    """Without keeping the parent's names, its proportions go along under the user's."""
    parent = card(**knowledge(mice(60, 1), SPACE, "top view", reader=painted(51)))
    own = knowledge(mice(3, 2), SPACE, "top view", reader=painted(51))
    space = replace(
        SPACE, keypoints=tuple(f"my {k}" for k in SPACE.keypoints), skeleton=(), pairs=(), front=(), rear=()
    )
    names = {f"my {k}": k for k in ("nose", "left_ear", "tail_base", "mouse_center")}
    made = replace(card(), space=space.to_json())
    found = inherited(own, parent, names, np.empty((0, len(space), 2)), space)
    usual = known_proportions(replace(made, calibration=found), space.keypoints)
    assert usual is not None
    judged = {space.keypoints[k] for k in usual.pairs.ravel()}
    assert judged <= set(names)
    assert {"my nose", "my tail_base"} <= judged


def test_a_mixture_keeps_both_ends() -> None:
    one = {"0.02": 0.0, "0.5": 1.0, "0.98": 2.0}
    other = {"0.02": 10.0, "0.5": 11.0, "0.98": 12.0}
    both = joined_levels(one, other)
    assert both["0.02"] == 0.0
    assert both["0.98"] == 12.0
    assert 2.0 <= both["0.5"] <= 10.0
    assert joined_levels(one, one)["0.5"] == pytest.approx(1.0)
