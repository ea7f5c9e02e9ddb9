"""The model of schedules: one for a flow, and at most one execution for each fire time."""

from __future__ import annotations

from kitaru._store.protocol import (
    DropSchedule,
    Fire,
    Missing,
    PauseSchedule,
    RemoveSchedule,
    ScheduleRow,
    SetSchedule,
    Started,
)
from kitaru._store.reference.executions import Executions


class Schedules(Executions):
    def _set_schedule(self, write: SetSchedule) -> ScheduleRow:
        before = self._schedules.get((write.project, write.flow_id))
        for flow_id in sorted(set(write.former) - {write.flow_id}):
            former = self._schedules.pop((write.project, flow_id), None)
            before = before or former
        row = ScheduleRow(
            project=write.project,
            flow_id=write.flow_id,
            flow_name=write.flow_name,
            cron=write.cron,
            timezone=write.timezone,
            missed=write.missed,
            spec=write.spec,
            keep_seconds=write.keep_seconds,
            code_folder=write.code_folder,
            code_module=write.code_module,
            owner=write.owner,
            said_at=write.at,
            due_at=write.due_at,
            fired_at=None,
            fired_exec_id=None,
            skipped=0,
            paused_at=None,
            dropped_at=None,
        )
        if before is not None:
            line = (before.cron, before.timezone, before.dropped_at)
            if line == (write.cron, write.timezone, None):
                instants = [at for at in (before.due_at, write.due_at) if at is not None]
                row = row._replace(due_at=min(instants, default=None))
            row = row._replace(
                fired_at=before.fired_at,
                fired_exec_id=before.fired_exec_id,
                skipped=before.skipped,
                paused_at=before.paused_at,
            )
        return self._put_schedule(row)

    def _drop_schedule(self, write: DropSchedule) -> bool:
        row = self._schedules.get((write.project, write.flow_id))
        if row is None or row.dropped_at is not None:
            return False
        self._put_schedule(
            row._replace(dropped_at=write.at, due_at=None, owner=write.owner, said_at=write.at)
        )
        return True

    def _pause_schedule(self, write: PauseSchedule) -> ScheduleRow:
        row = self._schedules.get((write.project, write.flow_id))
        if row is None:
            raise Missing(f"flow {write.flow_id} has no schedule")
        if write.paused and row.paused_at is None:
            row = row._replace(paused_at=write.at)
        elif not write.paused and row.paused_at is not None:
            due_at = write.due_at if row.dropped_at is None else None
            row = row._replace(paused_at=None, due_at=due_at)
        return self._put_schedule(row)

    def _remove_schedule(self, write: RemoveSchedule) -> bool:
        row = self._schedules.get((write.project, write.flow_id))
        if row is None or row.said_at != write.said_at:
            return False
        del self._schedules[row.project, row.flow_id]
        return True

    def _fire(self, write: Fire) -> Started | None:
        row = self._schedules.get((write.project, write.flow_id))
        if row is None or row.due_at != write.due_at or row.paused_at is not None:
            return None
        started = None if write.start is None else self._start(write.start)
        row = row._replace(due_at=write.next_at, skipped=row.skipped + write.skipped)
        if started is not None:
            row = row._replace(fired_at=write.fired_at, fired_exec_id=started.row.exec_id)
        self._put_schedule(row)
        return started

    def _put_schedule(self, row: ScheduleRow) -> ScheduleRow:
        self._schedules[row.project, row.flow_id] = row
        return row

    def list_schedules(self, *, project: str, limit: int) -> list[ScheduleRow]:
        with self._inside():
            rows = [row for row in self._schedules.values() if row.project == project]
        return sorted(rows, key=lambda row: row.flow_id)[:limit]
