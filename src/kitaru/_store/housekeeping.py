"""Deleting executions, and what only they needed, in small transactions.

Deleting hides: the row of the execution becomes a tombstone, and nothing leads to its
other rows any more. Sweeping then removes those little by little; a kill between the two
leaves rows that the next sweep finds by the tombstone. Numbers of executions and of calls
are never given again: who remembers one from before can meet nothing else under it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NoReturn

from kitaru._core.lifecycle import FINISHED, State
from kitaru._store.blobs import BlobStore
from kitaru._store.facts import FactWrites, seen
from kitaru._store.protocol import (
    Delete,
    DropBlobs,
    ExecutionRow,
    Fenced,
    NotInState,
    Sweep,
    Tombstone,
)
from kitaru._store.queries import Queries
from kitaru._store.rows import Row, Rows, state_of

_SWEPT = (
    "sweep_attempts",
    "sweep_learnt",
    "sweep_notes",
    "sweep_waits",
    "sweep_intents",
    "sweep_artifacts",
)


class HousekeepingWrites(FactWrites):
    def delete(self, write: Delete) -> list[str]:
        queries = self._queries
        row = self._standing(write.execution)
        if row.epoch != write.epoch:
            raise Fenced(f"execution {row.exec_id} has gone on: it is {seen(row)}", row)
        family = self._select(queries.family, (row.id,))
        for number, exec_id, _, status in family:
            parent = row.parent_exec_id if number == row.id else None
            if state_of(status) not in FINISHED:
                self._refuse_deletion(row, f"{exec_id} is {status}")
            if self._select(queries.is_needed, (parent, exec_id))[0][0]:
                self._refuse_deletion(row, "an execution that is not finished needs it")
        for number, exec_id, epoch, _ in family:
            self._change(queries.bury, (number, write.at))
            self._change(queries.delete_execution, (number, epoch))
            self._change(queries.forget_execution, (row.project, exec_id))
        self._change(queries.count_deleted, (len(family), 0))
        return [exec_id for _, exec_id, _, _ in family]

    def _refuse_deletion(self, row: ExecutionRow, why: str) -> NoReturn:
        raise NotInState(f"execution {row.exec_id} cannot be deleted: {why}", row)

    def sweep(self, write: Sweep) -> int:
        queries = self._queries
        found = self._select(queries.unswept, (write.exec_id,))
        if not found:
            return 0
        ((execution,),) = found
        removed = self._sweep_calls(execution, write)
        for name in _SWEPT:
            room = write.limit - removed
            removed += self._change(getattr(queries, name), (execution, room))
        if removed < write.limit:
            self._change(queries.mark_swept, (execution,))
        return removed

    def _sweep_calls(self, execution: int, write: Sweep) -> int:
        queries = self._queries
        picked = [row[0] for row in self._select(queries.pick_calls, (execution, write.limit))]
        if not picked:
            return 0
        ((newest,),) = self._select(queries.newest_call, ())
        self._change(queries.keep_sources, (json.dumps(picked), write.exec_id))
        self._change(queries.sweep_calls, (json.dumps([n for n in picked if n != newest]),))
        if picked[-1] == newest:
            self._change(queries.empty_call, (newest,))
        self._change(queries.sweep_nobodys_calls, ())
        self._change(queries.count_deleted, (0, len(picked)))
        return len(picked)

    def drop_blobs(self, write: DropBlobs) -> list[bytes]:
        dropped = []
        for digest in write.digests:
            if not self._select(self._queries.blob_is_named, (digest,))[0][0]:
                self._rows.blobs.drop(digest)
                dropped.append(digest)
        return dropped


class HousekeepingReads:
    _read: Callable[[str, Row], list[Row]]
    _queries: Queries
    _rows: Rows
    _blobs: BlobStore

    def list_expired(
        self, *, at: int, after: tuple[int, int] = (-1, 0), limit: int
    ) -> list[ExecutionRow]:
        found = self._read(self._queries.list_expired, (at, *after, limit))
        return [self._rows.execution(row, strict=False) for row in found]

    def list_unswept(self, *, limit: int) -> list[str]:
        return [exec_id for (exec_id,) in self._read(self._queries.list_unswept, (limit,))]

    def find_tombstone(self, exec_id: str) -> Tombstone | None:
        found = self._read(self._queries.tombstone, (exec_id,))
        if not found:
            return None
        *names, status, created_at, started_at, ended_at, deleted_at = found[0]
        times = (created_at, started_at, ended_at, deleted_at)
        return Tombstone._make((*names, State(status), *times))

    def list_stray_blobs(self, *, before: int) -> list[tuple[bytes, int]]:
        files = list(self._blobs.list_files(before=before))
        if not files:
            return []
        named = {digest for (digest,) in self._read(self._queries.list_named_blobs, ())}
        return [(digest, size) for digest, size in files if digest not in named]

    def drop_leftovers(self, *, before: int) -> int:
        return self._blobs.drop_leftovers(before=before)
