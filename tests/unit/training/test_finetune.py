"""Fine-tuning on a handful of rendered pictures, in every mode."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from napari_superanimal.demo.render import render_clip
from napari_superanimal.errors import UserError
from napari_superanimal.inference.predictor import Predictor
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Progress
from napari_superanimal.keypoints import ConversionTable, load_space, read_table
from napari_superanimal.models.card import TABLE_FILE
from napari_superanimal.models.known import (
    KEY,
    PROPORTIONS,
    is_calibrated,
    known_pictures,
    known_proportions,
)
from napari_superanimal.models.load import load_model
from napari_superanimal.models.networks import PoseNet
from napari_superanimal.models.zoo import find_model, verify
from napari_superanimal.poses import Poses, make_poses
from napari_superanimal.poses.proportions import learn_proportions
from napari_superanimal.training.anchor import AS_GOOD
from napari_superanimal.training.finetune import finetune, held_out, take_over
from napari_superanimal.training.modes import MODES
from napari_superanimal.training.samples import gather_pose_samples
from napari_superanimal.training.vocabulary import origin, user_space

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_superanimal.models.load import LoadedModel

pytestmark = pytest.mark.usefixtures("one_thread")

MINE = {
    "snout": "nose",
    "leftear": "left_ear",
    "rightear": "right_ear",
    "rump": "tail_base",
    "belly": "mouse_center",
}
TABLE = ConversionTable("mine", tuple((s, t) for s, t in MINE.items() if s != "belly"))
SPACE = load_space("superanimal_topviewmouse")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Poses:
    """Six rendered pictures with labels under a user's own names."""
    root = tmp_path_factory.mktemp("pictures")
    clip = render_clip(30, (96, 80), seed=3)
    rows = np.array([0, 6, 12, 18, 24, 29])
    names = tuple(f"{r:03d}.png" for r in rows)
    for name, row in zip(names, rows, strict=True):
        Image.fromarray(clip.frames[int(row)]).save(root / name)
    truth = clip.truth.take(rows)
    index = [SPACE.index(t) for t in MINE.values()]
    return make_poses(
        tuple(MINE),
        truth.xy[:, :, index],
        images=names,
        image_sizes=np.tile([96, 80], (6, 1)),
        root=root,
        human=True,
    )


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_makes_a_model(
    labels: Poses, tiny_model: Callable[..., LoadedModel], tmp_path: Path, mode: str
) -> None:
    base = tiny_model(name="base", context=1.3, detector_threshold=0.01)
    told: list[Progress] = []
    out = finetune(
        labels,
        base,
        mode=mode,
        out=tmp_path / "mine",
        steps=4,
        table=TABLE,
        batch_size=4,
        on_progress=told.append,
    )
    assert out == tmp_path / "mine"
    ref = find_model(out)
    verify(ref)
    card = ref.card
    if MODES[mode].keeps:
        # under the model's names, and what it never knew under the user's
        assert card.keypoints == (*base.card.keypoints, "belly")
        table = read_table(out / TABLE_FILE)
        assert dict(table.rows) == {**MINE, "belly": "belly"}
    else:
        assert card.keypoints == tuple(MINE)
    assert card.name == "mine"
    assert card.parent == "base"
    assert card.recipe["mode"] == mode
    assert card.context == 1.3
    assert card.metrics["validation val_error_px"] > 0
    # before and after, of what the starting model knew
    knew = {f"validation {k}_error_px" for k in ("start", "known")}
    assert (knew <= set(card.metrics)) == (mode in ("replay", "naive"))
    steps = [p.values for p in told if "step" in p.values]
    assert [v["step"] for v in steps] == [1, 2, 3, 4]
    assert all(np.isfinite(v["loss"]) for v in steps)
    written, last = card.metrics["validation val_error_px"], steps[-1]["val_error_px"]
    if MODES[mode].keeps:
        # the weights went no further than needed for an error as good
        assert written <= AS_GOOD * last + 1e-3
        assert 0 < card.recipe["way"] <= 1
    else:
        assert written == pytest.approx(last, abs=1e-3)
    model = load_model(out)
    ears = ("left_ear", "right_ear") if MODES[mode].keeps else ("leftear", "rightear")
    assert ears in model.space.pairs
    assert model.detector is not None
    found = Predictor(model, device="cpu")([np.array(Image.open(labels.image_path(0)))])
    given = [model.space.index(k) for k in card.keypoints]
    assert np.isfinite(found.xy[0, 0, given]).all()
    with pytest.raises(UserError, match="trained model in this folder already") as caught:
        finetune(labels, base, mode=mode, out=out, steps=4)
    assert caught.value.path == out


