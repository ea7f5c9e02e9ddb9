"""What this process parked, and how it learns that something has arrived.

Of a parked execution it keeps what running it again needs: a row of a table, no
thread, no task, no run. Answers given in this process are told at once; those of
others are told of where there are hints, and seen in any case: on one machine by looking
four times a second whether anybody has committed anything, which reads one number; over a
network at the next poll (``outlook.py``). What is due is known here, and judged by the wall
clock, which may be set.
"""

from __future__ import annotations

import heapq
from contextvars import Context
from typing import TYPE_CHECKING, NamedTuple

from kitaru._core.lifecycle import State
from kitaru._engine.cancelling import look
from kitaru._engine.deadlines import enforce
from kitaru._engine.execution import Completion, FlowSpec, Life, is_finished
from kitaru._store.protocol import ExecutionRow, Hint, Refused, Wake
from kitaru.errors import KitaruError

if TYPE_CHECKING:
    from kitaru._engine.runner import Runner

TICK_SECONDS = 0.25
"""How long a clock that was set may go unseen; on one machine an answer or a cancel, too."""

LISTEN_TICKS = 4
"""What ends sooner than these needs no connection for hints."""

_MAX_SERVED = 100
_MAX_LOOKED_AT = 200
"""Executions whose status is asked for in one tick."""


class Parked(NamedTuple):
    """An execution that waits, and that this process will go on with."""

    id: int
    exec_id: str
    epoch: int
    due_at: int | None
    flow: FlowSpec
    context: Context
    is_home: bool
    """Whether the store knows that this process serves it."""


