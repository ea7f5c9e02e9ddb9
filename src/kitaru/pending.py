"""Why an execution does not go on: what it waits for, and who could run it.

Nothing that is queued stands there silently (S7): either a live worker has it in its
turn, or the reason says what is missing, and how it is mended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from kitaru._core.lifecycle import SUSPECT_DEATHS, State
from kitaru._core.queueing import DEFAULT_QUEUE
from kitaru._store.protocol import ExecutionRow, LimitRow, Store, WorkerRow

_MAX_NAMED = 5


class Pending:
    """Who works on a project, read when it is first asked, and good for one look."""

    def __init__(
        self, store: Store, project: str, *, now: int, is_alive: Callable[[int | None], bool]
    ) -> None:
        self._store = store
        self._project = project
        self._now = now
        self._is_alive = is_alive
        self._workers: list[WorkerRow] | None = None
        self._limits: dict[str, LimitRow] | None = None

    @property
    def workers(self) -> list[WorkerRow]:
        """Those that live."""
        if self._workers is None:
            found = self._store.list_workers(project=self._project)
            self._workers = [worker for worker in found if self._is_alive(worker.owner)]
        return self._workers

    def reason(self, row: ExecutionRow) -> str | None:
        """What a pending execution waits for, and why nobody takes an interrupted one over; None:
        it is neither, or waits for its turn in the process that started it."""
        if row.status is State.RUNNING:
            return self._why_left(row)
        if row.status is not State.PENDING:
            return None
        if row.home is not None and self._is_alive(row.home):
            return None
        if row.epoch > 0 and not self.workers:
            return None  # it ran in a program, which goes on with it
        return self.missing(row) or self._waits_for(row)

    def _why_left(self, row: ExecutionRow) -> str | None:
        """Why workers that live leave alone what a dead process ran."""
        if self._is_alive(row.owner) or not self.workers:
            return None  # it runs; or it may have run in a program, which goes on with it
        missing = self.missing(row, of_any_queue=True)  # whoever takes over looks at no queue
        return None if missing is None else f"the process that ran it is gone, and {missing}"

    def missing(self, row: ExecutionRow, *, of_any_queue: bool = False) -> str | None:
        """Why nobody who lives is going to run it, and how somebody would; None: somebody is."""
        start = f"start one with: kitaru worker {row.code_module or 'MODULE'}"
        if not self.workers:
            return f"no live worker: {start}"
        knowing = [worker for worker in self.workers if row.flow_id in worker.flows]
        if not knowing:
            others = _names(self.workers)
            return f"no live worker knows flow {row.flow_name!r} ({others} serve others): {start}"
        taking = [
            worker
            for worker in knowing
            if of_any_queue or not worker.queues or row.queue in worker.queues
        ]
        if not taking:
            return (
                f"no live worker that knows its flow takes from queue {row.queue!r} "
                f"({_names(knowing)}): {start} --queue {row.queue}"
            )
        if all(worker.draining for worker in taking):
            return f"every worker that knows its flow is stopping ({_names(taking)}): {start}"
        return None

    def _waits_for(self, row: ExecutionRow) -> str:
        if row.due_at is not None and row.due_at > self._now:
            due_at = datetime.fromtimestamp(row.due_at // 1_000_000, UTC)
            return f"delayed until {due_at:%Y-%m-%d %H:%M:%SZ}"
        full = [limit for name in (row.queue, row.limit_key) if (limit := self._full(name))]
        if full:
            said = " and ".join(f"{one.name!r} ({one.taken} of {one.max} run)" for one in full)
            return f"behind the limit of {said}{self._holders({one.name for one in full})}"
        if row.deaths >= SUSPECT_DEATHS:
            return f"its process died {row.deaths} times: it waits for a worker to itself"
        taking = [w for w in self.workers if row.flow_id in w.flows and not w.draining]
        queue = "" if row.queue == DEFAULT_QUEUE else f" in queue {row.queue!r}"
        return f"waits for a worker{queue} ({_names(taking)})"

    def _holders(self, names: set[str]) -> str:
        slots = self._store.list_slots(project=self._project)
        found = sorted({exec_id for name, _, exec_id in slots if name in names})
        shown = ", ".join(found[:_MAX_NAMED])
        return f": {shown}{' …' if len(found) > _MAX_NAMED else ''}" if found else ""

    def _full(self, name: str | None) -> LimitRow | None:
        if self._limits is None:
            found = self._store.list_limits(project=self._project)
            self._limits = {limit.name: limit for limit in found}
        limit = self._limits.get(name) if name is not None else None
        return limit if limit is not None and limit.taken >= limit.max else None


def _names(workers: Sequence[WorkerRow]) -> str:
    names = [worker.name for worker in workers[:_MAX_NAMED]]
    more = len(workers) - _MAX_NAMED
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
