"""Frames kept in memory, the least recently used ones dropped first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    import numpy as np

DEFAULT_BYTES = 256 * 2**20


class FrameCache:
    """Arrays by key, bounded by their bytes; safe to use from several threads.

    Parameters
    ----------
    max_bytes : int
        An array larger than this is not kept.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._arrays)

    def get(self, key: Hashable) -> np.ndarray | None:
        """The array, which becomes the most recently used one; None if it is not here."""
        with self._lock:
            array = self._arrays.get(key)
            if array is not None:
                self._arrays.move_to_end(key)
            return array

    def put(self, key: Hashable, array: np.ndarray) -> None:
        """Keep an array, dropping the oldest ones to make room."""
        with self._lock:
            if (old := self._arrays.pop(key, None)) is not None:
                self.nbytes -= old.nbytes
            if array.nbytes > self.max_bytes:
                return
            self._arrays[key] = array
            self.nbytes += array.nbytes
            while self.nbytes > self.max_bytes:
                _, dropped = self._arrays.popitem(last=False)
                self.nbytes -= dropped.nbytes

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._arrays.clear()
            self.nbytes = 0
