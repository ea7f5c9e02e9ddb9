"""What PostgreSQL needs beside the shared writes: the locks that come before a look.

On SQLite one transaction writes at a time. Here a write of several statements first locks
the rows that it judges by (``queries/locks.sql``), so that what it read stays so until its
commit. The hot path takes none: its one statement locks what it asks for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from kitaru._core.lifecycle import State
from kitaru._store.postgres.single import Place, SingleWrites, is_single
from kitaru._store.postgres.telling import QUEUED, words_of
from kitaru._store.protocol import (
    Cancel,
    Claim,
    Delete,
    DropBlobs,
    ExecutionRow,
    Facts,
    Import,
    Record,
    Remember,
    SetLimits,
    Start,
    Started,
    Sweep,
    Write,
)
from kitaru._store.queries import Queries
from kitaru._store.rows import Row, Rows


class PostgresWrites(SingleWrites):
    def __init__(self, session: Place, queries: Queries, rows: Rows) -> None:
        super().__init__(session, queries, rows)
        self._lock_rows = session.ahead

    def before_group(self, writes: Sequence[Write]) -> None:
        """Lock all executions that they name, by their numbers: two groups that overlap, each in
        an order of its own, would wait for each other."""
        alone: set[int] = set()
        with_parents: set[int] = set()
        families: set[int] = set()
        named: set[str] = set()
        for write in writes:
            if isinstance(write, Start):
                named |= named_by(write)
                continue
            execution = getattr(write, "execution", None)
            if execution is None:
                continue
            if isinstance(write, (Cancel, Delete)):
                families.add(execution)
            else:
                (alone if is_single(write) else with_parents).add(execution)
        if len(alone | with_parents | families) + len(named) > 1:
            lists = (alone, with_parents, families, named)
            values = tuple(json.dumps(sorted(each)) for each in lists)
            self._lock_rows(self._queries.lock_group, values)

    def perform(self, write: Write) -> Any:
        if type(write) is Record:
            return self._perform(write)  # the hot path: nobody is told of it
        answer = self._perform(write)
        self._database.words.update(words_of(write, answer))
        return answer

    def _perform(self, write: Write) -> Any:
        if is_single(write):
            return self.perform_single(write)
        self._lock(write)
        return super().perform(write)

    # --- what others are told of, beside the write itself ---

    def _wake_parent(self, parent: str, at: int) -> list[Row]:
        woken = super()._wake_parent(parent, at)
        for number, _ in woken:
            self._database.words.update((QUEUED, str(number)))
        return woken

    def _give_back_slots(self, execution: int) -> None:
        super()._give_back_slots(execution)
        self._database.words.add(QUEUED)  # somebody may have waited for it

    def _cancel_one(self, number: int, epoch: int, state: State, write: Cancel) -> State:
        self._database.words.add(str(number))
        return super()._cancel_one(number, epoch, state, write)

    def _lock(self, write: Write) -> None:
        if isinstance(write, (Cancel, Delete)):
            self._lock_rows(self._queries.lock_execution, (write.execution,))
            self._lock_family(write.execution)
        elif isinstance(write, Import):
            self._lock_rows(self._queries.lock_imports, ())
        elif isinstance(write, Sweep):
            self._lock_rows(self._queries.lock_tombstone, (write.exec_id,))
        elif isinstance(write, Start):
            named = named_by(write)
            if named:
                self._lock_rows(self._queries.lock_named, (json.dumps(sorted(named)),))
        elif isinstance(write, Remember):
            self._lock_memories(write.project, [write.row])
        elif isinstance(write, DropBlobs):
            for digest in sorted(write.digests):
                self._lock_rows(self._queries.lock_blob_to_drop, (digest,))
        elif isinstance(write, SetLimits):
            self._lock_new_limits(write)
        else:
            execution = getattr(write, "execution", None)
            if execution is not None:
                self._lock_rows(self._queries.lock_execution, (execution,))
            if isinstance(write, Claim) and write.from_owner is None:
                self._lock_rows(self._queries.lock_limits_of, (execution,))
        facts: Facts | None = getattr(write, "facts", None)
        if facts is not None and facts.memories:
            found = self._select(self._queries.execution_by_id, (write.execution,))  # type: ignore[union-attr]
            if found:
                self._lock_memories(found[0][2], facts.memories)

    def _lock_family(self, execution: int) -> None:
        """All of them as they stand under the lock: who was born meanwhile is locked too."""
        locked: set[int] = set()
        while True:
            family = {row[0] for row in self._select(self._queries.family, (execution,))}
            if family <= locked:
                return
            self._lock_rows(self._queries.lock_executions, (json.dumps(sorted(family)),))
            locked |= family

    def _lock_new_limits(self, write: SetLimits) -> None:
        places = [(write.project, name) for name, most in write.limits.items() if most is not None]
        if not all(self._select(self._queries.limit_of, place) for place in places):
            self._database.change(self._queries.lock_starts, ())

    def _lock_limits(self, project: str, names: Iterable[str | None]) -> None:
        listed = json.dumps(sorted({name for name in names if name is not None}))
        self._lock_rows(self._queries.lock_limits, (project, listed))

    def _start_limited(self, write: Start, row: ExecutionRow, values: Row) -> Started:
        self._database.single = False  # from here on it is more than one statement
        self._lock_limits(write.project, (write.queue, write.limit_key))
        return super()._start_limited(write, row, values)

    def _lock_memories(self, project: str, rows: Any) -> None:
        names = {json.dumps([project, row.scope_type, row.scope, row.key]) for row in rows}
        for name in sorted(names):
            self._lock_rows(self._queries.lock_memory, (name,))


def named_by(write: Start) -> set[str]:
    """The executions that a new one comes from: they stay as they are until it is there."""
    return {each for each in (write.parent_exec_id, write.original_exec_id) if each}
