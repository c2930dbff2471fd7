"""Memory replay: labels win, the starting model fills in what it is sure of, the rest has no weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from napari_superanimal.demo.render import render_clip
from napari_superanimal.jobs.progress import Cancelled, CancelToken
from napari_superanimal.jobs.trials import measure, prepare, run_one
from napari_superanimal.keypoints import ConversionTable, KeypointSpace, identity_table, load_space
from napari_superanimal.models.load import load_model
from napari_superanimal.poses import Poses, box_iou, make_poses
from napari_superanimal.training import replay
from napari_superanimal.training.anchor import no_further_than_needed
from napari_superanimal.training.replay import Seen, match_boxes, replay_labels
from napari_superanimal.training.vocabulary import extend, join_vocabularies, restrict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_superanimal.models.load import LoadedModel
    from napari_superanimal.models.networks import PoseNet

pytestmark = pytest.mark.usefixtures("one_thread")

MOUSE = load_space("superanimal_topviewmouse")
TABLE = ConversionTable("mine", (("snout", "nose"), ("rump", "tail_base")), MOUSE.name)
SNOUT, RUMP = (60.0, 40.0), (20.0, 40.0)
#: What the model sees: channel -> (x, y, likelihood).
SIGHT = {
    "nose": (62, 41, 0.9),
    "left_ear": (52, 35, 0.8),
    "right_ear": (52, 45, 0.6),
    "tail_base": (21, 40, 0.9),
}


def black(poses: Poses, row: int) -> np.ndarray:
    return np.zeros((80, 100, 3), np.uint8)


def seen_everywhere(
    monkeypatch: pytest.MonkeyPatch, sight: dict[str, tuple[float, float, float]], side: int = 0
) -> None:
    """Let the network answer the same for every box; everything around it stays as it is."""

    def look(self: replay._Looks, frame: np.ndarray, boxes: np.ndarray) -> Seen:
        table = np.array([sight[k] for k in self.model.card.keypoints], float)
        n = len(boxes)
        return Seen(
            np.repeat(table[None, :, :2], n, 0),
            np.repeat(table[None, :, 2], n, 0),
            np.full(n, side, np.int8),
        )

    monkeypatch.setattr(replay._Looks, "look", look)


def labels(names: tuple[str, ...], points: list, visibility: list | None = None, **rest: object) -> Poses:
    xy = np.array(points, float).reshape(1, 1, len(names), 2)
    codes = None if visibility is None else np.array(visibility).reshape(1, 1, -1)
    return make_poses(names, xy, visibility=codes, images=("a.png",), human=True, **rest)


def test_people_win_and_the_model_fills_in_what_it_is_sure_of(
    tiny_model: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_everywhere(monkeypatch, SIGHT)
    model = tiny_model(detector=False)
    mine = labels(("snout", "rump", "belly"), [SNOUT, RUMP, (40, 40)])
    found = replay_labels(mine, model, join_vocabularies(mine.keypoints, MOUSE, TABLE), reader=black)
    assert found.channels == ("nose", "left_ear", "right_ear", "tail_base", "belly")
    at = dict(zip(found.channels, found.poses.xy[0, 0].tolist(), strict=True))
    code = dict(zip(found.channels, found.poses.visibility[0, 0].tolist(), strict=True))
    hand = dict(zip(found.channels, found.poses.human[0, 0].tolist(), strict=True))
    assert at["nose"] == list(SNOUT), "the label, although the model is sure of another place"
    assert at["left_ear"] == [52, 35]
    assert np.isnan(at["right_ear"]).all(), "below the threshold"
    assert at["belly"] == [40, 40], "a keypoint that the model never knew"
    assert code == {"nose": 2, "left_ear": 2, "right_ear": -1, "tail_base": 2, "belly": 2}
    assert hand == {"nose": True, "left_ear": False, "right_ear": False, "tail_base": True, "belly": True}
    counts = found.counts
    assert (counts.human, counts.pseudo, counts.without_weight) == (3, 1, 1)
    assert (counts.animals, counts.unmatched, counts.threshold, counts.right) == (1, 0, 0.7, 1.0)
    assert counts.pseudo_per_keypoint == {"left_ear": 1}
    assert found.space.keypoints == (*MOUSE.keypoints, "belly")


@pytest.mark.parametrize(("threshold", "filled"), [(0.5, 2), (0.7, 1), (0.85, 0), (1.1, 0)])
def test_the_threshold_decides(
    threshold: float, filled: int, tiny_model: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_everywhere(monkeypatch, SIGHT)
    mine = labels(("snout", "rump"), [SNOUT, RUMP])
    words = join_vocabularies(mine.keypoints, MOUSE, TABLE)
    found = replay_labels(mine, tiny_model(detector=False), words, threshold=threshold, reader=black)
    assert found.counts.pseudo == filled
    assert found.space == MOUSE, "nothing new: the model's own space"


@pytest.mark.parametrize("absent", [False, True])
def test_a_keypoint_left_out_by_the_user(
    absent: bool, tiny_model: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unlabelled here: the model may tell. Deleted by a person: it is not there."""
    seen_everywhere(monkeypatch, SIGHT)
    gone = (np.nan, np.nan)
    mine = labels(("snout", "rump", "belly"), [SNOUT, gone, gone], [2, 0, 0])
    other = labels(("snout", "rump", "belly"), [SNOUT, RUMP, (40, 40)])
    both = make_poses(
        mine.keypoints,
        np.concatenate([mine.xy, other.xy]),
        visibility=np.concatenate([mine.visibility, other.visibility]),
        images=("a.png", "b.png"),
    )
    words = join_vocabularies(both.keypoints, MOUSE, TABLE)
    found = replay_labels(both, tiny_model(detector=False), words, absent=absent, reader=black)
    rump, belly = found.channels.index("tail_base"), found.channels.index("belly")
    assert found.poses.visibility[0, 0, rump] == (0 if absent else 2)
    assert np.isfinite(found.poses.xy[0, 0, rump]).all() == (not absent)
    assert found.poses.visibility[0, 0, belly] == (0 if absent else -1)


