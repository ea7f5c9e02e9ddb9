"""The store itself: how writes are applied, and every read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from kitaru._core.lifecycle import State
from kitaru._core.payload import Payload
from kitaru._store.protocol.executions import Start, Started
from kitaru._store.protocol.processes import Beat, Beaten
from kitaru._store.protocol.reads import (
    Head,
    Hint,
    OpenWait,
    Outcome,
    PastCall,
    Place,
    QueueRow,
    Recorded,
    RecordedArtifact,
    RecordedAttempt,
    RecordedCall,
    RecordedCode,
    RecordedMemory,
    RecordedWait,
    Reusable,
    Sample,
    Signs,
    Tombstone,
)
from kitaru._store.protocol.rows import (
    ExecutionRow,
    IntentRow,
    LearntRow,
    LimitRow,
    NoteRow,
    Owner,
    ScheduleRow,
    WorkerRow,
)
from kitaru._store.protocol.transactions import BodyTransactions
from kitaru._store.protocol.writes import Write

Overdue = tuple[Beat, Callable[[Any, BaseException | None], None]]
"""A heartbeat, and who is told what came of it."""

Late = Callable[[], Overdue | None]
"""Asked before each write, on any thread: a heartbeat that is overdue, or None."""


class Store(Protocol):
    """Durable state. One instance per process and location; safe to use from many threads."""

    project: str
    """Whose executions it keeps: part of every flow's identity and of every reuse key."""

    is_remote: bool
    """Whether it is reached over a network: it makes whoever asks wait, and may be away.

    It then raises ``KitaruBackendError`` with the code ``store-away``. A write that is
    repeated after that, the very same object, is done once, and has its answer.
    """

    transactions: BodyTransactions | None
    """For bodies whose own rows are to be committed together with their outcome; None: there
    are none here."""

    def apply(self, write: Write) -> Any:
        """Commit a write and return its answer; everything queued rides along.

        Raises :class:`Refused` if its precondition does not hold, and
        ``KitaruBackendError`` if the store cannot be written.
        """
        ...

    def beat(self, write: Beat) -> Beaten:
        """Commit a heartbeat: like :meth:`apply`, but behind nobody, where there is a way."""
        ...

    def carry(self, late: Late) -> None:
        """Commit with the next write, in its transaction, the heartbeat that is overdue by
        then. A store whose owners need no lease never asks."""
        ...

    def read_clock(self, at: int) -> int:
        """The instant by which the store judges leases; one without a clock takes ``at``'s."""
        ...

    def post(self, write: Write, done: Callable[[Any, BaseException | None], None]) -> None:
        """Queue a write; ``done(answer, error)`` is called after its commit, by the committer."""
        ...

    def flush(self, *, wait: bool) -> bool:
        """Commit what is queued. ``wait=False``: give up at once if the write lock is
        taken, here or by another process, and return False."""
        ...

    def find_execution(self, exec_id: str) -> ExecutionRow | None: ...

    def find_by_key(self, *, project: str, flow_id: str, key: str) -> ExecutionRow | None: ...

    def get_status(self, execution: int) -> tuple[State, int, int | None]:
        """(status, epoch, owner) of an execution that is known to exist."""
        ...

    def search_executions(self, part: str, *, project: str, limit: int) -> list[ExecutionRow]:
        """Executions whose id contains ``part``, newest first."""
        ...

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
        """Newest first; ``flow`` matches flow id or name; row ids from ``since`` to below
        ``before``."""
        ...

    def first_from(self, exec_id: str) -> int | None:
        """The row id of the execution whose id is the first that is not below ``exec_id``.

        Ids begin with the time, so this is where a time stands among the rows.
        """
        ...

    def list_heads(self, *, project: str, limit: int) -> list[Head]:
        """Newest first."""
        ...

    def count_recorded(self, *, since: int) -> Recorded:
        """All there is, and what executions with row id >= ``since`` have of it."""
        ...

    def count_outcomes(self, exec_id: str, *, limit: int) -> tuple[int, int]:
        """(calls that succeeded, attempts that failed) of an execution, of ``limit`` at most."""
        ...

    def list_unfinished(
        self, *, project: str, flow_ids: Sequence[str], limit: int, but_of: Sequence[int] = ()
    ) -> list[ExecutionRow]:
        """Pending, running and cancelling executions of these flows, oldest first; none that one
        of the processes ``but_of`` runs, or serves: however many those are, they hide no other."""
        ...

    def list_interrupted(
        self, *, project: str, flow_ids: Sequence[str], limit: int
    ) -> list[ExecutionRow]:
        """Running and cancelling executions of these flows whose owner was declared dead,
        oldest first: however many others run, they hide none of them."""
        ...

    def signs(
        self, owner: int, *, project: str, flow_ids: Sequence[str], queues: Sequence[str], at: int
    ) -> Signs:
        """What there may be to do for that process: all of it in one question."""
        ...

    def list_queues(self, *, project: str, at: int) -> list[QueueRow]:
        """How much stands in each queue, and how much of it runs, by name; empty ones are left
        out, and what its own living process goes on with. Reads what is not finished."""
        ...

    def list_limits(self, *, project: str) -> list[LimitRow]:
        """By name."""
        ...

    def list_slots(self, *, project: str) -> list[tuple[str, int, str]]:
        """(name, number, exec_id) of every place that is taken, by name and number."""
        ...

    def list_workers(self, *, project: str) -> list[WorkerRow]:
        """Those not declared dead, by owner."""
        ...

    def count_owned(self, *, project: str) -> dict[int, int]:
        """How many executions each process owns, of those that own any."""
        ...

    def list_due(
        self, *, project: str, at: int, limit: int, but_of: Sequence[int] = ()
    ) -> list[ExecutionRow]:
        """Waiting executions whose ``due_at`` has passed at ``at``, soonest first; none that one
        of the processes ``but_of`` serves: however many those are, they hide no other."""
        ...

    def next_due(self, *, project: str) -> int | None:
        """The earliest instant at which a waiting execution goes on by itself."""
        ...

    def list_owned(self, owner: int, *, statuses: Sequence[State]) -> list[tuple[str, State]]:
        """(exec_id, status) of the executions that this process owns, in these states."""
        ...

    def list_served(self, home: int, *, project: str, limit: int) -> list[ExecutionRow]:
        """Pending executions whose home is this process, oldest first: what it parked and
        what was answered since."""
        ...

    def list_children(self, exec_id: str, *, limit: int) -> list[ExecutionRow]:
        """The child executions of an execution, oldest first."""
        ...

    def find_child(self, exec_id: str, call: bytes) -> ExecutionRow | None: ...

    def list_waits(self, execution: int) -> list[RecordedWait]:
        """Every wait of the execution, in the order of opening."""
        ...

    def find_wait(self, execution: int, identity: bytes) -> RecordedWait | None: ...

    def list_open_waits(self, *, project: str, limit: int) -> list[OpenWait]:
        """Open waits of all executions of the project, oldest first."""
        ...

    def list_intents(self, execution: int) -> list[IntentRow]:
        """Every intent of the execution, in the order of recording."""
        ...

    def list_artifacts(
        self, execution: int, *, name: str | None = None, limit: int
    ) -> list[RecordedArtifact]:
        """What its checkpoints saved, without the values, in the order of recording."""
        ...

    def list_lent_artifacts(
        self, execution: int, *, name: str | None = None, limit: int
    ) -> list[tuple[bytes, RecordedArtifact]]:
        """What was saved where outcomes of this execution come from, without the values.

        Each with the identity of the reused or carried call of this execution, in the order of
        recording; calls that were copied from copies are followed to where the body ran.
        """
        ...

    def find_artifact(self, number: int) -> RecordedArtifact | None: ...

    def find_memory(
        self, *, project: str, scope_type: str, scope: str, key: str, version: int | None = None
    ) -> RecordedMemory | None:
        """This version of the key, or (None) its newest; a tombstone too."""
        ...

    def list_memories(
        self, *, project: str, scope_type: str, scope: str, limit: int
    ) -> list[RecordedMemory]:
        """The newest version of each key of the scope, by key; deleted ones are left out."""
        ...

    def list_versions(
        self, *, project: str, scope_type: str, scope: str, key: str, limit: int
    ) -> list[RecordedMemory]:
        """Every version of the key, tombstones too, newest first."""
        ...

    def list_scopes(self, *, project: str, limit: int) -> list[tuple[str, str]]:
        """(scope_type, scope) of all that was ever written, in order."""
        ...

    def list_expired(
        self, *, at: int, after: tuple[int, int] = (-1, 0), limit: int
    ) -> list[ExecutionRow]:
        """Finished executions of no parent here that have been kept long enough at ``at``.

        In the order in which their time was over, from behind (that instant, row id).
        """
        ...

    def list_unswept(self, *, limit: int) -> list[str]:
        """Deleted executions of which rows may be left."""
        ...

    def find_tombstone(self, exec_id: str) -> Tombstone | None: ...

    def list_stray_blobs(self, *, before: int) -> list[tuple[bytes, int]]:
        """(digest, bytes) of files that no row names and that are older than ``before``."""
        ...

    def drop_leftovers(self, *, before: int) -> int:
        """Remove half-written files of processes that died, older than ``before`` -> how many."""
        ...

    def changes(self) -> int:
        """A number that differs once anybody has committed anything since it was last asked:
        cheap, for polling."""
        ...

    def listen(self, heard: Callable[[Hint], None]) -> None:
        """Call ``heard`` with what other processes tell, on a thread of the store's own, until
        it is closed; once a store. Where nobody tells of anything it is never called."""
        ...

    @property
    def hears(self) -> bool:
        """Whether it would be called now. Looking at :meth:`changes` is never made needless."""
        ...

    def count_executions(self, *, project: str) -> dict[State, int]: ...

    def list_attempts(self, execution: int) -> list[RecordedAttempt]: ...

    def list_notes(self, execution: int) -> list[NoteRow]: ...

    def list_schedules(self, *, project: str, limit: int) -> list[ScheduleRow]:
        """All of the project, by the flow's id: those that are paused or dropped too."""
        ...

    def get_owner(self, owner: int) -> Owner: ...

    def list_owners(self) -> list[Owner]:
        """Those not declared dead."""
        ...

    def load_outcomes(self, execution: int) -> list[Outcome]:
        """Every recorded attempt of the execution, in the order of recording."""
        ...

    def load_learnt(self, execution: int) -> list[LearntRow]: ...

    def load_payloads(self, execution: int, calls: Sequence[int]) -> list[tuple[int, Payload]]:
        """Payloads of these calls of the execution, by id; those of others are left out.

        What comes behind a damaged one, or behind many bytes, may be missing;
        the first is not: if that one is damaged, ``KitaruValueError``.
        """
        ...

    def load_seconds(self, execution: int, calls: Sequence[int]) -> list[tuple[int, float]]:
        """How long the bodies of these calls of the execution took, by id."""
        ...

    def load_payload(self, call: int) -> Payload: ...

    def list_places(self, execution: int) -> list[Place]:
        """Recorded successes of the execution, by place. Read once, when a resume meets its
        first unrecorded call: a thousand branches must not read a thousand times."""
        ...

    def find_reusable(
        self, reuse_key: bytes, *, execution: int, before: int | None, since: int | None
    ) -> Reusable | None:
        """The newest success with this key in another execution, with a row id below
        ``before`` and ended at or after ``since``. A corrupt payload is skipped."""
        ...

    def list_codes(self, *, project: str, checkpoint: str, limit: int) -> list[RecordedCode]:
        """Versions of the checkpoint's code, newest first."""
        ...

    def sample_arguments(self, execution: int, *, checkpoint: str, limit: int) -> list[str]:
        """The ``arguments`` of some recorded calls of the checkpoint in that execution."""
        ...

    def list_samples(
        self, execution: int, *, checkpoint: str, before: int, limit: int
    ) -> list[Sample]:
        """Recorded attempts of the checkpoint with row id < ``before``, newest first."""
        ...

    def load_source(self, digest: bytes) -> bytes | None:
        """The compressed text of a source file, if it was kept. The reader checks it."""
        ...

    def find_checkpoint(self, execution: int, identity: bytes) -> str | None:
        """The checkpoint id of the recorded call with this identity."""
        ...

    def list_calls(self, execution: int, *, after: int = 0, limit: int) -> list[RecordedCall]:
        """Recorded attempts with row id > ``after``, by id."""
        ...

    def list_past(self, execution: int, *, upto: int) -> list[PastCall]:
        """Every recorded attempt with row id <= ``upto``, by id, without its value."""
        ...

    def examine(self, *, seconds: float | None) -> dict[str, Any]:
        """How it stands: ``problems`` (what a check of its integrity found) and whether the check
        was ``complete`` within ``seconds``, and the settings that its durability hangs on."""
        ...

    def info(self) -> dict[str, Any]:
        """Where the store is, its schema version, size in bytes, project, SQLite version."""
        ...

    def close(self) -> None: ...


class Joining(Protocol):
    """A transaction of the program's own, in which an execution is to be started."""

    transaction: str | None
    """Its number, once something was started in it."""

    def start(self, write: Start) -> Started:
        """What :meth:`Store.apply` does with it, but that the program commits. Whatever is
        raised has left the connection as it was, and its transaction fit for more."""
        ...


@runtime_checkable
class Joinable(Protocol):
    """A store in a database that the program has connections of its own to."""

    def join(self, connection: object) -> Joining:
        """``connection``: of psycopg or SQLAlchemy; ``KitaruUsageError`` says what is wrong."""
        ...

    async def join_async(self, connection: object) -> Joining:
        """The same with one that is for ``await``; start in it from another thread."""
        ...

    def fate_of(self, transaction: str) -> str | None:
        """``in progress``, ``committed``, ``aborted``; None: not known any more."""
        ...
