"""Looking at an installation: what is there, what is wrong, what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.environment import package_version, versions

if TYPE_CHECKING:
    from collections.abc import Callable

State = Literal["ok", "note", "problem"]

#: Free space below which saving models and long predictions becomes doubtful.
LOW_DISK_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
        What: "torch", "display", ...
    state : str
        "ok"; "note": works, but worth knowing; "problem": predictions or the command line do not work.
    text : str
        What was found.
    remedy : str
        What to do; empty when nothing.
    """

    name: str
    state: State
    text: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data for a file."""
        return asdict(self)


def examine(device: str = "auto") -> list[Finding]:
    """Look at everything; one broken part never hides the others.

    Parameters
    ----------
    device : str
        The device that the user wants: "auto", "cpu", "cuda", "mps".
    """
    checks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("versions", _versions),
        ("torch", lambda: _torch(device)),
        ("video", _video),
        ("models", _models),
        ("disk", _disk),
        ("window", _window),
    ]
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings += check()
        except UserError as error:
            findings.append(Finding(name, "problem", error.problem, error.remedy))
        except Exception as error:
            findings.append(
                Finding(name, "problem", f"{type(error).__name__}: {error}", "reinstall napari-superanimal")
            )
    return findings


def _versions() -> list[Finding]:
    text = ", ".join(f"{name} {number}" for name, number in versions().items())
    return [Finding("versions", "ok", text)]


def _torch(device: str) -> list[Finding]:
    import psutil
    import torch

    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    threads = torch.get_num_threads()
    memory = psutil.virtual_memory()
    found = [
        Finding(
            "cpu",
            "ok",
            f"{allowed} of {os.cpu_count()} logical cores usable, {threads} torch threads, "
            f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB memory free",
        )
    ]
    if threads > allowed:
        found.append(
            Finding(
                "threads",
                "note",
                f"torch uses {threads} threads on {allowed} cores, which is slow",
                f"set OMP_NUM_THREADS={allowed}",
            )
        )
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    names = [name for name, there in usable.items() if there]
    if usable["cuda"]:
        names[names.index("cuda")] = f"cuda ({torch.cuda.get_device_name(0)})"
    if device != "auto" and not usable[device]:
        found.append(
            Finding(
                "device",
                "problem",
                f"{device} is not available; found {', '.join(names)}",
                "use --device auto, or install the build of torch for your accelerator",
            )
        )
    else:
        found.append(Finding("device", "ok", ", ".join(names)))
    return found


def _video() -> list[Finding]:
    import av

    wanted = ("h264", "hevc", "mpeg4", "mjpeg", "vp9", "av1")
    readable = [name for name in wanted if _has_codec(av, name, "r")]
    writable = [name for name in ("libx264", "mpeg4") if _has_codec(av, name, "w")]
    if "h264" not in readable or not writable:
        return [
            Finding(
                "video",
                "problem",
                f"PyAV {av.__version__} reads {', '.join(readable) or 'nothing'}, "
                f"writes {', '.join(writable) or 'nothing'}",
                "reinstall PyAV from its wheel: pip install --force-reinstall av",
            )
        ]
    return [Finding("video", "ok", f"reads {', '.join(readable)}; writes {', '.join(writable)}")]


def _has_codec(av: Any, name: str, mode: str) -> bool:
    try:
        av.Codec(name, mode)
    except Exception:  # PyAV's own error type moved between versions
        return False
    return True


def _models() -> list[Finding]:
    from napari_superanimal.jobs.model_files import broken_models, verify_model
    from napari_superanimal.models.zoo import list_detectors, list_models

    found = []
    references = [reference for reference in (*list_models(), *list_detectors()) if reference.here]
    for reference in references:
        name = f"model {reference.card.name}"
        bad = [f"{file} {state}" for file, state in verify_model(reference).items() if state != "ok"]
        if bad:
            remedy = "reinstall napari-superanimal" if reference.shipped else "import the model again"
            found.append(Finding(name, "problem" if reference.shipped else "note", ", ".join(bad), remedy))
        else:
            found.append(Finding(name, "ok", f"weights verified, {reference.folder}"))
    for folder, problem in broken_models().items():
        found.append(
            Finding(f"model {folder}", "note", problem, "remove the folder or import the model again")
        )
    if not references:
        found.append(Finding("models", "problem", "no models found", "reinstall napari-superanimal"))
    return found


def _disk() -> list[Finding]:
    from napari_superanimal.jobs.outputs import check_folder
    from napari_superanimal.models.zoo import models_home

    home = models_home()
    try:
        check_folder(home)
    except UserError as error:
        return [
            Finding(
                "models folder",
                "note",
                f"{home}: {error.problem}; fine-tuned models cannot be added to the list",
                "set SUPERANIMAL_HOME to a folder that you can write",
            )
        ]
    found = [Finding("models folder", "ok", str(home))]
    for folder in dict.fromkeys((home, Path.cwd())):
        free = shutil.disk_usage(folder).free
        text = f"{free / 1e9:.1f} GB free at {folder}"
        if free < LOW_DISK_BYTES:
            found.append(Finding("disk", "note", text, "free space before long runs"))
        else:
            found.append(Finding("disk", "ok", text))
    return found


def _window() -> list[Finding]:
    found = []
    if installed := package_version("napari"):
        found.append(Finding("napari", "ok", installed))
    bindings = qt_bindings()
    if bindings:
        found.append(
            Finding("Qt", "ok", ", ".join(f"{n} {package_version(n) or ''}".strip() for n in bindings))
        )
    if len(bindings) > 1:
        found.append(
            Finding(
                "Qt", "note", "several Qt bindings are installed", "keep one, they can disturb each other"
            )
        )
    problem = window_problem()
    if problem is None:
        shown = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY") or "native"
        return [*found, Finding("display", "ok", shown)]
    text, remedy = problem
    return [*found, Finding("window", "note", f"{text}: napari cannot open here, commands work", remedy)]


def qt_bindings() -> list[str]:
    """Qt bindings that are installed; imports none."""
    return [name for name in ("PyQt6", "PySide6", "PyQt5", "PySide2") if find_spec(name) is not None]


def window_problem() -> tuple[str, str] | None:
    """Why napari's window cannot open here, and what to do; None when it can."""
    if package_version("napari") is None:
        return "napari is not installed", "pip install 'napari-superanimal[all]'"
    if not qt_bindings():
        return "no Qt binding is installed", "pip install 'napari-superanimal[all]'"
    if not display_available():
        return "there is no display", "use a desktop, X forwarding, or put `xvfb-run -a` before the command"
    return None


def display_available() -> bool:
    """Whether a window can be opened, as far as the environment tells."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
