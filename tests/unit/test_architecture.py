"""The house keeps its shape: imports go one way, the engine needs no GUI, napari starts light."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "napari_superanimal"
GUI = ("napari", "qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "magicgui", "superqt", "vispy", "pyqtgraph")
HEAVY = ("torch", "torchvision", "timm")


@pytest.fixture(scope="module")
def contracts() -> dict[str, dict]:
    with open(ROOT / "pyproject.toml", "rb") as file:
        return {c["id"]: c for c in tomllib.load(file)["tool"]["importlinter"]["contracts"]}


def run(code: str, *arguments: str) -> dict:
    """What `code` prints as JSON in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_imports_go_one_way() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_package_has_its_floor(contracts: dict[str, dict]) -> None:
    """A new package that the contracts do not name would escape them."""
    parts = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()}
    parts |= {p.stem for p in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    layers = " ".join(contracts["one-direction"]["layers"])
    assert parts == set(layers.replace(":", " ").replace("|", " ").split())

    guarded = {
        m.removeprefix("napari_superanimal.") for m in contracts["engine-without-gui"]["source_modules"]
    }
    assert parts - guarded == {"cli", "commands", "plugin"}
    assert set(GUI) <= set(contracts["engine-without-gui"]["forbidden_modules"])


def test_engine_works_without_napari_and_qt(contracts: dict[str, dict]) -> None:
    """Every engine module is imported where napari and Qt cannot be."""
    code = """
import importlib, json, pkgutil, sys

parts, banned = json.loads(sys.argv[1]), set(json.loads(sys.argv[2]))

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in banned:
            raise ImportError(f"{name} is not for the engine")

sys.meta_path.insert(0, Refuse())
done = []
for part in parts:
    module = importlib.import_module(part)
    done.append(part)
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), part + "."):
        importlib.import_module(found.name)
        done.append(found.name)
print(json.dumps(done))
"""
    engine = contracts["engine-without-gui"]["source_modules"]
    done = run(code, json.dumps(engine), json.dumps(GUI))
    assert set(engine) <= set(done)
    assert len(done) > len(engine)


def test_manifest_loads_without_heavy_imports(record_property: pytest.RecordProperty) -> None:
    """napari reads every plugin's manifest when it starts; ours may not slow that down."""
    code = """
import json, sys, time
import npe2
start = time.perf_counter()
manifest = npe2.PluginManifest.from_distribution("napari-superanimal")
elapsed = 1000 * (time.perf_counter() - start)
tops = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"name": manifest.name, "ms": elapsed, "tops": tops}))
"""
    seen = run(code)
    assert seen["name"] == "napari-superanimal"
    assert not {*HEAVY, *GUI}.intersection(seen["tops"])
    record_property("manifest_ms", round(seen["ms"], 1))
    print(f"manifest loads in {seen['ms']:.0f} ms")
    assert seen["ms"] < 500


def test_what_napari_names_is_light() -> None:
    """Opening the plugin menu or dropping a file imports these modules: torch comes when a model runs."""
    code = """
import importlib, json, sys
import npe2
manifest = npe2.PluginManifest.from_distribution("napari-superanimal")
names = {command.python_name.partition(":")[0] for command in manifest.contributions.commands}
for name in sorted(names | {"napari_superanimal", "napari_superanimal.cli"}):
    importlib.import_module(name)
print(json.dumps({"names": sorted(names), "tops": sorted({n.partition(".")[0] for n in sys.modules})}))
"""
    seen = run(code)
    assert seen["names"]
    assert not set(HEAVY).intersection(seen["tops"])


def test_command_line_starts_light() -> None:
    """`superanimal --help` answers at once: no torch, no pandas, no GUI."""
    code = """
import json, sys
import napari_superanimal.cli
print(json.dumps(sorted({n.partition(".")[0] for n in sys.modules})))
"""
    assert not {*HEAVY, *GUI, "pandas", "tables"}.intersection(run(code))
