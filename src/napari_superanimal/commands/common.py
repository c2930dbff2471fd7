"""What all commands share: options, errors, cancelling, progress, the JSON result."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_superanimal.errors import UserError
from napari_superanimal.jobs.outputs import check_file
from napari_superanimal.jobs.plain_json import plain, write_json
from napari_superanimal.jobs.progress import Cancelled, CancelToken, Progress

if TYPE_CHECKING:
    from types import FrameType

DONE = 0
FAILED = 2
CANCELLED = 130


#: What a command does: takes the arguments, returns the result for ``--json``.
#: A result with ``"status": "cancelled"`` exits with 130.
Run = Callable[[argparse.Namespace], dict[str, Any]]


def new_command(
    subparsers: Any, name: str, run: Run, summary: str, description: str = "", epilog: str = ""
) -> argparse.ArgumentParser:
    """A command's parser with the options that every command has."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=description or summary,
        epilog=epilog or None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add_shared_options(parser)
    return parser


def add_shared_options(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """``--json``, ``--seed``, ``--device`` and ``--debug``.

    `again` is for the parser of an action inside a command: its defaults must not undo what was
    given before the action.
    """
    shared = parser.add_argument_group("shared options")

    def option(name: str, default: Any, **rest: Any) -> None:
        shared.add_argument(name, default=argparse.SUPPRESS if again else default, **rest)

    option("--json", None, type=Path, metavar="FILE", help="write the result here, machine-readable")
    option(
        "--seed", None, type=int, metavar="N", help="seed of everything random (default 0, or the recipe's)"
    )
    option("--device", "auto", choices=("auto", "cpu", "cuda", "mps"), help="where networks run")
    option("--debug", False, action="store_true", help="show tracebacks and warnings")


def say_error(message: str) -> None:
    """One line ``error: ...`` on stderr."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    sys.stderr.flush()


def hint(message: str) -> None:
    """One line on stderr that is not an error."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def execute(args: argparse.Namespace) -> int:
    """Run a parsed command; every ending becomes an exit code, errors become one line."""
    result: dict[str, Any] = {"command": args.command}
    args.result = result  # what a command knows before it fails
    code = DONE
    if args.json is not None:
        try:
            check_file(args.json)
        except UserError as error:
            return _failed(args, result, str(error))
    try:
        if not args.debug:
            warnings.simplefilter("ignore")  # libraries' notes to programmers
        result |= args.run(args)
        if result.get("status") == "cancelled":
            code = CANCELLED
    except (KeyboardInterrupt, Cancelled):
        if args.debug:
            traceback.print_exc()
        result["status"], code = "cancelled", CANCELLED
    except UserError as error:
        code = _failed(args, result, str(error))
    except BrokenPipeError:
        # the reader of our output went away (`| head`): nothing to say, and nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = _failed(args, result, f"{where}{error.strerror or error}")
    except MemoryError:
        code = _failed(args, result, "not enough memory; close other programs or use a smaller --batch-size")
    except Exception as error:
        code = _failed(
            args,
            result,
            f"{type(error).__name__}: {error}; this is a fault of superanimal, "
            "please report it with the output of the same command and --debug",
        )
    if code == CANCELLED:
        hint("cancelled; what was finished is kept")
    result.setdefault("status", "complete")
    result["exit_code"] = code
    if args.json is not None:
        try:
            write_json(args.json, result)
        except UserError as error:
            say_error(str(error))
            code = code or FAILED
    return code


def _failed(args: argparse.Namespace, result: dict[str, Any], message: str) -> int:
    if args.debug:
        traceback.print_exc()
    say_error(message)
    result |= {"status": "error", "error": " ".join(message.split())}
    return FAILED


@contextmanager
def cancellable() -> Iterator[CancelToken]:
    """A token that Ctrl-C (or SIGTERM) sets; a second Ctrl-C interrupts at once."""
    token = CancelToken()
    if threading.current_thread() is not threading.main_thread():
        yield token
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if token.cancelled:
            raise KeyboardInterrupt
        token.cancel()
        sys.stderr.write("\nstopping after this step; press Ctrl-C again to stop at once\n")

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield token
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class ProgressLine:
    """One line on stderr that is rewritten: done, share, rate, ETA. Silent when stderr is no terminal.

    Parameters
    ----------
    unit : str
        What is counted: "frames", "steps".
    every_s : float
        Shortest time between two updates.
    """

    def __init__(self, unit: str, every_s: float = 0.1) -> None:
        self.unit = unit
        self._every = every_s
        self._last = 0.0
        self._shown = False
        self._live = sys.stderr.isatty()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        finished = progress.total > 0 and progress.done >= progress.total
        if not self._live or (now - self._last < self._every and not finished):
            return
        self._last = now
        # a terminal that does not know its width says 0
        width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        line = progress_text(progress, self.unit)[: width - 1]
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()
        self._shown = True

    def close(self) -> None:
        """End the line, so that what follows starts on a new one."""
        if self._shown:
            sys.stderr.write("\n")
            sys.stderr.flush()
        self._shown = False

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def progress_text(progress: Progress, unit: str) -> str:
    """`progress` in one line for a person."""
    parts = [progress.message] if progress.message else []
    if progress.total:
        parts.append(f"{progress.done}/{progress.total} {unit} ({100 * progress.done // progress.total}%)")
    else:
        parts.append(f"{progress.done} {unit}")
    if progress.rate > 0:
        parts.append(f"{progress.rate:.1f}/s")
    if math.isfinite(progress.eta_s):
        parts.append(f"ETA {clock(progress.eta_s)}")
    for name in ("loss", "val_error_px"):
        value = progress.values.get(name)
        if isinstance(value, (int, float)) and math.isfinite(value):
            parts.append(f"{name} {value:.4g}")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    whole = max(round(seconds), 0)
    hours, rest = divmod(whole, 3600)
    minutes, seconds_ = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds_:02d}" if hours else f"{minutes}:{seconds_:02d}"


class ProgressLines:
    """Progress as one JSON object per line on stdout, for a program that started this one."""

    def __call__(self, progress: Progress) -> None:
        data = {
            "done": progress.done,
            "total": progress.total,
            "rate": progress.rate,
            "eta_s": progress.eta_s,
            "message": progress.message,
            "values": progress.values,
        }
        sys.stdout.write(json.dumps(plain(data)) + "\n")
        sys.stdout.flush()

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Options of the commands that train."""
    parser.add_argument("--steps", type=positive, metavar="N", help="optimisation steps of the pose network")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument(
        "--progress-lines", action="store_true", help="progress on stdout, one JSON object per line"
    )
    parser.add_argument(
        "--stop-file", type=Path, metavar="FILE", help="stop as with Ctrl-C as soon as this file exists"
    )


@contextmanager
def training_progress(args: argparse.Namespace) -> Iterator[tuple[Callable[[Progress], None], CancelToken]]:
    """How a training command reports and learns that it shall stop: Ctrl-C or ``--stop-file``."""
    shown = ProgressLines() if args.progress_lines else ProgressLine("steps")
    if args.stop_file is not None and args.stop_file.exists():
        raise UserError("the stop file exists already", path=args.stop_file, remedy="remove it first")
    with cancellable() as token, shown as line:

        def report(progress: Progress) -> None:
            if args.stop_file is not None and args.stop_file.exists():
                token.cancel()
            line(progress)

        yield report, token


def positive(text: str) -> int:
    """An argument that is a whole number above zero."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return number
