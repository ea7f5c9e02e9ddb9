"""The model of executions: from their start to their end. See :mod:`kitaru._store.reference`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kitaru._core.lifecycle import CallState, Event, State, WaitState, after, states_before
from kitaru._core.payload import Payload
from kitaru._store.protocol import (
    AlreadyRecorded,
    Claim,
    DeclareDead,
    ExecutionRow,
    Fenced,
    Finish,
    GiveUp,
    NotInState,
    Park,
    RecordedAttempt,
    Release,
    Retry,
    Start,
    Started,
    TryAgain,
)
from kitaru._store.reference.facts import Recording
from kitaru._store.reference.queues import Queues


class Executions(Recording, Queues):
    def _start(self, write: Start) -> Started:
        if write.owner is not None and not self._is_alive(write.owner):
            raise Fenced(f"process {write.owner} is dead")
        if write.parent_epoch is not None:
            self._require_parent(write)
        for row in self._executions.values():
            call = (write.parent_exec_id, write.parent_call)
            if None not in call and (row.parent_exec_id, row.parent_call) == call:
                return Started(row, created=False)
        for row in self._executions.values():
            same_flow = (row.project, row.flow_id) == (write.project, write.flow_id)
            if write.key is not None and same_flow and row.key == write.key:
                return Started(row, created=False)
        for row in self._executions.values():
            if row.exec_id == write.exec_id:
                raise AlreadyRecorded(f"execution {write.exec_id} exists", row)
        owned = write.owner is not None
        row = ExecutionRow(
            id=self._next_number("executions"),
            exec_id=write.exec_id,
            project=write.project,
            flow_id=write.flow_id,
            flow_name=write.flow_name,
            status=State.RUNNING if owned else State.PENDING,
            status_reason=None,
            epoch=1 if owned else 0,
            owner=write.owner,
            home=write.home,
            deaths=0,
            attempt=1,
            key=write.key,
            inputs_digest=write.inputs_digest,
            inputs=write.inputs,
            result=None,
            failure=None,
            failed_calls=(),
            seed=write.seed,
            spec=write.spec,
            metadata="{}",
            tags=write.tags,
            code_folder=write.code_folder,
            code_module=write.code_module,
            created_at=write.at,
            started_at=write.at if owned else None,
            ended_at=None,
            due_at=None if owned else write.due_at,
            parent_exec_id=write.parent_exec_id,
            parent_call=write.parent_call,
            original_exec_id=write.original_exec_id,
            deadline_at=write.deadline_at,
            keep_seconds=write.keep_seconds,
            queue=write.queue,
            priority=write.priority,
            limit_key=write.limit_key,
        )
        if row.owner is not None and self._has_room(row):
            self._take_slots(row)
        elif row.owner is not None:
            row = row._replace(status=State.PENDING, epoch=0, owner=None, started_at=None)
        self._executions[row.id] = row
        return Started(row, created=True)

    def _require_parent(self, write: Start) -> None:
        rows = self._executions.values()
        parent = next((row for row in rows if row.exec_id == write.parent_exec_id), None)
        if parent is None or (parent.epoch, parent.status) != (write.parent_epoch, State.RUNNING):
            raise Fenced(f"the parent {write.parent_exec_id} does not run any more", parent)

    def _claim(self, write: Claim) -> ExecutionRow:
        row = self._standing(write.execution)
        event = Event.CLAIM if write.from_owner is None else Event.TAKE_OVER
        allowed = (
            row.epoch == write.epoch
            and row.status in states_before(event)
            and row.owner == write.from_owner
            and write.owner != write.from_owner
            and self._is_alive(write.owner)
            and (write.from_owner is None or self._may_lose(write.from_owner))
        )
        if not allowed:
            raise Fenced(f"execution {row.exec_id} is not to be had", row)
        if write.from_owner is None:
            self._require_room(row, write.at)
            return self._take(row, write.owner, write.at)
        row = self._count_death(row, write.from_owner, write.at)
        status = after(row.status, event)
        return self._put(row._replace(status=status, epoch=row.epoch + 1, owner=write.owner))

    def _count_death(self, row: ExecutionRow, owner: int, at: int) -> ExecutionRow:
        """The row with its owner's death counted; the owner is dead from now on."""
        self._declare_dead(DeclareDead(owner, at))
        newest = max((call.id for call in self._calls_of(row.id)), default=0)
        recorded_since = newest > self._call_at_death.get(row.id, 0)
        self._call_at_death[row.id] = newest
        return row._replace(deaths=1 if recorded_since else row.deaths + 1)

    def _release(self, write: Release) -> State:
        row = self._owned(write.execution, write.epoch)
        self._check_facts(row, write.facts)
        row = self._add_facts(row, write.facts)
        if row.status is State.CANCELLING:
            return self._stop(row, write.at).status
        self._give_back_slots(row.id)
        self._queued_at[row.id] = write.at
        status = after(row.status, Event.RELEASE)
        row = row._replace(status=status, epoch=row.epoch + 1, owner=None, home=None)
        return self._put(row).status

    def _finish(self, write: Finish) -> State:
        row = self._owned(write.execution, write.epoch)
        self._check_facts(row, write.facts)
        row = self._add_facts(row, write.facts)
        if row.status is State.CANCELLING:
            return self._stop(row, write.at).status
        row = row._replace(owner=None, ended_at=write.at, status_reason=write.reason)
        if write.failure is not None:
            row = row._replace(failed_calls=tuple(write.failed_calls))
            row = self._fail(row, Event.FAIL, write.failure, write.at)
            return self._end(row, write.at).status
        status = after(row.status, Event.COMPLETE)
        done = row._replace(status=status, result=write.result, failure=None, failed_calls=())
        return self._end(done, write.at).status

    def _stop(self, row: ExecutionRow, at: int) -> ExecutionRow:
        status = after(row.status, Event.STOPPED)
        return self._end(row._replace(status=status, owner=None, ended_at=at), at)

    def _fail(self, row: ExecutionRow, event: Event, failure: Payload, at: int) -> ExecutionRow:
        attempts = self._attempts.setdefault(row.id, [])
        attempts.append(RecordedAttempt(row.attempt, at, failure))
        return self._put(row._replace(status=after(row.status, event), failure=failure))

    def _try_again(self, write: TryAgain) -> None:
        row = self._owned(write.execution, write.epoch)
        if row.status not in states_before(Event.TRY_AGAIN):
            raise NotInState(f"execution {row.exec_id} is {row.status}", row)
        self._check_facts(row, write.facts)
        row = self._add_facts(row, write.facts)
        row = self._fail(row, Event.TRY_AGAIN, write.failure, write.at)
        self._put(row._replace(attempt=row.attempt + 1))
        self._reopen(row.id, write.failed_calls)

    def _retry(self, write: Retry) -> ExecutionRow:
        row = self._standing(write.execution)
        self._require(row, write.epoch, states_before(Event.RETRY))
        self._reopen(row.id, row.failed_calls)
        self._queued_at[row.id] = write.at
        return self._put(
            row._replace(
                status=after(row.status, Event.RETRY),
                attempt=row.attempt + 1,
                deaths=0,
                failed_calls=(),
                ended_at=None,
                status_reason=None,
                deadline_at=write.deadline_at,
            )
        )

    def _give_up(self, write: GiveUp) -> None:
        row = self._standing(write.execution)
        if write.from_owner is None:
            self._require(row, write.epoch, states_before(Event.GIVE_UP))
        else:
            self._require(row, write.epoch, frozenset({State.RUNNING}))
            if row.owner != write.from_owner or not self._may_lose(write.from_owner):
                raise Fenced(f"execution {row.exec_id} is not process {write.from_owner}'s", row)
            # Taken from the dead first, then given up.
            row = self._count_death(row, write.from_owner, write.at)
            status = after(row.status, Event.RELEASE)
            row = row._replace(status=status, owner=None, epoch=row.epoch + 1)
        row = row._replace(
            ended_at=write.at, status_reason=write.reason, failed_calls=(), due_at=None
        )
        self._end(self._fail(row, Event.GIVE_UP, write.failure, write.at), write.at)

    def _park(self, write: Park) -> State:
        row = self._owned(write.execution, write.epoch)
        self._check_facts(row, write.facts)
        row = self._add_facts(row, write.facts)
        if row.status is State.CANCELLING:
            return self._stop(row, write.at).status
        return self._park_owned(row, write).status

    def _reopen(self, execution: int, identities: Sequence[bytes]) -> None:
        for call in self._calls_of(execution):
            row = call.row
            final = row.state is CallState.FAILED and row.retry_at is None
            if final and row.identity in identities:
                self._calls[call.id] = replace(call, reopened=True)
        for identity in identities:
            wait = self._waits.get((execution, identity))
            if wait is not None and wait.state is WaitState.EXPIRED:
                self._waits[execution, identity] = wait._replace(state=WaitState.ABORTED)
