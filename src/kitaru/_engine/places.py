"""What runs in this process, and what may begin beside it.

An execution whose owners died repeatedly is a *suspect*: it begins only while nothing
else runs here, and nothing else begins while it runs, so that a killer takes no
innocent neighbour with it (O5). Children of what runs are no neighbours: somebody may
wait for them.

Belongs to a runner: every method is called with the runner's lock held, and decides
only.
"""

from __future__ import annotations

from collections.abc import Iterator

from kitaru._core.lifecycle import SUSPECT_DEATHS
from kitaru._engine.execution import FlowSpec, Life
from kitaru._engine.pool import Pool
from kitaru._engine.run import Run
from kitaru._store.protocol import ExecutionRow


class Places:
    """The executions that have begun, those that are about to, and the threads for sync flows."""

    def __init__(self, threads: Pool, *, max_sync: int) -> None:
        self._threads = threads
        self._max_sync = max_sync
        self.active: dict[str, Life] = {}
        self.starting = 0
        """Being recorded or claimed, and not among the active yet."""
        self._sync_active = 0
        self.max_active: int | None = None
        """Of a worker: executions at once. Children of what runs here come on top, because
        their parents wait for them."""
        self._alone: str | None = None
        """The suspect that runs by itself."""

    @property
    def are_empty(self) -> bool:
        return not (self.active or self.starting)

    # --- who may begin -------------------------------------------------------------------

    def has_room(self, flow: FlowSpec, parent: str | None) -> bool:
        """Whether one more may run, and finds a thread or, on the loop, needs none."""
        is_child = parent in self.active
        if self.max_active is not None and not is_child and self.room(self.max_active) <= 0:
            return False
        return flow.is_async or self._sync_active + self.starting < self._max_sync

    def room(self, most: int) -> int:
        """How many more may be claimed so that ``most`` run; none beside a suspect."""
        if self._alone is not None:
            return 0
        return most - len(self.active) - self.starting

    def may_begin(self, row: ExecutionRow, flow: FlowSpec) -> bool:
        """Whether it may be claimed now; a suspect has all places from then on."""
        if not self.may_join(row.parent_exec_id):
            return False
        if is_suspect(row):
            above = set(self._above(row.parent_exec_id))
            if self.starting or not above.issuperset(self.active):
                return False
            self._alone = self._alone or row.exec_id
            return True
        return self.has_room(flow, row.parent_exec_id)

    def may_join(self, parent: str | None) -> bool:
        """Whether a child of ``parent`` may run beside what runs: a suspect has its own only."""
        return self._alone is None or self._alone in self._above(parent)

    def _above(self, parent: str | None) -> Iterator[str]:
        """The ancestors that run here, from this one up."""
        while parent is not None and (life := self.active.get(parent)) is not None:
            yield parent
            parent = life.row.parent_exec_id

    def is_alone(self, exec_id: str) -> bool:
        """Whether it is the suspect that runs by itself."""
        return self._alone == exec_id

    def take_all(self, row: ExecutionRow) -> bool:
        """Whether what is claimed already, and is a suspect, has all places from now on."""
        above = set(self._above(row.parent_exec_id))
        if self._alone is None and self.starting <= 1 and above.issuperset(self.active):
            self._alone = row.exec_id
        return self._alone == row.exec_id or self._alone in above

    def isolate(self, exec_id: str) -> None:
        """It has been claimed as a suspect, while nothing ran here."""
        self._alone = exec_id

    def no_suspect(self, exec_id: str) -> None:
        """Others may run beside it: it has recorded something, has ended, or was not claimed."""
        if self._alone == exec_id:
            self._alone = None

    # --- who has begun -------------------------------------------------------------------

    def enter(self, life: Life) -> None:
        self.active[life.row.exec_id] = life
        if not life.flow.is_async:
            self._sync_active += 1

    def leave(self, life: Life) -> None:
        self.active.pop(life.row.exec_id, None)
        if not life.flow.is_async:
            self._sync_active -= 1
        self.no_suspect(life.row.exec_id)

    def lend(self, run: Run, more: int) -> None:
        """Something of the run waits (+1) or goes on (-1): others may have its flow's place."""
        if run.standing.thread is None:
            return  # an async flow holds none
        had, run.lent = bool(run.lent), run.lent + more
        if had == bool(run.lent):
            return
        self._sync_active -= more
        if more > 0:
            self._threads.lend()
        else:
            self._threads.give_back()


def is_suspect(row: ExecutionRow) -> bool:
    """Whether it must run alone, for all that its row tells.

    Whether the death of its present owner is the first since something was recorded or
    one more, only its claim can tell.
    """
    return row.deaths >= SUSPECT_DEATHS
