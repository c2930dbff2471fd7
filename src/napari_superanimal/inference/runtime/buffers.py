"""Memory of the networks' buffers, kept for the next frames instead of given back after each of them.

In threads, the memory allocator of Linux (glibc) hands a freed buffer back to the system once the end of a heap is
free, and the next batch gets the same pages anew, zeroed one by one: millions of page faults per recording, many more
in a viewer's process than in one that only predicts. Other systems' allocators are left as they are.

Source: mallopt(3), malloc_trim(3).
"""

from __future__ import annotations

import ctypes
import functools
import platform

#: Parameters of mallopt, from malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3

#: A thread's heap in glibc; with this much kept at its end, none is given back while frames go through.
_HEAP = 64 << 20

#: What glibc's own rule goes up to: larger buffers are mapped one by one, here as there.
_MAPPED_FROM = 32 << 20


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


@functools.cache
def keep_buffers() -> bool:
    """Keep freed memory in this process from now on; asked again, nothing more happens.

    Returns
    -------
    bool
        Whether this system has such a setting, and took it.
    """
    library = _glibc()
    if library is None:
        return False
    wanted = {_TOP_PAD: _HEAP, _TRIM_THRESHOLD: _HEAP, _MMAP_THRESHOLD: _MAPPED_FROM}
    return all([bool(library.mallopt(key, value)) for key, value in wanted.items()])


def give_back() -> None:
    """Return what is free to the system: for a process that lives on after its frames, like a viewer."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)
