"""What the model of a store holds, and what all of its writes share.

Plain dicts, one for each table, and the few rules that no single write owns: what an
owner has to prove, and what else happens when an execution ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kitaru._core.lifecycle import Event, State, WaitState, after
from kitaru._store.protocol import (
    ArtifactRow,
    CallRow,
    CodeRow,
    ExecutionRow,
    Fenced,
    IntentRow,
    LearntRow,
    Missing,
    NoteRow,
    NotInState,
    Owner,
    RecordedAttempt,
    RecordedMemory,
    RecordedWait,
    ScheduleRow,
    Tombstone,
    WorkerRow,
    Write,
)
from kitaru.env import Env
from kitaru.errors import KitaruBackendError

Done = Callable[[Any, BaseException | None], None]

OWNED = frozenset({State.RUNNING, State.CANCELLING})


@dataclass(frozen=True)
class Call:
    id: int
    execution: int
    row: CallRow
    reopened: bool = False


class Tables:
    is_remote = False
    transactions = None

    def __init__(self, *, project: str, env: Env) -> None:
        self.project = project
        self._env = env
        self._lock = threading.RLock()
        self._queue: list[tuple[Write, Done]] = []
        self._closed = False
        self._changes = 0
        self._owners: dict[int, Owner] = {}
        self._executions: dict[int, ExecutionRow] = {}
        self._calls: dict[int, Call] = {}
        self._attempts: dict[int, list[RecordedAttempt]] = {}
        self._learnt: dict[int, dict[bytes, LearntRow]] = {}
        self._notes: dict[int, list[NoteRow]] = {}
        self._codes: dict[tuple[str, str, bytes], tuple[CodeRow, int]] = {}
        self._sources: dict[bytes, bytes] = {}
        self._call_at_death: dict[int, int] = {}
        self._queued_at: dict[int, int] = {}
        """Since when executions are pending again."""
        self._waits: dict[tuple[int, bytes], RecordedWait] = {}
        self._intents: dict[tuple[int, bytes, int], IntentRow] = {}
        self._artifacts: dict[int, tuple[int, ArtifactRow]] = {}
        self._memories: list[tuple[str, RecordedMemory]] = []
        self._schedules: dict[tuple[str, str], ScheduleRow] = {}
        self._tombstones: dict[str, Tombstone] = {}
        self._deleted: dict[int, str] = {}
        self._unswept: dict[str, int] = {}
        self._gone_calls: dict[int, str] = {}
        self._limits: dict[tuple[str, str], int] = {}
        self._slots: dict[tuple[str, str, int], int] = {}
        self._workers: dict[int, WorkerRow] = {}
        self._numbers = {"executions": 0, "calls": 0, "artifacts": 0}
        """The last one given of each: none is ever given again."""

    @contextmanager
    def _inside(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise KitaruBackendError("the store was closed: open it again", code="store-closed")
            yield

    def _next_number(self, table: str) -> int:
        self._numbers[table] += 1
        return self._numbers[table]

    # --- what stands there ---

    def _standing(self, execution: int) -> ExecutionRow:
        if execution not in self._executions:
            raise Missing(f"there is no execution number {execution}")
        return self._executions[execution]

    def _owned(self, execution: int, epoch: int) -> ExecutionRow:
        row = self._standing(execution)
        self._require(row, epoch, OWNED)
        return row

    def _require(self, row: ExecutionRow, epoch: int, states: frozenset[State]) -> None:
        if row.epoch != epoch:
            raise Fenced(f"execution {row.exec_id} is at epoch {row.epoch}", row)
        if row.status not in states:
            raise NotInState(f"execution {row.exec_id} is {row.status}", row)

    def _calls_of(self, execution: int) -> list[Call]:
        return [call for call in self._calls.values() if call.execution == execution]

    def _put(self, row: ExecutionRow) -> ExecutionRow:
        self._executions[row.id] = row
        return row

    # --- what else happens when an execution goes on or ends ---

    def _wake_up(self, row: ExecutionRow, at: int) -> ExecutionRow:
        """Pending, if it is waiting."""
        if row.status is not State.WAITING:
            return row
        self._queued_at[row.id] = at
        status = after(row.status, Event.WAKE)
        return self._put(row._replace(status=status, due_at=None, status_reason=None))

    def _end(self, row: ExecutionRow, at: int, by: str | None = None) -> ExecutionRow:
        """Put down an end: its open waits are aborted, its waiting parent goes on."""
        self._abort_waits(row.id, at, by)
        self._give_back_slots(row.id)
        self._put(row)
        for other in self._executions.values():
            if other.exec_id == row.parent_exec_id:
                self._wake_up(other, at)
                break
        return row

    def _give_back_slots(self, execution: int) -> None:
        self._slots = {place: of for place, of in self._slots.items() if of != execution}

    def _abort_waits(self, execution: int, at: int, by: str | None) -> None:
        for place, wait in self._waits.items():
            if place[0] == execution and wait.state is WaitState.OPEN:
                self._waits[place] = wait._replace(
                    state=WaitState.ABORTED, closed_at=at, closed_by=by
                )
