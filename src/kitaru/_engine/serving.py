"""What a worker does beside running: it claims what is queued, and looks after the dead.

One poller a process, ticked by the host: at each look ``outlook.py`` asks once what there may
be to do, every two seconds and as soon as somebody tells of something. Decides nothing about
what may run together: that is the runner's, and what is fair and within limits is the store's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, NamedTuple

from kitaru import settings
from kitaru._engine.adopting import adopt_interrupted, wake_abandoned
from kitaru._engine.claiming import Candidate, begin_claimed
from kitaru._engine.execution import Completion, FlowSpec
from kitaru._engine.outlook import POLL_SECONDS
from kitaru._engine.places import is_suspect
from kitaru._engine.queueing import say_limits
from kitaru._store.protocol import ClaimNext, Draining, Enlist, ExecutionRow, Owner

if TYPE_CHECKING:
    from kitaru._engine.runner import Runner

SUSPECTS_SECONDS = 30.0
"""How long a suspect waits, at most, before a busy worker lets its others end for it."""

MAX_CLAIM = 16
"""Executions in one claim: a worker that has room for more claims again."""


class Wanted(NamedTuple):
    """What a worker takes."""

    name: str
    flows: Callable[[], Mapping[str, FlowSpec]]
    queues: Sequence[str]
    """None named: all of them."""
    concurrency: int
    fire_due: Callable[[], float] = lambda: POLL_SECONDS
    """Starts what is scheduled -> seconds until it is to be asked again."""


class Tally:
    """What this process has done since it began: for its metrics and its last words."""

    def __init__(self) -> None:
        self.looks = 0
        self.claims = 0
        self.claimed = 0
        self.claim_seconds = 0.0
        self.events: Counter[str] = Counter()
        """Of executions, by name. Counted on many threads, so one may be missing."""


class Serving:
    """Belongs to a runner, and is called on the thread that ticks it."""

    def __init__(self, runner: Runner, wanted: Wanted) -> None:
        self._runner = runner
        self._store = runner.store
        self._env = runner.services.env
        self.wanted = wanted
        self.tally = Tally()
        self._enlisted: int | None = None
        """As which owner: another one, once this process was declared dead and went on."""
        self._turns = list(wanted.flows())
        """Whose turn it is: a flow of which something was claimed goes to the end."""
        self._looks = 0
        """How many looks around have been seen to."""
        self._has_more = False
        """The last claim took as many as it could: there will be more."""
        self._owners: list[Owner] = []
        self._look_at_owners = True
        self._due_at: int | None = None
        """When the next execution that waits goes on by itself; of the living it is no affair."""
        self._queued_at: int | None = None
        """When the first of what is delayed may be claimed."""
        self._claim_at = 0.0
        self._dead_at = 0.0
        self._suspects_at = 0.0
        self._is_clearing = False
        """A suspect waits: nothing else is claimed until nothing runs here."""

    def enlist(self) -> None:
        """Have the store name this process among its workers."""
        self._runner.services.hints.listen()
        wanted = self.wanted
        say_limits(self._runner.services, settings.current().queue_limits)
        self._enlisted = self._runner.ownership.number()
        self._store.apply(
            Enlist(
                self._enlisted,
                self._runner.services.project,
                wanted.name,
                sorted(wanted.flows()),
                list(wanted.queues),
                wanted.concurrency,
                self._env.now(),
            )
        )

    def drain(self) -> None:
        """Say that nothing more is claimed here."""
        self._store.apply(Draining(self._runner.ownership.number(), self._env.now()))

    # --- looking -------------------------------------------------------------------------

    def tick(self) -> float:
        """Look at what is to be looked at by now -> seconds with nothing to do."""
        if self._runner.is_leaving or self._runner.ownership.is_suspended:
            return POLL_SECONDS
        if self._runner.ownership.number() != self._enlisted:
            self.enlist()
        now = self._env.monotonic()
        outlook = self._runner.outlook
        is_new, self._looks = outlook.looks != self._looks, outlook.looks
        signs = outlook.signs
        if is_new:
            self._due_at, self._queued_at = signs.due_at, signs.queued_at
            self._claim_at = now
            # Another one may have taken it meanwhile.
            self._is_clearing = self._is_clearing and signs.suspects
            if self._is_empty():
                self._suspects_at = now
            self._look_at_owners = True
        buried = self._bury_the_dead(now, is_new and signs.lapsed)
        if buried or (is_new and signs.interrupted) or self._is_past(self._due_at):
            self._take_care()
        # Before claiming: what is started here may be claimed here at once.
        fire_seconds = self.wanted.fire_due()
        again = self._claim(now)
        self._runner.dispatch()
        if again:
            self._claim_at = 0.0
            return 0.0
        left = min(outlook.look_at, self._claim_at) - now
        if not self._runner.ownership.has_leases:
            left = min(left, self._dead_at - now)
        if self._queued_at is not None and not self._is_past(self._queued_at):
            left = min(left, (self._queued_at - self._env.now()) / 1e6)
        return max(0.0, min(left, fire_seconds))

    def _bury_the_dead(self, now: float, has_lapsed: bool) -> bool:
        """Declare dead who is -> whether anybody was: what he ran is looked for at once."""
        ownership = self._runner.ownership
        if ownership.has_leases:
            # The store has seen that a lease is over, and judges it again in the write.
            buried = has_lapsed and bool(ownership.reap())
            if has_lapsed:
                # Of the next one to lapse nobody tells, and this one may have come too early.
                outlook = self._runner.outlook
                outlook.look_at = min(outlook.look_at, ownership.reap_again_at)
        elif now < self._dead_at:
            return False
        else:
            # A look at lock files (O3: 2 s), and no query but for new owners.
            self._dead_at = now + self._runner.poll_seconds
            if self._look_at_owners:
                self._look_at_owners = False
                self._owners = self._store.list_owners()
            buried = bool(ownership.bury(self._owners))
            self._look_at_owners = buried
        if buried:
            self._runner.outlook.again()  # what waited for him may be claimed
        return buried

    def _is_past(self, instant: int | None) -> bool:
        return instant is not None and instant <= self._env.now()

    def look(self) -> None:
        """There is room for more: at the next tick. On any thread."""
        if self._has_more:
            self._claim_at = 0.0
        else:
            self._runner.outlook.again()

    def _take_care(self) -> None:
        """Go on with what the dead ran, and with what is due and was parked by them."""
        flows = self.wanted.flows()
        adopt_interrupted(self._runner, flows)
        self._due_at = wake_abandoned(self._runner, flows)

    # --- claiming ------------------------------------------------------------------------

    def _claim(self, now: float) -> bool:
        """Claim what there is room for -> whether there may be more."""
        if now < self._claim_at and not self._is_past(self._queued_at):
            return False
        # Before the look for room: what ends meanwhile says that there is some.
        self._claim_at = now + POLL_SECONDS
        room = self._room()
        if room <= 0:
            return False
        self.tally.looks += 1
        if self._may_be_suspects(now):
            return self._claim_suspect()
        if not (self._has_more or self._is_past(self._queued_at)):
            return False
        self._queued_at = None
        limit = min(room, MAX_CLAIM)
        taken = len(self._claim_next(limit))
        self._has_more = taken == limit
        if self._has_more and room > limit:
            return True
        if taken and not self._has_more:
            self._runner.outlook.again()  # of one flow it takes so many, and there may be more
        return False

    def _room(self) -> int:
        runner = self._runner
        with runner.lock:
            if any(is_suspect(row) for row in runner.candidates()):
                return 0  # one that was taken over waits until nothing else runs here
            return runner.places.room(self.wanted.concurrency) - runner.queued

    def _claim_next(self, limit: int, *, alone: bool = False) -> list[ExecutionRow]:
        runner, began = self._runner, self._env.monotonic()
        write = ClaimNext(
            runner.services.project,
            self._turns,
            self.wanted.queues,
            runner.ownership.number(),
            limit,
            self._env.now(),
            alone,
        )
        # Through an outage the same claim is asked for: one whose answer was lost has claimed.
        rows: list[ExecutionRow] = runner.services.outage.through(lambda: self._store.apply(write))
        self.tally.claims += 1
        self.tally.claimed += len(rows)
        self.tally.claim_seconds += self._env.monotonic() - began
        self._begin(rows)
        return rows

    def _begin(self, rows: Sequence[ExecutionRow]) -> None:
        flows = self.wanted.flows()
        for row in rows:
            candidate = Candidate(row, flows[row.flow_id], Context(), Completion(row.exec_id))
            begin_claimed(self._runner, candidate)
        claimed = {row.flow_id for row in rows}
        self._turns = [
            *(turn for turn in self._turns if turn not in claimed),
            *(turn for turn in self._turns if turn in claimed),
        ]

    # --- what may kill its process -----------------------------------------------------------

    def _may_be_suspects(self, now: float) -> bool:
        """Whether one is to be claimed now, or is waited for."""
        if not self._is_clearing and now >= self._suspects_at:
            self._suspects_at = now + SUSPECTS_SECONDS
            self._is_clearing = self._runner.outlook.signs.suspects
        return self._is_clearing

    def _is_empty(self) -> bool:
        runner = self._runner
        with runner.lock:
            return runner.places.are_empty and not runner.queued

    def _claim_suspect(self) -> bool:
        if not self._is_empty():
            return False
        self._is_clearing = False
        return not self._claim_next(1, alone=True)
