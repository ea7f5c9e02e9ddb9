"""What the engine asks of a store: writes, answers, reads.

A *write* is a value; applying one is one transaction and one sentence of the
manual, written as the docstring of its class. Every write for a running
execution carries the owner's epoch and takes effect only if that epoch still
rules; what it does when it does not is to raise :class:`Fenced` and change
nothing. Writes queued together are committed together, each on its own terms:
one that is refused does not fail its neighbours.

A store knows nothing of user values (it keeps bytes), of clocks (every write
carries its instants, in microseconds since the epoch) or of threads waiting
for executions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from kitaru._core.lifecycle import CallSource, CallState, State, WaitKind, WaitState
from kitaru._core.payload import Payload


class Owner(NamedTuple):
    """A process that may own executions. Once declared dead it never lives again.

    ``lock_name`` is a fresh random name; on one host the process holds the
    operating system's lock on the file of that name for as long as it lives.
    """

    id: int
    lock_name: str
    pid: int
    host: str
    started_at: int
    died_at: int | None


class ExecutionRow(NamedTuple):
    """An execution as recorded. ``owner`` is set exactly while running or cancelling."""

    id: int
    exec_id: str
    project: str
    flow_id: str
    flow_name: str
    status: State
    status_reason: str | None
    epoch: int
    owner: int | None
    home: int | None
    """The process that started or parked it and will serve it while it lives."""
    deaths: int
    """Deaths of owners since the last new outcome."""
    attempt: int
    key: str | None
    inputs_digest: bytes
    inputs: Payload | None
    result: Payload | None
    failure: Payload | None
    """How the last attempt failed: an encoded failure record."""
    failed_calls: tuple[bytes, ...]
    """Identities of the calls whose exception left the flow: what a retry runs again."""
    seed: bytes
    spec: str
    metadata: str
    tags: str
    code_folder: str | None
    code_module: str | None
    created_at: int
    started_at: int | None
    ended_at: int | None
    due_at: int | None
    parent_exec_id: str | None
    parent_call: bytes | None
    original_exec_id: str | None
    deadline_at: int | None
    """When it fails whatever it does: absolute."""
    keep_seconds: int | None
    """How long it is kept after its end; None: until somebody deletes it."""


class CallRow(NamedTuple):
    """The outcome of one attempt of one call, as it is recorded.

    ``state`` completed: ``payload`` is the value; failed: the encoded
    exception, and ``retry_at`` says when the next attempt is due (None: final).
    Only rows that ran carry a ``reuse_key``.
    """

    identity: bytes
    attempt: int
    state: CallState
    source: CallSource
    seq: int
    place: int
    """Which call of this checkpoint in (parent, branch) this is, from 0."""
    n: int
    checkpoint: str
    named: str | None
    kind: str | None
    parent: bytes | None
    parent_attempt: int
    branch: str
    arguments: str
    """JSON: argument name -> hex digest of its canonical encoding."""
    inputs: str | None
    """JSON preview of the arguments, at most 4 KiB."""
    inputs_digest: bytes
    reuse_key: bytes | None
    code: bytes | None
    """Digest of the code fingerprint; its parts are a :class:`CodeRow`."""
    reused_from: int | None
    reason: str
    metadata: str | None
    retry_at: int | None
    started_at: int
    ended_at: int
    payload: Payload


class SourceRow(NamedTuple):
    """A source file as it was: ``digest`` is BLAKE2b-256 of the text, ``text`` is compressed."""

    digest: bytes
    text: bytes


class CodeRow(NamedTuple):
    """A version of a checkpoint's code: ``parts`` is JSON, name -> digest of each function.

    ``files`` is JSON, module -> hex digest of its source; None where nobody
    looked. ``unseen`` is a JSON list of what the fingerprint cannot see. A version
    that is known keeps what it has, but for ``files`` that it has not, and then
    both. ``sources`` are those that the store may not have yet.
    """

    checkpoint: str
    digest: bytes
    parts: str
    files: str | None = None
    unseen: str | None = None
    sources: Sequence[SourceRow] = ()


class LearntRow(NamedTuple):
    """A fact the execution has learnt (a ``now()``), by the identity of its asking."""

    identity: bytes
    kind: str
    value: str


class NoteRow(NamedTuple):
    kind: str
    message: str
    at: int


class WaitRow(NamedTuple):
    """What an execution asks of people and programs, as it is opened.

    ``label`` is what people call it: its name, or ``wait_condition:0``. ``schema`` is JSON
    Schema of the answer (None: a gate). ``default`` is what it comes to when it expires;
    without one it comes to an error. ``call`` is what a decision is about.
    """

    identity: bytes
    kind: WaitKind
    label: str
    name: str | None
    question: str | None
    schema: str | None
    metadata: str | None
    branch: str
    call: bytes | None
    opened_at: int
    expires_at: int | None
    default: Payload | None


class IntentRow(NamedTuple):
    """Recorded before the body of a call with ``effect="once"`` starts.

    An attempt with an intent and no outcome, whose owner is gone, is uncertain.
    """

    identity: bytes
    attempt: int
    seq: int
    place: int
    n: int
    checkpoint: str
    named: str | None
    kind: str | None
    parent: bytes | None
    parent_attempt: int
    branch: str
    arguments: str
    inputs: str | None
    inputs_digest: bytes
    at: int


class ArtifactRow(NamedTuple):
    """What a checkpoint saved by name, recorded with the outcome of its attempt."""

    call: bytes
    attempt: int
    name: str
    save_type: str
    tags: str
    at: int
    payload: Payload


class MemoryRow(NamedTuple):
    """A new version of a key of durable memory; ``payload`` None: a tombstone.

    ``identity`` is that of the asking, where an execution wrote it. The version is
    given by the store: one more than the last.
    """

    scope_type: str
    scope: str
    key: str
    identity: bytes | None
    at: int
    payload: Payload | None


class Facts(NamedTuple):
    """What rides in one transaction of an execution besides its own transition."""

    calls: Sequence[CallRow] = ()
    learnt: Sequence[LearntRow] = ()
    codes: Sequence[CodeRow] = ()
    notes: Sequence[NoteRow] = ()
    metadata: str | None = None
    """JSON: the execution's whole metadata from now on."""
    waits: Sequence[WaitRow] = ()
    """Opened. One that is known already stays as it is, but for one that was aborted (an
    earlier attempt of the execution ended while it was open): that one is opened anew."""
    intents: Sequence[IntentRow] = ()
    """One that is known already (a person said: run it) gets the new instant."""
    artifacts: Sequence[ArtifactRow] = ()
    memories: Sequence[MemoryRow] = ()
    """One asking writes once: a second one is :class:`AlreadyRecorded`."""


