"""README and docs say what is true: commands exist, links lead somewhere, CI runs what README tells."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from napari_superanimal.cli import build_parser
from napari_superanimal.keypoints import BUILTIN_SPACES, builtin_tables, load_space
from napari_superanimal.poses.formats.registry import FORMATS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def commands(page: Path) -> list[str]:
    """Shell lines in the page's fenced `bash` blocks, continuation lines joined."""
    blocks = [body for language, body in FENCE.findall(page.read_text("utf-8")) if language == "bash"]
    return [line for body in blocks for line in body.replace("\\\n", " ").splitlines() if line.strip()]


def test_readme_starts_with_the_demo_and_the_tests() -> None:
    first, second = commands(ROOT / "README.md")[:2]
    assert first.endswith("superanimal demo")
    assert second.endswith("tox")


def test_ci_runs_the_readme_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert script.splitlines()[-1] == commands(ROOT / "README.md")[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        file = page if not name else (page.parent / name)
        assert file.exists(), f"{page.name} links to {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """The anchors that headings of a page get."""
    text = FENCE.sub("", page.read_text("utf-8"))
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[`*]", "", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_are_understood(page: Path) -> None:
    """Every `superanimal ...` line of a page goes through the real parser."""
    for line in commands(page):
        words = shlex.split(line, comments=True)
        if words and words[0] == "superanimal" and "--help" not in words:
            build_parser().parse_args(words[1:])


@pytest.mark.parametrize("script", ["make_command_line.py", "make_model_cards.py"])
def test_written_pages_are_current(script: str) -> None:
    """A changed option or card has reached the pages that are made from it."""
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / script, "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_format_table_is_the_registry() -> None:
    text = (ROOT / "docs" / "formats.md").read_text("utf-8")
    table = {
        name: (read == "yes", write == "yes")
        for name, read, write in re.findall(
            r"^\| `([\w-]+)` \|.*\| (yes|) ?\| (yes|) ?\|$", text, re.MULTILINE
        )
    }
    assert table == {f.name: (f.read is not None, f.write is not None) for f in FORMATS.values()}


def test_keypoint_spaces_page_names_what_is_shipped() -> None:
    text = (ROOT / "docs" / "keypoint-spaces.md").read_text("utf-8")
    for space in BUILTIN_SPACES:
        assert f"| `{space}` | {len(load_space(space))} |" in text
    tables = {
        name for row in re.findall(r"^\| (`.*?) \|", text, re.M) for name in re.findall(r"`(\w+)`", row)
    }
    assert tables - set(BUILTIN_SPACES) == set(builtin_tables())


def test_versions_of_the_linter_agree() -> None:
    """pre-commit and the constraints file run the same ruff."""
    pinned = re.search(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    hook = re.search(r"ruff-pre-commit\n\s+rev: v(.+)$", (ROOT / ".pre-commit-config.yaml").read_text(), re.M)
    assert pinned
    assert hook
    assert pinned[1] == hook[1]


def test_constraints_name_only_released_versions() -> None:
    """No paths, addresses or local builds: the file must mean the same everywhere."""
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r"[A-Za-z0-9_.\-]+==[0-9a-z.]+( ; .+)?", line), line
