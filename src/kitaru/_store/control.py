"""What happens to executions that wait, and to those that are cancelled; what is remembered.

Every end of an execution passes through :meth:`ControlWrites._end`, which aborts what it
still asked for and lets its waiting parent go on, in the same transaction.
"""

from __future__ import annotations

import json

from kitaru._core.lifecycle import FINISHED, State, WaitState
from kitaru._store.protocol import (
    Answer,
    Cancel,
    ExecutionRow,
    Expire,
    Forget,
    Missing,
    NotInState,
    Park,
    RecordedWait,
    Remember,
    Wake,
)
from kitaru._store.queueing import QueueWrites
from kitaru._store.rows import Row, state_of


class ControlWrites(QueueWrites):
    # --- ends ---

    def _end(self, sql: str, values: Row, at: int, by: str | None = None) -> bool:
        """Run a statement that ends an execution, and what an end entails."""
        found = self._select(sql, values)
        if not found:
            return False
        parent, has_open_waits, has_slots = found[0]
        if has_open_waits:
            self._change(self._queries.abort_waits, (values[0], at, by))
        if has_slots:
            self._give_back_slots(values[0])
        if parent is not None:
            self._wake_parent(parent, at)
        return True

    def _wake_parent(self, parent: str, at: int) -> list[Row]:
        """-> what was woken, as (number, epoch)."""
        found = self._select(self._queries.waiting_epoch, (parent,))
        return [key for key in found if self._change(self._queries.wake, (*key, at))]

    def _stop(self, execution: int, epoch: int, at: int) -> bool:
        return self._end(self._queries.stopped, (execution, epoch, at), at)

    def _let_go(self, sql: str, values: Row) -> bool:
        """Run a statement by which an owner lets go of an execution that goes on later."""
        found = self._select(sql, values)
        if found and found[0][0]:
            self._give_back_slots(values[0])
        return bool(found)

    # --- waiting ---

    def park(self, write: Park) -> State:
        queries = self._queries
        key = (write.execution, write.epoch)
        self._add_facts(*key, write.facts)
        values = (*key, write.home, write.reason, write.due_at)
        if not self._let_go(queries.park, values):
            if self._stop(*key, write.at):
                return State.CANCELLED
            self._refuse_owner(*key)
        parked = (write.execution, write.epoch + 1, write.at)
        if self._change(queries.wake_due, parked):
            return State.PENDING
        if self._has_arrived(write) and self._change(queries.wake, parked):
            return State.PENDING
        return State.WAITING

    def _has_arrived(self, write: Park) -> bool:
        waits = json.dumps([identity.hex() for identity in write.waits])
        if self._select(self._queries.wait_is_closed, (write.execution, waits))[0][0]:
            return True
        children = json.dumps(list(write.children))
        return bool(self._select(self._queries.child_is_finished, (children,))[0][0])

    def wake(self, write: Wake) -> bool:
        if self._change(self._queries.wake_due, write):
            return True
        self._standing(write.execution)
        return False

    def answer(self, write: Answer) -> ExecutionRow:
        key = (write.execution, write.identity)
        values = (*key, write.at, write.by, *self._bind(write.payload))
        if not self._change(self._queries.answer_wait, values):
            self._refuse_wait(*key, "is not to be answered any more")
        return self._woken(write.execution, write.at)

    def expire(self, write: Expire) -> RecordedWait:
        if self._change(self._queries.expire_wait, write):
            self._woken(write.execution, write.at)
        return self._wait(write.execution, write.identity)

    def _woken(self, execution: int, at: int) -> ExecutionRow:
        """The execution as it stands, pending if it was waiting."""
        row = self._standing(execution)
        if row.status is State.WAITING:
            self._change(self._queries.wake, (execution, row.epoch, at))
            row = self._standing(execution)
        return row

    def _wait(self, execution: int, identity: bytes) -> RecordedWait:
        found = self._select(self._queries.find_wait, (execution, identity))
        if not found:
            row = self._standing(execution)
            raise Missing(f"execution {row.exec_id} has no wait {identity.hex()}", row)
        return self._rows.recorded_wait(found[0])

    def _refuse_wait(self, execution: int, identity: bytes, what: str) -> None:
        wait = self._wait(execution, identity)
        row = self._standing(execution)
        # One that is open still was refused because its time is over.
        state = "past its time" if wait.state is WaitState.OPEN else str(wait.state)
        raise NotInState(f"wait {wait.row.label!r} of {row.exec_id} {what}: it is {state}", row)

    # --- cancelling ---

    def cancel(self, write: Cancel) -> list[tuple[str, State]]:
        row = self._standing(write.execution)
        if row.epoch != write.epoch:
            self._refuse(row, write.epoch, "be cancelled")
        wait = write.wait
        if wait is not None and self._wait(row.id, wait).state is not WaitState.OPEN:
            self._refuse_wait(row.id, wait, "is not to be aborted")
        if row.status in FINISHED:
            self._refuse(row, write.epoch, "be cancelled")
        answer = []
        for number, exec_id, epoch, status in self._select(self._queries.family, (row.id,)):
            state = state_of(status)
            if state not in FINISHED:
                answer.append((exec_id, self._cancel_one(number, epoch, state, write)))
        return answer

    def _cancel_one(self, number: int, epoch: int, state: State, write: Cancel) -> State:
        queries = self._queries
        if state is State.CANCELLING:
            return state
        if state is State.RUNNING:
            self._change(queries.cancel_running, (number, epoch, write.reason))
            self._change(queries.abort_waits, (number, write.at, write.by))
            return State.CANCELLING
        values = (number, epoch, write.reason, write.at)
        self._end(queries.cancel_idle, values, write.at, write.by)
        return State.CANCELLED

    # --- memory ---

    def remember(self, write: Remember) -> int:
        row = write.row
        values = (write.project, *row[:3], row.identity, row.at, *self._bind(row.payload))
        ((version,),) = self._select(self._queries.remember, values)
        return int(version)

    def forget(self, write: Forget) -> int:
        return self._change(self._queries.forget, write)
