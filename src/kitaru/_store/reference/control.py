"""The model of waits, parking, cancelling and children. See :mod:`kitaru._store.reference`."""

from __future__ import annotations

from collections.abc import Sequence

from kitaru._core.lifecycle import FINISHED, Event, State, WaitState, after, states_before
from kitaru._store.protocol import (
    Answer,
    Cancel,
    ExecutionRow,
    Expire,
    Fenced,
    IntentRow,
    Missing,
    NotInState,
    OpenWait,
    Park,
    RecordedWait,
    WaitRow,
    Wake,
)
from kitaru._store.reference.tables import Tables

CANCELLABLE = states_before(Event.CANCEL) | {State.CANCELLING}


class Control(Tables):
    # --- writes ---

    def _park_owned(self, row: ExecutionRow, write: Park) -> ExecutionRow:
        """Park a running execution whose facts are recorded."""
        self._give_back_slots(row.id)
        instants = [at for at in (write.due_at, row.deadline_at) if at is not None]
        row = self._put(
            row._replace(
                status=after(row.status, Event.PARK),
                epoch=row.epoch + 1,
                owner=None,
                home=write.home,
                status_reason=write.reason,
                due_at=min(instants, default=None),
            )
        )
        is_due = row.due_at is not None and row.due_at <= write.at
        if is_due or self._has_arrived(write):
            row = self._wake_up(row, write.at)
        return row

    def _has_arrived(self, write: Park) -> bool:
        waits = (self._waits.get((write.execution, identity)) for identity in write.waits)
        if any(wait is not None and wait.state is not WaitState.OPEN for wait in waits):
            return True
        unfinished = {
            row.exec_id for row in self._executions.values() if row.status not in FINISHED
        }
        # One that is not here at all will never wake anybody.
        return not unfinished.issuperset(write.children)

    def _wake(self, write: Wake) -> bool:
        row = self._standing(write.execution)
        is_due = row.due_at is not None and row.due_at <= write.at
        if row.epoch != write.epoch or row.status is not State.WAITING or not is_due:
            return False
        self._wake_up(row, write.at)
        return True

    def _answer(self, write: Answer) -> ExecutionRow:
        row = self._standing(write.execution)
        wait = self._wait(row, write.identity)
        if wait.state is not WaitState.OPEN or _is_over(wait, write.at):
            raise NotInState(f"wait {wait.row.label} of {row.exec_id} is {wait.state}", row)
        self._waits[row.id, write.identity] = wait._replace(
            state=WaitState.ANSWERED,
            closed_at=write.at,
            closed_by=write.by,
            payload=write.payload,
        )
        return self._wake_up(row, write.at)

    def _expire(self, write: Expire) -> RecordedWait:
        row = self._standing(write.execution)
        wait = self._wait(row, write.identity)
        if wait.state is WaitState.OPEN and _is_over(wait, write.at):
            wait = wait._replace(state=WaitState.EXPIRED, closed_at=write.at)
            self._waits[row.id, write.identity] = wait
            self._wake_up(row, write.at)
        return wait

    def _wait(self, row: ExecutionRow, identity: bytes) -> RecordedWait:
        if (row.id, identity) not in self._waits:
            raise Missing(f"execution {row.exec_id} has no wait {identity.hex()}", row)
        return self._waits[row.id, identity]

    def _cancel(self, write: Cancel) -> list[tuple[str, State]]:
        row = self._standing(write.execution)
        if row.epoch != write.epoch:
            raise Fenced(f"execution {row.exec_id} is at epoch {row.epoch}", row)
        if write.wait is not None:
            wait = self._wait(row, write.wait)
            if wait.state is not WaitState.OPEN:
                raise NotInState(f"wait {wait.row.label} is {wait.state}", row)
        self._require(row, write.epoch, CANCELLABLE)
        answer = []
        for member in self._family(row):
            if member.status not in FINISHED:
                answer.append((member.exec_id, self._cancel_one(member, write)))
        return answer

    def _cancel_one(self, row: ExecutionRow, write: Cancel) -> State:
        if row.status is State.CANCELLING:
            return row.status
        status = after(row.status, Event.CANCEL)
        row = row._replace(status=status, status_reason=write.reason, due_at=None)
        if status is State.CANCELLED:
            row = row._replace(ended_at=write.at)
            return self._end(row, write.at, write.by).status
        self._put(row)
        self._abort_waits(row.id, write.at, write.by)
        return status

    def _family(self, row: ExecutionRow) -> list[ExecutionRow]:
        """The execution, then all that descends from it, in the order of their start."""
        names = {row.exec_id}
        while True:
            more = {
                other.exec_id
                for other in self._executions.values()
                if other.parent_exec_id in names
            }
            if more <= names:
                break
            names |= more
        others = [
            other
            for other in self._executions.values()
            if other.exec_id in names and other.id != row.id
        ]
        return [row, *sorted(others, key=lambda other: other.id)]

    # --- facts ---

    def _add_wait(self, execution: int, row: WaitRow) -> None:
        known = self._waits.get((execution, row.identity))
        if known is None:
            number = 1 + max((wait.id for wait in self._waits.values()), default=0)
            opened = RecordedWait(number, row, WaitState.OPEN, None, None, None)
            self._waits[execution, row.identity] = opened
        elif known.state is WaitState.ABORTED:
            again = known.row._replace(opened_at=row.opened_at, expires_at=row.expires_at)
            self._waits[execution, row.identity] = known._replace(
                row=again, state=WaitState.OPEN, closed_at=None, closed_by=None
            )

    def _add_intent(self, execution: int, row: IntentRow) -> None:
        place = (execution, row.identity, row.attempt)
        known = self._intents.get(place, row)
        self._intents[place] = known._replace(at=row.at)

    # --- reads ---

    def _rows_in_order(self) -> list[ExecutionRow]:
        with self._inside():
            return sorted(self._executions.values())

    def list_due(
        self, *, project: str, at: int, limit: int, but_of: Sequence[int] = ()
    ) -> list[ExecutionRow]:
        due = [
            (row.due_at, row)
            for row in self._rows_in_order()
            if row.project == project
            and row.status is State.WAITING
            and row.due_at is not None
            and row.due_at <= at
            and row.home not in but_of
        ]
        return [row for _, row in sorted(due)][:limit]

    def next_due(self, *, project: str) -> int | None:
        instants = [
            row.due_at
            for row in self._rows_in_order()
            if row.project == project and row.status is State.WAITING and row.due_at is not None
        ]
        return min(instants, default=None)

    def list_owned(self, owner: int, *, statuses: Sequence[State]) -> list[tuple[str, State]]:
        return [
            (row.exec_id, row.status)
            for row in self._rows_in_order()
            if row.owner == owner and row.status in statuses
        ]

    def list_served(self, home: int, *, project: str, limit: int) -> list[ExecutionRow]:
        return [
            row
            for row in self._rows_in_order()
            if (row.home, row.project, row.status) == (home, project, State.PENDING)
        ][:limit]

    def list_children(self, exec_id: str, *, limit: int) -> list[ExecutionRow]:
        return [row for row in self._rows_in_order() if row.parent_exec_id == exec_id][:limit]

    def find_child(self, exec_id: str, call: bytes) -> ExecutionRow | None:
        wanted = (exec_id, call)
        rows = self._rows_in_order()
        found = (row for row in rows if (row.parent_exec_id, row.parent_call) == wanted)
        return next(found, None)

    def list_waits(self, execution: int) -> list[RecordedWait]:
        with self._inside():
            return [wait for place, wait in self._waits.items() if place[0] == execution]

    def find_wait(self, execution: int, identity: bytes) -> RecordedWait | None:
        with self._inside():
            return self._waits.get((execution, identity))

    def list_open_waits(self, *, project: str, limit: int) -> list[OpenWait]:
        with self._inside():
            waits = [
                (wait.row.opened_at, wait.id, self._executions[execution], wait)
                for (execution, _), wait in self._waits.items()
                if wait.state is WaitState.OPEN
            ]
        return [
            OpenWait(row.exec_id, row.flow_name, row.status, wait)
            for _, _, row, wait in sorted(waits)
            if row.project == project
        ][:limit]

    def list_intents(self, execution: int) -> list[IntentRow]:
        with self._inside():
            return [row for place, row in self._intents.items() if place[0] == execution]


def _is_over(wait: RecordedWait, at: int) -> bool:
    return wait.row.expires_at is not None and wait.row.expires_at <= at
