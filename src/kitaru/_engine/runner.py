"""Which executions run in this process, and when: claim, launch, adopt, hand back.

A runner decides; the threads and the loop of ``pool.py`` and ``loop.py`` do
the running, and nothing here sleeps. ``tick()`` acts and says how long it has
nothing to do; ``host.py`` calls it.

Every execution that this process is to run is a :class:`Candidate` until it is
claimed. ``births.py`` records new ones, ``places.py`` says which may begin beside what runs,
``claiming.py`` claims them, ``launching.py`` runs them, ``noticing.py`` keeps what is parked,
``adopting.py`` finds what nobody alive runs, and ``draining.py`` lets go.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, copy_context

from kitaru._core.lifecycle import SUSPECT_DEATHS, State
from kitaru._engine.adopting import ADOPT_POLL_SECONDS, MAX_ADOPT, adopt
from kitaru._engine.cancelling import settle
from kitaru._engine.children import abandoned_children
from kitaru._engine.claiming import Candidate, claim
from kitaru._engine.execution import Completion, FlowSpec, Life, is_finished
from kitaru._engine.launching import Launching
from kitaru._engine.liveness import Liveness
from kitaru._engine.losing import lose
from kitaru._engine.noticing import TICK_SECONDS, Noticing, Parked
from kitaru._engine.outlook import Outlook
from kitaru._engine.ownership import Ownership
from kitaru._engine.places import Places
from kitaru._engine.pool import Pool
from kitaru._engine.run import Run
from kitaru._engine.services import Services
from kitaru._engine.serving import Serving
from kitaru._store.protocol import (
    NO_FACTS,
    ExecutionRow,
    Finish,
    Hint,
    Release,
)


class Runner:
    """Owns this process's executions. Its lock guards the sets; it is never held while waiting."""

    def __init__(
        self, services: Services, liveness: Liveness, *, max_concurrency: int, host: str, pid: int
    ) -> None:
        self.services = services
        self.store = services.store
        self.events = services.events
        self._env = services.env
        self.ownership = Ownership(self.store, liveness, self._env, host=host, pid=pid)
        self._flows = Pool("flow", max_concurrency)
        self._lock = self.lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self.places = Places(self._flows, max_sync=max_concurrency)
        self._candidates: deque[Candidate] = deque()
        self._completions: dict[str, Completion] = {}
        self._interrupted: dict[str, dict[bytes, str]] = {}
        self.flows: Callable[[], Mapping[str, FlowSpec]] = dict
        """The flows that this process knows."""
        self.adopting: Callable[[], Mapping[str, FlowSpec]] | None = None
        """Set by recover(): the flows whose abandoned executions are adopted."""
        self.serving: Serving | None = None
        """Set by a worker: it claims what is queued."""
        self.outlook = Outlook(self)
        self.noticing = Noticing(self)
        services.hints.heard = self.heard
        self.launching = Launching(self, self._flows)
        self.alarm: Callable[[], None] | None = None
        """Called when there is something to tick for again."""
        self._asleep = True
        self._waits_for_lease = False
        self.poll_seconds = ADOPT_POLL_SECONDS
        """How often a process that adopts looks for what nobody tells of."""
        self.ownership.say = services.say
        self.ownership.lost = lambda: lose(self)
        services.slot_lent = self.slot_lent

    def close(self) -> None:
        """Be done: let the threads for flows go."""
        self.adopting = None
        self._flows.close()
        self.ownership.retire()

    # --- taking -------------------------------------------------------------------------

    def reserve(self, flow: FlowSpec, parent: str | None) -> bool:
        """Whether a new execution may begin at once: if so, one more is starting."""
        with self._lock:
            room = self._room(flow, parent)
            if room:
                self.places.starting += 1
        return room

    def started(self) -> None:
        """What was starting runs, or does not."""
        with self._lock:
            self.places.starting -= 1
            self._idle.notify_all()

    def _room(self, flow: FlowSpec, parent: str | None) -> bool:
        """Whether a new execution may begin at once."""
        if self._candidates or self.services.draining or not self.places.may_join(parent):
            return False
        if self.ownership.is_suspended:
            return False
        return self.places.has_room(flow, parent)

    def expect(self, completion: Completion) -> None:
        """Somebody may ask for an execution that is about to be recorded."""
        with self._lock:
            self._completions[completion.exec_id] = completion

    def run_new(self, candidate: Candidate) -> None:
        """Launch what was born running, and list the other among those that are to run here."""
        with self._lock:
            if candidate.row.owner is not None:
                self.launch(candidate, candidate.row)
            else:  # no thread was free, or no slot of its queue
                self._be_awake()
                self._candidates.append(candidate)

    def take(
        self,
        flow: FlowSpec,
        row: ExecutionRow,
        context: Context | None = None,
        *,
        asked: bool = False,
    ) -> Completion | None:
        """Run an existing execution here if nobody alive does; None if there is nothing to run.

        ``asked``: somebody named this very execution, so a pending one is
        claimed even while its home lives; the epoch decides who is first.
        """
        known = self.completion(row.exec_id)
        if known is not None:
            return known
        if settle(self, row):
            return None  # it was being cancelled when its owner died
        if row.status is State.WAITING and self.ownership.is_gone(row.home):
            return self.watch(flow, row, context)
        asked_for = asked and row.status is State.PENDING
        if is_finished(row) or not (asked_for or self.may_take(row)):
            return None
        completion = Completion(row.exec_id)
        with self._lock:
            known = self._completions.setdefault(row.exec_id, completion)
            if known is not completion:
                return known
            self._candidates.append(Candidate(row, flow, context or copy_context(), completion))
        self.dispatch()
        return completion

    def may_take(self, row: ExecutionRow) -> bool:
        """Whether an unfinished execution is nobody's who lives, or was dropped here."""
        return self.ownership.is_abandoned(row) or self.ownership.is_own(row)

    def find_life(self, exec_id: str) -> Life | None:
        """The execution's life in this process, even if it has not begun yet."""
        with self._lock:
            return self.places.active.get(exec_id)

    def candidates(self) -> list[ExecutionRow]:
        """What is to run here and has not begun."""
        with self._lock:
            return [candidate.row for candidate in self._candidates]

    def withdraw(self, unwanted: Callable[[ExecutionRow], bool]) -> list[ExecutionRow]:
        """What is to run here and has not begun does not begin: waiters look at the store."""
        with self._lock:
            found = [one for one in self._candidates if unwanted(one.row)]
            for candidate in found:
                self._candidates.remove(candidate)
        for candidate in found:
            self.forget(candidate.completion)
        return [candidate.row for candidate in found]

    def completion(self, exec_id: str) -> Completion | None:
        """What to wait on for an execution that runs or waits here; None: neither."""
        with self._lock:
            found = self._completions.get(exec_id)
        return found if found is not None else self.noticing.follow(exec_id)

    def watch(
        self, flow: FlowSpec, row: ExecutionRow, context: Context | None
    ) -> Completion | None:
        """Go on with an execution that waits without a live process, once it may."""
        with self._lock:
            self.noticing.watch(row, flow, context or copy_context())
            self._be_awake()
        self._take_family(row)
        return self.noticing.follow(row.exec_id)

    def _take_family(self, row: ExecutionRow) -> None:
        """Go on with the abandoned descendants of a waiting execution: nothing else wakes it."""
        flows = self.flows()
        for child in abandoned_children(self, row):
            if child.flow_id in flows:
                self.take(flows[child.flow_id], child)

    def add(self, row: ExecutionRow, parked: Parked, completion: Completion) -> None:
        """List what was parked among those that are to run here. Called with the lock held."""
        self._completions[row.exec_id] = completion
        self._candidates.append(Candidate(row, parked.flow, parked.context, completion, parked))

    def accept(self, candidate: Candidate) -> None:
        """It was claimed from the queues: whoever asks here finds that it runs, or will."""
        with self._lock:
            self._completions[candidate.row.exec_id] = candidate.completion
            if candidate.row.deaths >= SUSPECT_DEATHS:
                self.places.isolate(candidate.row.exec_id)

    def hold(self, candidate: Candidate) -> None:
        """There is no slot for it now: it is claimed with one of the next ticks."""
        with self._lock:
            self.places.no_suspect(candidate.row.exec_id)
            not_before = self._env.monotonic() + TICK_SECONDS
            self._candidates.append(candidate._replace(not_before=not_before))
            self._be_awake()

    def first(self, candidate: Candidate) -> None:
        """It could not be claimed just now: it is the next. Called with the lock held."""
        self._candidates.appendleft(candidate)

    @property
    def is_leaving(self) -> bool:
        """Whether nothing new is to begin here."""
        return self.services.draining or self.services.exiting

    @property
    def queued(self) -> int:
        """Executions that wait for a thread of this process."""
        with self._lock:
            return len(self._candidates)

    def lives(self) -> list[Life]:
        """Executions that run here."""
        with self._lock:
            return [life for life in self.places.active.values() if life.began]

    def look(self, exec_id: str) -> None:
        """Something was written about an execution by this very process: it looks at once."""
        life = self.life(exec_id)
        if life is not None:
            life.run.standing.look()
            life.run.standing.consider()
            return
        row = self.store.find_execution(exec_id)
        if row is not None:
            self.noticing.notice(row)

    def heard(self, hint: Hint) -> None:
        """Another process tells of something: look at once if it concerns what is here."""
        is_work = self.serving is not None and (hint.queued or hint.anything)
        if is_work or self.noticing.is_meant(hint):
            self.outlook.again()
            self.ring()

    def life(self, exec_id: str) -> Life | None:
        with self._lock:
            life = self.places.active.get(exec_id)
        return life if life is not None and life.began else None

    def interrupted_before(self, flow: FlowSpec) -> dict[bytes, str]:
        """Inputs digest -> id of executions of the flow that stood interrupted at its first run.

        Read once per flow and process: later ones are this process's own.
        """
        found = self._interrupted.get(flow.id)
        if found is None:
            rows = self.store.list_unfinished(
                project=self.services.project,
                flow_ids=[flow.id, *flow.aliases],
                limit=MAX_ADOPT,
            )
            found = self._interrupted[flow.id] = {
                row.inputs_digest: row.exec_id
                for row in rows
                if row.key is None and self.ownership.is_abandoned(row)
            }
        return found

    # --- claiming --------------------------------------------------------------------------

    def dispatch(self) -> None:
        """Claim and launch every candidate that may run now."""
        while True:
            with self._lock:
                candidate = self._next_candidate()
                if candidate is None:
                    return
                self.places.starting += 1
            try:
                claim(self, candidate)
            finally:
                # And round again: somebody may have stood back because of this claim.
                self.started()

    def _dispatch_when_renewed(self) -> None:
        """What is to run here is claimed once the lease is renewed. Called with the lock held."""
        if self._waits_for_lease:
            return
        self._waits_for_lease = True

        def renewed() -> None:
            with self._lock:
                self._waits_for_lease = False
            self.ring()  # from the thread that beats: it must not claim

        self.ownership.when_renewed(renewed)

    def _next_candidate(self) -> Candidate | None:
        if self.services.draining:
            return None
        if self._candidates and self.ownership.is_suspended:
            self._dispatch_when_renewed()
            return None
        is_first, now = True, self._env.monotonic()
        for place, candidate in enumerate(self._candidates):
            if candidate.not_before > now:
                continue
            # In order; but somebody may wait for a child, so it does not wait for others.
            is_next = is_first or candidate.row.parent_exec_id in self.places.active
            is_first = False
            if is_next and self.places.may_begin(candidate.row, candidate.flow):
                del self._candidates[place]
                return candidate
        return None

    @contextmanager
    def slot_lent(self, run: Run) -> Iterator[None]:
        """While inside, something of the run waits for what may need its places to end.

        The thread of a sync flow may itself wait for the body that waits here, so the
        flow's place is lent whichever thread it is.
        """
        with self._lock:
            self.places.lend(run, 1)
        self.dispatch()
        try:
            with self.services.bodies.lent_here():
                yield
        finally:
            with self._lock:
                self.places.lend(run, -1)

    def release(self, row: ExecutionRow, epoch: int) -> None:
        release = Release(row.id, epoch, NO_FACTS, self._env.now())
        self.events.written(row, release, self.store.apply(release))

    def finish(self, row: ExecutionRow, finish: Finish) -> None:
        self.events.written(row, finish, self.store.apply(finish))

    def forget(self, completion: Completion) -> None:
        with self._lock:
            self._completions.pop(completion.exec_id, None)
            self.places.no_suspect(completion.exec_id)
            self._idle.notify_all()
        completion.over()

    # --- running ------------------------------------------------------------------------------

    def launch(self, candidate: Candidate, row: ExecutionRow) -> None:
        """Hand a claimed execution to its thread or to the loop. Called with the lock held."""
        flow = candidate.flow
        life = Life(row, flow, candidate.context, candidate.completion)
        if candidate.row.status is State.RUNNING and candidate.row.owner != row.owner:
            life.taken_from = candidate.row.owner
        self.places.enter(life)
        self._be_awake()
        self.launching.launch(life)

    def _be_awake(self) -> None:
        """There is something to tick for. Called with the lock held."""
        if self._asleep:
            self._asleep = False
            self.ring()

    def ring(self) -> None:
        """Have a tick now."""
        if self.alarm is not None:
            self.alarm()

    def no_suspect(self, exec_id: str) -> None:
        """It has recorded something new: others may run beside it again."""
        with self._lock:
            self.places.no_suspect(exec_id)
        self.dispatch()

    def ended(self, life: Life) -> None:
        """A life has left its thread or the loop: list what it parked, and give its place away."""
        with self._lock:
            self.places.leave(life)
            self._completions.pop(life.row.exec_id, None)
            if life.parked_as in (State.WAITING, State.PENDING):
                self.noticing.keep(life)
            self._idle.notify_all()
        if self.serving is not None:
            self.serving.look()
            self.ring()  # there is room for another one

    # --- adopting ----------------------------------------------------------------------------

    def tick(self) -> float | None:
        """Notice what has arrived, adopt what is abandoned, launch what may run.

        -> seconds with nothing to do; None: until somebody is alarmed.
        """
        with self._lock:
            looks = self.noticing or self.adopting or self.serving
            if not (self.places.active or looks or self._candidates):
                self._asleep = True
                return None
        if self.queued:
            self.dispatch()  # they may have waited for the lease to be renewed
        self.outlook.look()
        pause_seconds = self.noticing.tick()
        if self.serving is not None:
            pause_seconds = min(pause_seconds, self.serving.tick())
        if self.adopting is None or self.services.draining:
            return pause_seconds
        flows = self.adopting()
        if flows:
            adopt(self, flows)
        self.dispatch()
        return pause_seconds if self.places.active or self.noticing else self.poll_seconds

    # --- stopping -----------------------------------------------------------------------------

    def wait_idle(self, timeout: float | None) -> bool:
        """Wait until nothing runs or waits to run here; False on timeout."""
        with self._idle:
            return self._idle.wait_for(
                lambda: self.places.are_empty and (not self._candidates or self.services.draining),
                timeout,
            )

    @property
    def busy(self) -> int:
        """Executions that run or wait to run here."""
        with self._lock:
            return len(self.places.active) + len(self._candidates) + self.places.starting

    def launched(self) -> list[Life]:
        """What was launched here and has not ended, whether or not its thread has begun."""
        with self._lock:
            return list(self.places.active.values())

    def give_up_completions(self) -> list[Completion]:
        """Nobody here ends what runs here any more -> whom to tell."""
        with self._lock:
            completions = list(self._completions.values())
            self._completions.clear()
        return completions
