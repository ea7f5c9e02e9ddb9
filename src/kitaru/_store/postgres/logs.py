"""Logs in a table of the database: JSON lines, some of one execution in each row.

So that who looks from one machine sees what another one printed. Whoever appends waits for
no network: lines stand in memory, within a bound, until the log writer's own thread calls
``tidy``; a kill, or a server that stays away, loses those, and nothing else.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from kitaru._store.logfiles import decode_line, encode_line, said_dropped
from kitaru._store.logs import Chunk, Page, note
from kitaru._store.postgres.database import Database
from kitaru._store.queries import Queries
from kitaru.env import Env
from kitaru.errors import KitaruBackendError, KitaruLogRetrievalError

ROW_BYTES = 64 * 1024
"""Of one row, about: a longer line has a row to itself."""

MAX_WAITING_BYTES = 8 * 1024 * 1024
"""That may stand in memory. What comes on top while the server is away is lost, visibly."""

_PAGE_ROWS = 64
_BATCH_ROWS = 64
_PARTS = 8
"""The log of one execution is cut back when an eighth of its bound was written."""


class _Row(NamedTuple):
    exec_id: str
    epoch: int
    data: str


class _Writing(NamedTuple):
    """How far the log of an execution that is being written has come."""

    epoch: int
    number: int
    reached: int
    """Bytes of all its rows, also of those that are gone."""
    cut: int
    """What was reached when it was cut back last."""


class LogTable:
    """A :class:`kitaru._store.logs.LogStore` in a table.

    ``max_bytes``: of one execution; ``max_total_bytes``: of all.
    """

    is_written_by_tidy = True

    def __init__(
        self,
        database: Database,
        queries: Queries,
        env: Env,
        *,
        max_bytes: int,
        max_total_bytes: int,
    ) -> None:
        self._database = database
        self._queries = queries
        self._env = env
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._waiting: deque[_Row] = deque()
        self._waiting_bytes = 0
        self._counting = threading.Lock()
        self._writing: dict[str, _Writing] = {}
        self._untidied = max_total_bytes
        """Bytes written since all was looked at; at first as if it were high time."""

    # --- writing: `append` on any thread, one at a time; `tidy` on the log writer's own ---------

    def append(self, exec_id: str, epoch: int, chunks: Sequence[Chunk]) -> None:
        lines: list[str] = []
        size = 0
        for chunk in chunks:
            line = encode_line(chunk).decode("ascii")
            if lines and size + len(line) > ROW_BYTES:
                self._queue(_Row(exec_id, epoch, "".join(lines)))
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        if lines:
            self._queue(_Row(exec_id, epoch, "".join(lines)))

    def _queue(self, row: _Row) -> None:
        with self._counting:
            has_room = self._waiting_bytes + len(row.data) <= MAX_WAITING_BYTES
            if has_room:
                self._waiting_bytes += len(row.data)
                self._waiting.append(row)
        if not has_room:
            raise KitaruBackendError(
                f"the store {self._database.place} takes no logs for now, and no more of them are "
                "held in memory: check that the server runs",
                code="store-away",
            )

    def close(self, exec_id: str) -> None:
        """Nothing to do: lines of it may still wait."""

    def tidy(self) -> None:
        """Write what waits, and keep all within the bounds; asks nothing if nothing waits."""
        if not self._waiting:
            return
        while self._waiting:
            self._write([self._waiting[at] for at in range(min(_BATCH_ROWS, len(self._waiting)))])
        if len(self._writing) > 1000:
            self._writing.clear()  # of executions that have ended: who goes on asks again
        if self._untidied >= self._max_total_bytes // 16:
            self._untidied = 0
            self._ask(self._queries.drop_oldest_logs, (self._max_total_bytes,))

    def _write(self, rows: Sequence[_Row]) -> None:
        """Write the first of those that wait; they wait on if the server is away."""
        writing = dict(self._writing)
        records = []
        for row in rows:
            at = writing.get(row.exec_id)
            if at is None or at.epoch != row.epoch:
                at = self._begin(row)
            size = len(row.data)
            records.append([row.exec_id, row.epoch, at.number, at.reached, row.data, size])
            writing[row.exec_id] = at._replace(number=at.number + 1, reached=at.reached + size)
        self._ask(self._queries.append_logs, (json.dumps(records), self._env.now()))
        self._writing = writing
        size = sum(len(row.data) for row in rows)
        with self._counting:
            for _ in rows:
                self._waiting.popleft()
            self._waiting_bytes -= size
        self._untidied += size
        for exec_id in {row.exec_id for row in rows}:
            self._cut(exec_id)

    def _begin(self, row: _Row) -> _Writing:
        ((number, reached),) = self._ask(self._queries.log_end, (row.exec_id, row.epoch))
        return _Writing(row.epoch, int(number), int(reached), cut=0)

    def _cut(self, exec_id: str) -> None:
        at = self._writing[exec_id]
        if at.reached > self._max_bytes and at.reached - at.cut > self._max_bytes // _PARTS:
            # Room for what comes before it is looked at again.
            keep = self._max_bytes - self._max_bytes // _PARTS
            self._ask(self._queries.cut_log, (exec_id, at.reached - keep))
            self._writing[exec_id] = at._replace(cut=at.reached)

    def _ask(self, sql: str, values: tuple[object, ...]) -> list[tuple[int, ...]]:
        return self._database.read(sql, values)

    # --- reading and removing ------------------------------------------------------------------

    def read(self, exec_id: str, after: str | None = None) -> Page:
        epoch, number, reached = (0, -1, 0) if after is None else map(int, after.split("-"))
        try:
            rows = self._database.read(
                self._queries.read_log, (exec_id, epoch, number, _PAGE_ROWS + 1)
            )
        except KitaruBackendError as error:
            raise KitaruLogRetrievalError(
                f"the log of execution {exec_id} cannot be read: {error}", code="log-unreadable"
            ) from error
        chunks: list[Chunk] = []
        for row in rows[:_PAGE_ROWS]:
            epoch, number, before, data, size = row
            if before > reached:
                chunks.append(note(0, said_dropped(before - reached)))
            chunks += [decode_line(line.encode()) for line in data.splitlines()]
            reached = before + size
        place = f"{epoch}-{number}-{reached}" if rows else after
        return Page(chunks, place, len(rows) > _PAGE_ROWS)

    def delete(self, exec_id: str) -> None:
        self._writing.pop(exec_id, None)
        self._ask(self._queries.delete_log, (exec_id,))
