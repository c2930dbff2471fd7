"""Where individuals may have been exchanged, as spans of frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

#: From this risk on, a frame is worth a look.
RISKY = 0.5


class RiskLog:
    """Where individuals may have been exchanged: frames with a swap risk of `RISKY` or more, as spans."""

    def __init__(self, individuals: Sequence[str]) -> None:
        self._individuals = tuple(individuals)
        self._spans: list[dict[str, Any]] = []
        self._open = False
        self.frames = 0

    def add(self, frames: npt.NDArray[np.int64], risk: npt.NDArray[np.float32]) -> None:
        """Take in the risk (n, A) of frames (n,) that follow those before."""
        for number, row in zip(frames, risk, strict=True):
            concerned = np.flatnonzero(row >= RISKY)
            if len(concerned):
                self.frames += 1
                if not self._open:
                    self._spans.append({"first": int(number), "last": int(number), "individuals": []})
                span = self._spans[-1]
                names = {*span["individuals"], *(self._individuals[i] for i in concerned)}
                span |= {"last": int(number), "individuals": sorted(names)}
            self._open = bool(len(concerned))

    def to_json(self) -> dict[str, Any]:
        """The number of frames, and the spans: first and last frame number, individuals that are concerned."""
        return {"risk": RISKY, "frames": self.frames, "spans": [dict(span) for span in self._spans]}
