"""Reads about waiting, children, artifacts and memory, shared by the databases."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from kitaru._core.lifecycle import State
from kitaru._store.protocol import (
    ExecutionRow,
    IntentRow,
    OpenWait,
    RecordedArtifact,
    RecordedMemory,
    RecordedWait,
)
from kitaru._store.queries import Queries
from kitaru._store.rows import Row, Rows, state_of


class ControlReads:
    def __init__(self, read: Callable[[str, Row], list[Row]], queries: Queries, rows: Rows) -> None:
        self._read = read
        self._queries = queries
        self._rows = rows

    def _executions(self, sql: str, values: Row) -> list[ExecutionRow]:
        return [self._rows.execution(row, strict=False) for row in self._read(sql, values)]

    # --- who goes on ---

    def list_due(
        self, *, project: str, at: int, limit: int, but_of: Sequence[int] = ()
    ) -> list[ExecutionRow]:
        values = (project, at, limit, json.dumps(list(but_of)))
        return self._executions(self._queries.list_due, values)

    def next_due(self, *, project: str) -> int | None:
        found = self._read(self._queries.next_due, (project,))
        return found[0][0] if found else None

    def list_owned(self, owner: int, *, statuses: Sequence[State]) -> list[tuple[str, State]]:
        states = json.dumps([state.value for state in statuses])
        found = self._read(self._queries.list_owned, (owner, states))
        return [(exec_id, state_of(status)) for exec_id, status, _ in found]

    def list_served(self, home: int, *, project: str, limit: int) -> list[ExecutionRow]:
        return self._executions(self._queries.list_served, (home, project, limit))

    # --- children ---

    def list_children(self, exec_id: str, *, limit: int) -> list[ExecutionRow]:
        return self._executions(self._queries.list_children, (exec_id, limit))

    def find_child(self, exec_id: str, call: bytes) -> ExecutionRow | None:
        found = self._read(self._queries.child_by_call, (exec_id, call))
        return self._rows.execution(found[0], strict=True) if found else None

    # --- waits and intents ---

    def list_waits(self, execution: int) -> list[RecordedWait]:
        found = self._read(self._queries.list_waits, (execution,))
        return [self._rows.recorded_wait(row) for row in found]

    def find_wait(self, execution: int, identity: bytes) -> RecordedWait | None:
        found = self._read(self._queries.find_wait, (execution, identity))
        return self._rows.recorded_wait(found[0]) if found else None

    def list_open_waits(self, *, project: str, limit: int) -> list[OpenWait]:
        found = self._read(self._queries.list_open_waits, (project, limit))
        return [
            OpenWait(row[0], row[1], state_of(row[2]), self._rows.recorded_wait(row[3:]))
            for row in found
        ]

    def list_intents(self, execution: int) -> list[IntentRow]:
        return [IntentRow(*row) for row in self._read(self._queries.list_intents, (execution,))]

    # --- artifacts and memory ---

    def list_artifacts(
        self, execution: int, *, name: str | None = None, limit: int
    ) -> list[RecordedArtifact]:
        found = self._read(self._queries.list_artifacts, (execution, name, limit))
        return [self._rows.listed_artifact(row) for row in found]

    def list_lent_artifacts(
        self, execution: int, *, name: str | None = None, limit: int
    ) -> list[tuple[bytes, RecordedArtifact]]:
        found = self._read(self._queries.list_lent_artifacts, (execution, name, limit))
        return [(row[0], self._rows.listed_artifact(row[1:])) for row in found]

    def find_artifact(self, number: int) -> RecordedArtifact | None:
        found = self._read(self._queries.find_artifact, (number,))
        return self._rows.recorded_artifact(found[0]) if found else None

    def _memories(self, sql: str, values: Row) -> list[RecordedMemory]:
        return [self._rows.recorded_memory(row) for row in self._read(sql, values)]

    def find_memory(
        self, *, project: str, scope_type: str, scope: str, key: str, version: int | None = None
    ) -> RecordedMemory | None:
        values = (project, scope_type, scope, key, version)
        return next(iter(self._memories(self._queries.find_memory, values)), None)

    def list_memories(
        self, *, project: str, scope_type: str, scope: str, limit: int
    ) -> list[RecordedMemory]:
        return self._memories(self._queries.list_memories, (project, scope_type, scope, limit))

    def list_versions(
        self, *, project: str, scope_type: str, scope: str, key: str, limit: int
    ) -> list[RecordedMemory]:
        values = (project, scope_type, scope, key, limit)
        return self._memories(self._queries.list_versions, values)

    def list_scopes(self, *, project: str, limit: int) -> list[tuple[str, str]]:
        found = self._read(self._queries.list_scopes, (project, limit))
        return [(scope_type, scope) for scope_type, scope in found]
