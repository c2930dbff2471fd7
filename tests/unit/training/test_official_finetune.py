"""Fine-tuning one of SuperAnimal's own networks, the smallest one with random weights, from labels to predictions."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from napari_superanimal.demo.render import render_clip
from napari_superanimal.errors import UserError
from napari_superanimal.inference.build import build_predictor
from napari_superanimal.inference.official.predictor import OfficialPredictor
from napari_superanimal.jobs.model_files import import_any
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Progress
from napari_superanimal.jobs.trials import measure, prepare, run_one
from napari_superanimal.keypoints import ConversionTable, KeypointSpace, load_space
from napari_superanimal.models.card import write_card
from napari_superanimal.models.load import load_model
from napari_superanimal.models.official.build import build, build_detector, build_pose
from napari_superanimal.models.official.catalogue import card_of, find_release
from napari_superanimal.models.official.load import OfficialDetector, OfficialPose
from napari_superanimal.models.official.tuned import save_tuned
from napari_superanimal.models.trainable import load_trainable
from napari_superanimal.models.zoo import find_model, list_models, verify
from napari_superanimal.poses import Poses, make_poses
from napari_superanimal.training import official_detector
from napari_superanimal.training.channels import take_over_channels
from napari_superanimal.training.finetune import finetune
from napari_superanimal.training.modes import MODES
from napari_superanimal.training.official_detector import augmented, update_released
from napari_superanimal.training.official_head import rows_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_thread")

POSE, SSDLITE = "superanimal_quadruped_rtmpose_s", "superanimal_quadruped_ssdlite"
MINE = {"snout": "nose", "rump": "tail_base", "whisker": None}
TABLE = ConversionTable("mine", tuple((s, t) for s, t in MINE.items() if t))
MOUSE = load_space("superanimal_topviewmouse")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Poses:
    """Four rendered pictures; the third keypoint is one that no SuperAnimal knows."""
    root = tmp_path_factory.mktemp("pictures")
    clip = render_clip(30, (96, 80), seed=3)
    rows = np.array([0, 9, 18, 27])
    names = tuple(f"{r:03d}.png" for r in rows)
    for name, row in zip(names, rows, strict=True):
        Image.fromarray(clip.frames[int(row)]).save(root / name)
    truth = clip.truth.take(rows)
    index = [MOUSE.index(k) for k in ("nose", "tail_base", "mouse_center")]
    return make_poses(
        tuple(MINE),
        truth.xy[:, :, index],
        images=names,
        image_sizes=np.tile([96, 80], (4, 1)),
        root=root,
        human=True,
    )


@pytest.fixture(scope="module")
def start() -> OfficialPose:
    """RTMPose-s with random weights, without a detector on this computer."""
    torch.manual_seed(0)
    release = find_release(POSE)
    assert release is not None
    network = build(release).eval().requires_grad_(False)
    card = replace(card_of(release), sha256={"pose.safetensors": "0" * 64})
    return OfficialPose(card, KeypointSpace.from_json(card.space), network)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_makes_a_model_of_the_same_family(
    labels: Poses, start: OfficialPose, home: Path, tmp_path: Path, mode: str
) -> None:
    before = {k: v.clone() for k, v in start.network.state_dict().items()}
    told: list[Progress] = []
    out = finetune(
        labels,
        start,
        mode=mode,
        out=tmp_path / "mine",
        steps=2,
        table=TABLE,
        batch_size=2,
        on_progress=told.append,
    )
    ref = find_model(out)
    verify(ref)
    card = ref.card
    if MODES[mode].keeps:
        assert card.keypoints == (*start.card.keypoints, "whisker")
        assert 0 < card.recipe["way"] <= 1
        assert card.recipe["replay"]["human"] == 12
    else:
        assert card.keypoints == tuple(MINE)
    assert (card.parent, card.official) == (POSE, POSE)
    assert "for research only" in card.licence
    assert card.not_for.startswith("anything but research")
    assert (card.context, card.threshold) == (1.0, start.card.threshold)
    assert card.recipe["starting weights"] == start.card.sha256
    assert card.recipe["detector"] == {"kept": "it is not on this computer"}
    assert card.detector == start.card.detector
    assert f"Network, crops and decoding of**: {POSE}" in card.markdown()
    steps = [p.values for p in told if "step" in p.values]
    assert [v["step"] for v in steps] == [1, 2]
    assert all(np.isfinite(v["loss"]) for v in steps)
    assert np.isfinite(steps[-1]["val_error_px"])
    # weights move; the statistics of batch norm only where everything starts anew
    made = load_trainable(out).pose.state_dict()
    shared = [k for k in made if k.startswith("backbone.") and "norm.running" in k]
    moved = max(float((made[k] - before[k]).abs().max()) for k in shared)
    assert (moved > 0) == (mode == "scratch")
    weight = "backbone.stage4.0.conv.weight"
    far = float((made[weight] - before[weight]).abs().max())
    assert (0 < far < 0.01) or mode == "scratch"
    assert all(torch.equal(v, before[k]) for k, v in start.network.state_dict().items()), "the start stays"

    # among the models, and it predicts as its parent does
    (imported,) = import_any(out)
    assert imported.card.name in {r.card.name for r in list_models()}
    predictor = build_predictor(find_model("mine"), detector="whole-frame", device="cpu")
    assert isinstance(predictor, OfficialPredictor)
    found = predictor([np.array(Image.open(labels.image_path(0)))])
    assert found.xy.shape == (1, 1, len(predictor.space), 2)
    assert np.isfinite(found.likelihood).all()
    with pytest.raises(UserError, match="fine-tune it on labels"):
        load_model(out)


def test_it_predicts_with_the_parents_own_numbers(
    labels: Poses, start: OfficialPose, home: Path, tmp_path: Path
) -> None:
    """Channels in another order, nothing trained: the very same crops, scores and places."""
    names = start.card.keypoints[5:0:-1]
    release = find_release(POSE)
    assert release is not None
    parent, tuned = copy.deepcopy(start.network), build_pose(release, len(names))
    take_over_channels(
        tuned, parent, [start.card.keypoints.index(k) for k in names], rows_of(tuned), ("heads.",)
    )
    # attention between keypoints is off, so that their number makes no difference
    for each in (tuned, parent):
        torch.nn.init.zeros_(each.get_parameter("heads.bodypart.gau.o.weight"))
    space = {**start.card.space, "name": "custom"}
    card = replace(start.card, name="mine", keypoints=names, parent=POSE, space=space)
    save_tuned(card, tuned, None, tmp_path / "mine")
    mine = build_predictor(find_model(tmp_path / "mine"), detector="whole-frame", device="cpu")
    theirs = OfficialPredictor(replace(start, network=parent), detector="whole-frame", device="cpu")
    frame = np.array(Image.open(labels.image_path(0)))
    boxes = np.array([[10.0, 5, 60, 50], [-20, -3, 70, 90]])
    (xy, sure), (want_xy, want_sure) = mine.pose([frame] * 2, boxes), theirs.pose([frame] * 2, boxes)
    given = [theirs.space.index(k) for k in names]
    np.testing.assert_allclose(sure[:, given], want_sure[:, given], atol=1e-5)
    np.testing.assert_allclose(xy[:, given], want_xy[:, given], atol=1e-6)
    rest = [i for i in range(len(theirs.space)) if i not in given]
    assert np.isnan(xy[:, rest]).all(), "keypoints without a channel stay missing"


def test_a_cancelled_training_goes_on_as_if_never_stopped(
    labels: Poses, start: OfficialPose, tmp_path: Path
) -> None:
    settings = {"mode": "replay", "steps": 3, "table": TABLE, "batch_size": 2, "name": "mine"}
    whole = load_trainable(finetune(labels, start, out=tmp_path / "whole", **settings))  # type: ignore[arg-type]
    token = CancelToken()

    def cancel(progress: Progress) -> None:
        if progress.values.get("step") == 1:
            token.cancel()

    with pytest.raises(Cancelled):
        finetune(labels, start, out=tmp_path / "two", token=token, on_progress=cancel, **settings)  # type: ignore[arg-type]
    assert not (tmp_path / "two" / "card.json").exists()
    resumed = load_trainable(finetune(labels, start, out=tmp_path / "two", resume=True, **settings))  # type: ignore[arg-type]
    for name, value in whole.pose.state_dict().items():
        assert torch.equal(resumed.pose.state_dict()[name], value), name
    assert resumed.card.metrics == whole.card.metrics


def test_a_fine_tuned_model_is_fine_tuned_again(
    labels: Poses, start: OfficialPose, home: Path, tmp_path: Path
) -> None:
    first = finetune(labels, start, mode="naive", out=tmp_path / "first", steps=1, table=TABLE, batch_size=2)
    second = finetune(
        labels, load_trainable(first), mode="replay", out=tmp_path / "second", steps=1, batch_size=2
    )
    card = find_model(second).card
    assert card.keypoints == tuple(MINE), "nothing is new to it"
    assert (card.parent, card.official) == ("first", POSE)
    assert card.licence.count("starting weights") == 1
    assert card.not_for.count("Recordings that differ") == 1
    assert build_predictor(find_model(second), detector="whole-frame", device="cpu").space.keypoints == tuple(
        MINE
    )


def test_modes_are_compared_on_boxes_of_labels(labels: Poses, start: OfficialPose, tmp_path: Path) -> None:
    trials = prepare(labels, start, TABLE)
    assert trials.known == ("snout", "rump")
    assert {"nose", "tail_base"}.isdisjoint(trials.others)
    assert "error_px" in measure(trials, start, TABLE)
    for mode in ("replay", "naive"):
        found = run_one(trials, mode, 0, tmp_path / mode, steps=1, options={"batch_size": 2})
        assert found["frames"] == 3
        errors = [found[name] for name in ("error_px", "new_error_px")]
        assert all(error is None or error > 0 for error in errors)


@pytest.fixture(scope="module")
def ssdlite() -> OfficialDetector:
    """A detector that finds nothing above its threshold."""
    torch.manual_seed(3)
    release = find_release(SSDLITE)
    assert release is not None
    network = build_detector(release).eval().requires_grad_(False)
    return OfficialDetector(card_of(release), network)


def test_a_detector_that_misses_the_animals_is_trained_and_kept_with_the_model(
    labels: Poses, start: OfficialPose, ssdlite: OfficialDetector, home: Path, tmp_path: Path
) -> None:
    told: list[Progress] = []
    model = replace(start, detector=ssdlite)
    out = finetune(
        labels,
        model,
        mode="naive",
        out=tmp_path / "mine",
        steps=6,
        table=TABLE,
        batch_size=1,
        on_progress=told.append,
    )
    ref = find_model(out)
    assert ref.card.recipe["detector"] == {"recall_before": 0.0, "trained": True, "steps": 2}
    assert ref.card.detector == {"architecture": "ssdlite", "release": SSDLITE}
    assert ref.card.sha256.keys() == {"pose.safetensors", "detector.safetensors"}
    trained = [p for p in told if p.message == "training the detector"]
    assert [p.values["detector_step"] for p in trained] == [1, 2]
    made = load_trainable(out)
    assert made.detector is not None
    new, old = made.detector.network.state_dict(), ssdlite.network.state_dict()
    moved = {k for k, v in old.items() if not torch.equal(new[k], v)}
    assert moved
    assert not {k for k in moved if k.startswith("model.backbone.features.")}, "features stay"
    assert not {k for k in moved if "running_" in k}, "so do statistics"
    # its own detector is found by name, by folder and by a fine-tuning of the fine-tuned
    predictor = build_predictor(ref, device="cpu")
    assert predictor.scorer == "mine"
    again = finetune(
        labels, made, mode="naive", out=tmp_path / "again", steps=1, batch_size=1, train_detector=False
    )
    assert find_model(again).card.detector == ref.card.detector
    kept = load_trainable(again).detector
    assert kept is not None
    assert all(torch.equal(kept.network.state_dict()[k], v) for k, v in new.items())


def test_a_detector_that_finds_the_animals_stays(
    labels: Poses,
    start: OfficialPose,
    ssdlite: OfficialDetector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Boxes are those of a detector that sees the whole picture."""
    whole = np.array([[0.0, 0, 96, 80]], np.float32), np.array([0.9], np.float32)
    monkeypatch.setattr(official_detector.BoxFinder, "__call__", lambda self, frames, most: [whole])
    detector, told = update_released(replace(start, detector=ssdlite), labels, tmp_path, steps=3)
    assert detector is None
    assert told == {"recall_before": 1.0, "trained": False}