@pytest.fixture(scope="module")
def told() -> dict[str, object]:
    """What the card of a model tells that knows rendered mice."""
    clips = [render_clip(200, (96, 80), seed=seed).truth.xy[::10, 0] for seed in range(5, 9)]
    known = np.isin(SPACE.keypoints, ("nose", "left_ear", "right_ear", "tail_base"))
    xy = np.where(known[:, None], np.concatenate(clips), np.nan)
    usual = learn_proportions(xy, SPACE.keypoints, SPACE.swap, mirrored=False)
    assert usual is not None
    levels = {"0.02": 0.01, "0.05": 0.01, "0.5": 0.02, "0.95": 0.03, "0.98": 0.03}
    pictures = {"animal_share": levels, "brightness": levels, "error_relative": levels}
    return {KEY: {"known": pictures}, PROPORTIONS: usual.to_json(), "curve_seen": [{"n": 3}]}


@pytest.mark.parametrize("mode", MODES)
def test_its_card_tells_what_it_knows(
    labels: Poses,
    tiny_model: Callable[..., LoadedModel],
    tmp_path: Path,
    told: dict[str, object],
    mode: str,
) -> None:
    """Six labelled animals are too few for proportions: the parent's are kept, under the new model's names."""
    base = tiny_model(calibration=told)
    out = finetune(
        labels, base, mode=mode, out=tmp_path / "x", steps=1, table=TABLE, batch_size=2, train_detector=False
    )
    card = find_model(out).card
    assert not is_calibrated(card), "raw confidence is not the parent's likelihood"
    known = known_pictures(card)
    assert known["animal_share"]["0.02"] == 0.01, "its detector is the parent's"
    assert known["animal_share"]["0.98"] > 0.1, "and the user's animals are larger"
    usual = known_proportions(card, card.keypoints)
    if mode == "scratch":
        assert usual is None
        assert known["brightness"]["0.02"] > 0.1
        assert "error_relative" not in known
        return
    assert known["brightness"]["0.02"] == 0.01
    assert known["error_relative"]["0.5"] == 0.02
    assert usual is not None
    judged = {card.keypoints[k] for k in usual.pairs.ravel()}
    names = ("nose", "left_ear", "right_ear", "tail_base")
    own = {v: k for k, v in MINE.items()}
    assert judged >= set(names if MODES[mode].keeps else (own[n] for n in names))
    # which is which: the labels lie as the parent says
    own |= {"belly": "belly"}
    columns = [labels.keypoints.index(own.get(k, k)) for k in card.keypoints]
    assert np.nanmedian(usual.distances(labels.xy[:, 0][:, columns])) < 1


@pytest.mark.parametrize("keep", [True, False])
def test_a_detector_that_finds_nothing_is_trained_unless_it_shall_not(
    labels: Poses, tiny_model: Callable[..., LoadedModel], tmp_path: Path, keep: bool
) -> None:
    base = tiny_model(detector_threshold=0.01)
    told: list[Progress] = []
    out = finetune(
        labels,
        base,
        mode="naive",
        out=tmp_path / "x",
        steps=30,
        table=TABLE,
        batch_size=4,
        train_detector=not keep,
        on_progress=told.append,
    )
    model = load_model(out)
    assert model.detector is not None
    assert base.detector is not None
    moved = max(
        float((model.detector.state_dict()[k] - v).abs().max())
        for k, v in base.detector.state_dict().items()
        if k.endswith("weight")
    )
    assert (moved < 2e-3) == keep, "weights are stored in half precision"
    # the plot of the pose network's training is not disturbed
    assert [p.values["step"] for p in told if "step" in p.values] == list(range(1, 31))
    trained = [p for p in told if p.message == "training the detector"]
    assert len(trained) == (0 if keep else 10)
    if not keep:
        assert model.card.recipe["detector"] == {"recall_before": 0.0, "trained": True}
        assert "detector_loss" in trained[-1].values


