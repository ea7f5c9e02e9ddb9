"""Claims of what is queued, the slots that they take, and the processes that claim.

A slot is a row, taken in the transaction that makes an execution somebody's and given back
in the one that lets go of it. Which candidates are chosen is decided in ``_core/queueing.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NoReturn

from kitaru._core.queueing import Queued, choose
from kitaru._store.owners import OwnerWrites
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
from kitaru._store.queries import Queries
from kitaru._store.rows import Row, Rows


class QueueWrites(OwnerWrites):
    # --- claims ---

    def claim_next(self, write: ClaimNext) -> list[ExecutionRow]:
        if not self._is_alive(write.owner):
            raise Fenced(f"process {write.owner} was declared dead: it claims nothing any more")
        where = (write.project, _json(dict.fromkeys(write.flow_ids)))
        which = (*where, _json(write.queues) if write.queues else None, write.at)
        if write.alone:
            suspects = self._select(self._queries.oldest_suspect, which)
            if suspects:
                number, epoch = suspects[0]
                return [self._claim_pending(number, epoch, write.owner, write.at)]
        found = self._select(self._queries.list_claimable, (*which, write.limit))
        if not found:
            return []
        candidates = [Queued._make(row) for row in found]
        chosen = choose(candidates, self._room(write.project), limit=write.limit)
        return [self._claim_pending(one.id, one.epoch, write.owner, write.at) for one in chosen]

    def _room(self, project: str) -> dict[str, int]:
        """How many slots are free of each limit."""
        limits = self._select(self._queries.list_limits, (project,))
        return {name: most - taken for name, most, taken in limits}

    def _claim_pending(self, execution: int, epoch: int, owner: int, at: int) -> ExecutionRow:
        """One that was found in this very transaction."""
        values = (execution, epoch, owner, at)
        ((limits,),) = self._select(self._queries.claim_pending, values)
        self._take_slots(execution, limits)
        return self._standing(execution)

    def _take_slots(self, execution: int, limits: int) -> None:
        """A slot of each of the ``limits`` that it is under: the claim has seen that there is."""
        if limits and self._change(self._queries.take_slots, (execution,)) < limits:
            self._refuse_room(execution)

    def _refuse_room(self, execution: int) -> NoReturn:
        row = self._standing(execution)
        names = " and ".join(sorted({row.queue, row.limit_key or row.queue}))
        raise NoRoom(f"as many run under {names} as may: execution {row.exec_id} waits", row)

    def _give_back_slots(self, execution: int) -> None:
        self._change(self._queries.give_back_slots, (execution,))

    # --- limits ---

    def set_limits(self, write: SetLimits) -> bool:
        changed = [self._set_limit(write.project, *limit) for limit in write.limits.items()]
        return any(changed)

    def _set_limit(self, project: str, name: str, most: int | None) -> bool:
        queries = self._queries
        place = (project, name)
        found = self._select(queries.limit_of, place)
        before = found[0][0] if found else None
        if before == most:
            return False
        if most is None:
            self._change(queries.drop_limit, place)
            self._change(queries.drop_slots, place)
            return True
        self._change(queries.set_limit, (*place, most))
        if before is None:
            self._change(queries.give_slots, place)
        return True

    # --- workers ---

    def enlist(self, write: Enlist) -> None:
        lists = (_json(write.flows), _json(write.queues))
        values = (*write[:3], *lists, write.concurrency, write.at)
        if not self._change(self._queries.enlist, values):
            raise Fenced(f"process {write.owner} was declared dead: it claims nothing any more")

    def draining(self, write: Draining) -> bool:
        return self._change(self._queries.mark_draining, write) == 1


class QueueReads:
    _read: Callable[[str, Row], list[Row]]
    _queries: Queries
    _rows: Rows

    def list_interrupted(
        self, *, project: str, flow_ids: Sequence[str], limit: int
    ) -> list[ExecutionRow]:
        found = self._read(self._queries.list_interrupted, (project, _json(flow_ids), limit))
        return [self._rows.execution(row, strict=False) for row in found]

    def signs(
        self, owner: int, *, project: str, flow_ids: Sequence[str], queues: Sequence[str], at: int
    ) -> Signs:
        lists = (_json(flow_ids), _json(queues) if queues else None)
        before = self._changes_before()
        ((mark, *exist),) = self._read(self._queries.signs, (owner, project, *lists, at))
        cancelling, served, due_at, lapsed, interrupted, suspects, queued_at = exist
        return Signs(
            before if mark is None else self._changes_of(mark),
            bool(cancelling),
            bool(served),
            due_at,
            bool(lapsed),
            bool(interrupted),
            bool(suspects),
            queued_at,
        )

    def _changes_before(self) -> int:
        """As they are before a question that tells nothing of them: one that falls in between
        is seen twice rather than never."""
        raise NotImplementedError

    def _changes_of(self, mark: str) -> int:
        """As a question has told of them."""
        raise NotImplementedError

    def list_queues(self, *, project: str, at: int) -> list[QueueRow]:
        found = self._read(self._queries.list_queues, (project, at))
        return [QueueRow._make(row) for row in found]

    def list_limits(self, *, project: str) -> list[LimitRow]:
        return [LimitRow._make(row) for row in self._read(self._queries.list_limits, (project,))]

    def list_slots(self, *, project: str) -> list[tuple[str, int, str]]:
        found = self._read(self._queries.list_slots, (project,))
        return [(name, number, exec_id) for name, number, exec_id in found]

    def count_owned(self, *, project: str) -> dict[int, int]:
        found = self._read(self._queries.count_owned, (project,))
        return {int(owner): int(count) for owner, count in found}

    def list_workers(self, *, project: str) -> list[WorkerRow]:
        workers = []
        for *names, flows, queues, concurrency, draining, at in self._read(
            self._queries.list_workers, (project,)
        ):
            lists = (tuple(json.loads(flows)), tuple(json.loads(queues)))
            workers.append(WorkerRow._make((*names, *lists, concurrency, draining == 1, at)))
        return workers


def _json(values: object) -> str:
    return json.dumps(list(values))  # type: ignore[call-overload]
