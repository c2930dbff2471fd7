"""The training loop: averaged weights, cosine schedule, checkpoints, cancel and resume."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_superanimal.errors import UserError, first_line
from napari_superanimal.jobs.files import atomic_path
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Meter, ProgressCallback
from napari_superanimal.training import distributed
from napari_superanimal.training.targets import pooled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class LoopConfig:
    """Optimisation.

    Attributes
    ----------
    steps, batch_size : int
    learning_rate : float
        Peak; warmed up over the first 5 % of the steps (200 at most), then a cosine down to 1 %.
    backbone_rate : float
        Learning rate of the backbone relative to the rest's: less where it starts from pretrained weights.
    weight_decay : float
    average : float
        Decay of the moving average of the weights, which is what is validated and kept.
    validate_every : int
        Steps between validations.
    seed : int
    accumulate : int
        Batches per step: their gradients are added up before the weights move, in the memory of one.
    frozen_statistics : bool
        Batch norm keeps the statistics that the network came with (for few images; paper, Methods).
    precision : str
        "bf16" computes the network in bfloat16 (weights and losses stay float32): 1.6 times as fast on a
        processor that has it. "fp32" is exact.
    """

    steps: int = 2000
    batch_size: int = 16
    learning_rate: float = 2e-3
    backbone_rate: float = 1.0
    weight_decay: float = 0.02
    average: float = 0.998
    validate_every: int = 250
    seed: int = 0
    accumulate: int = 1
    frozen_statistics: bool = False
    precision: str = "fp32"


def learning_rate(step: int, config: LoopConfig) -> float:
    """Learning rate of a step."""
    warm = max(1, min(200, config.steps // 20))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, config.steps - warm)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def run(
    network: nn.Module,
    batch_loss: Callable[[nn.Module, np.random.Generator], Tensor],
    config: LoopConfig,
    *,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    on_progress: ProgressCallback | None = None,
    token: CancelToken | None = None,
    message: str = "training",
) -> nn.Module:
    """Train and return the averaged network, in evaluation mode.

    Parameters
    ----------
    batch_loss : callable
        Draws a batch with the generator given and returns its loss. Randomness depends on seed and step only,
        so that a resumed run draws what an uninterrupted one would have drawn.
    validate : callable
        Figures of a network on held-out data, reported as progress values.
    checkpoint : Path
        Where state is saved at every validation, at the end and when cancelled.

    Raises
    ------
    Cancelled
        After the state was saved.
    UserError
        If `resume` is asked for and the checkpoint cannot be read or does not fit, or if the loss is not finite.
    """
    torch.manual_seed(config.seed)
    distributed.share_weights(network)
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(
        _groups(network, config), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99)
    )
    first = 0
    if resume and checkpoint is not None and checkpoint.is_file():
        first = _restore(checkpoint, network, average, optimizer)
    worker = network
    if distributed.world_size() > 1:
        distributed.join_statistics(network)
        worker = distributed.Shard(network)
    meter = Meter(config.steps, start=first)
    smooth: float | None = None

    def save(step: int) -> None:
        if checkpoint is not None and distributed.is_main():
            state: dict[str, Any] = {
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
            }
            with atomic_path(checkpoint) as temporary:
                torch.save(state, temporary)

    network.train()
    if config.frozen_statistics:
        _freeze_statistics(network)
    for step in range(first, config.steps):
        if distributed.any_process(token is not None and token.cancelled):
            save(step)
            raise Cancelled(f"stopped after {step} of {config.steps} steps")
        for group in optimizer.param_groups:
            group["lr"] = group.get("rate", 1.0) * learning_rate(step, config)
        optimizer.zero_grad(set_to_none=True)
        value = _gradients(worker, batch_loss, config, step)
        distributed.sum_gradients(network)
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        if not math.isfinite(value):
            raise UserError(
                f"training went wrong at step {step}: the loss is not a number",
                remedy="start again with a smaller learning rate",
            )
        smooth = value if smooth is None else 0.98 * smooth + 0.02 * value
        _average(average, network, min(config.average, (step + 1) / (step + 10)))
        values: dict[str, Any] = {"step": step + 1, "loss": smooth}
        last = step + 1 == config.steps
        if (
            validate is not None
            and distributed.is_main()
            and (last or (step + 1) % config.validate_every == 0)
        ):
            values |= validate(average)
            save(step + 1)
        elif last:
            save(step + 1)
        if on_progress is not None and distributed.is_main():
            on_progress(meter.at(step + 1, message, **values))
    return average.eval()


def _groups(network: nn.Module, config: LoopConfig) -> list[dict[str, Any]]:
    """Weights with their learning rates relative to the schedule's."""
    # one group, in the network's order: what checkpoints hold that were written before there were rates
    if config.backbone_rate == 1:
        return [{"params": list(network.parameters()), "rate": 1.0}]
    named = list(network.named_parameters())
    groups = []
    for inside, rate in ((True, config.backbone_rate), (False, 1.0)):
        params = [p for name, p in named if (".backbone." in f".{name}") == inside]
        groups.append({"params": params, "rate": rate})
    return groups


def _gradients(
    network: nn.Module,
    batch_loss: Callable[[nn.Module, np.random.Generator], Tensor],
    config: LoopConfig,
    step: int,
) -> float:
    """Fill in the gradients of one step and give its loss."""
    if config.accumulate == 1:
        loss = batch_loss(network, np.random.default_rng((config.seed, step)))
        loss.backward()
        return float(loss.detach())
    value = 0.0
    with pooled() as count:
        for part in range(config.accumulate):
            loss = batch_loss(network, np.random.default_rng((config.seed, step, part)))
            loss.backward()
            value += float(loss.detach())
    # losses without a mask are means already
    divisor = max(count.total, 1.0) if count.total else float(config.accumulate)
    for weight in network.parameters():
        if weight.grad is not None:
            weight.grad /= divisor
    return value / divisor


def _freeze_statistics(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def _restore(path: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
    except Exception as error:
        raise UserError(
            f"cannot resume from this checkpoint ({first_line(error)})",
            path=path,
            remedy="start without --resume, or use the settings the run was started with",
        ) from error
