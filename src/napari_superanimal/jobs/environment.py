"""Which versions and which machine a result comes from, and what the process has used."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: What a result may depend on.
PACKAGES = ("napari-superanimal", "torch", "torchvision", "timm", "numpy", "pandas", "tables", "av", "napari")


def package_version(name: str) -> str | None:
    """Installed version, None when absent. Imports nothing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Versions of Python, the system and the packages a result may depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        installed = package_version(name)
        if installed is not None:
            found[name] = installed
    return found


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, MB; NaN where the system does not tell."""
    try:
        # Linux: getrusage would give a process the peak of the one that started it
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    except (OSError, IndexError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        peak = getattr(psutil.Process().memory_info(), "peak_wset", float("nan"))
        return float(peak) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # kilobytes on Linux, bytes on macOS
    return float(peak) / 1e6 if sys.platform == "darwin" else float(peak) * 1024 / 1e6
