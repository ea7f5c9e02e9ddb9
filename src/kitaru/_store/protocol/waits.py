"""The writes about executions that wait, and about what cancels them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kitaru._core.payload import Payload
from kitaru._store.protocol.rows import Facts


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
