"""What the benchmarks share: where results go, what is said about the machine, tables."""

from __future__ import annotations

import json
import math
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_superanimal.jobs.environment import package_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

RESULTS = Path(__file__).parent / "results"
IMAGES = Path(__file__).parents[1] / "docs" / "images"
PACKAGES = ("torch", "timm", "numpy", "av", "napari", "PyQt6", "vispy")


def machine() -> dict[str, Any]:
    """Cores and versions; nothing that tells whose machine it is."""
    found: dict[str, Any] = {
        "cores": os.cpu_count(),
        "cpu": cpu_model(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        if (version := package_version(name)) is not None:
            found[name] = version
    return found


def cpu_model() -> str:
    """What the processor calls itself, empty where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def load_average() -> float | None:
    """Programs that wanted a core during the last minute, this one included; None on Windows."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def summary(values: Iterable[float], digits: int = 2) -> dict[str, float]:
    """Median and range of repeated measurements."""
    v = np.array(list(values), np.float64)
    return {
        "median": round(float(np.median(v)), digits),
        "min": round(float(v.min()), digits),
        "max": round(float(v.max()), digits),
    }


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write ``results/<name>.json``; NaN becomes null."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(plain({**result, "machine": machine()}), indent=1) + "\n", encoding="utf-8")
    return path


def plain(value: Any) -> Any:
    """Plain Python without NaN, numbers with at most six decimals."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if math.isfinite(value) else None
    return value


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A markdown table; None is an empty cell."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        lines.append("| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |")
    return "\n".join(lines)


def number(value: float | None, digits: int = 2) -> str:
    """A number for a table, a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def evenly(total: int, count: int) -> npt.NDArray[np.int64]:
    """At most so many of the rows 0 to total - 1, evenly spread."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))
