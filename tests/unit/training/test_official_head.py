"""What SuperAnimal's networks learn: targets, masks, pixels, channels; and that a fresh channel harms no other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_superanimal.inference.official.crops import top_down_crop
from napari_superanimal.inference.official.decode import decode_heatmaps, decode_simcc
from napari_superanimal.inference.pose_pass import Symmetry
from napari_superanimal.models.official.build import build_pose
from napari_superanimal.models.official.catalogue import RELEASES, find_release
from napari_superanimal.models.official.networks import LOCREF_STD, HeatmapOutput
from napari_superanimal.models.official.rtmpose import RtmConfig, RTMPose, SimccOutput
from napari_superanimal.poses import make_poses
from napari_superanimal.training.anchor import between
from napari_superanimal.training.channels import take_over_channels
from napari_superanimal.training.official_head import (
    SIGMA,
    cut,
    from_network,
    gaussians,
    heatmap_loss,
    loss,
    predict,
    rows_of,
    simcc_loss,
    to_network,
    window,
)
from napari_superanimal.training.pose_stage import Batch
from napari_superanimal.training.rehearsal import Rehearsal
from napari_superanimal.training.samples import gather_pose_samples

if TYPE_CHECKING:
    from pathlib import Path

    from napari_superanimal.models.official.build import PoseNetwork

pytestmark = pytest.mark.usefixtures("one_thread")

ARCHITECTURES = ("hrnet_w32", "resnet_50", "rtmpose_s")
NAN = float("nan")


def network_of(architecture: str, keypoints: int, seed: int = 0) -> PoseNetwork:
    torch.manual_seed(seed)
    release = find_release(f"superanimal_quadruped_{architecture}")
    assert release is not None
    return build_pose(release, keypoints).eval()


@pytest.mark.parametrize("release", [r for r in RELEASES if r.kind == "pose"], ids=lambda r: r.name)
def test_every_released_head_has_rows_for_each_of_its_keypoints(release) -> None:  # type: ignore[no-untyped-def]
    with torch.device("meta"):
        network = build_pose(release, 7)
        larger = build_pose(release, 8)
    weights = network.state_dict()
    rows = {each.name: each for each in rows_of(network)}
    assert rows
    for name, each in rows.items():
        assert weights[name].shape[each.axis] == 7 * each.width
    # nothing else depends on the number of keypoints
    grown = {k for k, v in larger.state_dict().items() if v.shape != weights[k].shape}
    assert grown == rows.keys()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_channels_are_taken_over_dropped_and_grown(architecture: str) -> None:
    old = network_of(architecture, 4)
    new = network_of(architecture, 3, seed=1)
    come_from = [2, None, 0]
    before = {r.name: r.of(new.state_dict(), 1).clone() for r in rows_of(new)}
    take_over_channels(new, old, come_from, rows_of(new), ("heads.",))
    for row in rows_of(new):
        for i, j in ((0, 2), (2, 0)):
            assert torch.equal(row.of(new.state_dict(), i), row.of(old.state_dict(), j))
        assert torch.equal(row.of(new.state_dict(), 1), before[row.name]), "a channel of its own starts anew"
    if architecture != "rtmpose_s":
        crops = torch.randn(1, 3, 64, 64)
        with torch.inference_mode():
            mine, theirs = new(crops), old(crops)
        torch.testing.assert_close(mine.heatmaps[:, [0, 2]], theirs.heatmaps[:, [2, 0]], atol=1e-4, rtol=1e-4)
    # half-way between two networks a new channel is all new
    ends = network_of(architecture, 3, seed=2)
    half = between({k: v.clone() for k, v in new.state_dict().items()}, ends, 0.5, [1], rows_of(new))
    for row in rows_of(new):
        assert torch.equal(row.of(half.state_dict(), 1), row.of(ends.state_dict(), 1))
        middle = (row.of(new.state_dict(), 0) + row.of(ends.state_dict(), 0)) / 2
        torch.testing.assert_close(row.of(half.state_dict(), 0), middle)


def test_a_head_without_any_old_keypoint_starts_anew_whole() -> None:
    old, new = network_of("rtmpose_s", 4), network_of("rtmpose_s", 2, seed=1)
    name, stem = "heads.bodypart.cls_x.weight", "backbone.stem.0.conv.weight"
    before = new.state_dict()[name].clone()
    take_over_channels(new, old, [None, None], rows_of(new), ("heads.",))
    assert torch.equal(new.state_dict()[name], before)
    assert torch.equal(new.state_dict()[stem], old.state_dict()[stem])
    take_over_channels(new, old, [None, 3], rows_of(new), ("heads.",))
    assert torch.equal(new.state_dict()[name], old.state_dict()[name])


def test_the_target_is_the_references(golden: Path) -> None:
    case = json.loads((golden / "crop_oks_gaussian_vectors.json").read_text())["gaussian_target"]
    stride, (y, x) = case["stride"], case["argmax_yx"]
    at = torch.tensor([[case["kpt"]]], dtype=torch.float64)
    target = gaussians(at, 64, 64, stride)[0][0, 0]
    assert pytest.approx(case["std"]) == SIGMA
    assert divmod(int(target.argmax()), 64) == (y, x)
    assert float(target[y, x]) == pytest.approx(case["at_14_25"], abs=1e-9)
    assert float(target.sum()) == pytest.approx(case["sum"], abs=1e-6)
    same = HeatmapOutput(target[None, None].float(), None)
    assert float(heatmap_loss(same, at.float(), torch.tensor([[2]]), stride, (256, 256))) < 1e-8
    xy, _ = decode_heatmaps(same, stride)
    assert xy[0, 0].tolist() == case["decoded_xy"]


def test_a_network_that_sees_nothing_has_a_loss_of_one() -> None:
    points, codes = torch.tensor([[[130.0, 118.0]]]), torch.tensor([[2]])
    nothing = HeatmapOutput(torch.zeros(1, 1, 64, 64), None)
    assert float(heatmap_loss(nothing, points, codes, 4, (256, 256))) == pytest.approx(1.0, abs=0.01)
    # absent, as far as the crop shows: nothing is right
    outside = torch.tensor([[[300.0, 118.0]]])
    assert float(heatmap_loss(nothing, outside, codes, 4, (256, 256))) == 0.0
    assert float(heatmap_loss(nothing, torch.full((1, 1, 2), NAN), codes * 0, 4, (256, 256))) == 0.0


def test_offsets_lead_to_the_keypoint() -> None:
    """Where heatmap and offsets are those that are asked for, decoding gives the keypoint back."""
    at = torch.tensor([[[101.3, 57.9]]])
    heatmaps = torch.zeros(1, 1, 33, 33, requires_grad=True)
    offsets = torch.zeros(1, 2, 33, 33, requires_grad=True)
    optimiser = torch.optim.Adam([heatmaps, offsets], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        heatmap_loss(HeatmapOutput(heatmaps, offsets), at, torch.tensor([[2]]), 8, (256, 256)).backward()
        optimiser.step()
    xy, score = decode_heatmaps(HeatmapOutput(heatmaps.detach(), offsets.detach()), 8)
    torch.testing.assert_close(xy, at, atol=0.15, rtol=0)
    assert float(score[0, 0]) == pytest.approx(1.0, abs=0.1)
    far = (torch.arange(33.0) * 8 + 4 - 101.3).abs() > 17
    assert offsets.grad is not None
    assert (offsets.grad[0, 0][:, far] == 0).all(), "learned near the keypoint"
    assert offsets.detach().abs().max() * LOCREF_STD < 20


def test_coordinate_scores_lead_to_the_keypoint() -> None:
    at = torch.tensor([[[101.3, 57.9]]])
    x, y = (torch.zeros(1, 1, n, requires_grad=True) for n in (512, 512))
    optimiser = torch.optim.Adam([x, y], lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        simcc_loss(SimccOutput(x, y), at, torch.tensor([[2]]), (5.66, 5.66), (256, 256)).backward()
        optimiser.step()
    xy, _ = decode_simcc(SimccOutput(x.detach(), y.detach()), (5.66, 5.66))
    torch.testing.assert_close(xy, at, atol=0.5, rtol=0)


CODES = torch.tensor([[2, -1, 0], [1, -1, 2]])
POINTS = torch.tensor([[[40.0, 50], [NAN, NAN], [NAN, NAN]], [[100, 20], [80, 80], [10, 200]]])


def test_undefined_keypoints_have_no_gradient_at_all() -> None:
    torch.manual_seed(0)
    heatmaps = torch.randn(2, 3, 33, 33, requires_grad=True)
    offsets = torch.randn(2, 6, 33, 33, requires_grad=True)
    heatmap_loss(HeatmapOutput(heatmaps, offsets), POINTS, CODES, 8, (256, 256)).backward()
    assert heatmaps.grad is not None
    assert offsets.grad is not None
    assert (heatmaps.grad[:, 1] == 0).all()
    assert (offsets.grad[:, 2:4] == 0).all()
    assert heatmaps.grad[0, 2].abs().max() > 0, "defined and not labelled: learned as absent"
    assert (offsets.grad[0, 4:] == 0).all()
    assert heatmaps.grad[1, 0].abs().max() > 0
    x, y = torch.randn(2, 3, 512, requires_grad=True), torch.randn(2, 3, 512, requires_grad=True)
    simcc_loss(SimccOutput(x, y), POINTS, CODES, (5.66, 5.66), (256, 256)).backward()
    for scores in (x, y):
        assert scores.grad is not None
        assert (scores.grad[:, 1] == 0).all()
        assert (scores.grad[0, 2] == 0).all(), "coordinates cannot say 'not here'"
        assert scores.grad[1, 2].abs().max() > 0


@pytest.mark.parametrize("architecture", ["hrnet_w32", "resnet_50"])
def test_the_mask_reaches_the_head(architecture: str) -> None:
    """Of a keypoint that nobody defines not one weight of its channel moves."""
    network = network_of(architecture, 3)
    out = network(torch.randn(2, 3, 64, 64))
    heatmap_loss(out, POINTS / 4, CODES, network.stride, (64, 64)).backward()  # type: ignore[union-attr]
    gradients = {name: weight.grad for name, weight in network.named_parameters()}
    for row in rows_of(network):
        gradient = gradients[row.name]
        assert gradient is not None
        assert (row.of({row.name: gradient}, 1) == 0).all(), row.name
        assert row.of({row.name: gradient}, 0).abs().max() > 0, row.name


def test_parts_of_a_step_are_divided_once() -> None:
    from napari_superanimal.training.targets import pooled

    torch.manual_seed(0)
    heatmaps = torch.randn(2, 3, 16, 16)

    def value(part: slice) -> torch.Tensor:
        return heatmap_loss(HeatmapOutput(heatmaps[part], None), POINTS[part], CODES[part], 16, (256, 256))

    with pooled() as count:
        parts = value(slice(0, 1)) + value(slice(1, 2))
    assert count.total == 4
    torch.testing.assert_close(parts / count.total, value(slice(0, 2)))


def test_what_is_rehearsed_is_learned_as_the_old_network_answers() -> None:
    torch.manual_seed(0)
    taken = torch.tensor([[True, False, True]])
    codes = torch.tensor([[2, -1, 2]])
    points = torch.tensor([[[100.0, 90.0], [NAN, NAN], [60.0, 70.0]]])
    old = HeatmapOutput(torch.rand(1, 3, 33, 33), torch.randn(1, 6, 33, 33))
    same = HeatmapOutput(old.heatmaps.clone().requires_grad_(), old.offsets.clone().requires_grad_())  # type: ignore[union-attr]
    value = heatmap_loss(same, points, codes, 8, (256, 256), old, taken)
    assert float(value.detach()) == 0.0
    assert float(heatmap_loss(same, points, codes, 8, (256, 256)).detach()) > 1.0
    scores = SimccOutput(torch.rand(1, 3, 512), torch.rand(1, 3, 512))
    mine = SimccOutput(*(s.clone().requires_grad_() for s in scores))
    value = simcc_loss(mine, points, codes, (5.66, 5.66), (256, 256), scores, taken)
    value.backward()
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-6)
    assert mine.x.grad is not None
    assert mine.x.grad.abs().max() < 1e-6


def test_a_step_rehearses_what_nobody_labelled() -> None:
    """The old network's own copy has nothing to learn but the label."""
    network, teacher = network_of("rtmpose_s", 3), network_of("rtmpose_s", 4)
    take_over_channels(network, teacher, [3, 1, None], rows_of(network), ("heads.",))
    for scores in ("cls_x", "cls_y"):
        torch.nn.init.normal_(teacher.get_parameter(f"heads.bodypart.{scores}.weight"))
    images = torch.rand(2, 3, 256, 256) * 255
    asked = torch.tensor([[True, False, True]] * 2)
    codes = torch.tensor([[-1, 2, -1]] * 2)
    points = torch.full((2, 3, 2), NAN)
    points[:, 1] = 100.0
    batch = Batch(images, points, codes, asked, torch.ones(2))
    network.train()
    bare = loss(network, batch, None)
    rehearsed = loss(network, batch, Rehearsal(teacher, [3, 1, None], asked.numpy(), asked.numpy()))
    assert torch.isfinite(rehearsed)
    assert not torch.isclose(bare, rehearsed), "the first keypoint has a target now"
    blank = batch._replace(codes=torch.full((2, 3), -1), asked=torch.zeros(2, 3, dtype=torch.bool))
    assert float(loss(network, blank, Rehearsal(teacher, [3, 1, None], asked.numpy(), asked.numpy()))) == 0.0


