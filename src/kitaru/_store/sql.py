"""The store over named queries, shared by the databases.

Writes go through one connection and the group commit, reads through others.
What differs between databases is their SQL (``queries/*.sql``), how they
connect and what their errors mean; none of it is here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from kitaru._core.lifecycle import State
from kitaru._core.payload import Payload
from kitaru._store.blobs import INLINE_BYTES, BlobStore
from kitaru._store.commit import GroupCommit, Transactions
from kitaru._store.control_reads import ControlReads
from kitaru._store.facts import Session, payloads_of
from kitaru._store.housekeeping import HousekeepingReads
from kitaru._store.protocol import (
    NO_FACTS,
    Beat,
    Beaten,
    BodyTransactions,
    ExecutionRow,
    Head,
    Hint,
    Late,
    LearntRow,
    NoteRow,
    Outcome,
    Owner,
    PastCall,
    Place,
    Record,
    Recorded,
    RecordedAttempt,
    RecordedCall,
    RecordedCode,
    Reusable,
    Sample,
    ScheduleRow,
    Write,
)
from kitaru._store.queries import Queries
from kitaru._store.queueing import QueueReads
from kitaru._store.rows import Row, Rows, outcome, past_call, state_of
from kitaru._store.writes import Writes
from kitaru.env import Env
from kitaru.errors import KitaruNotFoundError

_NO_OTHERS = NO_FACTS[5:]

PREFETCH_BYTES = 16 * 1024 * 1024
"""What one ``load_payloads`` holds in memory at most, beyond its first payload."""


class Writer(Session, Transactions, Protocol):
    """The one connection that writes."""


class SqlStore(ControlReads, HousekeepingReads, QueueReads):
    """A :class:`kitaru._store.protocol.Store` on a database that speaks SQL."""

    is_remote = False
    transactions: BodyTransactions | None = None

    def __init__(
        self,
        *,
        writer: Writer,
        read: Callable[[str, Row], list[Row]],
        changes: Callable[[], int],
        check_use: Callable[[], None],
        queries: Queries,
        blobs: BlobStore,
        env: Env,
        project: str,
        writes: type[Writes] = Writes,
    ) -> None:
        self.project = project
        super().__init__(read, queries, Rows(blobs))
        self._writer = writer
        self._ask_changes = changes
        self._check_use = check_use
        self._blobs = blobs
        doing = writes(writer, queries, self._rows)
        self._commits = GroupCommit(
            writer, doing.perform, env.crash_point, doing.before_group, doing.perform_together
        )

    # --- writes ---

    def apply(self, write: Write) -> Any:
        self._check_use()
        self._keep_blobs(write)
        return self._commits.apply(write)

    def beat(self, write: Beat) -> Beaten:
        beaten: Beaten = self.apply(write)
        return beaten

    def carry(self, late: Late) -> None:
        """On one machine the operating system says who lives: there is nothing to renew."""

    def read_clock(self, at: int) -> int:
        ((now,),) = self._read(self._queries.read_clock, (at,))
        return int(now)

    def post(self, write: Write, done: Callable[[Any, BaseException | None], None]) -> None:
        self._check_use()
        self._keep_blobs(write)
        self._commits.post(write, done)

    def flush(self, *, wait: bool) -> bool:
        self._check_use()
        return self._commits.flush(wait=wait)

    def _read_warm(self, sql: str, values: Row) -> list[Row]:
        """A read of the hot path: through the write connection while nobody commits."""
        self._check_use()
        lead = self._commits.borrow()
        if lead is None:
            return self._read(sql, values)
        try:
            return self._writer.rows(sql, values)
        finally:
            lead.gone = True  # first, and no call: see GroupCommit.apply
            self._commits.give_back(lead)

    def _keep_blobs(self, write: Write) -> None:
        if type(write) is Record and write.facts[5:] == _NO_OTHERS:
            # The hot path: one call, a small value.
            for call in write.facts.calls:
                if len(call.payload.data) > INLINE_BYTES:
                    self._blobs.keep(call.payload)
            return
        for payload in payloads_of(write):
            if len(payload.data) > INLINE_BYTES:
                self._blobs.keep(payload)

    def changes(self) -> int:
        self._check_use()
        return self._ask_changes()

    def _changes_before(self) -> int:
        return self.changes()

    def listen(self, heard: Callable[[Hint], None]) -> None:
        """On one machine nobody tells: to look is cheap."""

    @property
    def hears(self) -> bool:
        return False

    # --- executions ---

    def find_execution(self, exec_id: str) -> ExecutionRow | None:
        found = self._read(self._queries.execution_by_exec_id, (exec_id,))
        return self._rows.execution(found[0], strict=True) if found else None

    def find_by_key(self, *, project: str, flow_id: str, key: str) -> ExecutionRow | None:
        found = self._read(self._queries.execution_by_key, (project, flow_id, key))
        return self._rows.execution(found[0], strict=True) if found else None

    def get_status(self, execution: int) -> tuple[State, int, int | None]:
        found = self._read(self._queries.status_of, (execution,))
        if not found:
            raise KitaruNotFoundError(
                f"there is no execution number {execution} in this store (any more): look again",
                code="row-gone",
            )
        status, epoch, owner = found[0]
        return state_of(status), epoch, owner

    def search_executions(self, part: str, *, project: str, limit: int) -> list[ExecutionRow]:
        return self._executions(self._queries.search_executions, (project, part, limit))

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
        values = (project, flow, before, limit, since, key)
        if not statuses:
            return self._executions(self._queries.list_executions, values)
        states = json.dumps([state.value for state in dict.fromkeys(statuses)])
        return self._executions(self._queries.list_by_status, (*values, states))

    def first_from(self, exec_id: str) -> int | None:
        found = self._read(self._queries.first_from, (exec_id,))
        return found[0][0] if found else None

    def list_heads(self, *, project: str, limit: int) -> list[Head]:
        found = self._read(self._queries.list_heads, (project, limit))
        return [Head(row[0], row[1], row[2], state_of(row[3]), row[4]) for row in found]

    def count_recorded(self, *, since: int) -> Recorded:
        return Recorded(*self._read(self._queries.count_recorded, (since,))[0])

    def count_outcomes(self, exec_id: str, *, limit: int) -> tuple[int, int]:
        rows: list[Any] = self._read(self._queries.count_outcomes, (exec_id, limit))
        found: dict[int, int] = dict(rows)
        return found.get(1, 0), found.get(0, 0)

    def list_unfinished(
        self, *, project: str, flow_ids: Sequence[str], limit: int, but_of: Sequence[int] = ()
    ) -> list[ExecutionRow]:
        values = (project, json.dumps(list(flow_ids)), limit, json.dumps(list(but_of)))
        return self._executions(self._queries.list_unfinished, values)

    def count_executions(self, *, project: str) -> dict[State, int]:
        found = self._read(self._queries.count_executions, (project,))
        return {state_of(status): count for status, count in found}

    def list_attempts(self, execution: int) -> list[RecordedAttempt]:
        return [
            RecordedAttempt(attempt, ended_at, self._rows.payload_or_mark(codec, data, checksum))
            for attempt, ended_at, codec, data, checksum in self._read(
                self._queries.list_attempts, (execution,)
            )
        ]

    def list_notes(self, execution: int) -> list[NoteRow]:
        return [NoteRow(*row) for row in self._read(self._queries.list_notes, (execution,))]

    # --- owners ---

    def get_owner(self, owner: int) -> Owner:
        found = self._read(self._queries.owner_by_id, (owner,))
        if not found:
            raise KitaruNotFoundError(
                f"there is no process number {owner} in this store (any more): look again",
                code="row-gone",
            )
        return Owner(*found[0])

    def list_owners(self) -> list[Owner]:
        return [Owner(*row) for row in self._read(self._queries.list_owners, ())]

    # --- schedules ---

    def list_schedules(self, *, project: str, limit: int) -> list[ScheduleRow]:
        found = self._read(self._queries.list_schedules, (project, limit))
        return [ScheduleRow(*row) for row in found]

    # --- calls ---

    def load_outcomes(self, execution: int) -> list[Outcome]:
        return [outcome(row) for row in self._read(self._queries.load_outcomes, (execution,))]

    def load_learnt(self, execution: int) -> list[LearntRow]:
        return [LearntRow(*row) for row in self._read(self._queries.load_learnt, (execution,))]

    def load_payloads(self, execution: int, calls: Sequence[int]) -> list[tuple[int, Payload]]:
        payloads: list[tuple[int, Payload]] = []
        size = 0
        for number, codec, data, checksum in self._read(
            self._queries.load_payloads, (execution, json.dumps(list(calls)))
        ):
            payload = self._rows.find_payload(codec, data, checksum)
            if payload is None:
                # The caller needs the first; a later one that is damaged is
                # its trouble only if it comes to need it.
                if not payloads:
                    self.load_payload(number)
                break
            payloads.append((number, payload))
            size += len(payload.data)
            if size > PREFETCH_BYTES:
                break
        return payloads

    def load_seconds(self, execution: int, calls: Sequence[int]) -> list[tuple[int, float]]:
        found = self._read(self._queries.load_seconds, (execution, json.dumps(list(calls))))
        return [(number, microseconds / 1e6) for number, microseconds in found]

    def load_payload(self, call: int) -> Payload:
        found = self._read(self._queries.load_payload, (call,))
        if not found:
            raise KitaruNotFoundError(
                f"there is no call number {call} in this store (any more): look again",
                code="row-gone",
            )
        codec, data, checksum, checkpoint, exec_id = found[0]
        what = f"the outcome of call {call} (checkpoint {checkpoint!r}) of execution {exec_id}"
        return self._rows.payload(codec, data, checksum, what=what, checkpoint=checkpoint)

    def list_places(self, execution: int) -> list[Place]:
        return [Place(*row) for row in self._read(self._queries.list_places, (execution,))]

    def find_reusable(
        self, reuse_key: bytes, *, execution: int, before: int | None, since: int | None
    ) -> Reusable | None:
        while found := self._read_warm(
            self._queries.find_reusable, (reuse_key, execution, before, since)
        ):
            number, exec_id, identity, started_at, ended_at, codec, data, checksum = found[0]
            payload = self._rows.find_payload(codec, data, checksum)
            if payload is not None:
                return Reusable(number, exec_id, identity, started_at, ended_at, payload)
            before = number  # Corrupt: a miss; the next older one may do.
        return None

    def list_codes(self, *, project: str, checkpoint: str, limit: int) -> list[RecordedCode]:
        found = self._read(self._queries.list_codes, (project, checkpoint, limit))
        return [RecordedCode(*row) for row in found]

    def sample_arguments(self, execution: int, *, checkpoint: str, limit: int) -> list[str]:
        found = self._read(self._queries.sample_arguments, (execution, checkpoint, limit))
        return [arguments for (arguments,) in found]

    def list_samples(
        self, execution: int, *, checkpoint: str, before: int, limit: int
    ) -> list[Sample]:
        values = (execution, checkpoint, before, limit)
        return [Sample(*row) for row in self._read(self._queries.list_samples, values)]

    def load_source(self, digest: bytes) -> bytes | None:
        found = self._read(self._queries.source_by_digest, (digest,))
        return found[0][0] if found else None

    def find_checkpoint(self, execution: int, identity: bytes) -> str | None:
        found = self._read(self._queries.find_checkpoint, (execution, identity))
        return found[0][0] if found else None

    def list_calls(self, execution: int, *, after: int = 0, limit: int) -> list[RecordedCall]:
        found = self._read(self._queries.list_calls, (execution, after, limit))
        return [self._rows.recorded_call(row) for row in found]

    def list_past(self, execution: int, *, upto: int) -> list[PastCall]:
        return [past_call(row) for row in self._read(self._queries.list_past, (execution, upto))]
