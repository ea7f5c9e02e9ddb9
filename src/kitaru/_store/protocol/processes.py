"""The writes about processes: who is there, who is alive, who claims what is queued."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


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
