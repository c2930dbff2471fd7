"""How many processor cores this process may use."""

from __future__ import annotations

import psutil

_limit: int | None = None


def cores() -> int:
    """Cores to use: all of the machine, or those that `limit_cores` leaves."""
    return _limit or psutil.cpu_count() or 1


def limit_cores(count: int | None) -> None:
    """Use `count` cores from now on, because other processes use the rest; None for all."""
    global _limit
    _limit = None if count is None else max(1, count)
