"""The model of what is asked of executions and processes. See :mod:`kitaru._store.reference`."""

from __future__ import annotations

from collections.abc import Sequence

from kitaru._core.lifecycle import State
from kitaru._store.protocol import (
    ExecutionRow,
    Head,
    NoteRow,
    Owner,
    Recorded,
    RecordedAttempt,
)
from kitaru._store.reference.tables import Tables
from kitaru.errors import KitaruNotFoundError


class Reads(Tables):
    def find_execution(self, exec_id: str) -> ExecutionRow | None:
        with self._inside():
            found = (row for row in self._executions.values() if row.exec_id == exec_id)
            return next(found, None)

    def find_by_key(self, *, project: str, flow_id: str, key: str) -> ExecutionRow | None:
        named = (project, flow_id, key)
        with self._inside():
            found = (
                row
                for row in self._executions.values()
                if (row.project, row.flow_id, row.key) == named
            )
            return next(found, None)

    def get_status(self, execution: int) -> tuple[State, int, int | None]:
        with self._inside():
            if execution not in self._executions:
                raise KitaruNotFoundError(
                    f"there is no execution number {execution}: look at the list again",
                    code="row-gone",
                )
            row = self._executions[execution]
            return row.status, row.epoch, row.owner

    def _newest_first(self, project: str) -> list[ExecutionRow]:
        with self._inside():
            rows = sorted(self._executions.values(), reverse=True)
            return [row for row in rows if row.project == project]

    def search_executions(self, part: str, *, project: str, limit: int) -> list[ExecutionRow]:
        return [row for row in self._newest_first(project) if part in row.exec_id][:limit]

    def list_executions(
        self,
        *,
        project: str,
        flow: str | None = None,
        statuses: Sequence[State] = (),
        before: int | None = None,
        since: int | None = None,
        key: str | None = None,
        limit: int,
    ) -> list[ExecutionRow]:
        return [
            row
            for row in self._newest_first(project)
            if flow in (None, row.flow_id, row.flow_name)
            and (not statuses or row.status in statuses)
            and (before is None or row.id < before)
            and (since is None or row.id >= since)
            and key in (None, row.key)
        ][:limit]

    def first_from(self, exec_id: str) -> int | None:
        with self._inside():
            found = sorted((row.exec_id, row.id) for row in self._executions.values())
        return next((number for name, number in found if name >= exec_id), None)

    def list_heads(self, *, project: str, limit: int) -> list[Head]:
        return [
            Head(row.exec_id, row.flow_id, row.flow_name, row.status, row.created_at)
            for row in self._newest_first(project)
        ][:limit]

    def count_recorded(self, *, since: int) -> Recorded:
        with self._inside():
            executions = [row for row in self._executions.values() if row.id >= since]
            calls = [call for call in self._calls.values() if call.execution >= since]
            return Recorded(len(self._executions), len(self._calls), len(executions), len(calls))

    def list_unfinished(
        self, *, project: str, flow_ids: Sequence[str], limit: int, but_of: Sequence[int] = ()
    ) -> list[ExecutionRow]:
        wanted = {State.PENDING, State.RUNNING, State.CANCELLING}
        return [
            row
            for row in reversed(self._newest_first(project))
            if row.status in wanted
            and row.flow_id in flow_ids
            and (row.home if row.owner is None else row.owner) not in but_of
        ][:limit]

    def count_executions(self, *, project: str) -> dict[State, int]:
        counts: dict[State, int] = {}
        for row in self._newest_first(project):
            counts[row.status] = counts.get(row.status, 0) + 1
        return counts

    def list_attempts(self, execution: int) -> list[RecordedAttempt]:
        with self._inside():
            return list(self._attempts.get(execution, ()))

    def list_notes(self, execution: int) -> list[NoteRow]:
        with self._inside():
            return list(self._notes.get(execution, ()))

    def get_owner(self, owner: int) -> Owner:
        with self._inside():
            if owner not in self._owners:
                raise KitaruNotFoundError(
                    f"there is no process number {owner}: look at the list again", code="row-gone"
                )
            return self._owners[owner]

    def list_owners(self) -> list[Owner]:
        with self._inside():
            return [owner for owner in self._owners.values() if owner.died_at is None]
