"""Several parts and several processes: the same gradients and the same loss curve as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_superanimal.training import distributed
from napari_superanimal.training.loop import LoopConfig, _gradients, run
from napari_superanimal.training.sampling import balanced_weights
from napari_superanimal.training.targets import pooled, pose_loss

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_superanimal.models.load import LoadedModel

pytestmark = pytest.mark.usefixtures("one_thread")

K, CELLS = 3, 6


class Heads(nn.Module):
    """Heatmaps and offsets that are weights themselves: gradients can be looked at per keypoint."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.heat = nn.Parameter(torch.randn(K, CELLS, CELLS, generator=generator))
        self.shift = nn.Parameter(torch.randn(2 * K, CELLS, CELLS, generator=generator))


def batch(part: int) -> tuple[Tensor, Tensor, Tensor]:
    """Targets of 4 samples; later parts define fewer keypoints, and none ever the last."""
    generator = torch.Generator().manual_seed(10 + part)
    heat = torch.rand(4, K, CELLS, CELLS, generator=generator)
    shift = torch.randn(4, K, 2, CELLS, CELLS, generator=generator)
    weight = torch.ones(4, K)
    weight[:, -1] = 0
    weight[: part + 1, 0] = 0
    return heat, shift, weight


def loss_of(network: Heads, parts: list[int]) -> Tensor:
    heat, shift, weight = (torch.cat(t) for t in zip(*(batch(p) for p in parts), strict=True))
    n = len(heat)
    return pose_loss(
        network.heat.expand(n, -1, -1, -1), network.shift.expand(n, -1, -1, -1), heat, shift, weight
    )


def test_accumulated_parts_are_one_batch_divided_by_the_mask_sum_of_all() -> None:
    whole, parts = Heads(), Heads()
    expected = loss_of(whole, [0, 1, 2])
    expected.backward()

    def draw(network: nn.Module, rng: np.random.Generator) -> Tensor:
        assert isinstance(network, Heads)
        part = next(turn)
        return loss_of(network, [part])

    turn = iter(range(3))
    value = _gradients(parts, draw, LoopConfig(accumulate=3), 0)
    assert value == pytest.approx(expected.item(), rel=1e-5)
    for name in ("heat", "shift"):
        one, several = getattr(whole, name).grad, getattr(parts, name).grad
        torch.testing.assert_close(several, one, rtol=1e-4, atol=1e-7)
    # a mean of the parts' own means would be another thing
    local = float(np.mean([loss_of(Heads(), [p]).item() for p in range(3)]))
    assert abs(local - expected.item()) > 1e-3


def test_undefined_keypoints_have_exactly_no_gradient_when_accumulated() -> None:
    network = Heads()
    turn = iter(range(3))
    _gradients(network, lambda net, rng: loss_of(net, [next(turn)]), LoopConfig(accumulate=3), 0)
    assert (network.heat.grad[-1] == 0).all()
    assert (network.shift.grad[-2:] == 0).all()
    assert (network.heat.grad[:-1].abs().sum((1, 2)) > 0).all()


def test_nothing_defined_at_all_is_no_step() -> None:
    network = Heads()
    heat, shift, weight = batch(0)
    with pooled() as count:
        loss = pose_loss(
            network.heat.expand(4, -1, -1, -1), network.shift.expand(4, -1, -1, -1), heat, shift, 0 * weight
        )
    loss.backward()
    assert count.total == 0
    assert (network.heat.grad == 0).all()


def test_accumulating_one_batch_is_no_accumulating() -> None:
    def draw(network: nn.Module, rng: np.random.Generator) -> Tensor:
        return (network.weight - float(rng.random())).square().sum()

    one = run(nn.Linear(3, 1), draw, LoopConfig(steps=5, seed=2))
    again = run(nn.Linear(3, 1), draw, LoopConfig(steps=5, seed=2, accumulate=1))
    assert isinstance(one, nn.Linear)
    assert isinstance(again, nn.Linear)
    assert one.weight.shape == again.weight.shape


def test_frozen_statistics_stay(tiny_model: Callable[..., LoadedModel]) -> None:
    def draw(network: nn.Module, rng: np.random.Generator) -> Tensor:
        return (
            network(torch.from_numpy(rng.standard_normal((2, 3, 32, 32), np.float32)))
            .heatmaps.square()
            .mean()
        )

    for frozen in (True, False):
        network = tiny_model().pose
        before = {k: v.clone() for k, v in network.state_dict().items() if "running_mean" in k}
        trained = run(network, draw, LoopConfig(steps=2, frozen_statistics=frozen))
        same = all(torch.equal(trained.state_dict()[k], v) for k, v in before.items())
        assert same == frozen