NO_FACTS = Facts()


# --- writes ------------------------------------------------------------------


class RegisterOwner(NamedTuple):
    """Name a process that may own executions -> its :class:`Owner`."""

    lock_name: str
    pid: int
    host: str
    at: int


class DeclareDead(NamedTuple):
    """Declare a process dead, for ever; nothing if it already was -> bool: whether it changed."""

    owner: int
    at: int


class Start(NamedTuple):
    """Record a new execution, or find the one that has its key -> :class:`Started`.

    With ``owner`` it is born running at epoch 1, owned; else pending at epoch
    0. With a key that (project, flow) already has, nothing is written and the
    existing execution is the answer. An owner that was declared dead gets
    :class:`Fenced`.

    A child names its parent's call: the same (parent, call) is the same child, as with
    a key. With ``parent_epoch`` it is born, or found, only while its parent runs at that
    epoch; else :class:`Fenced`.
    """

    exec_id: str
    project: str
    flow_id: str
    flow_name: str
    key: str | None
    inputs_digest: bytes
    inputs: Payload
    seed: bytes
    spec: str
    tags: str
    code_folder: str | None
    code_module: str | None
    owner: int | None
    home: int | None
    at: int
    parent_exec_id: str | None = None
    parent_call: bytes | None = None
    original_exec_id: str | None = None
    parent_epoch: int | None = None
    deadline_at: int | None = None
    keep_seconds: int | None = None


class Started(NamedTuple):
    row: ExecutionRow
    created: bool


