"""Which project a program belongs to: its root folder, and what its pyproject says to us.

The root is found by looking at the file system only; nothing is imported. Both
the settings and the store's place start here, so that they cannot disagree.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any, NamedTuple

from kitaru.errors import KitaruUsageError

MARKERS = (".kitaru", "pyproject.toml", ".git")

# Every way to open the table in TOML, so that tomllib (some 4 ms) is imported
# only where there is something for us. A false alarm costs only that.
_MENTIONED = re.compile(
    rb"""^\s*(\[+\s*)?["']?tool["']?\s*(\.\s*["']?kitaru\b|\]\s*(\#.*)?$|=)""", re.MULTILINE
)


class Root(NamedTuple):
    """The folder that a program belongs to; ``marked`` if something in it says so."""

    folder: str
    marked: bool


def main_file() -> str | None:
    """The file of the main script, if the program has one."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return file if isinstance(file, str) else None


def home_folder() -> str | None:
    """The user's home; None where the system knows none."""
    home = os.path.expanduser("~")
    return None if home == "~" else os.path.abspath(home)


def find_root(*, cwd: str, main_file: str | None) -> Root:
    """The first folder upward from the main script's that holds a marker.

    A script in an environment's ``bin`` or in ``site-packages`` counts as
    none: then upward from ``cwd``. The home folder and those above it are
    never taken. Without a marker it is the folder where the search began.
    """
    start = os.path.realpath(cwd)
    if main_file is not None:
        folder = _nearest_folder(os.path.dirname(os.path.realpath(main_file)))
        if not _is_installed(folder):
            start = folder
    home = home_folder()
    homes = {os.path.join(h, "") for h in (home, home and os.path.realpath(home)) if h}
    folder = start
    while not any(h.startswith(os.path.join(folder, "")) for h in homes):
        if any(os.path.lexists(os.path.join(folder, marker)) for marker in MARKERS):
            return Root(folder, True)
        above = os.path.dirname(folder)
        if above == folder:
            break
        folder = above
    return Root(start, False)


def read_table(root: str) -> dict[str, Any]:
    """``[tool.kitaru]`` of the root's pyproject.toml; empty where there is none.

    Raises ``KitaruUsageError`` if the file speaks to us and cannot be understood.
    """
    path = os.path.join(root, "pyproject.toml")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return {}
    except OSError as error:
        raise KitaruUsageError(
            f"cannot read {path!r} ({error.strerror}): make it readable",
            code="settings-file-invalid",
        ) from None
    if b"kitaru" not in data or not _MENTIONED.search(data):
        return {}
    return _parsed(path, data)


def _parsed(path: str, data: bytes) -> dict[str, Any]:
    import tomllib

    try:
        document = tomllib.loads(data.decode())
    except ValueError as error:
        raise KitaruUsageError(
            f"{path!r} is not valid TOML ({error}): mend that line", code="settings-file-invalid"
        ) from None
    table = document.get("tool")
    table = table.get("kitaru", {}) if isinstance(table, dict) else {}
    if not isinstance(table, dict):
        raise KitaruUsageError(
            f"`tool.kitaru` in {path!r} is no table: write [tool.kitaru]",
            code="settings-file-invalid",
        )
    return table


def _nearest_folder(folder: str) -> str:
    """A script inside a zip file has a folder that is none."""
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return folder


def _is_installed(folder: str) -> bool:
    parts = folder.split(os.sep)
    if "site-packages" in parts or "dist-packages" in parts:
        return True
    library = os.path.realpath(os.path.dirname(os.__file__))  # `python -m pdb` and its like
    if os.path.join(folder, "").startswith(os.path.join(library, "")):
        return True
    if parts[-1] not in ("bin", "Scripts"):
        return False
    environment = os.path.dirname(folder)
    if os.path.exists(os.path.join(environment, "pyvenv.cfg")):
        return True
    known = {os.path.realpath(p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    # Homebrew's prefix is a git checkout: it would pass for a project.
    known |= {"/usr", "/usr/local", "/opt/homebrew", "/home/linuxbrew/.linuxbrew", "/opt/local"}
    home = home_folder()
    if home is not None:
        known.add(os.path.realpath(os.path.join(home, ".local")))
    return environment in known
