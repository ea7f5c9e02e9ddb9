"""What a store keeps: the rows that writes carry, and those that are there in any case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kitaru._core.lifecycle import CallSource, CallState, State, WaitKind
from kitaru._core.payload import Payload
from kitaru._core.queueing import DEFAULT_QUEUE


class Owner(NamedTuple):
    """A process that may own executions. Once declared dead it never lives again.

    ``lock_name`` is a fresh random name; on one host the process holds the
    operating system's lock on the file of that name for as long as it lives. Where
    there is no such file it has a lease instead: its right to own, until an instant.
    """

    id: int
    lock_name: str
    pid: int
    host: str
    started_at: int
    died_at: int | None
    lease_until: int | None = None
    """Over unless it is renewed. None: a lock file says whether it lives."""
    steady_since: int | None = None
    """From when on the lease has never run out."""


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
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    """Among the pending ones: higher first."""
    limit_key: str | None = None
    """What it shares a limit with, beside its queue."""


class LimitRow(NamedTuple):
    """How many executions of a queue, or with a key, run at once, and how many do."""

    name: str
    max: int
    taken: int


class WorkerRow(NamedTuple):
    """A process that claims what is queued: no ``queues`` are all of them."""

    owner: int
    project: str
    name: str
    flows: Sequence[str]
    queues: Sequence[str]
    concurrency: int
    draining: bool
    at: int


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


class ScheduleRow(NamedTuple):
    """When a flow starts by itself, as the code that was started last says it.

    ``due_at`` is the next fire time, None while there is none. ``fired_at`` is the last one
    for which an execution was started, ``skipped`` how many were left out so far. ``spec``,
    ``keep_seconds`` and the rest are what its executions are born with.
    """

    project: str
    flow_id: str
    flow_name: str
    cron: str
    timezone: str
    missed: str
    spec: str
    keep_seconds: int | None
    code_folder: str | None
    code_module: str | None
    owner: int | None
    """The process that said so."""
    said_at: int
    due_at: int | None
    fired_at: int | None
    fired_exec_id: str | None
    skipped: int
    paused_at: int | None
    """A person has paused it: no deploy changes that."""
    dropped_at: int | None
    """The code has the flow, but no schedule of it any more."""


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
