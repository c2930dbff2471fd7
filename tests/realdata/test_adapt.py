"""Adaptation on real clips: one that must be reverted, and labels that are numbered in their own way."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_superanimal.adaptation.adapt import AdaptSettings, plan, prepare
from napari_superanimal.adaptation.trust import doubts, examine
from napari_superanimal.errors import UserError
from napari_superanimal.jobs.adapt import AdaptOptions, adapt_files
from napari_superanimal.jobs.video_labels import read_video_labels
from napari_superanimal.keypoints import load_space
from napari_superanimal.models.card import write_card
from napari_superanimal.models.load import load_model
from napari_superanimal.models.zoo import find_model
from napari_superanimal.video import VideoWriter, open_video

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.realdata


def test_a_dog_upside_down_is_reverted(shared_data: Path, tmp_path: Path) -> None:
    """The model is sure of many points on it, and all of them are wrong: steadiness alone would not tell."""
    upside_down = tmp_path / "dog.mp4"
    with (
        open_video(shared_data / "videos" / "DogRun.mp4") as video,
        VideoWriter(upside_down, 24.0, (video.shape[2], video.shape[1])) as writer,
    ):
        for _, frame in video.iter_frames(100, 148, 1):
            writer.write(np.ascontiguousarray(frame[::-1, ::-1]))
    outcome = adapt_files(
        [upside_down],
        AdaptOptions(
            model="quadruped-sideview-mini",
            out=tmp_path / "out",
            settings=AdaptSettings(steps=3, views=2, frames=24),
            device="cpu",
        ),
    )
    assert outcome.decision == "reverted"
    assert not outcome.trained
    assert any("180 degrees" in reason for reason in outcome.reasons)
    with pytest.raises(UserError, match="reverted"):
        find_model(tmp_path / "out")


def test_a_model_that_exchanges_the_ears_is_not_learned_from(shared_data: Path, tmp_path: Path) -> None:
    """It is steady, sure, and agrees with itself when the picture is turned and mirrored; only the body tells."""
    wrong = tmp_path / "wrong"
    right = find_model("mouse-topview-mini")
    shutil.copytree(right.folder, wrong)
    other = {"right_ear": "left_ear", "left_ear": "right_ear"}
    names = tuple(other.get(k, k) for k in right.card.keypoints)
    write_card(replace(right.card, keypoints=names), wrong)
    settings = AdaptSettings(views=2, frames=36)
    found = {}
    for name, folder in (("right", right.folder), ("wrong", wrong)):
        model = load_model(find_model(folder))
        with open_video(shared_data / "videos" / "m3v1mp4.mp4") as video:
            lesson = prepare(model, "mouse", video, plan({"mouse": video}, settings)["mouse"], settings)
        found[name] = examine(model, lesson.looks)
    assert found["right"].told > 100
    assert found["right"].odd < 0.05
    assert doubts(found["right"], right.card.view) == ()
    (reason,) = doubts(found["wrong"], right.card.view)
    assert "left_ear" in reason
    assert "mostly lie to each other" in reason


class _Horse:
    def __init__(self, path: Path) -> None:
        self.path, self.frames = path, 308


def test_labels_of_the_horse_meet_their_frames(shared_data: Path) -> None:
    """Its pictures are numbered from 50 on; the README of the data says that the first is frame 0."""
    folder = shared_data / "horse10_video_gt"
    horse = _Horse(folder / "BrownHorseinShadow.mp4")
    space = load_space("superanimal_quadruped")
    found = read_video_labels(folder / "BrownHorseinShadow_gt.h5", None, space, [horse], lambda _: None)[
        horse.path
    ]
    assert len(found) == 289
    assert found.frames.min() == 0
    nose = found.xy[:, 0, space.index("nose"), 0]
    seen = np.isfinite(nose)
    # the horse walks to the right
    assert np.corrcoef(found.frames[seen], nose[seen])[0, 1] > 0.8