def test_an_animal_that_the_model_misjudges_keeps_its_labels_and_nothing_else(
    tiny_model: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sure and wrong, as on a new camera: nose and tail exchanged."""
    swapped = {**SIGHT, "nose": SIGHT["tail_base"], "tail_base": SIGHT["nose"]}
    seen_everywhere(monkeypatch, swapped)
    mine = labels(("snout", "rump"), [SNOUT, RUMP])
    words = join_vocabularies(mine.keypoints, MOUSE, TABLE)
    found = replay_labels(mine, tiny_model(detector=False), words, reader=black)
    assert (found.counts.unmatched, found.counts.pseudo, found.counts.human) == (1, 0, 2)
    assert found.counts.right == 0
    np.testing.assert_array_equal(found.poses.visibility[0, 0], [2, -1, -1, 2])


def test_without_a_common_keypoint_a_drawn_box_tells(
    tiny_model: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_everywhere(monkeypatch, SIGHT)
    model = tiny_model(detector=False)
    drawn = labels(("belly",), [(40, 40)], boxes=np.array([[[10.0, 20, 60, 40]]]))
    bare = labels(("belly",), [(40, 40)])
    words = join_vocabularies(("belly",), MOUSE, None)
    assert replay_labels(drawn, model, words, reader=black).counts.pseudo == 3
    unknown = replay_labels(bare, model, words, reader=black).counts
    assert (unknown.unmatched, unknown.right) == (1, None)


SIDE = KeypointSpace(
    "side",
    ("nose", "left_paw", "right_paw", "tail"),
    pairs=(("left_paw", "right_paw"),),
    front=("nose",),
    rear=("tail",),
)


@pytest.mark.parametrize(("nose", "near"), [(20.0, "left_paw"), (60.0, "right_paw")])
def test_near_and_far_go_through_the_same_renaming(
    nose: float, near: str, tiny_model: Callable[..., LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's left paw is the near channel of an animal that faces left, and the far one otherwise."""
    tail = 80 - nose
    sight = {
        "nose": (nose, 40, 0.9),
        "left_paw": (30, 60, 0.9),
        "right_paw": (50, 58, 0.9),
        "tail": (tail, 40, 0.9),
    }
    seen_everywhere(monkeypatch, sight)
    model = tiny_model(SIDE, SIDE.keypoints, side_canonical=True, detector=False)
    mine = labels(
        ("nose", "left_paw", "tail"), [(nose, 40), (30, 61) if near == "left_paw" else (50, 59), (tail, 40)]
    )
    found = replay_labels(mine, model, join_vocabularies(mine.keypoints, SIDE, None), reader=black)
    assert found.counts.unmatched == 0
    near_channel, far_channel = found.poses.xy[0, 0, 1], found.poses.xy[0, 0, 2]
    if near == "left_paw":
        assert near_channel.tolist() == [30, 61], "labelled"
        assert far_channel.tolist() == [50, 58], "filled in"
    else:
        assert near_channel.tolist() == [30, 60], "filled in"
        assert far_channel.tolist() == [50, 59], "labelled"


def test_boxes_are_matched_by_the_labels_they_hold() -> None:
    """Labels on the head only: the detector's box is much larger, and still this animal's."""
    head = np.array([[[10.0, 10], [14, 14]], [[70, 10], [74, 14]]])
    small = np.array([[9.0, 9, 6, 6], [69, 9, 6, 6]])
    detected = np.array([[60.0, 5, 40, 60], [5, 5, 40, 60], [0, 70, 20, 20]])
    assert match_boxes(head, small, detected).tolist() == [1, 0]
    assert match_boxes(head, small, detected[2:]).tolist() == [-1, -1]
    assert match_boxes(head, small, np.empty((0, 4))).tolist() == [-1, -1]
    np.testing.assert_allclose(box_iou(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 2, 2]])), [[1 / 3]])


