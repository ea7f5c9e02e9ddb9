"""What a store answers when it is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kitaru._core.lifecycle import CallSource, CallState, State, WaitState
from kitaru._core.payload import Payload
from kitaru._store.protocol.rows import (
    ArtifactRow,
    CallRow,
    CodeRow,
    ExecutionRow,
    IntentRow,
    LearntRow,
    MemoryRow,
    NoteRow,
    WaitRow,
)


class Hint(NamedTuple):
    """What another process tells: worth a look, and nothing else. It may be wrong, or lost."""

    queued: bool = False
    """Something may be there to be claimed."""
    executions: frozenset[int] = frozenset()
    """To these something happened."""
    anything: bool = False
    """Something may have been missed: everybody looks."""

    def concerns(self, executions: Iterable[int]) -> bool:
        return self.anything or not self.executions.isdisjoint(executions)

    def and_also(self, other: Hint) -> Hint:
        return Hint(
            self.queued or other.queued,
            self.executions | other.executions,
            self.anything or other.anything,
        )


class Signs(NamedTuple):
    """What there may be to do, for one process: each a reason to look closer, or to wait."""

    changes: int
    """As :meth:`Store.changes` says it, at this very instant."""
    cancelling: bool
    """Something that it owns is being cancelled."""
    served: bool
    """Something that it serves is pending."""
    due_at: int | None
    """When the first of what waits goes on by itself, whoever serves it."""
    lapsed: bool
    """Somebody's lease is over, and nobody has declared him dead."""
    interrupted: bool
    """Somebody who was declared dead owns something of these flows."""
    suspects: bool
    """Something of these flows that may kill its process is pending."""
    queued_at: int | None
    """When the first of what is queued may be claimed."""


class Outcome(NamedTuple):
    """What resume loads of each recorded attempt, all of an execution in one query.

    ``reopened``: a final failure that a retry of the execution opened again;
    it counts as an attempt, but not as an outcome.
    """

    id: int
    identity: bytes
    attempt: int
    state: CallState
    retry_at: int | None
    reopened: bool
    reused_from: int | None


class Place(NamedTuple):
    """A recorded success, by where it was called: what drift is judged by."""

    parent: bytes | None
    parent_attempt: int
    branch: str
    checkpoint: str
    identity: bytes
    place: int
    arguments: str


class Reusable(NamedTuple):
    """A success that another execution may reuse."""

    id: int
    exec_id: str
    identity: bytes
    started_at: int
    ended_at: int
    payload: Payload


class RecordedCode(NamedTuple):
    digest: bytes
    parts: str
    execution: int
    """The execution in which this version was first recorded."""
    files: str | None
    unseen: str | None


class Sample(NamedTuple):
    """A recorded attempt of a call of some checkpoint: what it was called with."""

    id: int
    arguments: str
    inputs: str | None


class RecordedCall(NamedTuple):
    """A full row of a call, for looking at."""

    id: int
    row: CallRow
    reopened: bool
    reused_from: str | None
    """``exec_id:identity-hex`` of the source, where the call was reused."""


class PastCall(NamedTuple):
    """A recorded attempt without its value: what a replay decides by."""

    id: int
    identity: bytes
    attempt: int
    state: CallState
    retry_at: int | None
    reopened: bool
    source: CallSource
    seq: int
    place: int
    checkpoint: str
    named: str | None
    parent: bytes | None
    parent_attempt: int
    branch: str
    arguments: str
    code: bytes | None
    metadata: str | None
    started_at: int
    ended_at: int


class RecordedAttempt(NamedTuple):
    """A failed attempt of an execution."""

    attempt: int
    ended_at: int
    failure: Payload


class RecordedWait(NamedTuple):
    """A wait as it stands. ``payload`` is its answer, if it was answered."""

    id: int
    row: WaitRow
    state: WaitState
    closed_at: int | None
    closed_by: str | None
    payload: Payload | None


class KeptCall(NamedTuple):
    """A call as it travels. ``reused_from``: ``exec_id:identity-hex`` of its source."""

    row: CallRow
    reopened: bool
    reused_from: str | None


class Bundle(NamedTuple):
    """All that is recorded of one finished execution."""

    row: ExecutionRow
    calls: Sequence[KeptCall]
    attempts: Sequence[RecordedAttempt]
    learnt: Sequence[LearntRow]
    notes: Sequence[NoteRow]
    waits: Sequence[RecordedWait]
    intents: Sequence[IntentRow]
    artifacts: Sequence[ArtifactRow]
    codes: Sequence[CodeRow]

    def failed_attempt(self) -> int | None:
        """The attempt whose failure is the execution's failure."""
        failure = self.row.failure
        numbers = [one.attempt for one in self.attempts if one.failure == failure]
        return max(numbers, default=None)


class OpenWait(NamedTuple):
    """An open wait and the execution that it belongs to."""

    exec_id: str
    flow_name: str
    status: State
    wait: RecordedWait


class RecordedArtifact(NamedTuple):
    """A saved artifact; in a list the payload has no ``data``: ``find_artifact`` reads it."""

    id: int
    exec_id: str
    row: ArtifactRow


class RecordedMemory(NamedTuple):
    """A version of a key of memory. ``exec_id``: the execution that wrote it."""

    row: MemoryRow
    version: int
    exec_id: str | None


class Tombstone(NamedTuple):
    """What is left of an execution that was deleted."""

    exec_id: str
    project: str
    flow_id: str
    flow_name: str
    status: State
    created_at: int
    started_at: int | None
    ended_at: int | None
    deleted_at: int


class QueueRow(NamedTuple):
    """What is in a queue, as one look found it."""

    queue: str
    ready: int
    """Pending ones that may be claimed by now, room under limits or not."""
    delayed: int
    """Pending ones whose hour is still to come."""
    running: int
    since: int | None
    """Since when the oldest of those that are ready may be claimed: created, due, handed back,
    answered, retried, or left behind by the process that it waited for."""


class Head(NamedTuple):
    """What names an execution, without its payloads."""

    exec_id: str
    flow_id: str
    flow_name: str
    status: State
    created_at: int


class Recorded(NamedTuple):
    """How many executions and outcomes there are in all, and from some execution on."""

    executions: int
    calls: int
    recent_executions: int
    recent_calls: int
