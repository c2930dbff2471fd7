"""CPU seconds of a thread, together with those that a library spends for it in threads of its own."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_here = threading.local()


def busy_seconds() -> float:
    """CPU seconds until now of this thread and of what it waited for in `elsewhere`."""
    return time.thread_time() + getattr(_here, "seconds", 0.0)


@contextmanager
def elsewhere() -> Iterator[None]:
    """Count the time in here as work, although another thread does it: one thread at a time, without a break."""
    wall, own = time.perf_counter(), time.thread_time()
    try:
        yield
    finally:
        spent = (time.perf_counter() - wall) - (time.thread_time() - own)
        _here.seconds = getattr(_here, "seconds", 0.0) + max(spent, 0.0)