def test_datasets_are_drawn_equally_often() -> None:
    weights = balanced_weights(("a",) * 9 + ("b",) * 3)
    assert weights[:9].sum() == pytest.approx(weights[9:].sum())
    assert weights.mean() == pytest.approx(1)


TRAIN = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from napari_superanimal.models.networks import NetworkConfig, PoseNet
from napari_superanimal.training import distributed
from napari_superanimal.training.augment import Augmentation
from napari_superanimal.training.loop import LoopConfig, run
from napari_superanimal.training.pose_stage import pose_batches
from napari_superanimal.training.samples import gather_pose_samples
from napari_superanimal.keypoints import space_from_names
from napari_superanimal.poses import make_poses
import numpy as np

rng = np.random.default_rng(0)
n, k = 10, 3
xy = rng.uniform(15, 40, (n, 1, k, 2))
visibility = np.where(rng.random((n, 1, k)) < 0.3, 0, 2)
visibility[:, :, 0], visibility[:, :, 2], visibility[:3, :, 1] = 2, -1, -1
xy[visibility < 1] = np.nan
poses = make_poses("abc", xy, visibility=visibility, images=[f"{i}.png" for i in range(n)])
pictures = rng.integers(0, 255, (n, 54, 54, 3), np.uint8)
samples = gather_pose_samples(
    poses, space_from_names(tuple("abc")), input_size=32, context=1.2, side_canonical=False,
    reader=lambda poses, row: pictures[row],
)
config = NetworkConfig(sys.argv[2], json.loads(sys.argv[3]), 8, 4, 32)
told = []
with distributed.together():
    # every process starts elsewhere: the first one's weights count
    torch.manual_seed(7 + distributed.rank())
    network = PoseNet(config, k)
    swap = np.arange(k)
    accumulate = int(sys.argv[4])
    trained = run(
        network,
        pose_batches(samples, config, Augmentation(), 5, swap=swap),
        LoopConfig(steps=6, batch_size=5, seed=3, accumulate=accumulate),
        on_progress=lambda p: told.append(p.values["loss"]),
    )
    if distributed.is_main():
        gradient = network.heatmaps.weight.grad
        weights = {name: value.double().sum().item() for name, value in trained.state_dict().items()}
        Path(sys.argv[1]).write_text(json.dumps({
            "loss": told, "weights": weights, "undefined": gradient[2].abs().max().item(),
            "defined": gradient[:2].abs().max().item(),
        }))
    print("said once")
"""
NARROW = json.dumps({"channels": [8, 8, 16, 16], "stem_width": 8})


def train_with(processes: int, out: Path, backbone: str, extra: str, accumulate: int) -> tuple[dict, str]:
    program = out.with_suffix(".py")
    program.write_text(TRAIN, encoding="utf-8")
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words = [*command, str(program), str(out), backbone, extra, str(accumulate)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text(encoding="utf-8")), done.stdout


@pytest.mark.parametrize(
    ("backbone", "extra", "accumulate"), [("resnet10t", NARROW, 1), ("mobilenetv4_conv_small", "{}", 2)]
)
def test_two_processes_give_the_loss_curve_of_one(
    tmp_path: Path, backbone: str, extra: str, accumulate: int
) -> None:
    """Five samples for two processes: also shares of unequal size."""
    one, _ = train_with(1, tmp_path / "one.json", backbone, extra, accumulate)
    two, said = train_with(2, tmp_path / "two.json", backbone, extra, accumulate)
    assert len(one["loss"]) == 6
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-3)
    assert two["undefined"] == one["undefined"] == 0
    assert two["defined"] > 0
    # Adam makes steps out of the rounding of weights that nothing pulls at: a deep network's many are left out
    for name, value in one["weights"].items() if extra == NARROW else ():
        assert two["weights"][name] == pytest.approx(value, rel=2e-2, abs=2e-2), name
    assert said.count("said once") == 1


def test_without_a_launcher_there_is_one_process() -> None:
    assert distributed.world_size() == 1
    assert distributed.is_main()
    with distributed.together():
        assert distributed.world_size() == 1
    assert distributed.any_process(True)
    assert not distributed.any_process(False)
