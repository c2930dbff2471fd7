"""What users install is the wheel, not the source tree: everything must be inside, and nothing too heavy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).parents[2]
SKIP = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the tree so that no earlier build can slip into it."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "src", source / "src", ignore=SKIP)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_holds_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    """A data file that package-data forgets is missed here, whatever its kind."""
    package = ROOT / "src" / "napari_superanimal"
    source = {
        f"napari_superanimal/{p.relative_to(package).as_posix()}"
        for p in package.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    inside = {n for n in wheel.namelist() if ".dist-info/" not in n}
    assert inside == source


@pytest.mark.parametrize("name", ["napari.yaml", "py.typed", "keypoints/data/tables/openfield.csv"])
def test_holds_what_napari_and_type_checkers_look_for(wheel: zipfile.ZipFile, name: str) -> None:
    assert f"napari_superanimal/{name}" in wheel.namelist()


def test_napari_finds_the_plugin_in_the_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Unpacked elsewhere, npe2 discovers it, and every command comes from there; the strict check of the manifest
    itself is in plugin/test_manifest.py, on the same bytes."""
    name = "napari_superanimal/napari.yaml"
    assert wheel.read(name) == (ROOT / "src" / name).read_bytes()
    wheel.extractall(tmp_path)
    code = """
import importlib, json, sys
folder = sys.argv[1]
sys.path.insert(0, folder)
import npe2
found = [r for r in npe2.PluginManifest.discover(paths=[folder]) if r.distribution is not None
         and r.distribution.metadata["Name"] == "napari-superanimal"]
(result,) = found[:1]
assert result.error is None, result.error
files = {}
for command in result.manifest.contributions.commands:
    module, name = str(command.python_name).split(":")
    imported = importlib.import_module(module)
    assert callable(getattr(imported, name)), command.id
    files[command.id] = imported.__file__
print(json.dumps(files))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout.splitlines()[-1])
    assert files
    assert all(Path(file).is_relative_to(tmp_path) for file in files.values()), files


@pytest.mark.parametrize("model", ["mouse-topview-mini", "quadruped-sideview-mini"])
def test_holds_the_shipped_models(wheel: zipfile.ZipFile, model: str) -> None:
    folder = f"napari_superanimal/models/weights/{model}"
    for name in ("card.json", "pose.safetensors", "detector.safetensors"):
        assert wheel.getinfo(f"{folder}/{name}").file_size > 0
    card = json.loads(wheel.read(f"{folder}/card.json"))
    assert card["name"] == model
    assert card["licence"]


def test_models_stay_small(wheel: zipfile.ZipFile) -> None:
    weights = sum(i.file_size for i in wheel.infolist() if i.filename.endswith(".safetensors"))
    assert weights <= 12e6


def test_holds_its_licence(wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert metadata["License-Expression"] == "BSD-3-Clause"
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/licenses/LICENSE"))
    assert wheel.read(name) == (ROOT / "LICENSE").read_bytes()


def test_says_what_the_napari_hub_reads(wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert "Framework :: napari" in metadata.get_all("Classifier", [])
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"]
    # one entry with name and address; a lone name is not shown
    assert "<" in metadata["Author-email"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    # "Label, https://..." is split at ", " by the hub
    assert all(url.count(", ") == 1 for url in metadata.get_all("Project-URL", []))
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/entry_points.txt"))
    text = wheel.read(name).decode()
    assert "[napari.manifest]\nnapari-superanimal = napari_superanimal:napari.yaml" in text
    assert "superanimal = napari_superanimal.cli:main" in text


def test_base_install_brings_no_qt_binding_and_no_opencv(metadata: Message) -> None:
    """A binding in the base would clash with the one the user's napari has; OpenCV brings its own Qt."""
    required = [Requirement(r) for r in metadata.get_all("Requires-Dist", [])]
    base = {r.name.lower(): r for r in required if r.marker is None or "extra" not in str(r.marker)}
    assert not {n for n in base if n.startswith(("pyqt5", "pyqt6", "pyside", "opencv"))}
    assert not base["napari"].extras
    # no ceiling on napari: it would keep the plugin out of the next release
    assert all(s.operator in (">=", ">", "!=") for s in base["napari"].specifier)
    everything = next(r for r in required if r.name == "napari" and 'extra == "all"' in str(r.marker))
    assert everything.extras == {"all"}
