"""The ways to run a network that this computer has."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import torch

from napari_superanimal.errors import UserError


@dataclass(frozen=True)
class Engine:
    """What runs a network.

    Attributes
    ----------
    runtime : {"torch", "openvino"}
    precision : {"fp32", "bf16"}
        Of the arithmetic; what goes in and comes out is float32.
    """

    runtime: str = "torch"
    precision: str = "fp32"

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision}"


#: What the reference computes with; the others are measured against it.
EXACT = Engine()

#: All of them, the fastest first as a rule: where two are equally fast, the first is taken.
ENGINES = (Engine("openvino", "bf16"), Engine("torch", "bf16"), Engine("openvino"), EXACT)


def has_openvino() -> bool:
    """Whether the extra ``openvino`` is installed."""
    return importlib.util.find_spec("openvino") is not None


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself: elsewhere it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def engines(device: torch.device, runtime: str = "auto", precision: str = "auto") -> tuple[Engine, ...]:
    """Engines of this computer that fit what was asked for, in the order of `ENGINES`.

    An engine that was named in full is given even where the device is slow with it.

    Raises
    ------
    UserError
        If there is none.
    """
    if runtime == "openvino" and device.type != "cpu":
        raise UserError(
            f"OpenVINO runs on the CPU here, not on {device.type}",
            remedy="use --device cpu or --runtime torch",
        )
    if runtime == "openvino" and not has_openvino():
        raise UserError(
            "OpenVINO is not installed",
            remedy="run `pip install openvino`, or leave --runtime out",
        )
    found = []
    for engine in ENGINES:
        if runtime not in ("auto", engine.runtime) or precision not in ("auto", engine.precision):
            continue
        named = engine == Engine(runtime, precision)
        if engine.runtime == "openvino" and (device.type != "cpu" or not has_openvino()):
            continue
        if engine.precision == "bf16" and not named and not has_bf16(device):
            continue
        found.append(engine)
    # bf16 on a device that has none, asked for without a runtime: torch can do it everywhere
    return tuple(found) or (Engine("torch", precision),)


def first_engine(device: torch.device, runtime: str = "auto", precision: str = "auto") -> Engine:
    """The engine without a self-test: torch and float32 unless something else was asked for.

    Raises
    ------
    UserError
        If what was asked for is not here.
    """
    chosen = Engine("torch" if runtime == "auto" else runtime, "fp32" if precision == "auto" else precision)
    engines(device, chosen.runtime, chosen.precision)
    return chosen