class Claim(NamedTuple):
    """Take a pending execution, or a running one from a dead owner -> :class:`ExecutionRow`.

    What it waited for is past: ``due_at`` is None from now on.

    Conditioned on the epoch that the claimer saw and, for a running one, on
    ``from_owner`` still being its owner; that owner is declared dead in the
    same transaction and counts as a death: ``deaths`` becomes 1 if a call was
    recorded since the last death, else one more. The epoch grows by one. Who
    comes too late gets :class:`Fenced`, as does an owner that is dead itself.
    """

    execution: int
    epoch: int
    owner: int
    from_owner: int | None
    at: int


class Record(NamedTuple):
    """Record outcomes and what was learnt, in one transaction -> None."""

    execution: int
    epoch: int
    facts: Facts


class Finish(NamedTuple):
    """Make an execution completed (``result``) or failed (``failure``) -> None.

    From running only; from cancelling it becomes cancelled whatever it
    returned, and the answer is the row's status, which says so. However an execution
    ends, its open waits are aborted and its parent, if that is waiting, becomes pending.
    """

    execution: int
    epoch: int
    result: Payload | None
    failure: Payload | None
    failed_calls: Sequence[bytes]
    reason: str | None
    facts: Facts
    at: int


class TryAgain(NamedTuple):
    """Record a failed attempt of a flow and begin the next one, under the same owner -> None.

    ``failed_calls`` are opened again: their final failures no longer count as outcomes.
    """

    execution: int
    epoch: int
    failure: Payload
    failed_calls: Sequence[bytes]
    facts: Facts
    at: int


class Release(NamedTuple):
    """Hand a running execution back: pending, without an owner -> :class:`State`.

    The epoch grows by one. Not a death. A cancelling one becomes cancelled.
    """

    execution: int
    epoch: int
    facts: Facts
    at: int


class Retry(NamedTuple):
    """Open a failed execution again: pending, attempt + 1, deaths 0 -> :class:`ExecutionRow`.

    The calls in its ``failed_calls`` are opened again; a wait among them that had
    expired is asked anew, once the flow comes to it. ``deadline_at`` is its deadline from
    now on. Conditioned on the epoch seen.
    """

    execution: int
    epoch: int
    at: int
    deadline_at: int | None = None


class GiveUp(NamedTuple):
    """Fail an execution that nobody runs, with a reason (poison) -> None.

    A running one only if ``from_owner`` is its owner, who is declared dead in
    the same transaction and whose death counts like any.
    """

    execution: int
    epoch: int
    from_owner: int | None
    failure: Payload
    reason: str
    at: int


class Park(NamedTuple):
    """Let go of a running execution that only waits -> :class:`State`.

    It becomes waiting, without an owner, the epoch one higher, to go on at ``due_at`` by
    itself (None: when something arrives). If something has arrived already (one of
    ``waits`` is closed, one of ``children`` is finished, ``due_at`` has passed) it becomes
    pending in the same transaction. One that is cancelling becomes cancelled instead.
    ``home`` serves it from now on, while it lives. Its deadline is an instant at which it
    goes on too: ``due_at`` is never later.
    """

    execution: int
    epoch: int
    waits: Sequence[bytes]
    children: Sequence[str]
    due_at: int | None
    reason: str
    home: int | None
    facts: Facts
    at: int


class Wake(NamedTuple):
    """Make a waiting execution pending, once it is due -> bool: whether it was.

    Its ``due_at`` has passed at ``at``. Conditioned on the epoch seen: False if it has gone on.
    """

    execution: int
    epoch: int
    at: int


class Answer(NamedTuple):
    """Close an open wait with its input -> :class:`ExecutionRow`, as it stands then.

    The first answer wins; :class:`NotInState` if it is closed, or if it has expired at
    ``at``; :class:`Missing` if there is no such wait. An execution that is waiting becomes
    pending; one that runs sees it there.
    """

    execution: int
    identity: bytes
    payload: Payload
    by: str
    at: int


class Expire(NamedTuple):
    """Close an open wait whose time is over at ``at`` -> the :class:`RecordedWait` as it is then.

    Nothing if it was closed before, or has time left. An execution that is waiting becomes
    pending.
    """

    execution: int
    identity: bytes
    at: int


