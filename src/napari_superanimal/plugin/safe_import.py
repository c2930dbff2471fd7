"""Importing torch into a process that already draws."""

from __future__ import annotations

import importlib.util
import os
import sys


def import_torch() -> None:
    """Import torch; call it before anything else of the engine in a process with a viewer.

    On Linux torch brings triton, triton brings LLVM, and so do Mesa's drivers (software rendering, many AMD
    cards): when the window came first, triton binds to the driver's LLVM and the process dies on import.
    Loaded with RTLD_DEEPBIND it finds its own. Nothing of this matters where torch has no triton.
    """
    if "torch" not in sys.modules and hasattr(os, "RTLD_DEEPBIND") and importlib.util.find_spec("triton"):
        before = sys.getdlopenflags()
        sys.setdlopenflags(before | os.RTLD_DEEPBIND)
        try:
            importlib.import_module("triton")
        except ImportError:
            pass  # torch does without it too
        finally:
            sys.setdlopenflags(before)
    importlib.import_module("torch")
