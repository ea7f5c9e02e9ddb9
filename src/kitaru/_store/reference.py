"""The model of a store: the protocol over plain dicts, written to be read.

What a sentence of the protocol means is decided here first; the databases are
held against it by the conformance suite and by a stream of random operations.
It keeps nothing when the process ends, and asks nothing of threads but that
one at a time is inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kitaru._core.lifecycle import CallState, Event, State, WaitState, after, states_before
from kitaru._core.payload import Payload
from kitaru._store.carrying import Carrying
from kitaru._store.commit import AFTER_COMMIT, BEFORE_COMMIT
from kitaru._store.protocol import (
    AlreadyRecorded,
    Answer,
    Beat,
    Beaten,
    Cancel,
    Claim,
    ClaimNext,
    CodeRow,
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
    Head,
    Hint,
    Import,
    LearntRow,
    NoteRow,
    NotInState,
    Outcome,
    Owner,
    Park,
    PastCall,
    PauseSchedule,
    Place,
    Reap,
    Record,
    Recorded,
    RecordedAttempt,
    RecordedCall,
    RecordedCode,
    RegisterOwner,
    Release,
    Remember,
    RemoveSchedule,
    Retry,
    Reusable,
    Sample,
    SetLimits,
    SetSchedule,
    Start,
    Started,
    Sweep,
    TryAgain,
    Wake,
    Write,
)
from kitaru._store.reference_housekeeping import Housekeeping
from kitaru._store.reference_memory import Keeping
from kitaru._store.reference_owners import Owners
from kitaru._store.reference_schedules import Schedules
from kitaru._store.reference_tables import Call, Done
from kitaru.env import Env
from kitaru.errors import KitaruNotFoundError


class ReferenceStore(Carrying, Housekeeping, Keeping, Owners, Schedules):
    """A :class:`kitaru._store.protocol.Store` in memory."""

    def __init__(self, *, project: str, env: Env) -> None:
        super().__init__(project=project, env=env)
        self._methods: dict[type, Callable[[Any], Any]] = {
            RegisterOwner: self._register_owner,
            DeclareDead: self._declare_dead,
            Beat: self._beat,
            Reap: self._reap,
            Start: self._start,
            SetSchedule: self._set_schedule,
            DropSchedule: self._drop_schedule,
            PauseSchedule: self._pause_schedule,
            RemoveSchedule: self._remove_schedule,
            Fire: self._fire,
            Claim: self._claim,
            ClaimNext: self._claim_next,
            SetLimits: self._set_limits,
            Enlist: self._enlist,
            Draining: self._draining,
            Record: self._record,
            Finish: self._finish,
            TryAgain: self._try_again,
            Release: self._release,
            Retry: self._retry,
            GiveUp: self._give_up,
            Park: self._park,
            Wake: self._wake,
            Answer: self._answer,
            Expire: self._expire,
            Cancel: self._cancel,
            Remember: self._remember,
            Forget: self._forget,
            Delete: self._delete,
            Sweep: self._sweep,
            DropBlobs: self._drop_blobs,
            Import: self._import,
        }

    # --- writes: check everything, then change everything ---

    def apply(self, write: Write) -> Any:
        with self._inside():
            self._take_along()
            self.flush(wait=True)
            return self._perform(write)

    def _take_along(self) -> None:
        overdue = self._overdue()
        if overdue is not None:
            self._queue.append(overdue)

    def beat(self, write: Beat) -> Beaten:
        with self._inside():
            beaten: Beaten = self._perform(write)
        return beaten

    def read_clock(self, at: int) -> int:
        return at

    def post(self, write: Write, done: Done) -> None:
        with self._inside():
            self._take_along()
            self._queue.append((write, done))

    def flush(self, *, wait: bool) -> bool:
        with self._inside():
            queued, self._queue = self._queue, []
            answers: list[tuple[Done, Any, BaseException | None]] = []
            for write, done in queued:
                try:
                    answers.append((done, self._perform(write), None))
                except Exception as error:
                    answers.append((done, None, error))
        for done, answer, failure in answers:
            done(answer, failure)
        return True

    def _perform(self, write: Write) -> Any:
        answer = self._methods[type(write)](write)
        self._env.crash_point(BEFORE_COMMIT[type(write)])
        self._changes += 1
        self._env.crash_point(AFTER_COMMIT[type(write)])
        return answer

    # --- executions ---

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

    # --- facts ---

    def _record(self, write: Record) -> None:
        row = self._owned(write.execution, write.epoch)
        self._check_facts(row, write.facts)
        self._put(self._add_facts(row, write.facts))

    def _check_facts(self, row: ExecutionRow, facts: Facts) -> None:
        recorded = [call.row for call in self._calls_of(row.id)]
        for call in facts.calls:
            for other in recorded:
                same_call = other.identity == call.identity
                if same_call and (
                    other.state is CallState.COMPLETED or other.attempt == call.attempt
                ):
                    raise AlreadyRecorded(f"call {call.identity.hex()} has its outcome", row)
            recorded.append(call)
        learnt = set(self._learnt.get(row.id, ()))
        for fact in facts.learnt:
            if fact.identity in learnt:
                raise AlreadyRecorded(f"{fact.kind} {fact.identity.hex()} is learnt", row)
            learnt.add(fact.identity)
        saved = {(a.call, a.attempt, a.name) for of, a in self._artifacts.values() if of == row.id}
        for artifact in facts.artifacts:
            if (artifact.call, artifact.attempt, artifact.name) in saved:
                raise AlreadyRecorded(f"artifact {artifact.name} is saved", row)
            saved.add((artifact.call, artifact.attempt, artifact.name))
        asked = {m.row.identity for _, m in self._memories if m.exec_id == row.exec_id}
        for memory in facts.memories:
            if memory.identity is not None and memory.identity in asked:
                raise AlreadyRecorded(f"memory {memory.key} is written", row)
            asked.add(memory.identity)

    def _add_facts(self, row: ExecutionRow, facts: Facts) -> ExecutionRow:
        for call in facts.calls:
            number = self._next_number("calls")
            self._calls[number] = Call(number, row.id, call)
        for fact in facts.learnt:
            self._learnt.setdefault(row.id, {})[fact.identity] = fact
        for code in facts.codes:
            self._add_code(row, code)
        self._notes.setdefault(row.id, []).extend(facts.notes)
        for wait in facts.waits:
            self._add_wait(row.id, wait)
        for intent in facts.intents:
            self._add_intent(row.id, intent)
        for artifact in facts.artifacts:
            self._add_artifact(row.id, artifact)
        for memory in facts.memories:
            self._add_memory(row.project, memory, row.exec_id)
        return row if facts.metadata is None else row._replace(metadata=facts.metadata)

    def _add_code(self, row: ExecutionRow, code: CodeRow) -> None:
        version = (row.project, code.checkpoint, code.digest)
        known, execution = self._codes.setdefault(version, (code, row.id))
        if known.files is None and code.files is not None:
            self._codes[version] = (known._replace(files=code.files, unseen=code.unseen), execution)
        for source in code.sources:
            self._sources.setdefault(*source)

    # --- what stands there ---

    def _calls_of(self, execution: int) -> list[Call]:
        return [call for call in self._calls.values() if call.execution == execution]

    # --- reads ---

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

    def count_outcomes(self, exec_id: str, *, limit: int) -> tuple[int, int]:
        row = self.find_execution(exec_id)
        calls = [] if row is None else self._recorded(row.id)[:limit]
        completed = sum(call.row.state is CallState.COMPLETED for call in calls)
        return completed, len(calls) - completed

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

    def _recorded(self, execution: int) -> list[Call]:
        with self._inside():
            return self._calls_of(execution)

    def load_outcomes(self, execution: int) -> list[Outcome]:
        return [
            Outcome(
                call.id,
                call.row.identity,
                call.row.attempt,
                call.row.state,
                call.row.retry_at,
                call.reopened,
                call.row.reused_from,
            )
            for call in self._recorded(execution)
        ]

    def load_learnt(self, execution: int) -> list[LearntRow]:
        with self._inside():
            return list(self._learnt.get(execution, {}).values())

    def load_payloads(self, execution: int, calls: Sequence[int]) -> list[tuple[int, Payload]]:
        wanted = set(calls)
        return [(c.id, c.row.payload) for c in self._recorded(execution) if c.id in wanted]

    def load_seconds(self, execution: int, calls: Sequence[int]) -> list[tuple[int, float]]:
        found = [c for c in self._recorded(execution) if c.id in set(calls)]
        return [(c.id, (c.row.ended_at - c.row.started_at) / 1e6) for c in found]

    def load_payload(self, call: int) -> Payload:
        with self._inside():
            if call not in self._calls:
                raise KitaruNotFoundError(
                    f"there is no call number {call}: look at the list again", code="row-gone"
                )
            return self._calls[call].row.payload

    def list_places(self, execution: int) -> list[Place]:
        places = [
            Place(
                row.parent,
                row.parent_attempt,
                row.branch,
                row.checkpoint,
                row.identity,
                row.place,
                row.arguments,
            )
            for row in (call.row for call in self._recorded(execution))
            if row.state is CallState.COMPLETED
        ]
        return sorted(places, key=lambda place: place.place)

    def find_reusable(
        self, reuse_key: bytes, *, execution: int, before: int | None, since: int | None
    ) -> Reusable | None:
        with self._inside():
            for call in reversed(self._calls.values()):
                row = call.row
                if (
                    row.reuse_key == reuse_key
                    and row.state is CallState.COMPLETED
                    and call.execution != execution
                    and call.execution in self._executions
                    and (before is None or call.id < before)
                    and (since is None or row.ended_at >= since)
                ):
                    exec_id = self._executions[call.execution].exec_id
                    return Reusable(
                        call.id, exec_id, row.identity, row.started_at, row.ended_at, row.payload
                    )
        return None

    def list_codes(self, *, project: str, checkpoint: str, limit: int) -> list[RecordedCode]:
        with self._inside():
            versions = [
                RecordedCode(code.digest, code.parts, execution, code.files, code.unseen)
                for (in_project, _, _), (code, execution) in self._codes.items()
                if in_project == project and code.checkpoint == checkpoint
            ]
        return versions[::-1][:limit]

    def sample_arguments(self, execution: int, *, checkpoint: str, limit: int) -> list[str]:
        rows = (call.row for call in self._recorded(execution))
        return [row.arguments for row in rows if row.checkpoint == checkpoint][:limit]

    def list_samples(
        self, execution: int, *, checkpoint: str, before: int, limit: int
    ) -> list[Sample]:
        return [
            Sample(call.id, call.row.arguments, call.row.inputs)
            for call in reversed(self._recorded(execution))
            if call.row.checkpoint == checkpoint and call.id < before
        ][:limit]

    def load_source(self, digest: bytes) -> bytes | None:
        with self._inside():
            return self._sources.get(digest)

    def find_checkpoint(self, execution: int, identity: bytes) -> str | None:
        rows = (call.row for call in self._recorded(execution))
        return next((row.checkpoint for row in rows if row.identity == identity), None)

    def list_calls(self, execution: int, *, after: int = 0, limit: int) -> list[RecordedCall]:
        with self._inside():
            return [
                RecordedCall(call.id, call.row, call.reopened, self._source_of(call))
                for call in self._calls_of(execution)
                if call.id > after
            ][:limit]

    def list_past(self, execution: int, *, upto: int) -> list[PastCall]:
        return [
            PastCall(
                call.id,
                row.identity,
                row.attempt,
                row.state,
                row.retry_at,
                call.reopened,
                row.source,
                row.seq,
                row.place,
                row.checkpoint,
                row.named,
                row.parent,
                row.parent_attempt,
                row.branch,
                row.arguments,
                row.code,
                row.metadata,
                row.started_at,
                row.ended_at,
            )
            for call in self._recorded(execution)
            if call.id <= upto
            for row in (call.row,)
        ]

    def _source_of(self, call: Call) -> str | None:
        source = self._calls.get(call.row.reused_from or 0)
        if source is None:
            return self._gone_calls.get(call.row.reused_from or 0)
        deleted = self._deleted.get(source.execution)
        exec_id = deleted or self._executions[source.execution].exec_id
        return f"{exec_id}:{source.row.identity.hex()}"

    def changes(self) -> int:
        with self._inside():
            return self._changes

    def listen(self, heard: Callable[[Hint], None]) -> None:
        """Nobody is there but us."""

    @property
    def hears(self) -> bool:
        return False

    def examine(self, *, seconds: float | None) -> dict[str, Any]:
        return {
            "journal_mode": "memory",
            "synchronous": 0,
            "problems": [],
            "complete": True,
            "library": "none",
        }

    def info(self) -> dict[str, Any]:
        """Like a database's, as far as memory has an answer."""
        return {
            "backend": "memory",
            "location": ":memory:",
            "schema_version": 0,
            "project": self.project,
            "bytes": 0,
        }

    def close(self) -> None:
        with self._lock:
            self._closed = True
