"""Batch norms folded into the convolutions before them: the same numbers but for rounding, less work."""

from __future__ import annotations

import copy
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Leaves(fx.Tracer):
    """Sees single layers: what they do besides, as timm's (padding, an activation), stays inside."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        layer = isinstance(m, nn.Conv2d | nn.BatchNorm2d | FrozenBatchNorm2d)
        return layer or super().is_leaf_module(m, module_qualified_name)


@torch.no_grad()
def fold_batch_norms(network: nn.Module) -> int:
    """Fold, in place, every batch norm that alone reads a convolution's output; what it does besides stays.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode. `torch.fx` must be able to trace it: no branches that depend on values.

    Returns
    -------
    int
        How many were folded.
    """
    modules = dict(network.named_modules())
    nodes = list(_Leaves().trace(network).nodes)
    calls = Counter(node.target for node in nodes if node.op == "call_module")
    folded = 0
    for node in nodes:
        if node.op != "call_module" or not _is_norm(modules[str(node.target)]):
            continue
        before = node.args[0]
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        conv, norm = modules[str(before.target)], modules[str(node.target)]
        if not isinstance(conv, nn.Conv2d) or calls[node.target] != 1 or calls[before.target] != 1:
            continue
        network.set_submodule(str(before.target), _folded(conv, norm))
        network.set_submodule(str(node.target), _rest(norm))
        folded += 1
    return folded


def _is_norm(module: nn.Module) -> bool:
    if isinstance(module, nn.BatchNorm2d):
        return module.running_var is not None
    return isinstance(module, FrozenBatchNorm2d)


def _folded(conv: nn.Conv2d, norm: Any) -> nn.Conv2d:
    if isinstance(norm, nn.BatchNorm2d):
        return fuse_conv_bn_eval(conv.eval(), norm.eval())
    buffers: Mapping[str, torch.Tensor] = dict(norm.named_buffers())
    weight, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        buffers["running_mean"],
        buffers["running_var"],
        norm.eps,
        buffers["weight"],
        buffers["bias"],
    )
    made = copy.deepcopy(conv)
    made.weight, made.bias = weight, bias
    return made.eval()


def _rest(norm: nn.Module) -> nn.Module:
    """What a norm does besides: timm's carry the activation behind them."""
    return nn.Sequential(*(child for child in norm.children() if not isinstance(child, nn.Identity)))
