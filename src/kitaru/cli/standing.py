"""How the store stands: its size and growth, executions by status, who runs them.

Gathered once for ``kitaru status`` and ``kitaru doctor``, so that the two
cannot disagree. Only reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from kitaru._core.lifecycle import State
from kitaru._store.protocol import ExecutionRow, Owner, Recorded
from kitaru.cli.place import Place
from kitaru.fleet import QueueDepth, Queues
from kitaru.lookup import id_prefix_at
from kitaru.model import PendingWait
from kitaru.records import instant
from kitaru.status import ExecutionStatus

GROWTH_DAYS = 7
MAX_FILES_MEASURED = 100_000
MAX_WAITS = 100


class Size(NamedTuple):
    """Bytes of the whole folder, and what of them is not the database."""

    total: int
    blobs: int
    backups: int
    complete: bool
    """False: there are more files than were measured."""


class Growth(NamedTuple):
    """What was added in the last ``days``; fewer than seven while the store is younger."""

    days: float
    executions: int
    calls: int

    def per_day(self, count: float) -> float:
        return count / max(self.days, 1.0)


class Standing(NamedTuple):
    info: dict[str, Any]
    project: str
    size: Size
    recorded: Recorded
    growth: Growth
    executions: dict[str, int]
    alive: Sequence[Owner]
    dead: Sequence[Owner]
    interrupted: Sequence[ExecutionRow]
    queues: Sequence[QueueDepth]
    waits: Sequence[PendingWait]
    """Open ones, oldest first; of very many the first."""
    now: datetime

    @property
    def bytes_per_day(self) -> int | None:
        """About how much comes to it each day; None while it is too young to tell."""
        if self.growth.days < 1 or not self.recorded.calls:
            return None
        share = self.growth.calls / self.recorded.calls
        return int(self.growth.per_day(self.size.total * share))


def gather(place: Place) -> Standing:
    info = place.store.info()
    now = instant(place.env.now())
    owners = place.store.list_owners()
    alive = [owner for owner in owners if place.is_alive(owner.id)]
    interrupted = list(_interrupted(place))
    recorded, growth = _growth(place, info, now)
    return Standing(
        info=info,
        project=place.project,
        size=_size(info),
        recorded=recorded,
        growth=growth,
        executions=_by_status(place, interrupted),
        alive=alive,
        dead=[owner for owner in owners if owner not in alive],
        interrupted=interrupted,
        queues=Queues(place.store, place.project, place.env).list(),
        waits=place.executions.all_pending_waits(limit=MAX_WAITS),
        now=now,
    )


def _growth(place: Place, info: dict[str, Any], now: datetime) -> tuple[Recorded, Growth]:
    age_days = (now - instant(info["created_at"])) / timedelta(days=1)
    days = min(max(age_days, 0.0), GROWTH_DAYS)
    first = place.store.first_from(id_prefix_at(now - timedelta(days=GROWTH_DAYS)))
    recorded = place.store.count_recorded(since=1 << 62 if first is None else first)
    return recorded, Growth(days, recorded.recent_executions, recorded.recent_calls)


def engine_of(info: Mapping[str, Any]) -> str:
    """Which database it is, for people: ``SQLite 3.51.3``."""
    if "postgresql_version" in info:
        return f"PostgreSQL {info['postgresql_version']}"
    return f"SQLite {info['sqlite_version']}"


def engine_item(info: Mapping[str, Any]) -> dict[str, Any]:
    """The same for programs."""
    return {name: info[name] for name in ("sqlite_version", "postgresql_version") if name in info}


def _size(info: Mapping[str, Any]) -> Size:
    if "postgresql_version" in info:
        return Size(info["bytes"], info["blob_bytes"], 0, True)
    return measure(info["location"])


def measure(folder: str) -> Size:
    """What lies in the store's folder, by ``stat`` alone: nothing of it is opened."""
    sizes = {"blobs": 0, "backups": 0, "": 0}
    left = MAX_FILES_MEASURED
    for at, _, names in os.walk(folder):
        top = os.path.relpath(at, folder).partition(os.sep)[0]
        for name in names[:left]:
            try:
                sizes[top if top in sizes else ""] += os.lstat(os.path.join(at, name)).st_size
            except OSError:
                continue  # gone meanwhile
        left -= len(names)
        if left <= 0:
            break
    return Size(sum(sizes.values()), sizes["blobs"], sizes["backups"], left > 0)


def _by_status(place: Place, interrupted: Sequence[ExecutionRow]) -> dict[str, int]:
    """Executions by status; the interrupted ones, whose owner is dead, are told apart."""
    recorded = {
        state.value: n for state, n in place.store.count_executions(project=place.project).items()
    }
    for row in interrupted:
        recorded[row.status.value] = recorded.get(row.status.value, 0) - 1
    if interrupted:
        recorded[ExecutionStatus.INTERRUPTED.value] = len(interrupted)
    return {name: n for name, n in recorded.items() if n > 0}


def _interrupted(place: Place) -> Iterator[ExecutionRow]:
    alive: dict[int | None, bool] = {}
    before: int | None = None
    states = (State.RUNNING,)
    while rows := place.store.list_executions(
        project=place.project, statuses=states, before=before, limit=200
    ):
        for row in rows:
            if row.owner not in alive:
                alive[row.owner] = place.is_alive(row.owner)
            if not alive[row.owner]:
                yield row
        before = rows[-1].id