def test_names_that_mean_something_else_do_not_collide() -> None:
    table = ConversionTable("t", (("snout", "nose"),), MOUSE.name)
    words = join_vocabularies(("snout", "neck", "whisker_left", "whisker_right"), MOUSE, table)
    assert words.table.target("neck") == "neck_own", "the table does not say that it is the space's neck"
    assert words.new == ("neck_own", "whisker_left", "whisker_right")
    assert ("whisker_left", "whisker_right") in words.space.pairs
    assert words.space.name == "custom"
    assert extend(MOUSE, ()) is MOUSE
    part = restrict(words.space, ("tail_base", "nose"))
    assert part.keypoints == ("tail_base", "nose")
    assert part.sigmas == (MOUSE.sigmas[MOUSE.index("tail_base")], MOUSE.sigmas[MOUSE.index("nose")])


def test_it_can_be_stopped(tiny_model: Callable[..., LoadedModel]) -> None:
    token = CancelToken()
    token.cancel()
    mine = labels(("snout", "rump"), [SNOUT, RUMP])
    with pytest.raises(Cancelled):
        replay_labels(
            mine, tiny_model(), join_vocabularies(mine.keypoints, MOUSE, TABLE), reader=black, token=token
        )


def test_weights_go_no_further_than_the_user_s_keypoints_need(
    tiny_model: Callable[..., LoadedModel],
) -> None:
    old, trained = tiny_model(seed=0).pose, tiny_model(seed=1).pose
    start = {k: v.clone() for k, v in old.state_dict().items()}
    name = "trunk.laterals.0.weight"

    def way(network: PoseNet) -> float:
        """How far a network has gone, read off one weight."""
        whole = trained.state_dict()[name] - start[name]
        return float(((network.state_dict()[name] - start[name]) / whole).mean())

    half, share = no_further_than_needed(start, trained, [2], lambda net: 1.0 if way(net) > 0.4 else 9.0)
    assert share == 0.5
    assert way(half) == pytest.approx(0.5, abs=1e-3)
    # a channel that the old model never had has no half-way
    ends = trained.state_dict()
    assert torch.equal(half.heatmaps.weight[2], ends["heatmaps.weight"][2])
    assert torch.equal(half.offsets.bias[4:6], ends["offsets.bias"][4:6])
    torch.testing.assert_close(
        half.heatmaps.weight[0], (start["heatmaps.weight"][0] + ends["heatmaps.weight"][0]) / 2
    )
    assert no_further_than_needed(start, trained, [], lambda net: 2.0 - way(net))[1] == 1.0
    assert no_further_than_needed(start, trained, [], lambda net: float("nan"))[0] is trained


def test_the_shipped_model_keeps_its_ears(tmp_path: Path) -> None:
    """Fine-tuned on nose and tail of rendered mice with replay, ears are found as before; naive has none."""
    clip = render_clip(60, (128, 112), seed=5)
    rows = np.arange(0, 60, 5)
    names = tuple(f"{row:03d}.png" for row in rows)
    for name, row in zip(names, rows, strict=True):
        Image.fromarray(clip.frames[int(row)]).save(tmp_path / name)
    truth = clip.truth.take(rows)
    whole = make_poses(
        truth.keypoints,
        truth.xy,
        boxes=truth.boxes,
        images=names,
        image_sizes=np.tile([128, 112], (len(rows), 1)),
        root=tmp_path,
        human=True,
    )
    index = [MOUSE.index("nose"), MOUSE.index("tail_base")]
    mine = make_poses(
        ("snout", "rump"),
        truth.xy[:, :, index],
        boxes=truth.boxes,
        images=names,
        image_sizes=whole.image_sizes,
        root=tmp_path,
        human=True,
    )
    model = load_model("mouse-topview-mini")
    trials = prepare(mine, model, TABLE, others=(whole, identity_table(whole.keypoints, MOUSE)))
    assert {"left_ear", "right_ear"} <= set(trials.others)
    before = measure(trials, model, TABLE)
    replayed, naive = (run_one(trials, mode, 0, tmp_path / mode, steps=25) for mode in ("replay", "naive"))
    assert before["others_dropped_share"] < 0.5, "the shipped model knows the rendered mouse"
    assert replayed["others_dropped"] <= before["others_dropped"] + 0.1 * len(trials.others)
    assert replayed["others_error_px"] <= 1.1 * before["others_error_px"] + 0.5
    assert naive["others_dropped_share"] == 1
    assert naive["others_error_px"] is None
