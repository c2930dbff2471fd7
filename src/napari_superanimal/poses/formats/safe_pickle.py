"""Opening HDF5 tables without running what they contain.

PyTables stores column names and object columns as Python pickles, and unpickles them on reading: a
table from somebody else could run any code. While a file is open here, unpickling is limited to plain
Python values and numpy's arrays, scalars and dtypes, which is all that pandas and DeepLabCut write.
"""

from __future__ import annotations

import builtins
import importlib
import io
import pickle
import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ALLOWED = {
    *(("builtins", n) for n in ("set", "frozenset", "slice", "range", "complex", "bytearray")),
    *(
        (f"numpy{core}.multiarray", n)
        for core in ("", ".core", "._core")
        for n in ("_reconstruct", "scalar", "_frombuffer")
    ),
    *(("numpy" + core + ".numeric", "_frombuffer") for core in (".core", "._core")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("copyreg", "_reconstructor"),
    ("builtins", "object"),
    ("tables.filters", "Filters"),
    ("pandas._libs.tslibs.offsets", "Day"),
}
_lock = threading.RLock()


class RefusedPickle(pickle.UnpicklingError):
    """A pickle asked for something other than plain data."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        if (module, name) in _ALLOWED:
            if module == "builtins":
                return getattr(builtins, name)
            return getattr(importlib.import_module(module), name)
        raise RefusedPickle(f"{module}.{name}")


def load_plain(path: Path) -> Any:
    """The content of a pickle file that holds plain data.

    Raises
    ------
    pickle.UnpicklingError, OSError, EOFError
        If it holds anything else, is damaged or cannot be read.
    """
    with open(path, "rb") as file:
        return _Unpickler(file).load()


@contextmanager
def plain_pickles_only() -> Iterator[list[str]]:
    """While inside, PyTables unpickles plain data only; yields the names of what was refused."""
    from tables import atom, attributeset

    refused: list[str] = []

    def loads(data: bytes, **options: Any) -> Any:
        try:
            return _Unpickler(io.BytesIO(bytes(data)), **options).load()
        except RefusedPickle as error:
            refused.append(str(error))
            raise

    limited = SimpleNamespace(**{**vars(pickle), "loads": loads})
    with _lock:
        before = attributeset.pickle, atom.pickle
        attributeset.pickle = atom.pickle = limited
        try:
            yield refused
        finally:
            attributeset.pickle, atom.pickle = before
