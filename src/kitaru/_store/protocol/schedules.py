"""The writes about schedules: what the code says, what people say, and a fire time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kitaru._store.protocol.executions import Start


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
