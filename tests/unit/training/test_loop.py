"""The loop: resuming continues exactly, and trouble is told in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Progress
from napari_superanimal.training.loop import LoopConfig, learning_rate, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = LoopConfig(steps=11, batch_size=4, learning_rate=0.05, average=0.9, validate_every=4, seed=5)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 3))


def loss(net: nn.Module, rng: np.random.Generator) -> torch.Tensor:
    return (net(torch.from_numpy(rng.standard_normal((4, 3, 8, 8), dtype=np.float32))) - 1).square().mean()


def test_it_learns_and_reports() -> None:
    told: list[Progress] = []
    seen: list[bool] = []

    def validate(net: nn.Module) -> dict[str, float]:
        seen.append(net.training)
        return {"val_error_px": 3.0}

    start = network()
    out = run(start, loss, CONFIG, validate=validate, on_progress=told.append, message="busy")
    assert not out.training
    assert [p.done for p in told] == list(range(1, 12))
    assert all(p.total == 11 and p.message == "busy" for p in told)
    assert [p.values["step"] for p in told] == list(range(1, 12))
    assert told[-1].values["loss"] < told[0].values["loss"]
    # validated after every fourth step and at the end, the average and not the network in training
    assert [p.done for p in told if "val_error_px" in p.values] == [4, 8, 11]
    assert seen == [False] * 3


@pytest.mark.parametrize("stop", [1, 4, 10])
def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path: Path, stop: int) -> None:
    whole = run(network(), loss, CONFIG)
    token, checkpoint = CancelToken(), tmp_path / "c.pt"

    def cancel(progress: Progress) -> None:
        if progress.done == stop:
            token.cancel()

    with pytest.raises(Cancelled, match=f"after {stop} of 11"):
        run(network(), loss, CONFIG, checkpoint=checkpoint, token=token, on_progress=cancel)
    # whatever another network looks like at the start, the checkpoint has it all
    torch.manual_seed(99)
    other = network()
    nn.init.normal_(other[0].weight)
    told: list[Progress] = []
    resumed = run(other, loss, CONFIG, checkpoint=checkpoint, resume=True, on_progress=told.append)
    assert [p.done for p in told] == list(range(stop + 1, 12))
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_a_finished_run_resumed_is_finished(tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.pt"
    whole = run(network(), loss, CONFIG, checkpoint=checkpoint)
    again = run(network(), loss, CONFIG, checkpoint=checkpoint, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_without_resume_an_old_checkpoint_is_not_looked_at(tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.pt"
    checkpoint.write_bytes(b"rubbish")
    run(network(), loss, CONFIG, checkpoint=checkpoint)
    assert checkpoint.stat().st_size > 1000


@pytest.mark.parametrize("content", ["rubbish", "empty", "other keys", "other network", "cut"])
def test_an_unreadable_checkpoint_is_named_and_kept(tmp_path: Path, content: str) -> None:
    checkpoint = tmp_path / "c.pt"
    if content in ("rubbish", "empty"):
        checkpoint.write_bytes(b"rubbish" if content == "rubbish" else b"")
    elif content == "other keys":
        torch.save({"step": 3}, checkpoint)
    else:
        run(
            network() if content == "cut" else nn.Sequential(nn.Conv2d(3, 1, 3)),
            loss,
            CONFIG,
            checkpoint=checkpoint,
        )
        if content == "cut":
            checkpoint.write_bytes(checkpoint.read_bytes()[:-2000])
    before = checkpoint.read_bytes()
    with pytest.raises(UserError, match=r"cannot resume.*--resume") as caught:
        run(network(), loss, CONFIG, checkpoint=checkpoint, resume=True)
    assert caught.value.path == checkpoint
    assert "\n" not in str(caught.value)
    assert checkpoint.read_bytes() == before


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    """A checkpoint from somebody else is data, never a program."""

    class Evil:
        def __reduce__(self) -> tuple:
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"network": Evil()}, tmp_path / "c.pt")
    with pytest.raises(UserError, match="cannot resume"):
        run(network(), loss, CONFIG, checkpoint=tmp_path / "c.pt", resume=True)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path, value: float) -> None:
    def bad(net: nn.Module, rng: np.random.Generator) -> torch.Tensor:
        bad.calls += 1  # type: ignore[attr-defined]
        return loss(net, rng) * (value if bad.calls == 7 else 1)  # type: ignore[attr-defined]

    bad.calls = 0  # type: ignore[attr-defined]
    checkpoint = tmp_path / "c.pt"
    with pytest.raises(UserError, match=r"step 6.*smaller learning rate"):
        run(network(), bad, CONFIG, checkpoint=checkpoint, validate=lambda _: {})
    # what was saved before is still good
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["step"] == 4
    assert all(v.isfinite().all() for v in saved["average"].values())


def test_the_learning_rate_warms_up_and_comes_down() -> None:
    config = LoopConfig(steps=1000, learning_rate=1.0)
    rates = [learning_rate(s, config) for s in range(1000)]
    assert np.argmax(rates) in (49, 50)
    assert max(rates) == pytest.approx(1.0)
    assert (np.diff(rates[:50]) > 0).all()
    assert (np.diff(rates[50:]) < 0).all()
    assert rates[-1] == pytest.approx(0.01, rel=0.01)
