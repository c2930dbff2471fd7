"""Networks in bfloat16 that take and give float32."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


def as_float(value: Any) -> Any:
    """Tensors in tuples, lists and dictionaries as float32."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return type(value)((k, as_float(v)) for k, v in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(as_float(v) for v in value))
    if isinstance(value, list | tuple):
        return type(value)(as_float(v) for v in value)
    return value


def as_half(value: Any) -> Any:
    """Tensors in tuples and lists as bfloat16."""
    if isinstance(value, Tensor):
        return value.bfloat16() if value.is_floating_point() else value
    if isinstance(value, list | tuple):
        return type(value)(as_half(v) for v in value)
    return value


class Half(nn.Module):
    """A network in bfloat16 whose last layers compute in float32: rounded scores would make cells equal.

    Parameters
    ----------
    network : nn.Module
        A copy is made of it.
    heads : sequence of str
        Names of the modules that stay in float32.
    """

    def __init__(self, network: nn.Module, heads: Sequence[str] = ()) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).bfloat16()
        for name in heads:
            head = self.network.get_submodule(name)
            # not from bfloat16 back to float32: that would keep the rounding of the weights
            head.load_state_dict(network.get_submodule(name).state_dict(), assign=True)
            head.register_forward_pre_hook(_inputs_as_float)

    def forward(self, *inputs: Any) -> Any:
        return as_float(self.network(*as_half(inputs)))


def _inputs_as_float(_: nn.Module, inputs: tuple[Any, ...]) -> Any:
    return as_float(inputs)
