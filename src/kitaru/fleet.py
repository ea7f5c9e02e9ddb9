"""``client.workers``, ``client.queues``, ``client.limits``: a fleet as people and programs see it.

Needs a store, a project, a clock and a way to tell who lives, and no engine. What a worker
claims, and where it has room, is the store's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from kitaru._core.names import nearest, shortened
from kitaru._store.protocol import LimitRow, QueueRow, SetLimits, Store
from kitaru.env import Env
from kitaru.errors import KitaruNotFoundError
from kitaru.records import instant
from kitaru.setting_values import checked_queue_limit


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A process that claims what is queued, and lives.

    ``flows`` are the ids of those that it serves; no ``queues`` are all of them. ``running``
    is how many executions it owns, children included, which count beside its ``concurrency``.
    ``lease_until`` is until when it owns them without another heartbeat; None where the
    operating system tells who lives (SQLite).
    """

    name: str
    host: str
    pid: int
    flows: tuple[str, ...]
    queues: tuple[str, ...]
    concurrency: int
    running: int
    draining: bool
    started_at: datetime
    lease_until: datetime | None


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """What stands in a queue.

    ``ready``: may begin by now, as soon as a worker and the limits have room; ``delayed``: its
    hour is still to come. ``oldest_at`` is since when the oldest that is ready might have begun:
    enqueued, due, or pending again (handed back, answered, retried). ``limit`` is how many of the
    queue may run at once, None: as many as like.
    """

    name: str
    ready: int
    delayed: int
    running: int
    oldest_at: datetime | None
    limit: int | None


@dataclass(frozen=True, slots=True)
class QueueLimit:
    """How many executions of a queue, or with a key, may run at once, and how many do."""

    name: str
    max: int
    taken: int


FoundWorkers = list[LiveWorker]
FoundQueues = list[QueueDepth]
FoundLimits = list[QueueLimit]


class Workers:
    """``client.workers``.

    >>> import kitaru
    >>> kitaru.KitaruClient().workers.list()
    []
    """

    def __init__(self, store: Store, project: str, is_alive: Callable[[int | None], bool]) -> None:
        self._store = store
        self._project = project
        self._is_alive = is_alive

    def list(self) -> FoundWorkers:
        """The workers of the project that live, those that stop too, oldest first."""
        owners = {owner.id: owner for owner in self._store.list_owners()}
        rows = self._store.list_workers(project=self._project)
        living = [row for row in rows if row.owner in owners and self._is_alive(row.owner)]
        running = self._store.count_owned(project=self._project) if living else {}
        return [
            LiveWorker(
                name=row.name,
                host=(owner := owners[row.owner]).host,
                pid=owner.pid,
                flows=tuple(row.flows),
                queues=tuple(row.queues),
                concurrency=row.concurrency,
                running=running.get(row.owner, 0),
                draining=row.draining,
                started_at=instant(owner.started_at),
                lease_until=None if owner.lease_until is None else instant(owner.lease_until),
            )
            for row in living
        ]


class Queues:
    """``client.queues``.

    >>> import kitaru
    >>> kitaru.KitaruClient().queues.list()
    []
    """

    def __init__(self, store: Store, project: str, env: Env) -> None:
        self._store = store
        self._project = project
        self._env = env

    def list(self) -> FoundQueues:
        """Every queue in which something stands, or of which something runs, by name.

        Counts all that is not finished, in an index: not for asking many times a second.
        """
        limits = {limit.name: limit for limit in self._store.list_limits(project=self._project)}
        rows = self._store.list_queues(project=self._project, at=self._env.now())
        return [_depth(row, limits.get(row.queue)) for row in rows]


class Limits:
    """``client.limits``: queues and keys share one name space.

    >>> import kitaru
    >>> limits = kitaru.KitaruClient().limits
    >>> limits.set("openai", 5)
    QueueLimit(name='openai', max=5, taken=0)
    >>> limits.remove("openai")
    QueueLimit(name='openai', max=5, taken=0)
    >>> limits.list()
    []
    """

    def __init__(self, store: Store, project: str) -> None:
        self._store = store
        self._project = project

    def list(self) -> FoundLimits:
        """Every limit that stands in the store, by name."""
        rows = self._store.list_limits(project=self._project)
        return [QueueLimit(row.name, row.max, row.taken) for row in rows]

    def set(self, name: str, max: int) -> QueueLimit:
        """Let at most ``max`` run at once from now on; 0 holds the queue or key back.

        What runs goes on. A process that is configured with another number for the name
        writes its own when it starts.
        """
        name, max = checked_queue_limit(name, max, "limits.set")
        self._store.apply(SetLimits(self._project, {name: max}))
        return next(limit for limit in self.list() if limit.name == name)

    def remove(self, name: str) -> QueueLimit:
        """Let as many run at once as like -> the limit as it was.

        One that a process is configured with comes back when such a process starts.
        """
        limits = self.list()
        for limit in limits:
            if limit.name == name:
                self._store.apply(SetLimits(self._project, {limit.name: None}))
                return limit
        meant = nearest(name, {limit.name for limit in limits}) if isinstance(name, str) else None
        hint = f"did you mean {meant!r}?" if meant else "see: kitaru limits list"
        raise KitaruNotFoundError(
            f"project {self._project!r} has no limit {shortened(name)}: {hint}",
            code="limit-not-found",
        )


def _depth(row: QueueRow, limit: LimitRow | None) -> QueueDepth:
    return QueueDepth(
        name=row.queue,
        ready=row.ready,
        delayed=row.delayed,
        running=row.running,
        oldest_at=None if row.since is None else instant(row.since),
        limit=None if limit is None else limit.max,
    )
