"""The model of artifacts and memory. See :mod:`kitaru._store.reference`."""

from __future__ import annotations

from kitaru._core.lifecycle import CallSource
from kitaru._store.protocol import (
    ArtifactRow,
    Forget,
    MemoryRow,
    RecordedArtifact,
    RecordedMemory,
    Remember,
)
from kitaru._store.reference.tables import Call, Tables


class Keeping(Tables):
    # --- writes ---

    def _remember(self, write: Remember) -> int:
        return self._add_memory(write.project, write.row, None)

    def _forget(self, write: Forget) -> int:
        gone = [
            (project, memory)
            for project, memory in self._memories
            if (project, memory.row.scope_type, memory.row.scope) == write[:3]
            and write.key in (None, memory.row.key)
        ]
        self._memories = [entry for entry in self._memories if entry not in gone]
        return len(gone)

    def _add_memory(self, project: str, row: MemoryRow, exec_id: str | None) -> int:
        version = 1 + max((m.version for m in self._versions(project, *row[:3])), default=0)
        self._memories.append((project, RecordedMemory(row, version, exec_id)))
        return version

    def _add_artifact(self, execution: int, row: ArtifactRow) -> None:
        self._artifacts[self._next_number("artifacts")] = (execution, row)

    # --- reads ---

    def _versions(
        self, project: str, scope_type: str, scope: str, key: str
    ) -> list[RecordedMemory]:
        wanted = (scope_type, scope, key)
        with self._inside():
            return [m for p, m in self._memories if p == project and m.row[:3] == wanted]

    def list_artifacts(
        self, execution: int, *, name: str | None = None, limit: int
    ) -> list[RecordedArtifact]:
        with self._inside():
            return [
                self._listed_artifact(number)
                for number, (of, row) in self._artifacts.items()
                if of == execution and of in self._executions and name in (None, row.name)
            ][:limit]

    def list_lent_artifacts(
        self, execution: int, *, name: str | None = None, limit: int
    ) -> list[tuple[bytes, RecordedArtifact]]:
        lent = []
        with self._inside():
            for call in self._calls.values():
                origin = self._origin(call) if call.execution == execution else None
                while origin is not None:
                    whose = (origin.execution, origin.row.identity, origin.row.attempt)
                    for number, (of, row) in self._artifacts.items():
                        is_it = whose == (of, row.call, row.attempt) and name in (None, row.name)
                        if is_it and of in self._executions:
                            lent.append((number, call.row.identity))
                    origin = self._origin(origin)
            lent.sort()
            return [(call, self._listed_artifact(number)) for number, call in lent][:limit]

    def _origin(self, call: Call) -> Call | None:
        """The call that this one was copied from, if it is there."""
        if call.row.source not in (CallSource.REUSED, CallSource.CARRIED):
            return None
        origin = self._calls.get(call.row.reused_from or 0)
        return origin if origin is not None and origin.id < call.id else None

    def find_artifact(self, number: int) -> RecordedArtifact | None:
        with self._inside():
            is_there = number in self._artifacts and self._artifacts[number][0] in self._executions
            return self._recorded_artifact(number) if is_there else None

    def _listed_artifact(self, number: int) -> RecordedArtifact:
        found = self._recorded_artifact(number)
        payload = found.row.payload._replace(data=b"")
        return found._replace(row=found.row._replace(payload=payload))

    def _recorded_artifact(self, number: int) -> RecordedArtifact:
        execution, row = self._artifacts[number]
        return RecordedArtifact(number, self._executions[execution].exec_id, row)

    def find_memory(
        self, *, project: str, scope_type: str, scope: str, key: str, version: int | None = None
    ) -> RecordedMemory | None:
        found = self._versions(project, scope_type, scope, key)
        return next((m for m in reversed(found) if version in (None, m.version)), None)

    def list_memories(
        self, *, project: str, scope_type: str, scope: str, limit: int
    ) -> list[RecordedMemory]:
        newest: dict[str, RecordedMemory] = {}
        with self._inside():
            for of, memory in self._memories:
                if (of, memory.row.scope_type, memory.row.scope) == (project, scope_type, scope):
                    newest[memory.row.key] = memory
        by_key = [memory for _, memory in sorted(newest.items())]
        return [memory for memory in by_key if memory.row.payload is not None][:limit]

    def list_versions(
        self, *, project: str, scope_type: str, scope: str, key: str, limit: int
    ) -> list[RecordedMemory]:
        return self._versions(project, scope_type, scope, key)[::-1][:limit]

    def list_scopes(self, *, project: str, limit: int) -> list[tuple[str, str]]:
        with self._inside():
            scopes = {(m.row.scope_type, m.row.scope) for p, m in self._memories if p == project}
        return sorted(scopes)[:limit]
