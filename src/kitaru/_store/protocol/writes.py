"""The writes: each is one transaction, and its docstring one sentence of the manual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kitaru._core.payload import Payload
from kitaru._core.queueing import DEFAULT_QUEUE
from kitaru._store.protocol.reads import Bundle
from kitaru._store.protocol.rows import ExecutionRow, Facts, MemoryRow


class RegisterOwner(NamedTuple):
    """Name a process that may own executions -> its :class:`Owner`.

    With ``lease_seconds`` it has a lease, which it renews with :class:`Beat`.
    """

    lock_name: str
    pid: int
    host: str
    at: int
    lease_seconds: float | None = None


class DeclareDead(NamedTuple):
    """Declare a process dead, for ever; nothing if it already was -> bool: whether it changed.

    Nothing either if it has a lease, unless it says so ``itself``: others see that a lease
    is over, and there is one write that judges it, :class:`Reap`.
    """

    owner: int
    at: int
    itself: bool = False


class Beat(NamedTuple):
    """Renew a process's lease, over or not, from now on -> :class:`Beaten`.

    One that was declared dead, or never registered, renews nothing.
    """

    owner: int
    lease_seconds: float
    at: int


class Beaten(NamedTuple):
    """The answer to a heartbeat: the store's own clock, and until when the lease runs."""

    now: int
    lease_until: int | None
    """None: it was declared dead, and is so for ever."""


class Reap(NamedTuple):
    """Declare dead whose lease is over, the longest over first -> list of their :class:`Owner`.

    Nobody, while there is none whose lease runs, and has been renewed in time for
    ``patience_seconds``: where all were cut off from the store all leases are over, and those
    that live get that long to come back.
    """

    patience_seconds: float
    limit: int
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

    What is born running takes a slot of its queue and of its key, where these have
    limits; if one has none left, it is born pending. What is born pending is not to be
    claimed before ``due_at``.
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
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    limit_key: str | None = None
    due_at: int | None = None


class Started(NamedTuple):
    row: ExecutionRow
    created: bool


class SetSchedule(NamedTuple):
    """Register the schedule of a flow as this process's code has it -> :class:`ScheduleRow`.

    Who says it last is right. If the line and the zone stand there already, the fire time
    that is due stays as it is (one later than ``due_at`` was reached by a wrong clock: it
    comes back); else ``due_at`` is the next. A schedule that was dropped is there again, one
    that is paused stays paused. ``former`` are flow ids of the past: what stands there
    is carried over if nothing stands under ``flow_id``, and is gone in any case.
    """

    project: str
    flow_id: str
    former: Sequence[str]
    flow_name: str
    cron: str
    timezone: str
    missed: str
    spec: str
    keep_seconds: int | None
    code_folder: str | None
    code_module: str | None
    owner: int | None
    due_at: int | None
    at: int


class DropSchedule(NamedTuple):
    """The code has this flow without a schedule: it fires no more -> bool: whether it did."""

    project: str
    flow_id: str
    owner: int | None
    at: int


class PauseSchedule(NamedTuple):
    """Stop a schedule, or (``paused`` false) go on with it -> :class:`ScheduleRow`.

    It goes on with ``due_at``: what was due in between is not made up for. One that is
    paused already, or not, stays as it is; :class:`Missing` if there is none.
    """

    project: str
    flow_id: str
    paused: bool
    due_at: int | None
    at: int


class RemoveSchedule(NamedTuple):
    """Forget a schedule, as it stood when it was looked at -> whether it was there.

    ``said_at`` is when its code said it: one that was said anew meanwhile stays. What it has
    started is not touched.
    """

    project: str
    flow_id: str
    said_at: int


class Fire(NamedTuple):
    """Start the execution of a fire time and move on to the next -> :class:`Started` or None.

    Both or neither, and only if ``due_at`` is still the fire time that is due: None if
    somebody was quicker, or if it was paused, dropped or changed meanwhile. Without a
    ``start`` the fire times up to the next are skipped (None too); ``skipped`` is how many
    were, besides the one that is started. The key of ``start`` is that of its fire time: an
    execution that has it is the answer, whichever clock had started it.
    """

    project: str
    flow_id: str
    due_at: int
    next_at: int | None
    fired_at: int | None
    skipped: int
    start: Start | None


class Claim(NamedTuple):
    """Take a pending execution, or a running one from a dead owner -> :class:`ExecutionRow`.

    What it waited for is past: ``due_at`` is None from now on.

    Conditioned on the epoch that the claimer saw and, for a running one, on
    ``from_owner`` still being its owner; that owner is declared dead in the
    same transaction (one with a lease has to be dead before) and counts as a
    death: ``deaths`` becomes 1 if a call was recorded since the last death, else
    one more. The epoch grows by one. Who comes too late gets :class:`Fenced`, as
    does an owner that is dead itself.

    A pending one takes a slot of its queue and of its key, where these have limits;
    :class:`NoRoom` if one has none left, or if it is not due at ``at``. One taken over
    keeps what it holds. Slots are given back by whatever lets go of the execution.
    """

    execution: int
    epoch: int
    owner: int
    from_owner: int | None
    at: int


class ClaimNext(NamedTuple):
    """Take up to ``limit`` of what is queued -> list of :class:`ExecutionRow`, as claimed.

    What is queued: pending executions of these flows in these queues (none named: in all),
    due at ``at``, that no live process serves (their home is none, or declared dead), and
    whose queue and key have a slot left, where these have limits. Higher priorities come
    first; within one the flows take turns, in the order of ``flow_ids``; within a flow the
    oldest comes first: by ``due_at``, or else by ``created_at``. Of a flow, queue and
    priority, the first ``limit`` that have room are looked at, so that it may take fewer
    than there are; the next one takes those.

    A suspect (``deaths`` say that it may kill its process) is taken only with ``alone``: then
    the oldest of them comes before all others, and nothing else is taken.

    Nothing is read of what is not taken: an execution whose inputs are damaged comes with a
    mark for them. An owner that was declared dead gets :class:`Fenced`.
    """

    project: str
    flow_ids: Sequence[str]
    queues: Sequence[str]
    owner: int
    limit: int
    at: int
    alone: bool = False


class SetLimits(NamedTuple):
    """Say how many executions of a queue, or with a key, run at once -> bool: any change.

    None: as many as like. Others stay as they are. What runs under a name that had no
    limit before gets its slot, whether there is room for it or not: then nothing is
    claimed until there is.
    """

    project: str
    limits: Mapping[str, int | None]


class Enlist(NamedTuple):
    """Name a process as one that claims what is queued, or name it anew -> None.

    It is named until it is declared dead. :class:`Fenced` if it was.
    """

    owner: int
    project: str
    name: str
    flows: Sequence[str]
    queues: Sequence[str]
    concurrency: int
    at: int


class Draining(NamedTuple):
    """Say that a process that was enlisted claims nothing any more -> bool: whether it was."""

    owner: int
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
    """Hand a running execution back: pending, nobody's -> :class:`State`.

    It has neither owner nor home: whoever serves its flow may claim it at once. The
    epoch grows by one. Not a death. A cancelling one becomes cancelled.
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
    the same transaction (one with a lease has to be dead before) and whose death
    counts like any.
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
    | Beat
    | Reap
    | Start
    | SetSchedule
    | DropSchedule
    | PauseSchedule
    | RemoveSchedule
    | Fire
    | Claim
    | ClaimNext
    | SetLimits
    | Enlist
    | Draining
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
