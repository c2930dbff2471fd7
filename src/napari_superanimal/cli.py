"""``superanimal``: the plugin's jobs without a screen."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from napari_superanimal import __version__
from napari_superanimal.commands import (
    adapt,
    benchmark,
    check,
    convert,
    demo,
    doctor,
    evaluate,
    finetune,
    match,
    merge,
    models,
    predict,
    smooth,
    train,
)
from napari_superanimal.commands.common import CANCELLED, execute, hint, say_error
from napari_superanimal.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: In the order of a newcomer's day; each module has ``add(subparsers)`` and imports nothing heavy.
COMMANDS = (
    demo,
    check,
    predict,
    smooth,
    evaluate,
    finetune,
    adapt,
    benchmark,
    train,
    convert,
    merge,
    match,
    models,
    doctor,
)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes read like every other error of this program."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message, remedy=f"see `{self.prog} --help`")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="superanimal",
        description="Animal poses without labelling: predict, correct, fine-tune, evaluate.",
        epilog="Exit codes: 0 done, 2 error (one line on stderr), 130 cancelled with what was finished kept.",
    )
    parser.add_argument("--version", action="version", version=f"superanimal {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS:
        command.add(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; the process's own by default.

    Returns
    -------
    int
        0 done, 2 error, 130 cancelled.
    """
    parser = build_parser()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        args = parser.parse_args(words)
    except UserError as error:
        say_error(str(error))
        return 2
    except SystemExit as exit_:  # --help and --version
        return int(exit_.code or 0)
    except KeyboardInterrupt:
        return CANCELLED
    if args.command is None:
        parser.print_help()
        hint("choose a command, for instance `superanimal demo`")
        return 2
    return execute(args)


if __name__ == "__main__":
    raise SystemExit(main())
