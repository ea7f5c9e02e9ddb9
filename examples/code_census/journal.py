"""A journal outside the store: which bodies began, in which process.

The demo reads it to prove what it claims. One `write` to a file opened with
O_APPEND per line: lines of concurrent threads and of a killed process stay whole.
"""

from __future__ import annotations

import os


def note_start(checkpoint: str, subject: str = "-") -> None:
    """Append `pid checkpoint subject` where CENSUS_JOURNAL says; nothing if it does not."""
    path = os.environ.get("CENSUS_JOURNAL")
    if path is None:
        return
    line = f"{os.getpid()}\t{checkpoint}\t{subject}\n".encode()
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)
