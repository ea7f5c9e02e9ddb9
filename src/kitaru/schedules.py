"""``client.schedules``: flows that start by themselves, as people and programs outside see them.

Needs a store, a project, a clock and a way to tell who lives, and no engine. When a
schedule fires is ``_core/schedules.py``; who fires it, ``_engine/schedules.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from kitaru._core.names import nearest, shortened
from kitaru._core.queueing import DEFAULT_QUEUE
from kitaru._core.schedules import Schedule, next_fire
from kitaru._store.protocol import PauseSchedule, RemoveSchedule, ScheduleRow, Started, Store
from kitaru.env import Env
from kitaru.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.lookup import MAX_LIMIT
from kitaru.model import FlowSchedule
from kitaru.records import instant

Found = list[FlowSchedule]


class Schedules:
    """``client.schedules``. A schedule is named by its flow's name or id.

    >>> import kitaru
    >>> kitaru.KitaruClient().schedules.list()
    []
    """

    def __init__(
        self, store: Store, project: str, env: Env, is_alive: Callable[[int | None], bool]
    ) -> None:
        self._store = store
        self._project = project
        self._env = env
        self._is_alive = is_alive

    def list(self) -> Found:
        """Every schedule that a worker has registered, by the flow's id."""
        rows = self._store.list_schedules(project=self._project, limit=MAX_LIMIT)
        known = self._known_by_workers()
        return [_record(row, known) for row in rows]

    def pause(self, flow: str) -> FlowSchedule:
        """Let it fire no more, until it is resumed: no deploy changes that."""
        return self._pause(self._find(flow), paused=True)

    def resume(self, flow: str) -> FlowSchedule:
        """Let it fire again, from its next fire time on; what was due meanwhile stays undone."""
        return self._pause(self._find(flow), paused=False)

    def remove(self, flow: str) -> FlowSchedule:
        """Forget the schedule of a flow that is gone, or of which the code has dropped it.

        Raises ``KitaruStateError`` while a live worker has the flow with its schedule: that
        one is taken out of the code, or paused. What it has started stays.
        """
        row = self._find(flow)
        found = _record(row, self._known_by_workers())
        served = row.dropped_at is None and row.flow_id in self._known_by_workers()
        if served or not self._store.apply(RemoveSchedule(row.project, row.flow_id, row.said_at)):
            raise KitaruStateError(
                f"a live worker has flow {row.flow_id} with this schedule: take schedule= out of "
                f"the code and deploy it, or: kitaru schedules pause {row.flow_id}",
                code="schedule-served",
            )
        return found

    def fire(self, flow: str, *, at: datetime | None = None) -> str:
        """Start an execution as the schedule would, for a worker to run -> its id.

        ``at`` (aware) is its fire time, now if none is said; the schedule itself stays as it
        is. A fire time that has an execution gets no second one: the answer is its id.
        """
        from kitaru._engine.schedules import scheduled_start

        row = self._find(flow)
        start = scheduled_start(row, self._env, self._instant(at))
        started: Started = self._store.apply(start)
        return started.row.exec_id

    # --- which one is meant, and how it stands ----------------------------------------------

    def _find(self, flow: str) -> ScheduleRow:
        rows = self._store.list_schedules(project=self._project, limit=MAX_LIMIT)
        found = [row for row in rows if row.flow_id == flow]
        found = found or [row for row in rows if row.flow_name == flow]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(row.flow_id for row in found)
            raise KitaruStateError(
                f"several flows named {flow!r} have a schedule: say which by its id: {ids}",
                code="schedule-ambiguous",
            )
        names = {name for row in rows for name in (row.flow_name, row.flow_id)}
        meant = nearest(flow, names) if isinstance(flow, str) else None
        hint = (
            f"did you mean {meant!r}?"
            if meant
            else "it is registered when a worker starts that has it; see: kitaru schedules list"
        )
        raise KitaruNotFoundError(
            f"no flow {shortened(flow)} has a schedule in project {self._project!r}: {hint}",
            code="schedule-not-found",
        )

    def _pause(self, row: ScheduleRow, *, paused: bool) -> FlowSchedule:
        now = self._env.now()
        due_at = next_fire(Schedule(row.cron, row.timezone, row.missed), now)
        write = PauseSchedule(row.project, row.flow_id, paused, due_at, now)
        return _record(self._store.apply(write), self._known_by_workers())

    def _instant(self, at: datetime | None) -> int:
        if at is None:
            return self._env.now() // 1_000_000 * 1_000_000
        if not isinstance(at, datetime) or at.tzinfo is None:
            raise KitaruUsageError(
                f"at={shortened(at)}: pass an aware datetime", code="option-invalid"
            )
        return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) * 1_000_000

    def _known_by_workers(self) -> frozenset[str]:
        """The flows that some live worker has, which also fires what is due of them."""
        workers = [
            worker
            for worker in self._store.list_workers(project=self._project)
            if not worker.queues or DEFAULT_QUEUE in worker.queues
        ]
        alive = [worker for worker in workers if self._is_alive(worker.owner)]
        return frozenset(flow_id for worker in alive for flow_id in worker.flows)


def _record(row: ScheduleRow, known: frozenset[str]) -> FlowSchedule:
    state, reason = _state(row, known)
    return FlowSchedule(
        flow_id=row.flow_id,
        flow_name=row.flow_name,
        cron=row.cron,
        timezone=row.timezone,
        missed=row.missed,
        state=state,
        reason=reason,
        due_at=None if row.due_at is None or state == "paused" else instant(row.due_at),
        fired_at=None if row.fired_at is None else instant(row.fired_at),
        fired_exec_id=row.fired_exec_id,
        skipped=row.skipped,
    )


def _state(row: ScheduleRow, known: frozenset[str]) -> tuple[str, str | None]:
    if row.dropped_at is not None:
        since = f"{instant(row.dropped_at):%Y-%m-%d %H:%M:%SZ}"
        return "dropped", f"the code has the flow without a schedule since {since}"
    if row.paused_at is not None:
        since = f"{instant(row.paused_at):%Y-%m-%d %H:%M:%SZ}"
        return "paused", f"paused since {since}: kitaru schedules resume {row.flow_id}"
    if row.flow_id not in known:
        module = row.code_module or "MODULE"
        return "unserved", f"no live worker has this flow: start one with kitaru worker {module}"
    return "active", None