class Noticing:
    """Belongs to a runner, and shares its lock."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._store = runner.store
        self._env = runner.services.env
        self._lock = runner.lock
        self._parked: dict[str, Parked] = {}
        self._due: list[tuple[int, str]] = []
        """A heap. What is not parked any more is skipped when its time comes."""
        self._followed: dict[str, Completion] = {}
        """Of those for which a handle of this process waits."""
        self._changes: int | None = None
        self._ticks = 0
        self._turn = 0
        self._unseen: int | None = 0
        """How many the last look has left for the next one; None: all, something has changed."""

    def __len__(self) -> int:
        return len(self._parked)

    def parked(self) -> list[Parked]:
        with self._lock:
            return list(self._parked.values())

    def keep(self, life: Life) -> None:
        """A life has ended by parking: serve its execution from now on."""
        row = life.row
        parking = life.run.standing.parking
        instants = (None if parking is None else parking.due_at, row.deadline_at)
        due_at = min((at for at in instants if at is not None), default=None)
        self._keep(
            Parked(row.id, row.exec_id, row.epoch + 1, due_at, life.flow, life.context, True)
        )

    def look_at(self, exec_id: str) -> None:
        """Something may have arrived between its park and its being listed here."""
        with self._lock:
            parked = self._parked.get(exec_id)
        if parked is None:
            return
        try:
            self._look_at(parked)
        except KitaruError:
            self._changes = None  # the store is away: the next tick looks again

    def watch(self, row: ExecutionRow, flow: FlowSpec, context: Context) -> None:
        """Serve one that waits without a live process: somebody here asked for this very one."""
        self._keep(Parked(row.id, row.exec_id, row.epoch, row.due_at, flow, context, False))

    def _keep(self, parked: Parked) -> None:
        with self._lock:
            self._parked[parked.exec_id] = parked
            due_at = parked.due_at
            if due_at is not None:
                heapq.heappush(self._due, (due_at, parked.exec_id))
        if due_at is not None and due_at - self._env.now() < TICK_SECONDS * 1e6:
            # Before the next tick, which knows nothing of it.
            self._runner.ring()

    def follow(self, exec_id: str) -> Completion | None:
        """What to wait on for a parked execution to go on and end here; None: not parked here."""
        with self._lock:
            parked = self._parked.get(exec_id)
            if parked is None:
                return None
            found = self._followed.get(exec_id)
            if found is None:
                found = self._followed[exec_id] = Completion(exec_id)
        self._look_at(parked)
        return found

    def followed(self) -> list[Completion]:
        """What handles of this process wait on for what is parked here; they are let go."""
        with self._lock:
            found, self._followed = list(self._followed.values()), {}
            self._parked.clear()
        return found

    def lose_home(self) -> None:
        """The store takes this process for another one by now: what is parked is looked at."""
        with self._lock:
            for exec_id, parked in self._parked.items():
                self._parked[exec_id] = parked._replace(is_home=False)
            self._changes = None

    def is_meant(self, hint: Hint) -> bool:
        """Whether it concerns what runs, waits or is parked here."""
        with self._lock:
            here = [each.id for each in self._parked.values()]
        here += [life.row.id for life in self._runner.lives()]
        here += [row.id for row in self._runner.candidates()]
        # Who has parked something here serves what becomes pending, whoever made it so.
        return hint.concerns(here) or (hint.queued and bool(self._parked))

    # --- looking ----------------------------------------------------------------------

    def tick(self) -> float:
        """Look for what has arrived or is due -> seconds with nothing to do."""
        self._ticks += 1
        if self._ticks > LISTEN_TICKS:
            self._runner.services.hints.listen()
        changes = self._runner.outlook.changes()
        if changes != self._changes:
            self._changes, self._unseen = changes, None
        if self._unseen != 0:
            try:
                self._look()
            except BaseException:
                self._changes = None  # nothing was seen: the next tick looks again
                raise
        now = self._env.now()
        enforce(self._runner)
        self._wake_due(now)
        for life in self._runner.lives():
            life.run.standing.tick(now)
        with self._lock:
            next_due = self._due[0][0] if self._due else None
        if next_due is None:
            return TICK_SECONDS
        return min(TICK_SECONDS, max(0.0, (next_due - now) / 1e6))

    def _look(self) -> None:
        """Somebody has committed something."""
        look(self._runner)
        for life in self._runner.lives():
            life.run.standing.look()
        if not self._parked:
            self._unseen = 0
            return
        if self._runner.outlook.signs.served:
            self._serve_all()
        with self._lock:
            elsewhere = [each for each in self._parked.values() if not each.is_home]
            followed = [
                self._parked[exec_id] for exec_id in self._followed if exec_id in self._parked
            ]
        found = [*elsewhere, *followed]
        # Where the last look stopped this one goes on, until each has had its turn.
        start = self._turn % len(found) if found else 0
        turn = [*found[start:], *found[:start]][:_MAX_LOOKED_AT]
        self._turn = start + len(turn)
        unseen = len(found) if self._unseen is None else min(self._unseen, len(found))
        self._unseen = unseen - len(turn) if unseen > len(turn) else 0
        for parked in turn:
            self._look_at(parked)

    def _serve_all(self) -> None:
        """What was parked here, and is pending by now."""
        for row in self._store.list_served(
            self._runner.ownership.number(),
            project=self._runner.services.project,
            limit=_MAX_SERVED + self._runner.queued,
        ):
            self.serve(row)

    def _look_at(self, parked: Parked) -> None:
        status, _, _ = self._store.get_status(parked.id)
        if status is State.PENDING:
            row = self._store.find_execution(parked.exec_id)
            if row is not None:
                self.serve(row)
        elif status is not State.WAITING:
            self.forget(parked.exec_id, parked)

    def _wake_due(self, now: int) -> None:
        while True:
            with self._lock:
                if not self._due or self._due[0][0] > now or self._runner.is_leaving:
                    return
                _, exec_id = heapq.heappop(self._due)
                parked = self._parked.get(exec_id)
            if parked is not None and parked.due_at is not None and parked.due_at <= now:
                self._wake(parked, now)

    def _wake(self, parked: Parked, now: int) -> None:
        try:
            self._store.apply(Wake(parked.id, parked.epoch, now))
        except Refused:
            pass  # Somebody was quicker: the row says who.
        except KitaruError:
            with self._lock:  # The store is away: its time comes again with the next tick.
                heapq.heappush(self._due, (parked.due_at or now, parked.exec_id))
            raise
        try:
            self._look_at(parked)
        except KitaruError:
            self._changes = None  # it is pending by now: the next tick looks again
            raise

    # --- what has arrived -----------------------------------------------------------------

    def notice(self, row: ExecutionRow) -> None:
        """What has become of an execution that may be parked here."""
        if row.status is State.PENDING:
            self.serve(row)
        elif is_finished(row):
            self.forget(row.exec_id)

    def serve(self, row: ExecutionRow) -> None:
        """Run an execution that was parked here, now that it is pending."""
        if row.status is not State.PENDING:
            return
        if self._runner.is_leaving:
            self._changes = None  # if the program stays after all: look again
            return
        with self._lock:
            parked = self._parked.get(row.exec_id)
            if parked is None or row.epoch < parked.epoch:
                return  # Read before it ran here and was parked anew: that one stays.
            del self._parked[row.exec_id]
            completion = self._followed.pop(row.exec_id, None) or Completion(row.exec_id)
            self._runner.add(row, parked, completion)
        self._runner.dispatch()

    def put_back(self, parked: Parked) -> None:
        """It could not be claimed, because the store was away: try again at the next tick."""
        self._keep(parked)
        self._changes = None

    def forget(self, exec_id: str, seen: Parked | None = None) -> None:
        """It is not waiting any more, and goes on or ended elsewhere."""
        with self._lock:
            # By now it may have run here and have been parked anew: that one stays.
            if seen is not None and self._parked.get(exec_id) is not seen:
                return
            self._parked.pop(exec_id, None)
            completion = self._followed.pop(exec_id, None)
        if completion is not None:
            completion.over()
