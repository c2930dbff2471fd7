"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# Networks in tests are tiny: a second OpenMP thread gains nothing, and on a busy machine the two wait for
# each other for most of the time (measured: 60 times slower). Subprocesses inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; tests that ask for it are skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data: put the data sets in ../shared/data beside the repository")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of the reference's own numbers beside the repository; tests that ask for it are skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "spec" / "golden"
    if not folder.is_dir():
        pytest.skip("no golden numbers: put them in ../shared/spec/golden beside the repository")
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: tiny networks gain nothing from more, and other tests keep the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's models and trainings."""
    from napari_superanimal.models import zoo

    folder = tmp_path / "home"
    monkeypatch.setenv(zoo.HOME_VARIABLE, str(folder))
    return folder