def outputs(network: PoseNet, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        heatmaps, offsets, _ = network.eval()(crops)
    n, _, h, w = offsets.shape
    return heatmaps, offsets.view(n, -1, 2, h, w)


def test_naive_starts_with_the_model_s_own_answers(tiny_model: Callable[..., LoadedModel]) -> None:
    """Before the first step, mapped keypoints are found exactly where the model finds them."""
    base = tiny_model()
    names = ("belly", "rump", "snout")
    source = origin(names, base.card.keypoints, TABLE)
    assert source == {"rump": "tail_base", "snout": "nose"}
    network = PoseNet(base.pose.config, 3)
    take_over(network, base, [source.get(k) for k in names])
    crops = torch.randn(2, 3, 32, 32)
    (heat, shift), (old_heat, old_shift) = outputs(network, crops), outputs(base.pose, crops)
    for name, target in source.items():
        i, j = names.index(name), base.card.keypoints.index(target)
        assert torch.equal(network.heatmaps.weight[i], base.pose.heatmaps.weight[j])
        assert torch.equal(
            network.offsets.weight[2 * i : 2 * i + 2], base.pose.offsets.weight[2 * j : 2 * j + 2]
        )
        # a convolution with another number of channels may add in another order
        torch.testing.assert_close(heat[:, i], old_heat[:, j], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(shift[:, i], old_shift[:, j], atol=1e-5, rtol=1e-5)
    # a keypoint that the model never knew starts by saying "nothing here"
    assert (heat[:, 0].sigmoid() < 0.05).all()


def test_backbone_keeps_the_trunk_and_forgets_the_head(tiny_model: Callable[..., LoadedModel]) -> None:
    base = tiny_model()
    network = PoseNet(base.pose.config, 4)
    take_over(network, base, [None] * 4)
    for part in ("trunk", "mix"):
        for name, value in getattr(base.pose, part).state_dict().items():
            assert torch.equal(getattr(network, part).state_dict()[name], value)
    assert (outputs(network, torch.randn(1, 3, 32, 32))[0].sigmoid() < 0.05).all()
    assert not torch.equal(network.heatmaps.weight, base.pose.heatmaps.weight)


def test_modes_differ_in_what_they_take_over(
    labels: Poses, tiny_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    """After one tiny step the trunk is still the model's, or not."""
    base = tiny_model(seed=7)
    moved = {}
    for mode in MODES:
        out = finetune(labels, base, mode=mode, out=tmp_path / mode, steps=1, table=TABLE, batch_size=2)
        trunk = load_model(out).pose.trunk.state_dict()
        moved[mode] = max(
            float((trunk[k] - v).abs().max())
            for k, v in base.pose.trunk.state_dict().items()
            if k.endswith("weight")
        )
    assert moved["replay"] < 0.01
    assert moved["naive"] < 0.01
    assert moved["backbone"] < 0.01
    assert moved["scratch"] > 0.05


def test_names_of_the_space_need_no_table(tiny_model: Callable[..., LoadedModel]) -> None:
    base = tiny_model()
    assert origin(("nose", "neck", "mine"), base.card.keypoints, None) == {"nose": "nose"}, (
        "neck was never trained"
    )


def test_a_user_s_space_inherits_what_it_can(tiny_model: Callable[..., LoadedModel]) -> None:
    base = tiny_model()
    names = ("rightear", "snout", "leftear", "rump", "whisker_l", "whisker_r")
    space = user_space(names, origin(names, base.card.keypoints, TABLE), base)
    assert space.keypoints == names
    assert set(space.pairs) == {("leftear", "rightear"), ("whisker_l", "whisker_r")}
    assert space.swap.tolist() == [2, 1, 0, 3, 5, 4]
    assert set(space.front) == {"snout", "leftear", "rightear"}
    assert space.rear == ("rump",)
    assert all(a in names and b in names for a, b in space.skeleton)
    sigma = dict(zip(base.space.keypoints, base.space.oks_sigmas(), strict=True))
    assert space.sigmas[1] == sigma["nose"]
    assert space.sigmas[4] == 0.1
    if base.space.colors:
        assert space.colors[3] == base.space.colors[base.space.index("tail_base")]


def test_a_cancelled_fine_tuning_goes_on_as_if_never_stopped(
    labels: Poses, tiny_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    base = tiny_model()
    settings = {"mode": "naive", "steps": 5, "table": TABLE, "batch_size": 2, "seed": 4, "name": "mine"}
    whole = load_model(finetune(labels, base, out=tmp_path / "whole", **settings))
    token = CancelToken()

    def cancel(progress: Progress) -> None:
        if progress.values.get("step") == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        finetune(labels, base, out=tmp_path / "two", token=token, on_progress=cancel, **settings)
    assert not (tmp_path / "two" / "card.json").exists()
    resumed = load_model(finetune(labels, base, out=tmp_path / "two", resume=True, **settings))
    for name, value in whole.pose.state_dict().items():
        assert torch.equal(resumed.pose.state_dict()[name], value), name
    assert resumed.card.metrics == whole.card.metrics


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_labels_are_told(
    labels: Poses, tiny_model: Callable[..., LoadedModel], tmp_path: Path, count: int
) -> None:
    xy = labels.xy.copy()
    xy[count:] = np.nan
    few = make_poses(labels.keypoints, xy, images=labels.images, root=labels.root)
    with pytest.raises(UserError, match=rf"{count} labelled image.*label at least two"):
        finetune(few, tiny_model(), mode="naive", out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_an_unknown_mode_is_told(
    labels: Poses, tiny_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="naive, backbone, scratch"):
        finetune(labels, tiny_model(), mode="magic", out=tmp_path / "x")


def test_a_missing_picture_is_named(
    labels: Poses, tiny_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    gone = replace(labels, images=("none.png", *labels.images[1:]))
    with pytest.raises(UserError, match="cannot read the labelled image") as caught:
        finetune(gone, tiny_model(), mode="naive", out=tmp_path / "x")
    assert caught.value.path == labels.root / "none.png"


def test_keypoints_never_labelled_are_no_channels(
    labels: Poses, tiny_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    xy = labels.xy.copy()
    xy[:, :, 4] = np.nan
    some = make_poses(labels.keypoints, xy, images=labels.images, root=labels.root)
    out = finetune(some, tiny_model(), mode="backbone", out=tmp_path / "x", steps=1, batch_size=2)
    assert find_model(out).card.keypoints == labels.keypoints[:4]


def test_the_last_images_are_held_out(labels: Poses, one_thread: None) -> None:
    samples = gather_pose_samples(
        labels, user_space_of(labels), input_size=32, context=1.2, side_canonical=False
    )
    assert len(samples) == 6
    for share, count in ((0.2, 1), (0.5, 3), (0.0, 1), (1.0, 5)):
        held = held_out(samples, share)
        assert samples.rows[held, 0].tolist() == list(range(6 - count, 6))
        assert samples.rows[~held, 0].tolist() == list(range(6 - count))


def user_space_of(labels: Poses) -> object:
    from napari_superanimal.keypoints import space_from_names

    return space_from_names(labels.keypoints)


def test_samples_show_the_animal_where_its_labels_say(labels: Poses) -> None:
    """The crop's pixels at a label are the picture's pixels at that label."""
    from napari_superanimal.inference.crops import to_frame
    from napari_superanimal.poses import with_boxes

    samples = gather_pose_samples(
        labels, user_space_of(labels), input_size=32, context=1.2, side_canonical=False
    )
    size = samples.crops.shape[-1]
    boxes = with_boxes(labels).boxes[:, 0]
    np.testing.assert_allclose(samples.extent, np.sqrt(boxes[:, 2] * boxes[:, 3]), rtol=1e-5)
    middle = np.full((6, 1, 2), (size - 1) / 2)
    for n in range(6):
        # scale and place, checked through the centre of the box and the keypoints' distances
        distance = np.linalg.norm(samples.xy[n, 0] - samples.xy[n, 3]) * samples.pixel[n]
        assert distance == pytest.approx(np.linalg.norm(labels.xy[n, 0, 0] - labels.xy[n, 0, 3]), rel=1e-4)
        centre = boxes[n, :2] + boxes[n, 2:] / 2
        left, top = labels.xy[n, 0, 0] - (samples.xy[n, 0] + 0.5) * samples.pixel[n] + 0.5
        square = np.array([[left, top, size * samples.pixel[n]]])
        assert np.abs(to_frame(middle[n : n + 1], square, size)[0, 0] - centre).max() < 1.5
