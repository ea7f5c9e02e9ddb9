"""Logs as people and programs look at them: chosen by checkpoint, source and level, line by line.

Reads what the store of logs keeps. Knows nothing of how it came there, nor of terminals.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kitaru._core.identity import ID_DIGITS
from kitaru._core.names import did_you_mean, shortened
from kitaru._core.naming import shown_name
from kitaru._store.logs import LOGGING, RUNNER, STDERR, STDOUT, Chunk, LogStore
from kitaru._store.protocol import ExecutionRow
from kitaru.errors import KitaruUsageError
from kitaru.model import LogEntry
from kitaru.records import instant

SOURCES: dict[str, frozenset[str]] = {
    "step": frozenset((STDOUT, STDERR, LOGGING)),
    STDOUT: frozenset((STDOUT,)),
    STDERR: frozenset((STDERR,)),
    LOGGING: frozenset((LOGGING,)),
    RUNNER: frozenset(),
}
"""What may be asked for -> which chunks that is. What Kitaru says of a log is always among them."""

LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
}

_LEVEL_OF = {STDOUT: "INFO", STDERR: "WARNING"}
"""As what a printed line counts."""


class Wanted(NamedTuple):
    """Which lines somebody asks for."""

    checkpoint: str | None = None
    """A checkpoint's name or id, the last part of either, or the id of a call."""
    source: str = "step"
    level: str | None = None
    """At least this one."""

    def checked(self) -> Wanted:
        """``KitaruUsageError`` if there can be no such lines."""
        for option, value, known in (
            ("source", self.source, SOURCES),
            ("level", self.level, LEVELS),
        ):
            if value is not None and (type(value) is not str or value not in known):
                raise KitaruUsageError(
                    f"{option}={shortened(value)}: pass one of {', '.join(known)}."
                    + did_you_mean(str(value), known),
                    code="option-invalid",
                )
        return self


class Reader:
    """The log of one execution, read on from where it was left."""

    def __init__(self, logs: LogStore | None, row: ExecutionRow, wanted: Wanted) -> None:
        self._logs = logs
        self._row = row
        self._wanted = wanted.checked()
        self._next: str | None = None
        self.found_any = False
        """Whether there was anything, wanted or not."""

    def new(self) -> Iterator[LogEntry]:
        """What was wanted and has come since the last time; in the order in which it was said."""
        more = self._logs is not None
        while more:
            assert self._logs is not None
            page = self._logs.read(self._row.exec_id, self._next)
            self._next, more = page.next, page.more
            self.found_any = self.found_any or bool(page.chunks)
            entries = [entry for chunk in page.chunks for entry in self._entries(chunk)]
            # Of code that runs side by side, and of both streams, the pieces lie one after another.
            entries.sort(key=lambda entry: entry.timestamp)
            yield from entries

    def last(self, limit: int | None) -> Iterable[LogEntry]:
        """All, or as many of the newest."""
        return self.new() if limit is None else deque(self.new(), maxlen=limit)

    def _entries(self, chunk: Chunk) -> Iterator[LogEntry]:
        name = None
        if chunk.checkpoint is not None:
            name = shown_name(chunk.checkpoint, self._row.code_module)
        level = chunk.level or _LEVEL_OF.get(chunk.source)
        if not self._fits(chunk, name, level):
            return
        is_text = chunk.source in (STDOUT, STDERR)
        for number, line in enumerate(chunk.text.split("\n") if is_text else [chunk.text]):
            offset = chunk.offsets[number] if number < len(chunk.offsets) else 0
            yield LogEntry(
                message=line,
                level=level,
                timestamp=instant((chunk.at or self._row.created_at) + offset),
                source=chunk.source,
                checkpoint_name=name,
                module=chunk.module,
                filename=chunk.filename,
                lineno=chunk.lineno,
                call_id=None if chunk.call is None else self._call_id(chunk.call),
                attempt=chunk.attempt,
                logger=chunk.logger,
            )

    def _call_id(self, call: str) -> str:
        return f"{self._row.exec_id}:{call[:ID_DIGITS]}"

    def _fits(self, chunk: Chunk, name: str | None, level: str | None) -> bool:
        if chunk.source == RUNNER:
            return True  # what is missing is missing, whatever was asked for
        wanted = self._wanted
        if chunk.source not in SOURCES[wanted.source]:
            return False
        if wanted.level is not None and _number(level) < LEVELS[wanted.level]:
            return False
        return wanted.checkpoint is None or self._is_of(chunk, name, wanted.checkpoint)

    def _is_of(self, chunk: Chunk, name: str | None, wanted: str) -> bool:
        if chunk.checkpoint is None or name is None:
            return False
        if wanted in (name, chunk.checkpoint, chunk.checkpoint.rpartition(".")[2]):
            return True
        call = wanted.rpartition(":")[2]
        # Fewer digits than that would be a name that happens to be hexadecimal.
        return chunk.call is not None and len(call) >= 4 and chunk.call.startswith(call)


def _number(level: str | None) -> int:
    """A level of the program's own counts as INFO."""
    return LEVELS.get(level or "", logging.INFO)