FRAME = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
BOX = np.array([100.0, 80.0, 90.0, 70.0])


@pytest.mark.parametrize("size", [(256, 256), (288, 384)])
def test_labels_are_learned_in_the_pixels_that_the_predictor_answers_in(size: tuple[int, int]) -> None:
    """Labels of a frame, through stored crops into the network's pixels: where the predictor would find them."""
    label = np.array([[120.25, 95.5], [180.0, 140.0], [100.0, 80.0]])
    poses = make_poses(("a", "b", "c"), label[None, None], boxes=BOX[None, None], images=("a.png",))
    samples = gather_pose_samples(
        poses,
        _space(),
        input_size=max(size),
        context=1.0,
        side_canonical=False,
        reader=lambda *_: FRAME,
        aspect=size[0] / size[1],
        cutter=cut,
    )
    side, room = max(size), samples.crops.shape[-1]
    off = (room - side) // 2
    shown, margin = window(samples.crops[:, :, off : off + side, off : off + side], size)
    assert shown.shape == (1, 3, size[1], size[0])
    pixel = torch.from_numpy(samples.pixel)
    got = to_network(torch.from_numpy(samples.xy - off), pixel, margin)
    torch.testing.assert_close(from_network(got, pixel, margin).numpy(), samples.xy - off, atol=1e-3, rtol=0)
    exact = top_down_crop(FRAME, BOX, size)
    assert exact is not None
    want = (label - exact.offset) / exact.scale
    # stored crops end at whole pixels of the frame elsewhere
    assert np.abs(got[0].numpy() - want).max() * samples.pixel[0] < 1.0


