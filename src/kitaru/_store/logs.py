"""What code printed and logged while it ran: the records of it, and what a keeper of them can do.

Logs are no part of what is promised: nothing is decided by them, and they may be
cut short or gone. ``logfiles.py``
keeps them in files, ``postgres/logs.py`` in a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

STDOUT, STDERR, LOGGING, RUNNER = "stdout", "stderr", "logging", "runner"
"""Sources: what was printed, records of ``logging``, and what Kitaru says of the log itself."""

MAX_LINE_CHARACTERS = 32 * 1024
"""A longer line is cut, visibly: one of 64 MiB helps nobody, and would push out all others."""


class Chunk(NamedTuple):
    """Lines that one piece of code printed in a row, or one record of ``logging``."""

    at: int
    """Of its first line."""
    source: str
    text: str
    """Lines without the last one's end; of a record its message, which may have several lines."""
    checkpoint: str | None = None
    """The id of the checkpoint whose body it is; None: the flow itself."""
    call: str | None = None
    """The beginning of the call's identity, in hexadecimal digits."""
    attempt: int = 1
    offsets: Sequence[int] = ()
    """When each line was finished, in microseconds after ``at``."""
    level: str | None = None
    logger: str | None = None
    module: str | None = None
    filename: str | None = None
    lineno: int | None = None


class Page(NamedTuple):
    """Some of a log, in order, and where to go on."""

    chunks: Sequence[Chunk]
    next: str | None
    """To be given to the next ``read``; it stays None while nothing at all was logged."""
    more: bool
    """Whether there is more already."""


class LogStore(Protocol):
    """Keeps the logs of executions. Only their owner appends, so that no two do at once."""

    is_written_by_tidy: bool
    """Whether ``append`` only takes, and ``tidy`` writes: where writing waits for a network."""

    def append(self, exec_id: str, epoch: int, chunks: Sequence[Chunk]) -> None:
        """Keep these; may raise ``OSError`` or ``KitaruBackendError``, and has then kept a part."""
        ...

    def close(self, exec_id: str) -> None:
        """Nothing more is appended for now: forget what was remembered of it."""
        ...

    def tidy(self) -> None:
        """Keep all logs together within their bound; called now and then, off every hot path,
        by the thread that writes and at the very end."""
        ...

    def read(self, exec_id: str, after: str | None = None) -> Page:
        """What was logged after that place, oldest first, or ``KitaruLogRetrievalError``.

        What cannot be read any more (dropped, damaged) is told by a chunk of source ``runner``.
        """
        ...

    def delete(self, exec_id: str) -> None:
        """Remove the log of an execution; without one nothing happens."""
        ...


def note(at: int, text: str) -> Chunk:
    """What we say of a log in its midst."""
    return Chunk(at, RUNNER, text, level="WARNING")