def test_faster_r_cnn_learns_too(labels: Poses) -> None:
    """One step on pictures that it makes small, so that the test is quick."""
    release = find_release("superanimal_quadruped_fasterrcnn_mobilenet_v3_large_fpn")
    assert release is not None
    torch.manual_seed(0)
    network = build_detector(release).train()
    network.model.transform.min_size = (96,)  # type: ignore[union-attr]
    boxed = replace(labels, boxes=np.tile([10.0, 10, 60, 50], (4, 1, 1)))
    step = official_detector.detector_loss(boxed, official_detector.read_image, upside_down=True)
    first, again = (step(network, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(first, again), "what torchvision draws follows from the seed"
    first.backward()
    head = network.get_parameter("model.roi_heads.box_predictor.bbox_pred.weight").grad
    assert head is not None
    assert head.abs().max() > 0


def test_boxes_go_with_the_picture() -> None:
    frame = np.zeros((40, 60, 3), np.uint8)
    frame[10:20, 5:25] = 200
    boxes = np.array([[5.0, 10, 20, 10], [100, 100, 5, 5], [-10, 30, 20, 30]])
    seen = set()
    for seed in range(16):
        picture, corners = augmented(frame, boxes, np.random.default_rng(seed), upside_down=True)
        assert len(corners) == 2, "outside the picture there is nothing"
        x1, y1, x2, y2 = corners[0].astype(int)
        assert (picture[y1:y2, x1:x2] > 20).all()
        assert picture[..., 0].astype(bool).sum() == 200
        assert (corners >= 0).all()
        assert (corners[:, 2] <= 60).all()
        assert (corners[:, 3] <= 40).all()
        seen.add((x1, y1))
    assert len(seen) == 4, "mirrored both ways"


def test_a_fine_tuned_model_may_not_take_an_official_name(
    labels: Poses, start: OfficialPose, home: Path, tmp_path: Path
) -> None:
    out = finetune(labels, start, mode="naive", out=tmp_path / POSE, steps=1, table=TABLE, batch_size=2)
    with pytest.raises(UserError, match="is the name of a model of SuperAnimal's"):
        import_any(out)
    assert not find_model(POSE).here
    # a folder put there by hand is not taken for the released one either
    target = home / "models" / POSE
    target.mkdir(parents=True)
    write_card(find_model(out).card, target)
    with pytest.raises(UserError, match="a model of yours has the name"):
        find_model(POSE)


def test_a_detector_of_its_own_that_is_unknown_is_told(
    start: OfficialPose, home: Path, tmp_path: Path
) -> None:
    card = replace(start.card, name="mine", parent=POSE, detector={"release": "superanimal_quadruped_yolo"})
    save_tuned(card, start.network, None, tmp_path / "mine")
    content = json.loads((tmp_path / "mine" / "card.json").read_text())
    assert content["official"] == POSE
    with pytest.raises(UserError, match="superanimal_quadruped_yolo"):
        build_predictor(find_model(tmp_path / "mine"), device="cpu")
