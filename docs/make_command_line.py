"""Write docs/command-line.md from the parser of `superanimal`: run it after an option has changed.

`python docs/make_command_line.py` writes, `--check` only says (exit code 1) whether the page is out of date.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

from napari_superanimal.cli import build_parser
from napari_superanimal.commands.common import add_shared_options

PAGE = Path(__file__).parent / "command-line.md"
INTRODUCTION = Path(__file__).parent / "command-line.in.md"
NOTE = "<!-- written by docs/make_command_line.py: edit command-line.in.md or the parser -->\n\n"


def described(parser: argparse.ArgumentParser, without: frozenset[str] = frozenset()) -> list[str]:
    """Table rows of a parser's arguments."""
    formatter = parser._get_formatter()
    rows = []
    for action in parser._actions:
        hidden = action.help == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction)
        if hidden or without.intersection(action.option_strings) or "--help" in action.option_strings:
            continue
        value = formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
        if action.option_strings:
            name = f"{', '.join(action.option_strings)} {value}".strip()
        else:
            name = formatter._format_args(action, formatter._get_default_metavar_for_positional(action))
        text = formatter._expand_help(action) if action.help else ""
        rows.append(f"| `{name}` | {' '.join(text.split())} |".replace("|...", "..."))
    return [escaped(row) for row in rows]


def escaped(row: str) -> str:
    """A table row whose code may contain the column mark."""
    cells = row[2:-2].split(" | ")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(rows: list[str]) -> list[str]:
    return ["", "| argument | meaning |", "|---|---|", *rows] if rows else []


def children(parser: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Sub-commands with their summaries."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (child, summaries.get(name, "")) for name, child in action.choices.items()}
    return {}


def page() -> str:
    """The whole page."""
    shared = argparse.ArgumentParser(add_help=False)
    add_shared_options(shared)
    known = frozenset(name for action in shared._actions for name in action.option_strings)
    lines = [INTRODUCTION.read_text("utf-8").rstrip(), "", "## Options of every command"]
    lines += table(described(shared))
    for name, (parser, summary) in children(build_parser()).items():
        lines += ["", f"## `superanimal {name}`", *prose(parser.description or summary)]
        lines += table(described(parser, known))
        for action, (child, what) in children(parser).items():
            lines += ["", f"### `superanimal {name} {action}`", *prose(what)]
            lines += table(described(child, known))
    return NOTE + "\n".join(lines) + "\n"


def prose(text: str) -> list[str]:
    """A description as Markdown: paragraphs, and what is indented as it stands."""
    lines: list[str] = []
    for block in textwrap.dedent(text).strip().split("\n\n"):
        head, *rest = block.splitlines()
        if any(line.startswith("  ") for line in rest):
            lines += [
                "",
                sentence(head),
                "",
                "```text",
                *textwrap.dedent("\n".join(rest)).splitlines(),
                "```",
            ]
        else:
            lines += ["", sentence(block)]
    return lines


def sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", ":", "?")) else ".")


def main() -> int:
    text = page()
    current = PAGE.is_file() and PAGE.read_text("utf-8") == text
    if "--check" in sys.argv[1:]:
        if not current:
            print("docs/command-line.md is out of date; run `python docs/make_command_line.py`")
        return int(not current)
    if not current:
        PAGE.write_text(text, encoding="utf-8")
        print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
