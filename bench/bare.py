"""The limit: bare apsw, one table, ``BEGIN IMMEDIATE; INSERT; COMMIT`` at WAL and FULL.

The same library, the same settings of the file, the same bytes in a row as a
checkpoint writes; no index, no guard, no Python but the three calls.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import apsw

from kitaru._store.sqlite.database import CHECKPOINT_PAGES, LOG_BYTES


class BareStore:
    """One file. ``log_grows``: as SQLite has it for itself, until its log first begins anew.

    Else the log has its full length from the start, as in every file that has
    been in use for a while: a commit that only overwrites is cheaper, and so
    the stricter limit.
    """

    def __init__(self, path: Path, row_bytes: int, *, log_grows: bool = False) -> None:
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
        if not log_grows:
            _lengthen(Path(f"{path}-wal"))

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


def _lengthen(log: Path) -> None:
    with log.open("ab") as file:
        file.write(bytes(max(0, LOG_BYTES - log.stat().st_size)))
        file.flush()
        os.fsync(file.fileno())
