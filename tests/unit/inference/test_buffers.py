"""Memory that networks use again, in processes of their own: the setting is one of the whole process."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from napari_superanimal.inference.runtime import buffers

if TYPE_CHECKING:
    from collections.abc import Iterator

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")

#: Buffers of 1 MB, made and freed in a thread like those of a network; tells what it cost.
WORK = """
import resource, sys, threading
import numpy as np
import psutil
from napari_superanimal.inference.runtime.buffers import give_back, keep_buffers

def work():
    for _ in range(60):
        kept = [np.empty(1 << 20 + i % 3, np.uint8) for i in range(12)]
        for each in kept:
            each[::4096] = 1

def rss():
    return psutil.Process().memory_info().rss / 2**20

if sys.argv[1] == "keep":
    assert keep_buffers() and keep_buffers()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = threading.Thread(target=work)
thread.start()
thread.join()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
held = rss()
give_back()
print(faults, held - rss())
"""


def cost(mode: str) -> tuple[int, float]:
    """Page faults, and the MB that are given back at the end."""
    done = subprocess.run([sys.executable, "-c", WORK, mode], capture_output=True, text=True, check=True)
    faults, returned = done.stdout.split()
    return int(faults), float(returned)


@on_glibc
def test_buffers_are_kept_and_given_back() -> None:
    plain, _ = cost("plain")
    kept, returned = cost("keep")
    assert kept < plain / 4
    assert returned > 10


@pytest.fixture
def another_system(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def missing(*_: object) -> None:
        raise AssertionError("the library was loaded")

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", missing)
    buffers.keep_buffers.cache_clear()
    yield
    buffers.keep_buffers.cache_clear()


def test_other_systems_are_left_alone(another_system: None) -> None:
    assert not buffers.keep_buffers()
    buffers.give_back()
