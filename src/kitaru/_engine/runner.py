"""Which executions run in this process, and when: claim, launch, adopt, hand back.

A runner decides; the threads and the loop of ``pool.py`` and ``loop.py`` do
the running, and nothing here sleeps. ``tick()`` acts and says how long it has
nothing to do; ``host.py`` calls it.

Every execution that this process is to run is a :class:`Candidate` until it is
claimed. A candidate whose owners died repeatedly is a *suspect*: it is claimed
only while nothing else runs here, and nothing else is claimed while it runs,
so that a killer takes no innocent neighbour with it (O5).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import NamedTuple

from kitaru._core.lifecycle import MAX_DEATHS, SUSPECT_DEATHS, State
from kitaru._core.values import encode_failure
from kitaru._engine.cancelling import settle
from kitaru._engine.capture import listen
from kitaru._engine.children import abandoned_children, dies_with_child
from kitaru._engine.deadlines import fail_late, is_over
from kitaru._engine.drivers import drive, drive_async
from kitaru._engine.execution import Completion, FlowSpec, Life, is_finished, run_flow
from kitaru._engine.liveness import Liveness
from kitaru._engine.noticing import Noticing, Parked
from kitaru._engine.ownership import Ownership
from kitaru._engine.pool import Pool
from kitaru._engine.run import Run
from kitaru._engine.services import Services
from kitaru._engine.unwind import Unwind, Why
from kitaru._store.protocol import (
    NO_FACTS,
    Claim,
    ExecutionRow,
    Fenced,
    Finish,
    Refused,
    Release,
    Start,
    Started,
    Wake,
)
from kitaru.errors import (
    FailureOrigin,
    KitaruBackendError,
    KitaruRuntimeError,
    KitaruStateError,
)

ADOPT_POLL_SECONDS = 0.5
"""How often an adopting process looks for executions without a live owner (O3: 2 s)."""

DECLARED_DEAD = (
    "this process was declared dead by another one (its lock file in the store's folder was "
    "removed): it may not own executions any more; start the program again"
)

_DRAIN_POLL_SECONDS = 0.02

_MAX_ADOPT = 100
"""Executions looked at in one scan; the next scan comes half a second later."""


class Candidate(NamedTuple):
    """An execution that this process is to claim when it may."""

    row: ExecutionRow
    flow: FlowSpec
    context: Context
    completion: Completion
    parked: Parked | None = None
    """As what it was parked here."""


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
        self._max_flows = max_concurrency
        self._flows = Pool("flow", max_concurrency)
        self._lock = self.lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._active: dict[str, Life] = {}
        self._sync_active = 0
        self._starting = 0
        self._candidates: deque[Candidate] = deque()
        self._completions: dict[str, Completion] = {}
        self._interrupted: dict[str, dict[bytes, str]] = {}
        self._alone: str | None = None
        """The suspect that runs by itself."""
        self.flows: Callable[[], Mapping[str, FlowSpec]] = dict
        """The flows that this process knows."""
        self.adopting: Callable[[], Mapping[str, FlowSpec]] | None = None
        """Set by recover(): the flows whose abandoned executions are adopted."""
        self.noticing = Noticing(self)
        self.alarm: Callable[[], None] | None = None
        """Called when there is something to tick for again."""
        self._asleep = True
        services.slot_lent = self.slot_lent
        services.loop.on_death = self._loop_died

    def close(self) -> None:
        """Be done: let the threads for flows go."""
        self.adopting = None
        self._flows.close()
        self.ownership.retire()

    # --- starting -----------------------------------------------------------------------

    def start(
        self, flow: FlowSpec, new: Start, context: Context | None = None
    ) -> tuple[ExecutionRow, Completion | None]:
        """Record a new execution and launch it here -> (row, completion).

        With a key that exists already, the existing one is the answer, launched
        here if it is abandoned. Born running if there is room, so that the
        whole of a flow costs one commit more than its checkpoints and its end.
        """
        self.ownership.number()
        counted = False
        try:
            with self._lock:
                room = self._room(flow, new.parent_exec_id)
                if room:
                    self._starting += 1
                    counted = True
            row, completion = self._record_new(flow, new, context, room=room)
        finally:
            if counted:
                with self._lock:
                    self._starting -= 1
                    self._idle.notify_all()
            # A suspect may have stood back because of this start.
            self.dispatch()
        if completion is None:
            return row, self.take_by_key(flow, row, new, context)
        return row, completion

    def take_by_key(
        self, flow: FlowSpec, row: ExecutionRow, new: Start, context: Context | None = None
    ) -> Completion | None:
        """Run the execution that has the key, if nobody does; refuse other inputs."""
        if row.inputs_digest != new.inputs_digest:
            raise KitaruStateError(
                f"key {new.key!r} of flow {flow.name!r} belongs to execution {row.exec_id}, which "
                "was started with other inputs: use another key, or the same inputs",
                code="key-used-with-other-inputs",
            )
        return self.take(flow, row, context)

    def _record_new(
        self, flow: FlowSpec, new: Start, context: Context | None, *, room: bool
    ) -> tuple[ExecutionRow, Completion | None]:
        """Record it, and launch or queue it; no completion if its key existed."""
        owner = self.ownership.number()
        self.events.look()
        # Known before it is committed: another thread with the same key must find
        # who runs it here, and not take it for something that was dropped.
        completion = Completion(new.exec_id)
        with self._lock:
            self._completions[new.exec_id] = completion

        def run_it(row: ExecutionRow) -> None:
            candidate = Candidate(row, flow, context or copy_context(), completion)
            with self._lock:
                if room:
                    self._launch(candidate, row)
                else:
                    self._candidates.append(candidate)

        try:
            started: Started = self.store.apply(
                new._replace(owner=owner if room else None, home=owner)
            )
        except BaseException as error:
            # Ctrl-C may come after the commit: it then means what it means right
            # after run() has returned, or nobody would ever run what is ours.
            row = None if isinstance(error, Exception) else self.store.find_execution(new.exec_id)
            if row is not None:
                run_it(row)
            else:
                self._forget(completion)
            raise
        if not started.created:
            self._forget(completion)
            return started.row, None
        self.events.written(started.row, new, started)
        run_it(started.row)
        return started.row, completion

    def _room(self, flow: FlowSpec, parent: str | None) -> bool:
        """Whether a new execution may begin at once."""
        if self._candidates or self.services.draining or not self._may_join(parent):
            return False
        return flow.is_async or self._sync_active + self._starting < self._max_flows

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
        if row.status is State.WAITING and not self.ownership.is_alive(row.home):
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
            return self._active.get(exec_id)

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
            self._forget(candidate.completion)
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
            return [life for life in self._active.values() if life.began]

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

    def life(self, exec_id: str) -> Life | None:
        with self._lock:
            life = self._active.get(exec_id)
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
                limit=_MAX_ADOPT,
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
                self._starting += 1
            try:
                self._claim(candidate)
            finally:
                # And round again: somebody may have stood back because of this claim.
                with self._lock:
                    self._starting -= 1
                    self._idle.notify_all()

    def _next_candidate(self) -> Candidate | None:
        if self.services.draining:
            return None
        for place, candidate in enumerate(self._candidates):
            # In order; but somebody may wait for a child, so it does not wait for others.
            is_next = place == 0 or candidate.row.parent_exec_id in self._active
            if is_next and self._may_begin(candidate):
                del self._candidates[place]
                return candidate
        return None

    def _may_begin(self, candidate: Candidate) -> bool:
        row = candidate.row
        if not self._may_join(row.parent_exec_id):
            return False
        if is_suspect(row):
            above = set(self._above(row.parent_exec_id))
            if self._starting or not above.issuperset(self._active):
                return False
            self._alone = self._alone or row.exec_id
            return True
        return candidate.flow.is_async or self._sync_active + self._starting < self._max_flows

    def _may_join(self, parent: str | None) -> bool:
        """Whether a child of ``parent`` may run beside what runs: a suspect has its own only."""
        return self._alone is None or self._alone in self._above(parent)

    def _above(self, parent: str | None) -> Iterator[str]:
        """The ancestors that run here, from this one up."""
        while parent is not None and (life := self._active.get(parent)) is not None:
            yield parent
            parent = life.row.parent_exec_id

    @contextmanager
    def slot_lent(self, run: Run) -> Iterator[None]:
        """While inside, something of the run waits for what may need its places to end.

        The thread of a sync flow may itself wait for the body that waits here, so the
        flow's place is lent whichever thread it is.
        """
        self._lend(run, 1)
        self.dispatch()
        try:
            with self.services.bodies.lent_here():
                yield
        finally:
            self._lend(run, -1)

    def _lend(self, run: Run, more: int) -> None:
        if run.standing.thread is None:
            return  # an async flow holds none
        with self._lock:
            had, run.lent = bool(run.lent), run.lent + more
            if had == bool(run.lent):
                return
            self._sync_active -= more
            if more > 0:
                self._flows.lend()
            else:
                self._flows.give_back()

    def _claim(self, candidate: Candidate) -> None:
        try:
            self._claim_and_launch(candidate)
        except BaseException:
            self._launch_all_the_same(candidate)
            raise

    def _launch_all_the_same(self, candidate: Candidate) -> None:
        """Ctrl-C while claiming: what is ours by then must run, or nobody would ever run it."""
        row = self.store.find_execution(candidate.row.exec_id)
        with self._lock:
            if candidate.completion.is_over or candidate.row.exec_id in self._active:
                return
            if row is not None and row.status is State.RUNNING and self.ownership.is_own(row):
                self._launch(candidate, row)
                return
            if self._alone == candidate.row.exec_id:
                self._alone = None
            self._candidates.appendleft(candidate)

    def _claim_and_launch(self, candidate: Candidate) -> None:
        try:
            if is_over(candidate.row, self._env.now()):
                fail_late(self, candidate.row)
                self._forget(candidate.completion)
                return
            claim = self._claim_of(candidate.row)
            row = self.store.apply(claim)
        except (Refused, KitaruBackendError) as error:
            self._give_up(candidate, error)
            return
        self.events.look()
        self.events.written(row, claim, row)
        if candidate.row.status is State.RUNNING and candidate.row.owner is not None:
            self.ownership.forget(candidate.row.owner)
        if row.deaths >= MAX_DEATHS and not dies_with_child(self.store, row):
            self._fail_poisoned(candidate, row)
            return
        with self._lock:
            if row.deaths < SUSPECT_DEATHS and self._alone == row.exec_id:
                # It had recorded something since the last death: no suspect after all.
                self._alone = None
            self._launch(candidate, row)

    def _claim_of(self, row: ExecutionRow) -> Claim:
        owner = self.ownership.number()
        now = self._env.now()
        if row.status is State.PENDING:
            return Claim(row.id, row.epoch, owner, None, now)
        if row.owner == owner:
            # Given up here before: hand it back first, so that the epoch tells the lives apart.
            self.release(row, row.epoch)
            return Claim(row.id, row.epoch + 1, owner, None, now)
        return Claim(row.id, row.epoch, owner, row.owner, now)

    def _give_up(self, candidate: Candidate, error: Exception) -> None:
        """Somebody else was quicker, or the store is gone: waiters look at the store again."""
        if isinstance(error, Fenced) and self.ownership.is_declared_dead():
            candidate.completion.unwound = Unwind(Why.STORE_FAILED, DECLARED_DEAD, error)
        else:
            why = Why.LOST if isinstance(error, Refused) else Why.STORE_FAILED
            candidate.completion.unwound = Unwind(why, str(error), error)
            if why is Why.STORE_FAILED and candidate.parked is not None:
                self.noticing.put_back(candidate.parked)
        self._forget(candidate.completion)

    def release(self, row: ExecutionRow, epoch: int) -> None:
        release = Release(row.id, epoch, NO_FACTS, self._env.now())
        self.events.written(row, release, self.store.apply(release))

    def _finish(self, row: ExecutionRow, finish: Finish) -> None:
        self.events.written(row, finish, self.store.apply(finish))

    def _fail_poisoned(self, candidate: Candidate, row: ExecutionRow) -> None:
        reason = (
            f"the process that ran it died {row.deaths} times without recording anything new; "
            "the call after the last recorded one is the likely killer. "
            f"Mend it, then: kitaru executions retry {row.exec_id}"
        )
        failure = encode_failure(
            KitaruRuntimeError(reason, code="process-died-repeatedly"), origin=FailureOrigin.RUNTIME
        )
        finish = Finish(row.id, row.epoch, None, failure, (), reason, NO_FACTS, self._env.now())
        try:
            self._finish(row, finish)
        except (Refused, KitaruBackendError) as error:
            self._give_up(candidate, error)
            return
        self._forget(candidate.completion)

    def _forget(self, completion: Completion) -> None:
        with self._lock:
            self._completions.pop(completion.exec_id, None)
            if self._alone == completion.exec_id:
                self._alone = None
            self._idle.notify_all()
        completion.over()

    # --- running ------------------------------------------------------------------------------

    def _launch(self, candidate: Candidate, row: ExecutionRow) -> None:
        """Hand a claimed execution to its thread or to the loop. Called with the lock held."""
        flow = candidate.flow
        life = Life(row, flow, candidate.context, candidate.completion)
        if candidate.row.status is State.RUNNING and candidate.row.owner != row.owner:
            life.taken_from = candidate.row.owner
        self._active[row.exec_id] = life
        self._be_awake()
        # A copy: the next life begins with what the caller had, not with what this one made of
        # it; and it may begin before this one's thread has left.
        context = life.context.copy()
        if flow.is_async:
            self.services.loop.spawn(lambda: self._run_async(life), context)
        else:
            self._sync_active += 1
            self._flows.submit(lambda: context.run(self._run_sync, life))

    def _be_awake(self) -> None:
        """There is something to tick for. Called with the lock held."""
        if self._asleep:
            self._asleep = False
            self.ring()

    def ring(self) -> None:
        """Have a tick now."""
        if self.alarm is not None:
            self.alarm()

    def _begin(self, life: Life) -> None:
        if self.services.logs is not None:
            listen()
        run = Run(self.services, life.row, json.loads(life.row.spec))
        if life.taken_from is not None:
            run.note(
                "takeover",
                f"taken over by process {self.ownership.pid} at epoch {run.epoch}, because the "
                f"process that ran it (owner {life.taken_from}) had died",
            )
        if self._alone == life.row.exec_id:
            run.on_progress = lambda: self._no_suspect(life.row.exec_id)
        life.begin(run)

    def _no_suspect(self, exec_id: str) -> None:
        """It has recorded something new: others may run beside it again."""
        with self._lock:
            if self._alone == exec_id:
                self._alone = None
        self.dispatch()

    def _run_sync(self, life: Life) -> None:
        try:
            self._begin(life)
            drive(run_flow(life), self._env)
        except BaseException as error:
            self._broken(life, error)
        finally:
            self._ended(life)

    async def _run_async(self, life: Life) -> None:
        try:
            self._begin(life)
            await drive_async(run_flow(life), self._env)
        except BaseException as error:
            self._broken(life, error)
        finally:
            self._ended(life)

    def _broken(self, life: Life, error: BaseException) -> None:
        """The execution left without a recorded end: keep why, for whoever waits here."""
        if isinstance(error, asyncio.CancelledError) and life.began and life.run.ended is not None:
            error = life.run.ended
        if isinstance(error, Unwind):
            life.completion.unwound = error
            if error.why is Why.CANCELLED:
                # In between two tries of the flow: its code has stopped.
                with contextlib.suppress(Refused, KitaruBackendError):
                    self.release(life.row, life.run.epoch)
            elif error.why is not Why.HANDED_BACK:
                self.services.say(str(error))
                self.events.lost(life.row, str(error))
        elif isinstance(error, (KitaruBackendError, Refused)):
            life.completion.unwound = Unwind(Why.STORE_FAILED, str(error), error)
            self.events.lost(life.row, str(error))
        else:
            self._fail_broken(life, error)

    def _fail_broken(self, life: Life, error: BaseException) -> None:
        """A bug of ours: say so on the record, so that nothing is stuck."""
        reason = f"an error inside Kitaru: {type(error).__name__}: {error}"
        row = life.row
        failure = encode_failure(error, origin=FailureOrigin.RUNTIME)
        finish = Finish(row.id, row.epoch, None, failure, (), reason, NO_FACTS, self._env.now())
        life.completion.cause = error
        try:
            self._finish(row, finish)
        except (Refused, KitaruBackendError):
            life.completion.unwound = Unwind(Why.STORE_FAILED, reason, error)

    def _loop_died(self, error: Exception) -> None:
        """What ran on the event loop will never end by itself: whoever waits for it is told."""
        with self._lock:
            lives = list(self._active.values())
        for life in lives:
            message = (
                f"execution {life.row.exec_id} stopped, because Kitaru's event loop failed "
                f"({type(error).__name__}: {error}): something may have closed descriptors that it "
                "had not opened"
            )
            unwound = Unwind(Why.STORE_FAILED, message, error)
            if life.began:
                unwound = life.run.end(Why.STORE_FAILED, message, error)
            if life.flow.is_async:
                self._broken(life, unwound)
                self._ended(life)

    def _ended(self, life: Life) -> None:
        exec_id = life.row.exec_id
        if life.began and life.run.log is not None:
            life.run.log.ended(life.run)
        with self._lock:
            self._active.pop(exec_id, None)
            self._completions.pop(exec_id, None)
            if life.parked_as in (State.WAITING, State.PENDING):
                self.noticing.keep(life)
            if not life.flow.is_async:
                self._sync_active -= 1
            if self._alone == exec_id:
                self._alone = None
            self._idle.notify_all()
            more = bool(self._candidates)
        life.completion.over()
        if more:
            self.dispatch()
        if life.parked_as is not None:
            # An answer that came before it was listed has told nobody, and a tick may have
            # seen that one already.
            self.noticing.look_at(exec_id)

    # --- adopting ----------------------------------------------------------------------------

    def tick(self) -> float | None:
        """Notice what has arrived, adopt what is abandoned, launch what may run.

        -> seconds with nothing to do; None: until somebody is alarmed.
        """
        with self._lock:
            if not (self._active or self.noticing or self.adopting):
                self._asleep = True
                return None
        pause_seconds = self.noticing.tick()
        if self.adopting is None or self.services.draining:
            return pause_seconds
        flows = self.adopting()
        if flows:
            rows = self.store.list_unfinished(
                project=self.services.project, flow_ids=list(flows), limit=_MAX_ADOPT
            )
            alive: dict[int | None, bool] = {}
            for row in rows:
                keeper = row.home if row.status is State.PENDING else row.owner
                if keeper not in alive:
                    alive[keeper] = self.ownership.is_alive(keeper)
                if not alive[keeper]:
                    self.take(flows[row.flow_id], row)
            self._wake_abandoned(flows)
        self.dispatch()
        return pause_seconds if self._active or self.noticing else ADOPT_POLL_SECONDS

    def _wake_abandoned(self, flows: Mapping[str, FlowSpec]) -> None:
        """Go on with what is due, and was parked by a process that is dead."""
        now, project = self._env.now(), self.services.project
        next_due = self.store.next_due(project=project)
        if next_due is None or next_due > now:
            return
        alive: dict[int | None, bool] = {}
        for row in self.store.list_due(project=project, at=now, limit=_MAX_ADOPT):
            if row.home not in alive:
                alive[row.home] = self.ownership.is_alive(row.home)
            if alive[row.home]:
                continue
            # Also what others have to run: it must not fill this list for ever.
            try:
                self.store.apply(Wake(row.id, row.epoch, now))
            except Refused:
                continue  # Another process that adopts was quicker.
            woken = self.store.find_execution(row.exec_id)
            if woken is not None and woken.flow_id in flows:
                self.take(flows[woken.flow_id], woken)

    # --- stopping -----------------------------------------------------------------------------

    def wait_idle(self, timeout: float | None) -> bool:
        """Wait until nothing runs or waits to run here; False on timeout."""
        with self._idle:
            return self._idle.wait_for(
                lambda: (
                    not (self._active or self._starting)
                    and (not self._candidates or self.services.draining)
                ),
                timeout,
            )

    @property
    def busy(self) -> int:
        """Executions that run or wait to run here."""
        with self._lock:
            return len(self._active) + len(self._candidates) + self._starting

    def abandon(self) -> None:
        """Let whoever waits here look at the store: a test has killed this life."""
        with self._lock:
            completions = [*self._completions.values(), *self.noticing.followed()]
            self._completions.clear()
        for completion in completions:
            completion.unwound = Unwind(Why.LOST, "the life that ran it was killed")
            completion.over()

    def drain(self, seconds: float) -> None:
        """Start nothing new, let bodies finish and record for ``seconds``, hand back the rest (O6).

        What is handed back is pending, with no owner and a higher epoch: a
        body that still runs is fenced, and its death is nobody's.
        """
        self.services.draining = True
        deadline = self._env.monotonic() + seconds
        considered: set[str] = set()
        while not self.wait_idle(0.0):
            self._end_those_without_bodies(considered)
            left = deadline - self._env.monotonic()
            if left <= 0 or self.wait_idle(min(left, _DRAIN_POLL_SECONDS)):
                break
        self.services.gone = True
        with self._lock:
            lives = list(self._active.values())
        for life in lives:
            self._hand_back(life)

    def _end_those_without_bodies(self, considered: set[str]) -> None:
        """Unwinding an async flow cancels what it awaits, so its bodies finish first.

        What stands in a wait or a sleep is parked rather than handed back: there is nothing
        to go on with. An async flow is given one round to find out.
        """
        with self._lock:
            lives = list(self._active.values())
        for life in lives:
            if life.began and life.run.standing and life.row.exec_id not in considered:
                considered.add(life.row.exec_id)
                life.run.standing.consider()
                continue
            if life.began and not (life.flow.is_async and life.run.bodies):
                life.run.end(Why.HANDED_BACK, f"execution {life.row.exec_id} is handed back")

    def _hand_back(self, life: Life) -> None:
        epoch = life.run.epoch if life.began else life.row.epoch
        try:
            self.release(life.row, epoch)
        except (Refused, KitaruBackendError):
            # It ended meanwhile, or the store is gone: then the lock is the hand-back.
            return


def is_suspect(row: ExecutionRow) -> bool:
    """Whether it must run alone, if its present owner's death is counted too."""
    dying = 1 if row.status is State.RUNNING else 0
    return row.deaths + dying >= SUSPECT_DEATHS
