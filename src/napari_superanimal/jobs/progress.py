"""How long work tells where it stands and learns that it shall stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Progress:
    """One report of a running job.

    Attributes
    ----------
    done, total : int
        Units of work (frames, steps); `total` 0 when unknown.
    rate : float
        Units per second over the last seconds; 0 when not known yet.
    eta_s : float
        Seconds left; NaN when not known.
    message : str
        What is going on, for a person.
    values : dict
        Numbers worth plotting (loss, error).
    """

    done: int
    total: int
    rate: float = 0.0
    eta_s: float = float("nan")
    message: str = ""
    values: dict[str, Any] = field(default_factory=dict)


ProgressCallback = Callable[[Progress], None]


class Cancelled(Exception):
    """The user asked to stop; what was finished is kept."""


class CancelToken:
    """A flag that one thread sets and the work looks at between steps."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()


class Meter:
    """Turns counts into `Progress` with a rate over a sliding window and an ETA."""

    def __init__(self, total: int, start: int = 0, window_s: float = 10.0) -> None:
        self.total = total
        self._window = window_s
        self._marks: list[tuple[float, int]] = [(time.monotonic(), start)]

    def at(self, done: int, message: str = "", **values: Any) -> Progress:
        """Report that `done` units are finished by now."""
        now = time.monotonic()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] > self._window:
            self._marks.pop(0)
        (t0, n0), (t1, n1) = self._marks[0], self._marks[-1]
        rate = (n1 - n0) / (t1 - t0) if t1 > t0 else 0.0
        eta = (self.total - done) / rate if rate > 0 else float("nan")
        return Progress(done, self.total, rate, eta, message, values)


def duration(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"
