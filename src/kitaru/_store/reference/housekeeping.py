"""The model of deleting and sweeping. See :mod:`kitaru._store.reference`."""

from __future__ import annotations

from typing import Any

from kitaru._core.lifecycle import FINISHED, CallState
from kitaru._store.protocol import (
    AlreadyRecorded,
    Delete,
    DropBlobs,
    ExecutionRow,
    Fenced,
    Import,
    NotInState,
    Sweep,
    Tombstone,
)
from kitaru._store.reference.queues import Queues
from kitaru._store.reference.tables import Call


class Housekeeping(Queues):
    def _delete(self, write: Delete) -> list[str]:
        row = self._standing(write.execution)
        if row.epoch != write.epoch:
            raise Fenced(f"execution {row.exec_id} is at epoch {row.epoch}", row)
        family = self._family(row)
        for member in family:
            if member.status not in FINISHED or self._is_needed(member, within=row):
                raise NotInState(f"execution {member.exec_id} is needed", row)
        for member in family:
            del self._executions[member.id]
            self._tombstones[member.exec_id] = Tombstone(
                member.exec_id,
                member.project,
                member.flow_id,
                member.flow_name,
                member.status,
                member.created_at,
                member.started_at,
                member.ended_at,
                write.at,
            )
            self._deleted[member.id] = member.exec_id
            self._unswept[member.exec_id] = member.id
            own = (row.project, "execution", member.exec_id)
            self._memories = [
                (project, memory)
                for project, memory in self._memories
                if (project, memory.row.scope_type, memory.row.scope) != own
            ]
        return [member.exec_id for member in family]

    def _is_needed(self, row: ExecutionRow, *, within: ExecutionRow) -> bool:
        """Whether somebody unfinished needs it: its parent, or a replay of it."""
        unfinished = [one for one in self._executions.values() if one.status not in FINISHED]
        needed = {one.original_exec_id for one in unfinished}
        parents = {one.exec_id for one in unfinished}
        return row.exec_id in needed or (row.id == within.id and row.parent_exec_id in parents)

    def _sweep(self, write: Sweep) -> int:
        execution = self._unswept.get(write.exec_id)
        if execution is None:
            return 0
        removed = self._sweep_calls(execution, write)
        removed += _take(self._attempts.get(execution, []), write.limit - removed)
        removed += _take(self._learnt.get(execution, {}), write.limit - removed)
        removed += _take(self._notes.get(execution, []), write.limit - removed)
        for waits_or_intents in (self._waits, self._intents):
            mine = [place for place in waits_or_intents if place[0] == execution]
            for place in mine[: write.limit - removed]:
                del waits_or_intents[place]  # type: ignore[arg-type]
                removed += 1
        saved = [number for number, (of, _) in self._artifacts.items() if of == execution]
        for number in saved[: write.limit - removed]:
            del self._artifacts[number]
            removed += 1
        if removed < write.limit:
            del self._unswept[write.exec_id]
        return removed

    def _sweep_calls(self, execution: int, write: Sweep) -> int:
        calls = [call for call in self._calls.values() if call.execution == execution]
        sources = {call.row.reused_from for call in self._calls.values()}
        for call in calls[: write.limit]:
            del self._calls[call.id]
            if call.id in sources:
                self._gone_calls[call.id] = f"{write.exec_id}:{call.row.identity.hex()}"
        return min(len(calls), write.limit)

    def _drop_blobs(self, write: DropBlobs) -> list[bytes]:
        return []  # it has no files

    def _import(self, write: Import) -> list[ExecutionRow]:
        for bundle in write.bundles:
            new = bundle.row
            for row in self._executions.values():
                same_flow = (row.project, row.flow_id) == (new.project, new.flow_id)
                same_key = new.key is not None and same_flow and row.key == new.key
                if row.exec_id == new.exec_id or same_key:
                    raise AlreadyRecorded(f"execution {new.exec_id}, or its key, is here")
        rows = []
        for bundle in write.bundles:
            row = bundle.row._replace(id=self._next_number("executions"))
            rows.append(self._put(row))
            self._attempts[row.id] = list(bundle.attempts)
            self._learnt[row.id] = {fact.identity: fact for fact in bundle.learnt}
            self._notes[row.id] = list(bundle.notes)
            for wait in bundle.waits:
                number = 1 + max((one.id for one in self._waits.values()), default=0)
                self._waits[row.id, wait.row.identity] = wait._replace(id=number)
            for intent in bundle.intents:
                self._add_intent(row.id, intent)
            for artifact in bundle.artifacts:
                self._artifacts[self._next_number("artifacts")] = (row.id, artifact)
            for code in bundle.codes:
                self._codes.setdefault((row.project, code.checkpoint, code.digest), (code, row.id))
        for row, bundle in zip(rows, write.bundles, strict=True):
            for kept in bundle.calls:
                source = self._source_named(kept.reused_from)
                number = self._next_number("calls")
                call = Call(number, row.id, kept.row._replace(reused_from=source), kept.reopened)
                self._calls[number] = call
        return rows

    def _source_named(self, name: str | None) -> int | None:
        if name is None:
            return None
        ids = {row.id: row.exec_id for row in self._executions.values()}
        for call in self._calls.values():
            here = f"{ids.get(call.execution)}:{call.row.identity.hex()}"
            if here == name and call.row.state is CallState.COMPLETED:
                return call.id
        for number, gone in self._gone_calls.items():
            if gone == name:
                return number
        number = min((0, *self._gone_calls)) - 1
        self._gone_calls[number] = name
        return number

    # --- reads ---

    def list_expired(
        self, *, at: int, after: tuple[int, int] = (-1, 0), limit: int
    ) -> list[ExecutionRow]:
        rows = self._rows_in_order()
        there = {row.exec_id for row in rows}
        over = [
            (row.ended_at + row.keep_seconds * 1_000_000, row.id, row)
            for row in rows
            if row.status in FINISHED
            and row.keep_seconds is not None
            and row.ended_at is not None
            and row.parent_exec_id not in there
        ]
        return [row for end, number, row in sorted(over) if end <= at and (end, number) > after][
            :limit
        ]

    def list_unswept(self, *, limit: int) -> list[str]:
        with self._inside():
            found = sorted((number, exec_id) for exec_id, number in self._unswept.items())
        return [exec_id for _, exec_id in found][:limit]

    def find_tombstone(self, exec_id: str) -> Tombstone | None:
        with self._inside():
            return self._tombstones.get(exec_id)

    def list_stray_blobs(self, *, before: int) -> list[tuple[bytes, int]]:
        return []

    def drop_leftovers(self, *, before: int) -> int:
        return 0


def _take(table: list[Any] | dict[bytes, Any], limit: int) -> int:
    """Remove the first ``limit`` of a table of one execution -> how many."""
    gone = list(table)[:limit]
    if isinstance(table, list):
        del table[: len(gone)]
    else:
        for identity in gone:
            del table[identity]
    return len(gone)
