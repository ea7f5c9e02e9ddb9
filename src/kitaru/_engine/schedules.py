"""Flows that start by themselves: what this process's code says of it, and what is due.

For a worker: it registers once, when it starts, and asks at every tick. What stands in the
store is right whoever wrote it, so that old and new code side by side fire the same; and
of those who see that something is due, the first to move the fire time on starts it. The
execution is an ordinary one that nobody owns yet: whoever claims runs it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kitaru import settings
from kitaru._core.schedules import Schedule, check_schedule, due_fires, next_fire
from kitaru._core.values import encode
from kitaru._engine.deadlines import deadline_of
from kitaru._engine.execution import FlowSpec
from kitaru._engine.starting import frozen_spec
from kitaru._store.protocol import (
    DropSchedule,
    Fire,
    ScheduleRow,
    SetSchedule,
    Start,
    Started,
)
from kitaru.env import Env
from kitaru.errors import KitaruUsageError

if TYPE_CHECKING:
    from kitaru._engine.runner import Runner

LOOK_SECONDS = 10.0
"""How long a schedule that another process changed, paused or resumed may go unseen."""

MAX_SCHEDULES = 10_000
"""Schedules of a project that are looked at."""


class Schedules:
    """Belongs to a worker's runner. Called by one thread, the one that ticks."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._store = runner.store
        self._env = runner.services.env
        self._project = runner.services.project
        self._flow_ids: frozenset[str] = frozenset()
        self._look_at = 0.0
        self._next_at: int | None = None

    # --- what the code says -----------------------------------------------------------------

    def register(self, flows: Mapping[str, FlowSpec]) -> None:
        """Write down the schedules of these flows, as this process's code has them.

        Once, when it starts: who starts last is right, and a deploy ends with the new code.
        """
        stands = {row.flow_id: row for row in self._rows()}
        flows = {flow.id: flow for flow in flows.values()}
        for flow in flows.values():
            if flow.schedule is not None:
                self._set(flow, flow.schedule, stands)
            else:
                for flow_id in (flow.id, *flow.aliases):
                    if flow_id in stands and stands[flow_id].dropped_at is None:
                        self._drop(flow_id, stands[flow_id])
        self._flow_ids = frozenset(flows)
        self._look_at = 0.0

    def _set(self, flow: FlowSpec, schedule: Schedule, stands: Mapping[str, ScheduleRow]) -> None:
        now = self._env.now()
        spec = frozen_spec(
            flow, None, None, settings.current(), timeout_seconds=flow.timeout_seconds
        )
        self._store.apply(
            SetSchedule(
                project=self._project,
                flow_id=flow.id,
                former=flow.aliases,
                flow_name=flow.name,
                cron=schedule.cron,
                timezone=schedule.timezone,
                missed=schedule.missed,
                spec=json.dumps(spec),
                keep_seconds=flow.keep_seconds,
                code_folder=flow.folder,
                code_module=flow.module,
                owner=self._runner.ownership.number(),
                due_at=next_fire(schedule, now),
                at=now,
            )
        )
        before = next((stands[id] for id in (flow.id, *flow.aliases) if id in stands), None)
        if before is not None and (before.cron, before.timezone) != schedule[:2]:
            self._runner.services.say(
                f"flow {flow.name!r} starts by itself at {_words(schedule)} now; before, at "
                f"{_words(before)}, as the code of another process had said"
            )

    def _drop(self, flow_id: str, row: ScheduleRow) -> None:
        owner, now = self._runner.ownership.number(), self._env.now()
        if self._store.apply(DropSchedule(self._project, flow_id, owner, now)):
            self._runner.services.say(
                f"flow {row.flow_name!r} starts by itself no more: the code here has it without "
                f"a schedule; before, it did at {_words(row)}"
            )

    # --- what is due ------------------------------------------------------------------------

    def fire_due(self) -> float:
        """Start what is due of the registered flows -> seconds until there may be more."""
        now, monotonic = self._env.now(), self._env.monotonic()
        is_due = self._next_at is not None and self._next_at <= now
        if is_due or monotonic >= self._look_at:
            self._look_at = monotonic + LOOK_SECONDS
            self._next_at = self._fire_all(now)
        left = self._look_at - monotonic
        if self._next_at is not None:
            left = min(left, (self._next_at - now) / 1e6)
        return max(0.0, left)

    def _fire_all(self, now: int) -> int | None:
        """-> the next fire time of all of them, as far as is known."""
        instants = []
        for row in self._rows():
            if row.flow_id not in self._flow_ids or row.paused_at is not None:
                continue
            next_at = row.due_at
            if next_at is not None and next_at <= now:
                next_at = self._fire(row, next_at, now)
            instants.append(next_at)
        return min((at for at in instants if at is not None), default=None)

    def _fire(self, row: ScheduleRow, due_at: int, now: int) -> int | None:
        try:
            schedule = check_schedule(row.cron, row.timezone, row.missed)
        except KitaruUsageError as error:
            text = f"the schedule of flow {row.flow_name!r} cannot be read here: {error}"
            self._runner.services.say(text, once=("schedule", text))
            return None
        due = due_fires(schedule, due_at, now)
        key = (row.project, row.flow_id)
        if not due.fires:
            self._store.apply(Fire(*key, due_at, due.next_at, None, due.skipped, None))
            return due.next_at
        skipped = due.skipped
        for at, next_at in zip(due.fires, (*due.fires[1:], due.next_at), strict=True):
            new = scheduled_start(row, self._env, at, skipped=skipped)
            started = self._store.apply(Fire(*key, due_at, next_at, at, skipped, new))
            if started is None:
                break  # Another process was quicker, or somebody paused it: the row says.
            self._started(new, started)
            due_at, skipped = next_at or 0, 0
        return due.next_at

    def _started(self, new: Start, started: Started) -> None:
        if started.created:
            events = self._runner.events
            events.look()
            events.written(started.row, new, started)

    def _rows(self) -> list[ScheduleRow]:
        return self._store.list_schedules(project=self._project, limit=MAX_SCHEDULES)


def scheduled_start(row: ScheduleRow, env: Env, at: int, *, skipped: int = 0) -> Start:
    """The execution of a fire time: no arguments, a key of that instant, nobody's yet."""
    spec = json.loads(row.spec)
    fired = {"at": at, "cron": row.cron, "timezone": row.timezone}
    if skipped:
        fired["skipped"] = skipped
    inputs = encode({}, what=f"flow {row.flow_name}")
    now = env.now()
    return Start(
        exec_id=env.new_id(),
        project=row.project,
        flow_id=row.flow_id,
        flow_name=row.flow_name,
        key=fire_key(at),
        inputs_digest=inputs.digest[:16],
        inputs=inputs,
        seed=env.random_bytes(16),
        spec=json.dumps({**spec, "schedule": fired}),
        tags="[]",
        code_folder=row.code_folder,
        code_module=row.code_module,
        owner=None,
        home=None,
        at=now,
        deadline_at=deadline_of(spec.get("timeout_seconds"), now),
        keep_seconds=row.keep_seconds,
        # So that a limit can say how many of them run at once; without one it costs nothing.
        limit_key=row.flow_name,
    )


def fire_key(at: int) -> str:
    """The key of the execution of a fire time.

    >>> fire_key(0)
    'schedule:1970-01-01T00:00:00Z'
    """
    return f"schedule:{datetime.fromtimestamp(at / 1e6, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _words(schedule: Schedule | ScheduleRow) -> str:
    return f"{schedule.cron!r} ({schedule.timezone})"
