"""What each write does inside its transaction, in named queries.

One method a write, shared by the databases; the guards stand in the SQL. Zero
rows changed is an answer: the method then looks why and raises the precise
refusal with the row that stands there. This file knows nothing of commits,
threads or connections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from kitaru._core.lifecycle import State
from kitaru._core.payload import Payload
from kitaru._store.control import ControlWrites
from kitaru._store.facts import Session, seen
from kitaru._store.housekeeping import HousekeepingWrites
from kitaru._store.importing import ImportWrites
from kitaru._store.owners import OwnerWrites
from kitaru._store.protocol import (
    AlreadyRecorded,
    Answer,
    Beat,
    Cancel,
    Claim,
    ClaimNext,
    DeclareDead,
    Delete,
    Draining,
    DropBlobs,
    DropSchedule,
    Enlist,
    ExecutionRow,
    Expire,
    Facts,
    Fenced,
    Finish,
    Fire,
    Forget,
    GiveUp,
    Import,
    NoRoom,
    Park,
    PauseSchedule,
    Reap,
    Record,
    RegisterOwner,
    Release,
    Remember,
    RemoveSchedule,
    Retry,
    SetLimits,
    SetSchedule,
    Start,
    Started,
    Sweep,
    TryAgain,
    Wake,
    Write,
)
from kitaru._store.queries import Queries
from kitaru._store.rows import Row, Rows
from kitaru._store.schedules import ScheduleWrites

_ONLY_CALLS = Facts()[1:]


class Writes(ControlWrites, HousekeepingWrites, ImportWrites, OwnerWrites, ScheduleWrites):
    def __init__(self, session: Session, queries: Queries, rows: Rows) -> None:
        super().__init__(session, queries, rows)
        self._methods: dict[type, Callable[[Any], Any]] = {
            RegisterOwner: self.register_owner,
            DeclareDead: self.declare_dead,
            Beat: self.beat,
            Reap: self.reap,
            Start: self.start,
            SetSchedule: self.set_schedule,
            DropSchedule: self.drop_schedule,
            PauseSchedule: self.pause_schedule,
            RemoveSchedule: self.remove_schedule,
            Fire: self.fire,
            Claim: self.claim,
            ClaimNext: self.claim_next,
            SetLimits: self.set_limits,
            Enlist: self.enlist,
            Draining: self.draining,
            Record: self.record,
            Finish: self.finish,
            TryAgain: self.try_again,
            Release: self.release,
            Retry: self.retry,
            GiveUp: self.give_up,
            Park: self.park,
            Wake: self.wake,
            Answer: self.answer,
            Expire: self.expire,
            Cancel: self.cancel,
            Remember: self.remember,
            Forget: self.forget,
            Delete: self.delete,
            Sweep: self.sweep,
            DropBlobs: self.drop_blobs,
            Import: self.import_,
        }

    def before_group(self, writes: Sequence[Write]) -> None:
        """Called in a transaction of several writes, before the first of them."""

    def perform_together(self, writes: Sequence[Write]) -> list[Exception | None] | None:
        """Perform and commit them all at once -> which were refused; None: one after another."""
        return None

    def perform(self, write: Write) -> Any:
        return self._methods[type(write)](write)

    # --- executions ---

    def start(self, write: Start) -> Started:
        row = born(write)
        values = self._start_values(write, row)
        found = self._select(self._queries.start_execution, (*values, False))
        if found:
            return Started(row._replace(id=found[0][0]), created=True)
        return self._find_started(write) or self._start_limited(write, row, values)

    def _start_values(self, write: Start, row: ExecutionRow) -> Row:
        return (
            *write[:5],
            write.inputs_digest,
            write.seed,
            write.spec,
            write.tags,
            write.code_folder,
            write.code_module,
            row.status,
            row.epoch,
            row.owner,
            row.home,
            row.created_at,
            row.started_at,
            row.parent_exec_id,
            row.parent_call,
            row.original_exec_id,
            row.deadline_at,
            row.keep_seconds,
            row.queue,
            row.priority,
            row.limit_key,
            row.due_at,
            *self._bind(write.inputs),
            write.parent_epoch,
        )

    def _start_limited(self, write: Start, row: ExecutionRow, values: Row) -> Started:
        """Its queue or its key has a limit: born running in a slot, or pending without one."""
        queries = self._queries
        names = (write.project, write.queue, write.limit_key)
        if not self._select(queries.has_room, names)[0][0]:
            return self.start(write._replace(owner=None, due_at=None))
        ((number,),) = self._select(queries.start_execution, (*values, True))
        self._change(queries.take_slots, (number,))
        return Started(row._replace(id=number), created=True)

    def _find_started(self, write: Start) -> Started | None:
        """What stands in the place of this start; None: nothing does."""
        if write.owner is not None and not self._is_alive(write.owner):
            raise Fenced(f"process {write.owner} was declared dead: it starts nothing any more")
        if write.parent_epoch is not None:
            self._require_parent(write)
        if write.parent_exec_id is not None and write.parent_call is not None:
            place = (write.parent_exec_id, write.parent_call)
            found = self._select(self._queries.child_by_call, place)
            if found:
                return Started(self._rows.execution(found[0], strict=True), created=False)
        if write.key is not None:
            found = self._select(
                self._queries.execution_by_key, (write.project, write.flow_id, write.key)
            )
            if found:
                return Started(self._rows.execution(found[0], strict=True), created=False)
        found = self._select(self._queries.execution_by_exec_id, (write.exec_id,))
        if found:
            raise AlreadyRecorded(
                f"an execution {write.exec_id} exists already",
                self._rows.execution(found[0], strict=False),
            )
        return None

    def _require_parent(self, write: Start) -> None:
        found = self._select(self._queries.execution_by_exec_id, (write.parent_exec_id,))
        parent = self._rows.execution(found[0], strict=False) if found else None
        if parent is None or (parent.epoch, parent.status) != (write.parent_epoch, State.RUNNING):
            how = "is not there" if parent is None else f"is {seen(parent)}"
            raise Fenced(f"the parent {write.parent_exec_id} starts nothing: it {how}", parent)

    def claim(self, write: Claim) -> ExecutionRow:
        queries = self._queries
        number, epoch, owner, dead, at = write
        if dead is None:
            found = self._select(queries.claim_pending, (number, epoch, owner, at))
            if not found:
                self._refuse_claim(write)
            self._take_slots(number, found[0][0])
        elif self._change(queries.take_over, (number, epoch, owner, dead)):
            self.declare_dead(DeclareDead(dead, at))
        else:
            self._refuse_claim(write)
        return self._standing(number, strict=True)

    def _refuse_claim(self, write: Claim) -> NoReturn:
        row = self._standing(write.execution)
        seen_as = (row.epoch, row.status, None)
        is_there = seen_as == (write.epoch, State.PENDING, write.from_owner)
        if is_there and self._is_alive(write.owner):
            if row.due_at is None or row.due_at <= write.at:
                self._refuse_room(row.id)
            raise NoRoom(f"execution {row.exec_id} is not due", row)
        raise Fenced(f"execution {row.exec_id} is not to be had: it is {seen(row)}", row)

    def release(self, write: Release) -> State:
        key = (write.execution, write.epoch)
        self._add_facts(*key, write.facts)
        if self._let_go(self._queries.release, (*key, write.at)):
            return State.PENDING
        if self._stop(*key, write.at):
            return State.CANCELLED
        self._refuse_owner(*key)

    def finish(self, write: Finish) -> State:
        queries = self._queries
        key = (write.execution, write.epoch)
        self._add_facts(*key, write.facts)
        end = (*key, write.at, write.reason)
        if write.failure is None:
            if self._end(queries.complete, (*end, *self._bind(write.result)), write.at):
                return State.COMPLETED
        elif self._end(queries.fail, (*end, _hex(write.failed_calls)), write.at):
            self._add_attempt(write.execution, write.at, write.failure)
            return State.FAILED
        if self._stop(*key, write.at):
            return State.CANCELLED
        self._refuse_owner(*key)

    def try_again(self, write: TryAgain) -> None:
        key = (write.execution, write.epoch)
        # Asked before the facts are added: a refusal shows what stands, not
        # what it has itself begun to change.
        before = self._standing(write.execution)
        if before.epoch != write.epoch or before.status is not State.RUNNING:
            self._refuse(before, write.epoch, "be tried again: only a running one is")
        self._add_facts(*key, write.facts)
        if not self._change(self._queries.try_again, key):
            self._refuse_owner(*key)
        self._add_attempt(write.execution, write.at, write.failure)
        self._reopen(write.execution, write.failed_calls)

    def retry(self, write: Retry) -> ExecutionRow:
        before = self._standing(write.execution)
        values = (write.execution, write.epoch, write.deadline_at, write.at)
        if not self._change(self._queries.retry, values):
            self._refuse(before, write.epoch, "be retried: only a failed one is")
        self._reopen(write.execution, before.failed_calls)
        return self._standing(write.execution, strict=True)

    def give_up(self, write: GiveUp) -> None:
        number, epoch, dead = write.execution, write.epoch, write.from_owner
        if dead is not None:
            # First taken from the dead, then given up: two rows of the table.
            if not self._change(self._queries.abandon, (number, epoch, dead)):
                self._refuse_taking_from(dead, number, epoch)
            self.declare_dead(DeclareDead(dead, write.at))
            epoch += 1
        values = (number, epoch, write.at, write.reason)
        if not self._end(self._queries.give_up, values, write.at):
            self._refuse(self._standing(number), epoch, "be given up: only what nobody runs is")
        self._add_attempt(number, write.at, write.failure)

    def _add_attempt(self, execution: int, at: int, failure: Payload) -> None:
        self._change(self._queries.add_attempt, (execution, at, *self._bind(failure)))

    def _reopen(self, execution: int, identities: Sequence[bytes]) -> None:
        for identity in identities:
            self._change(self._queries.reopen_call, (execution, identity))
            self._change(self._queries.reopen_wait, (execution, identity))

    # --- facts ---

    def record(self, write: Record) -> None:
        execution, epoch, facts = write
        if facts[1:] == _ONLY_CALLS and len(facts.calls) == 1:
            self._record_call(execution, epoch, facts.calls[0])  # the hot path
            return
        if not self._add_facts(execution, epoch, facts) and not self._select(
            self._queries.is_owned, (execution, epoch)
        ):
            self._refuse_owner(execution, epoch)

    def _refuse_taking_from(self, dead: int, execution: int, epoch: int) -> NoReturn:
        row = self._standing(execution)
        if row.status is State.RUNNING:
            raise Fenced(f"execution {row.exec_id} is not process {dead}'s: {seen(row)}", row)
        self._refuse(row, epoch, "be taken from its owner: it has none")


def born(write: Start) -> ExecutionRow:
    owned = write.owner is not None
    return ExecutionRow(
        id=0,
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


def _hex(identities: Sequence[bytes]) -> str:
    return " ".join(identity.hex() for identity in identities)
