"""The command line: ``kitaru`` and ``python -m kitaru``.

A surface: it uses the public API and the client. Importing this package is
free; what a command needs is loaded when that command runs.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of this process and exit with its status."""
    from kitaru.cli.entry import perform

    # The program is a tool: which store it means follows from the working
    # folder, never from where Kitaru itself lies.
    sys.modules["__main__"].__dict__.pop("__file__", None)
    _open_missing_streams()
    sys.exit(perform(sys.argv[1:]))


def _open_missing_streams() -> None:
    """Started with a closed stdin, stdout or stderr: else the store's file would take its number,
    and what is printed would be written into the store."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  (for as long as the process)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
