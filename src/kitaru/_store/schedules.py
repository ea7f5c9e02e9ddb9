"""Schedules in the databases: who fires first is decided by one guarded statement."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kitaru._store.facts import FactWrites
from kitaru._store.protocol import (
    DropSchedule,
    Fire,
    Missing,
    PauseSchedule,
    RemoveSchedule,
    ScheduleRow,
    SetSchedule,
    Start,
    Started,
)


class ScheduleWrites(FactWrites):
    if TYPE_CHECKING:

        def start(self, write: Start) -> Started: ...

    def set_schedule(self, write: SetSchedule) -> ScheduleRow:
        project, flow_id, former, *rest = write
        if former:
            names = (project, flow_id, json.dumps(list(former)))
            self._change(self._queries.rename_schedule, names)
            self._change(self._queries.forget_schedules, names)
        (row,) = self._select(self._queries.set_schedule, (project, flow_id, *rest))
        return ScheduleRow(*row)

    def drop_schedule(self, write: DropSchedule) -> bool:
        return self._change(self._queries.drop_schedule, write) == 1

    def pause_schedule(self, write: PauseSchedule) -> ScheduleRow:
        project, flow_id, paused, due_at, at = write
        if paused:
            self._change(self._queries.pause_schedule, (project, flow_id, at))
        else:
            self._change(self._queries.resume_schedule, (project, flow_id, due_at))
        found = self._select(self._queries.find_schedule, (project, flow_id))
        if not found:
            raise Missing(f"flow {flow_id} has no schedule")
        return ScheduleRow(*found[0])

    def remove_schedule(self, write: RemoveSchedule) -> bool:
        return self._change(self._queries.remove_schedule, write) == 1

    def fire(self, write: Fire) -> Started | None:
        project, flow_id, due_at, next_at, fired_at, skipped, start = write
        moved = (project, flow_id, due_at, next_at, skipped)
        # First: who finds the row moved on has lost, and starts nothing.
        if not self._change(self._queries.move_schedule, moved) or start is None:
            return None
        started = self.start(start)
        fired = (project, flow_id, fired_at, started.row.exec_id)
        self._change(self._queries.note_fired, fired)
        return started
