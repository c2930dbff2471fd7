"""Training on several processes: started by ``torchrun``, the same loss curve as one process.

Every process draws the same batch, from the same seed, and computes its share of it: `Shard` sends a part of the
images through the network and hands back the outputs of all. The loss is therefore that of the whole batch on every
process, with the mask sum of the whole batch; batch norm sees the whole batch, too. Gradients are summed before the
step, so that all processes keep the same weights. The first process alone validates, writes and talks.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from collections.abc import Iterator


def world_size() -> int:
    """Processes that train together; 1 without a group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this process writes files and reports."""
    return rank() == 0


def started_together() -> bool:
    """Whether a launcher (torchrun) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def together() -> Iterator[None]:
    """Join the other processes of the launcher; nothing happens without one.

    What all but the first process print is dropped, so that everything is said once.
    """
    if not started_together() or world_size() > 1:
        yield
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        with contextlib.ExitStack() as quiet:
            if not is_main():
                quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
                quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
            yield
    finally:
        dist.destroy_process_group()


@contextmanager
def own_folder(out: Path) -> Iterator[Path]:
    """Where this process writes: `out` for the first, for others a folder that is thrown away.

    Checkpoints in `out` are copied, so that all processes resume from the same state.
    """
    if is_main():
        yield out
        return
    with tempfile.TemporaryDirectory() as folder:
        mine = Path(folder) / out.name
        for path in out.rglob("*.checkpoint.pt") if out.is_dir() else ():
            (mine / path.relative_to(out)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, mine / path.relative_to(out))
        yield mine


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; all processes must ask."""
    if world_size() == 1:
        return flag
    seen = torch.tensor([float(flag)])
    dist.all_reduce(seen)
    return bool(seen.item() > 0)


def share_weights(network: nn.Module) -> None:
    """Give every process the first one's weights and statistics."""
    if world_size() > 1:
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, 0)


def sum_gradients(network: nn.Module) -> None:
    """Sum the gradients of all processes, in one message; a weight that the loss does not reach counts zero."""
    if world_size() == 1:
        return
    weights = [p for p in network.parameters() if p.requires_grad]
    flat = torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in weights])
    dist.all_reduce(flat)
    start = 0
    for p in weights:
        p.grad = flat[start : start + p.numel()].view_as(p).clone()
        start += p.numel()


class Shard(nn.Module):
    """A network of which every process computes a share of the batch; its outputs are those of the whole batch.

    Gradients reach the share only: `sum_gradients` makes them those of the whole batch.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        size, each = len(images), -(-len(images) // world_size())
        mine = images[rank() * each : (rank() + 1) * each]
        # every process computes as many rows, so that nobody waits for a message that never comes
        rows = torch.zeros((each, *images.shape[1:]), dtype=images.dtype).to(images)
        rows[: len(mine)] = mine
        with _counting(len(mine)):
            out = self.network(rows.contiguous(memory_format=torch.channels_last))
        return type(out)(*(None if part is None else _Gather.apply(part.float())[:size] for part in out))


class _Gather(torch.autograd.Function):
    """Rows of all processes, (world * n, ...); backward gives each process the gradient of its own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rows = len(rows)
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient[rank() * ctx.rows : (rank() + 1) * ctx.rows]


class _Sum(torch.autograd.Function):
    """Sum over all processes, forward and backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


#: Rows of the running forward pass that are no filling.
_ROWS: list[int] = []


@contextmanager
def _counting(real: int) -> Iterator[None]:
    _ROWS.append(real)
    try:
        yield
    finally:
        _ROWS.pop()


class JointBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batch of all processes, with timm's drop and activation after it.

    torch's own needs a GPU.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and world_size() > 1 and _ROWS:
            out = self._joint(input.float(), _ROWS[-1]).to(input.dtype)
        else:
            out = super().forward(input)
        for name in ("drop", "act"):
            if name in self._modules:
                out = getattr(self, name)(out)
        return out

    def _joint(self, x: Tensor, real: int) -> Tensor:
        count = _Sum.apply(x.new_tensor([float(real * x.shape[2] * x.shape[3])]))
        mean = _Sum.apply(x[:real].sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = _Sum.apply(centred[:real].square().sum((0, 2, 3))) / count
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                momentum = 0.1 if self.momentum is None else self.momentum
                unbiased = variance * count / (count - 1).clamp_min(1)
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(unbiased, momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        out = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        return out * self.weight[:, None, None] + self.bias[:, None, None] if self.affine else out


def join_statistics(network: nn.Module) -> None:
    """Let every batch norm of `network` see the batch of all processes; names and weights stay as they are."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = JointBatchNorm
        elif isinstance(module, _BatchNorm):
            raise TypeError(f"cannot train {type(module).__name__} on several processes")
