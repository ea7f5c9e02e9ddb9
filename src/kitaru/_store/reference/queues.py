"""The model of queues: claims, limits and workers. See :mod:`kitaru._store.reference`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from kitaru._core.lifecycle import SUSPECT_DEATHS, Event, State, after
from kitaru._core.queueing import Queued, choose, free_numbers
from kitaru._store.protocol import (
    ClaimNext,
    Draining,
    Enlist,
    ExecutionRow,
    Fenced,
    LimitRow,
    NoRoom,
    QueueRow,
    SetLimits,
    Signs,
    WorkerRow,
)
from kitaru._store.reference.control import Control
from kitaru._store.reference.owners import Owners
from kitaru._store.reference.tables import OWNED


class Queues(Control, Owners):
    # --- writes ---

    def _claim_next(self, write: ClaimNext) -> list[ExecutionRow]:
        if not self._is_alive(write.owner):
            raise Fenced(f"process {write.owner} is dead")
        queued = self._queued(write)
        suspects = [one for one in queued if self._executions[one.id].deaths >= SUSPECT_DEATHS]
        if suspects and write.alone:
            suspects.sort(key=lambda one: (one.since, one.id))
            return [self._take(self._executions[suspects[0].id], write.owner, write.at)]
        others = [one for one in queued if one not in suspects]
        others.sort(key=lambda one: (*_lane(one), one.since, one.id))
        looked_at = [
            one for _, lane in groupby(others, key=_lane) for one in list(lane)[: write.limit]
        ]
        room = {limit.name: limit.max - limit.taken for limit in self._limits_of(write.project)}
        return [
            self._take(self._executions[one.id], write.owner, write.at)
            for one in choose(looked_at, room, limit=write.limit)
        ]

    def _queued(self, write: ClaimNext) -> list[Queued]:
        turns = {flow_id: turn for turn, flow_id in enumerate(dict.fromkeys(write.flow_ids))}
        return [
            Queued(
                row.id,
                row.epoch,
                turns[row.flow_id],
                row.priority,
                _since(row),
                row.queue,
                row.limit_key,
            )
            for row in self._executions.values()
            if (row.project, row.status) == (write.project, State.PENDING)
            and row.flow_id in turns
            and self._is_claimable(row, write.queues, write.at)
        ]

    def _is_claimable(self, row: ExecutionRow, queues: Sequence[str], at: int) -> bool:
        """Whether somebody who takes from these queues could have a pending one now."""
        return (
            (not queues or row.queue in queues)
            and _since(row) <= at
            and (row.home is None or not self._is_alive(row.home))
            and self._has_room(row)
        )

    def _take(self, row: ExecutionRow, owner: int, at: int) -> ExecutionRow:
        """Make a pending execution that has room this owner's."""
        self._take_slots(row)
        started_at = at if row.started_at is None else row.started_at
        return self._put(
            row._replace(
                status=after(row.status, Event.CLAIM),
                epoch=row.epoch + 1,
                owner=owner,
                started_at=started_at,
                due_at=None,
            )
        )

    def _require_room(self, row: ExecutionRow, at: int) -> None:
        if row.due_at is not None and row.due_at > at:
            raise NoRoom(f"execution {row.exec_id} is not due", row)
        if not self._has_room(row):
            raise NoRoom(f"there is no slot for execution {row.exec_id}", row)

    def _has_room(self, row: ExecutionRow) -> bool:
        return all(free_numbers(taken, most) for _, most, taken in self._held(row))

    def _take_slots(self, row: ExecutionRow) -> None:
        for name, most, taken in self._held(row):
            self._slots[row.project, name, free_numbers(taken, most)[0]] = row.id

    def _held(self, row: ExecutionRow) -> Iterator[tuple[str, int, list[int]]]:
        """(name, limit, slots that are taken) of each limit that the execution is under."""
        for name in {row.queue, row.limit_key}:
            most = self._limits.get((row.project, name or ""))
            if name is not None and most is not None:
                yield name, most, self._taken(row.project, name)

    def _taken(self, project: str, name: str) -> list[int]:
        return [number for p, n, number in self._slots if (p, n) == (project, name)]

    def _set_limits(self, write: SetLimits) -> bool:
        before = dict(self._limits)
        for name, most in write.limits.items():
            place = (write.project, name)
            if most is None:
                self._limits.pop(place, None)
                self._slots = {slot: of for slot, of in self._slots.items() if slot[:2] != place}
            else:
                self._limits[place] = most
                if place not in before:
                    self._give_slots_to_what_runs(write.project, name)
        return self._limits != before

    def _give_slots_to_what_runs(self, project: str, name: str) -> None:
        running = [
            row
            for row in self._rows_in_order()
            if row.project == project and row.status in OWNED and name in (row.queue, row.limit_key)
        ]
        for number, row in enumerate(running, start=1):
            self._slots[project, name, number] = row.id

    def _enlist(self, write: Enlist) -> None:
        if not self._is_alive(write.owner):
            raise Fenced(f"process {write.owner} is dead")
        flows, queues = tuple(write.flows), tuple(write.queues)
        self._workers[write.owner] = WorkerRow(
            write.owner,
            write.project,
            write.name,
            flows,
            queues,
            write.concurrency,
            draining=False,
            at=write.at,
        )

    def _draining(self, write: Draining) -> bool:
        if write.owner not in self._workers:
            return False
        worker = self._workers[write.owner]
        self._workers[write.owner] = worker._replace(draining=True, at=write.at)
        return True

    # --- reads ---

    def list_interrupted(
        self, *, project: str, flow_ids: Sequence[str], limit: int
    ) -> list[ExecutionRow]:
        dead = {owner.id for owner in self._owners.values() if owner.died_at is not None}
        return [
            row
            for row in self._rows_in_order()
            if row.project == project
            and row.flow_id in flow_ids
            and row.status in OWNED
            and row.owner in dead
        ][:limit]

    def _next_queued(
        self, *, project: str, flow_ids: Sequence[str], queues: Sequence[str]
    ) -> int | None:
        instants = [
            _since(row)
            for row in self._pending(project, flow_ids)
            if row.deaths < SUSPECT_DEATHS and (not queues or row.queue in queues)
        ]
        return min(instants, default=None)

    def signs(
        self, owner: int, *, project: str, flow_ids: Sequence[str], queues: Sequence[str], at: int
    ) -> Signs:
        mine = [row for row in self._executions.values() if row.owner == owner]
        home = [row for row in self._executions.values() if row.home == owner]
        waiting = [
            row
            for row in self._executions.values()
            if (row.project, row.status) == (project, State.WAITING)
        ]
        return Signs(
            changes=self._changes,
            cancelling=any(row.status is State.CANCELLING for row in mine),
            served=any((row.project, row.status) == (project, State.PENDING) for row in home),
            due_at=min((row.due_at for row in waiting if row.due_at is not None), default=None),
            lapsed=any(
                owner.died_at is None and owner.lease_until is not None and owner.lease_until < at
                for owner in self._owners.values()
            ),
            interrupted=bool(self.list_interrupted(project=project, flow_ids=flow_ids, limit=1)),
            suspects=any(
                row.deaths >= SUSPECT_DEATHS and self._is_claimable(row, queues, at)
                for row in self._pending(project, flow_ids)
            ),
            queued_at=self._next_queued(project=project, flow_ids=flow_ids, queues=queues),
        )

    def _pending(self, project: str, flow_ids: Sequence[str]) -> list[ExecutionRow]:
        return [
            row
            for row in self._rows_in_order()
            if (row.project, row.status) == (project, State.PENDING) and row.flow_id in flow_ids
        ]

    def list_queues(self, *, project: str, at: int) -> list[QueueRow]:
        with self._inside():
            rows = [row for row in self._executions.values() if row.project == project]
            pending = [
                row
                for row in rows
                if row.status is State.PENDING
                and (row.home is None or not self._is_alive(row.home))
            ]
        running = Counter(row.queue for row in rows if row.status in OWNED)
        ready = [row for row in pending if _since(row) <= at]
        delayed = Counter(row.queue for row in pending if _since(row) > at)
        counts = Counter(row.queue for row in ready)
        return [
            QueueRow(
                queue,
                counts[queue],
                delayed[queue],
                running[queue],
                min((self._ready_at(row) for row in ready if row.queue == queue), default=None),
            )
            for queue in sorted({*counts, *delayed, *running})
        ]

    def _ready_at(self, row: ExecutionRow) -> int:
        """Since when whoever serves its queue might have had it."""
        queued_at = self._queued_at.get(row.id, row.created_at)
        home = self._owners.get(row.home or 0)
        left_at = None if home is None else home.died_at
        return max(queued_at if row.due_at is None else row.due_at, left_at or 0)

    def list_limits(self, *, project: str) -> list[LimitRow]:
        with self._inside():
            return self._limits_of(project)

    def _limits_of(self, project: str) -> list[LimitRow]:
        return [
            LimitRow(name, most, len(self._taken(project, name)))
            for (of, name), most in sorted(self._limits.items())
            if of == project
        ]

    def list_slots(self, *, project: str) -> list[tuple[str, int, str]]:
        with self._inside():
            return [
                (name, number, self._executions[execution].exec_id)
                for (of, name, number), execution in sorted(self._slots.items())
                if of == project
            ]

    def count_owned(self, *, project: str) -> dict[int, int]:
        with self._inside():
            rows = [row for row in self._executions.values() if row.project == project]
        return dict(Counter(row.owner for row in rows if row.owner is not None))

    def list_workers(self, *, project: str) -> list[WorkerRow]:
        with self._inside():
            workers = sorted(self._workers.items())
        return [worker for _, worker in workers if worker.project == project]


def _since(row: ExecutionRow) -> int:
    return row.created_at if row.due_at is None else row.due_at


def _lane(one: Queued) -> tuple[int, str, int]:
    return one.turn, one.queue, one.priority
