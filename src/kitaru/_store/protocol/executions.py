"""The writes that carry an execution from its start to its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kitaru._core.payload import Payload
from kitaru._core.queueing import DEFAULT_QUEUE
from kitaru._store.protocol.rows import ExecutionRow, Facts


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
