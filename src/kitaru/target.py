"""``MODULE_OR_FILE:FLOW`` as words: what can be told of it before anything is imported.

Needs nothing, so that a command with a mistyped file says so at once.
"""

from __future__ import annotations

import os
import sys

from kitaru.errors import KitaruUsageError

MAX_GUESSED = 1_000
"""Of the files in a folder, how many are compared with a misspelt one."""


def split_target(target: str, *, cwd: str) -> tuple[str, str]:
    """(module or file, flow); raises ``KitaruUsageError`` if it cannot be either."""
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name:
        raise KitaruUsageError(
            f"{target!r} names no flow: write MODULE:FLOW or FILE:FLOW, for example "
            "`kitaru run my_flows.py:hello`",
            code="flow-target-invalid",
        )
    check_where(where, cwd=cwd)
    return where, name


def check_where(where: str, *, cwd: str) -> None:
    """Raise ``KitaruUsageError`` if this is neither a file that is there nor a module's name."""
    if is_file(where):
        file_of(where, cwd)
    elif not all(part.isidentifier() for part in where.split(".")):
        raise KitaruUsageError(
            f"{where!r} is no module's name and no file: write my.module",
            code="flow-target-invalid",
        )


def is_file(where: str) -> bool:
    """Whether this means a file, not a module."""
    return where.endswith(".py") or os.sep in where


def stand_for_script(where: str, *, cwd: str) -> None:
    """Let settings and store be found as if the file had been started as a script."""
    sys.modules["__main__"].__file__ = file_of(where, cwd)


def file_of(where: str, cwd: str) -> str:
    path = os.path.abspath(os.path.join(cwd, os.path.expanduser(where)))
    if not os.path.isfile(path):
        near = _nearest_program(path)
        hint = f"did you mean {near!r}?" if near else "name one that is there"
        raise KitaruUsageError(f"there is no file {path!r}: {hint}", code="module-not-found")
    return path


def _nearest_program(path: str) -> str | None:
    """The Python file beside it that was meant, if one is near enough."""
    import difflib

    folder, name = os.path.split(path)
    try:
        programs = [found for found in os.listdir(folder) if found.endswith(".py")]
    except OSError:
        return None
    near = difflib.get_close_matches(name, programs[:MAX_GUESSED], n=1)
    return near[0] if near else None
