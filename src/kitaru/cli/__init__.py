"""The command line: ``kitaru`` and ``python -m kitaru``.

A surface: it uses the public API and the client. Importing this package is
free; what a command needs is loaded when that command runs.
"""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of this process and exit with its status."""
    from kitaru.cli.entry import perform

    # The program is a tool: which store it means follows from the working
    # folder, never from where Kitaru itself lies.
    sys.modules["__main__"].__dict__.pop("__file__", None)
    sys.exit(perform(sys.argv[1:]))