def _space():  # type: ignore[no-untyped-def]
    from napari_superanimal.keypoints import space_from_names

    return space_from_names(("a", "b", "c"))


def test_a_network_of_tall_crops_sees_their_middle() -> None:
    torch.manual_seed(0)
    network = RTMPose(RtmConfig(0.33, 0.25, (96, 128), (6.0, 6.93)), 3)
    poses = make_poses(
        ("a", "b", "c"),
        np.array([[[[120.0, 95], [180, 140], [NAN, NAN]]]]),
        boxes=BOX[None, None],
        images=("a.png",),
    )
    samples = gather_pose_samples(
        poses,
        _space(),
        input_size=128,
        context=1.0,
        side_canonical=False,
        reader=lambda *_: FRAME,
        aspect=0.75,
        cutter=cut,
    )
    at, score, truth = predict(network, samples, Symmetry())
    assert at.shape == truth.shape == (1, 3, 2)
    assert np.isfinite(truth[0, :2]).all()
    found = np.isfinite(at).all(-1)
    # 96 of 128 px are seen, 16 to 112
    assert ((at[found][:, 0] > 15) & (at[found][:, 0] < 113)).all()
    assert (score >= 0).all()


@pytest.mark.parametrize("architecture", ["hrnet_w32", "rtmpose_s"])
def test_processes_share_a_batch(architecture: str, tmp_path: Path) -> None:
    """Through the wrapper of several processes the loss is the same, also of heads without offsets."""
    import torch.distributed as dist

    from napari_superanimal.training.distributed import Shard

    network = network_of(architecture, 3)
    images, points = torch.rand(1, 3, 256, 256) * 255, POINTS[1:]
    batch = Batch(images, points, CODES[1:], None, torch.ones(1))
    with torch.no_grad():
        alone = loss(network, batch, None)
        dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
        try:
            together = loss(Shard(network), batch, None)
        finally:
            dist.destroy_process_group()
    torch.testing.assert_close(together, alone)
