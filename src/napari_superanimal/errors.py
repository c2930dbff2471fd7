"""The one exception that users are meant to read."""

from __future__ import annotations

from pathlib import Path


class UserError(ValueError):
    """Something the user can put right: says what is wrong, in which file, and what to do.

    The command line prints it as one line (``error: ...``) and exits with 2; the GUI shows it
    as a notification. Anything else that is raised is a bug.

    Parameters
    ----------
    problem : str
        What is wrong, one clause without a final full stop.
    path : Path or str, optional
        The file or folder concerned.
    remedy : str
        What the user can do about it.
    """

    def __init__(self, problem: str, *, path: Path | str | None = None, remedy: str = "") -> None:
        self.problem = problem
        self.path = None if path is None else Path(path)
        self.remedy = remedy
        where = f"{path}: " if path is not None else ""
        then = f"; {remedy}" if remedy else ""
        super().__init__(" ".join(f"{where}{problem}{then}".split()))


def first_line(error: Exception) -> str:
    """What another library's error says first, its kind if it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
