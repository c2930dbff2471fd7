"""Networks run by OpenVINO on the CPU (extra ``openvino``)."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_superanimal.errors import UserError
from napari_superanimal.inference.cores import cores
from napari_superanimal.inference.runtime.clock import elsewhere
from napari_superanimal.models.zoo import cache_home

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LOG = logging.getLogger(__name__)

#: Part of the names of converted networks; to be raised when the conversion changes.
FORMAT = 1


class _Flat(nn.Module):
    """Gives a plain tuple of tensors, as a traced network must."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(_tensors(self.network(*inputs)))


class _OneList(nn.Module):
    """Takes several tensors for a module that wants a list of them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(list(inputs))


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in dictionaries, lists and tuples, in order."""
    if value is None or isinstance(value, Tensor):
        return [] if value is None else [value]
    values = value.values() if isinstance(value, dict) else value
    return [tensor for each in values for tensor in _tensors(each)]


def _like(value: Any, tensors: Iterator[Tensor]) -> Any:
    """These tensors in dictionaries, lists and tuples like those of `value`."""
    if value is None or isinstance(value, Tensor):
        return None if value is None else next(tensors)
    if isinstance(value, dict):
        return type(value)((k, _like(v, tensors)) for k, v in value.items())
    parts = [_like(each, tensors) for each in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


class OpenVinoNetwork(nn.Module):
    """A network converted once and kept in the user's cache. Safe to call from several threads at once.

    Every call computes in one thread of OpenVINO's, as many calls at a time as there are cores: whole batches side by
    side use the cores better than one batch that is split up.

    Parameters
    ----------
    network : nn.Module
        On the CPU, in float32, in evaluation mode.
    example : Tensor or list of Tensor
        What it takes; the first axis and those in `free` may have any length.
    precision : {"fp32", "bf16"}
    free : sequence of int
        Axes, besides the first, that change.
    """

    def __init__(
        self,
        network: nn.Module,
        example: Tensor | list[Tensor],
        precision: str,
        *,
        free: Sequence[int] = (),
    ) -> None:
        super().__init__()
        import openvino

        examples = [each[:1].clone().contiguous() for each in _tensors(example)]
        whole = network if isinstance(example, Tensor) else _OneList(network)
        with torch.inference_mode():
            self._output = _like(whole(*examples), iter(lambda: torch.empty(0), None))
        shapes = [
            [-1 if axis in (0, *free) else n for axis, n in enumerate(example.shape)] for example in examples
        ]
        core = openvino.Core()
        model = _converted(core, _Flat(whole), examples, shapes)
        # pictures come with channels last; the conversion belongs to the network's first step then
        self._last = [example.dim() == 4 for example in examples]
        steps = openvino.preprocess.PrePostProcessor(model)
        for i, last in enumerate(self._last):
            if last:
                steps.input(i).tensor().set_layout(openvino.Layout("NHWC"))
                steps.input(i).model().set_layout(openvino.Layout("NCHW"))
        threads = cores()
        self._compiled = core.compile_model(
            steps.build(),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
                "NUM_STREAMS": threads,
                "INFERENCE_NUM_THREADS": threads,
                # other processes of ours may run beside this one: pinned, all would share the first cores
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._requests = threading.local()

    def forward(self, inputs: Any) -> Any:
        if not hasattr(self._requests, "request"):
            self._requests.request = self._compiled.create_infer_request()
        request = self._requests.request
        arrays = [
            np.ascontiguousarray((each.permute(0, 2, 3, 1) if last else each).numpy())
            for each, last in zip(_tensors(inputs), self._last, strict=True)
        ]
        with elsewhere():
            found = request.infer(arrays, share_inputs=True, share_outputs=True)
        # the next call writes into the same memory
        return _like(self._output, (torch.from_numpy(found[i].copy()) for i in range(len(found))))


def _converted(core: Any, network: nn.Module, examples: Sequence[Tensor], shapes: list[list[int]]) -> Any:
    """The network in OpenVINO's form, from the user's cache where it has been converted before."""
    folder = cache_home() / "openvino" / _digest(network, shapes)
    file = folder / "network.xml"
    if file.is_file():
        try:
            return core.read_model(file)
        except RuntimeError:  # damaged: convert anew
            shutil.rmtree(folder, ignore_errors=True)
    try:
        model = _convert(network, examples, shapes)
    except RuntimeError as error:
        raise UserError(
            f"OpenVINO cannot run this network ({str(error).strip().splitlines()[-1]})",
            remedy="use --runtime torch",
        ) from error
    try:
        _keep(model, folder)
    except (OSError, RuntimeError) as error:
        _LOG.info("the converted network is not kept: %s", error)
    return model


def _convert(network: nn.Module, examples: Sequence[Tensor], shapes: list[list[int]]) -> Any:
    # openvino.convert_model does the same, but reports its use to a server of its makers
    from openvino import PartialShape
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.no_grad():
        # torch advises its newer export, which does not give OpenVINO more
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, tuple(examples), check_trace=False)
        # all three must live until the conversion is done
        decoder = TorchScriptPythonDecoder(traced)
        front = FrontEndManager().load_by_framework("pytorch")
        loaded = front.load(decoder)
        for place, shape in zip(loaded.get_inputs(), shapes, strict=True):
            loaded.set_partial_shape(place, PartialShape(shape))
        model = front.convert(loaded)
    model.validate_nodes_and_infer_types()
    return model


def _keep(model: Any, folder: Path) -> None:
    """Write a converted network; another program may do the same at the same time."""
    import openvino

    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="new-", dir=folder.parent))
    try:
        openvino.save_model(model, made / "network.xml", compress_to_fp16=False)
        os.rename(made, folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        if not folder.is_dir():
            raise


def _digest(network: nn.Module, shapes: list[list[int]]) -> str:
    """A name for exactly this network, with its weights, converted by these versions."""
    import openvino

    digest = hashlib.sha256(repr((FORMAT, openvino.__version__, torch.__version__, shapes)).encode())
    digest.update(repr(network).encode())
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