class Cancel(NamedTuple):
    """Cancel an execution and all its descendants -> list of (exec_id, :class:`State` after).

    What runs becomes cancelling, until its code has stopped; what is pending or waiting
    is cancelled at once. Open waits of theirs are aborted by ``by``. With ``wait`` that wait
    has to be open; else :class:`NotInState`. What is finished is left alone and not listed;
    if the execution itself is, :class:`NotInState`. One that is cancelling stays so, and is
    listed. The execution stands first, its descendants follow in the order of their start.
    Conditioned on the epoch seen; those of the descendants are what stands there.
    """

    execution: int
    epoch: int
    by: str
    reason: str
    at: int
    wait: bytes | None = None


class Remember(NamedTuple):
    """Write a version of a key of memory from outside any flow -> int: its version."""

    project: str
    row: MemoryRow


class Delete(NamedTuple):
    """Delete a finished execution with all its descendants -> list of their exec_ids.

    They are gone for who reads, at once, but for a :class:`Tombstone` each; their rows are
    removed by :class:`Sweep`. :class:`NotInState` if one of them is not finished, or if
    somebody unfinished needs it: its parent, or a replay of it. Memory of its own scope
    goes with it. Conditioned on the epoch seen.
    """

    execution: int
    epoch: int
    at: int


class Sweep(NamedTuple):
    """Remove rows of a deleted execution, ``limit`` at most -> int: how many.

    Fewer than ``limit``: none is left. What others have reused of it stays named.
    """

    exec_id: str
    limit: int


class DropBlobs(NamedTuple):
    """Remove the files of these large values that no row names -> list of digests removed.

    Asked and done inside the transaction, in which every writer makes sure of the files
    that it is about to name.
    """

    digests: Sequence[bytes]


class Forget(NamedTuple):
    """Remove every version of a key of memory, or (None) of all keys of its scope -> int:
    how many versions there were."""

    project: str
    scope_type: str
    scope: str
    key: str | None


class Import(NamedTuple):
    """Record executions that were exported elsewhere, each with all that is of it -> list of
    their :class:`ExecutionRow`.

    All of them, or :class:`AlreadyRecorded` if an id, or a key, is taken. They are finished;
    what they reused and is not here stays named.
    """

    bundles: Sequence[Bundle]


Write = (
    RegisterOwner
    | DeclareDead
    | Start
    | Claim
    | Record
    | Finish
    | TryAgain
    | Release
    | Retry
    | GiveUp
    | Park
    | Wake
    | Answer
    | Expire
    | Cancel
    | Remember
    | Forget
    | Delete
    | Sweep
    | DropBlobs
    | Import
)


class Refused(Exception):
    """A write's precondition did not hold; nothing changed. ``row`` is what stands there now."""

    def __init__(self, message: str, row: ExecutionRow | None = None) -> None:
        super().__init__(message)
        self.row = row


class Fenced(Refused):
    """The writer no longer owns the execution, or never did."""


class NotInState(Refused):
    """The execution is not in a state that allows the write."""


class AlreadyRecorded(Refused):
    """The attempt, or the call, already has its outcome."""


class Missing(Refused):
    """No such execution, or (with its ``row``) no such wait of it."""


# --- reads -------------------------------------------------------------------


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


class Store(Protocol):
    """Durable state. One instance per process and location; safe to use from many threads."""

    def apply(self, write: Write) -> Any:
        """Commit a write and return its answer; everything queued rides along.

        Raises :class:`Refused` if its precondition does not hold, and
        ``KitaruBackendError`` if the store cannot be written.
        """
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
        self, *, project: str, flow_ids: Sequence[str], limit: int
    ) -> list[ExecutionRow]:
        """Pending, running and cancelling executions of these flows, oldest first."""
        ...

    def list_due(self, *, project: str, at: int, limit: int) -> list[ExecutionRow]:
        """Waiting executions whose ``due_at`` has passed at ``at``, soonest first."""
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

    def count_executions(self, *, project: str) -> dict[State, int]: ...

    def list_attempts(self, execution: int) -> list[RecordedAttempt]: ...

    def list_notes(self, execution: int) -> list[NoteRow]: ...

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
