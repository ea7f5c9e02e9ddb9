"""The limit: bare apsw, one table, ``BEGIN IMMEDIATE; INSERT; COMMIT`` at WAL and FULL.

The same library, the same settings of the file, the same bytes in a row as a
checkpoint writes; no index, no guard, no Python but the three calls.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import apsw

CHECKPOINT_PAGES = 4_000
"""As the store has it: a smaller log would make the limit slower."""


class BareStore:
    def __init__(self, path: Path, row_bytes: int) -> None:
        self.path = path
        self.row = os.urandom(row_bytes)
        self.connection = apsw.Connection(str(path))
        for name, value in (("journal_mode", "wal"), ("synchronous", 2), ("cache_size", -16384)):
            self.connection.pragma(name, value)
        assert self.connection.pragma("synchronous") == 2
        self.connection.wal_autocheckpoint(CHECKPOINT_PAGES)
        self._execute = self.connection.cursor().execute
        self.cpu_seconds = 0.0
        """Of one commit of the last series, on average."""
        self._execute("create table rows (id integer primary key, data blob not null) strict")

    def commits(self, count: int, *, rows: int = 1) -> list[float]:
        """Seconds of each of ``count`` transactions of ``rows`` rows."""
        execute, row, clock = self._execute, self.row, time.perf_counter
        taken, cpu = [], time.thread_time()
        for _ in range(count):
            began = clock()
            execute("BEGIN IMMEDIATE")
            for _ in range(rows):
                execute("insert into rows (data) values (?)", (row,))
            execute("COMMIT")
            taken.append(clock() - began)
        self.cpu_seconds = (time.thread_time() - cpu) / count
        return taken

    def close(self) -> None:
        self.connection.close()

    def bytes_on_disk(self) -> int:
        """Of the closed file."""
        return self.path.stat().st_size
