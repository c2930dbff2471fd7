"""Batches that shrink where memory does not suffice."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING

import torch

from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger(__name__)

#: What allocators say: CUDA and Apple's GPUs, torch on a CPU, C++ inside OpenVINO and oneDNN.
_SAID = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "bad alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(said in text for said in _SAID)


def in_batches(count: int, size: int, work: Callable[[slice], None]) -> int:
    """Work on `count` items in batches; where one does not fit into memory, in batches of half the size.

    Parameters
    ----------
    work : callable
        Gets the slice of a batch. What it did before it ran out of memory is done again in smaller parts.

    Returns
    -------
    int
        The size of the last batches, for the next time.

    Raises
    ------
    UserError
        If not even one item fits.
    """
    start = 0
    while start < count:
        try:
            work(slice(start, min(start + size, count)))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            size = min(size, count - start)
            if size == 1:
                raise UserError(
                    "there is not enough memory for a single picture",
                    remedy="close other programs, or use --device cpu",
                ) from error
            size //= 2
        else:
            start += size
            continue
        # outside the handler: the error holds on to the frames whose arrays are in the way
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        _LOG.warning("not enough memory: going on with batches of %d", size)
    return size
