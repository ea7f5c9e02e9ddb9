"""One execution as it runs in this process: what it remembers, has learnt, and owes the store.

A :class:`Run` is made after its epoch is committed, and loads what earlier
lives recorded. Its lock guards the queue of facts and the window of payloads;
it is never held while anything waits.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru._core.drift import OpenPlaces
from kitaru._core.lifecycle import CallState, State
from kitaru._core.payload import Payload
from kitaru._core.volatile import may_look_volatile
from kitaru._engine.carrying import Past
from kitaru._engine.context import Attempt
from kitaru._engine.replay_spec import ReplaySpec
from kitaru._engine.standing import Standing
from kitaru._engine.unwind import Unwind, Why
from kitaru._engine.waking import Latch
from kitaru._engine.window import Window
from kitaru._store.protocol import (
    ArtifactRow,
    CallRow,
    CodeRow,
    ExecutionRow,
    Facts,
    Fenced,
    IntentRow,
    LearntRow,
    MemoryRow,
    NoteRow,
    Place,
    RecordedWait,
    Refused,
    Store,
    WaitRow,
)
from kitaru.env import process
from kitaru.errors import KitaruBackendError, KitaruError

if TYPE_CHECKING:
    from kitaru._engine.events import Event
    from kitaru._engine.services import Services

_PAGE = 1000
MAX_QUEUED = 1_000
"""Rows that a replay or reuse may owe before it commits them: a bound on memory."""


class Recalled(NamedTuple):
    """The outcome of a call that an earlier life recorded."""

    id: int
    state: CallState


class Tries(NamedTuple):
    """Failed attempts of a call that is to be tried again."""

    failures: int
    round_failures: int
    retry_at: int | None


NO_TRIES = Tries(0, 0, None)

Fact = CallRow | LearntRow | NoteRow | CodeRow | WaitRow | IntentRow | MemoryRow
"""What may ride in the next transaction."""


class Places(NamedTuple):
    """Recorded successes of one (parent, branch, checkpoint)."""

    by_identity: dict[bytes, Place]
    open: OpenPlaces[Place]


class Run:
    """The state of one execution in the process that owns it."""

    is_far = False
    """Whether this stands in for a run that another process has (``_process/child.py``)."""

    def __init__(self, services: Services, row: ExecutionRow, spec: dict[str, Any]) -> None:
        self.services = services
        self.store: Store = services.store
        self.env = services.env
        self.events = services.events
        self.log = services.logs
        self.has_printed = False
        """Whether its code has printed or logged anything in this life."""
        self.row = row
        self.id = row.id
        self.exec_id = row.exec_id
        self.epoch = row.epoch
        self.spec = spec
        self.key_root = row.exec_id.encode()
        self.pid = process.id
        self.metadata: dict[str, Any] = json.loads(row.metadata)
        self.ended: Unwind | None = None
        self.on_progress: Callable[[], None] | None = None
        """Called once, after the first outcome of this life is durable."""
        self.failures: list[tuple[BaseException, bytes, str | None]] = []
        """Recorded failures that were raised to user code -> of which call, and its checkpoint;
        or of which wait, that expired."""
        self.learnt_values: set[Any] = set()
        self.cache_choices: dict[Any, Any] = {}
        """What a checkpoint says of caching -> (value, who said it), as frozen on the execution."""
        self.deferred: dict[Any, Any] = {}
        """(branch, checkpoint) -> the last call there whose arguments are not known yet."""
        self.told: set[Any] = set()
        """Tasks in which the end was raised already, and that need no waking any more."""
        self.bodies: set[Any] = set()
        """Calls whose bodies run, or whose outcomes are being recorded."""
        self.standing = Standing(self)
        self.patient_until = 0.0
        """When async bodies of an execution that was told to stop are cancelled."""
        self.lost: set[Attempt] = set()
        """Attempts of calls that timed out and whose bodies may still run."""
        self.lent = 0
        """How many of its threads wait for others meanwhile: kept by the runner."""
        self._wakers: set[Callable[[], object]] = set()
        self.used_sources: set[int] = set()
        """Including those of earlier lives: two samples stay two samples."""
        self._lock = threading.Lock()
        self._places_lock = threading.Lock()
        """Held while they are read: by those alone who ask for them."""
        self._queue: list[Fact] = []
        self._metadata_changed = False
        self._flights: dict[int, Latch] = {}
        self._riding: list[Event] = []
        """Events of what is queued, and of what is on its way, by its facts."""
        self._rides: dict[int, list[Event]] = {}
        self._riders: list[LearntRow] = []
        """Facts that nothing depends on: no body waits for them."""
        self.past: Past | None = None
        """What a replay keeps of its source."""
        if "replay" in spec:
            self.past = Past(self, ReplaySpec.of_data(spec["replay"]))
        self.load(row)

    def load(self, row: ExecutionRow) -> None:
        """(Re)read what is recorded, and start counting from the top: a new life or attempt."""
        self.row = row
        self.attempt = row.attempt
        self.seq = itertools.count()
        self.top = Attempt(None)
        self.stopped_by: KitaruError | None = None
        """Why nothing may start any more: a strict flow drifted, a record cannot be read."""
        self.outcomes: dict[bytes, Recalled] = {}
        self._window = Window(self.store, self.id, ())
        self.tries: dict[bytes, Tries] = {}
        self.claimed: set[bytes] = set()
        self._places: dict[tuple[Any, ...], Places] | None = None
        self.learnt: dict[bytes, str] = {}
        self.uncertain: dict[bytes, IntentRow] = {}
        """Calls with effect="once" whose last try began in an earlier life, and has no outcome."""
        self.kept: dict[bytes, tuple[Any, int]] = {}
        """What calls with effect="once" inside checkpoints came to in this life, and when tried."""
        self.failed_children: dict[bytes, int] = {}
        """Children whose failure was raised in this attempt -> which of their attempts failed."""
        self.waits: dict[bytes, RecordedWait] = {}
        """Opened in earlier lives."""
        self.open_names: set[tuple[bytes, str]] = set()
        """(branch, name) of the named waits that stand open in this life."""
        if row.epoch > 1 or row.attempt > 1:
            self._load_outcomes()
            self.learnt = {fact.identity: fact.value for fact in self.store.load_learnt(self.id)}
            self.waits = {wait.row.identity: wait for wait in self.store.list_waits(self.id)}
        self.unnamed_waits = sum(wait.row.name is None for wait in self.waits.values())
        if self.past is not None:
            self._take_over_facts(self.past)
        self.resumed = bool(
            self.outcomes or self.tries or self.learnt or self.uncertain or self.past
        )

    def _take_over_facts(self, past: Past) -> None:
        past.begin()
        facts = [fact for fact in past.facts if fact.identity not in self.learnt]
        self.learnt.update((fact.identity, fact.value) for fact in facts)
        self.queue(*facts)

    def last_row(self, identity: bytes) -> CallRow | None:
        """The last recorded attempt of a call, whole: looked for among all, so rarely asked."""
        found, after = None, 0
        while page := self.store.list_calls(self.id, after=after, limit=_PAGE):
            for each in page:
                if each.row.identity == identity:
                    found = each.row
            after = page[-1].id
        return found

    def _load_outcomes(self) -> None:
        outcomes = self.store.load_outcomes(self.id)
        done = {(outcome.identity, outcome.attempt) for outcome in outcomes}
        for intent in self.store.list_intents(self.id):
            if (intent.identity, intent.attempt) not in done:
                self.uncertain[intent.identity] = intent
        self._window = Window(self.store, self.id, [outcome.id for outcome in outcomes])
        for outcome in outcomes:
            identity = outcome.identity
            if outcome.reused_from is not None:
                self.used_sources.add(outcome.reused_from)
            if outcome.state is CallState.COMPLETED:
                self.outcomes[identity] = Recalled(outcome.id, outcome.state)
                continue
            before = self.tries.get(identity, NO_TRIES)
            # Due at instant 0: not a failure, but a try whose effect did not take place.
            failed = int(outcome.retry_at != 0)
            in_round = 0 if outcome.reopened else before.round_failures + failed
            retry_at = None if outcome.reopened else outcome.retry_at
            self.tries[identity] = Tries(before.failures + 1, in_round, retry_at)
            if outcome.retry_at is None and not outcome.reopened:
                self.outcomes[identity] = Recalled(outcome.id, outcome.state)

    # --- being told to end -----------------------------------------------------

    def check(self) -> None:
        """Raise if this execution must leave: called wherever user code meets ours."""
        if self.ended is not None:
            self._tell()
            raise self.ended
        if self.stopped_by is not None:
            # Whatever the flow made of it.
            raise self.stopped_by
        if process.id != self.pid:
            raise Unwind(
                Why.FORKED,
                f"execution {self.exec_id} belongs to process {self.pid}; this is a fork of it. "
                "End it with os._exit(), or use multiprocessing with spawn",
            )

    def is_lost(self, attempt: Attempt) -> bool:
        """Whether it, or the attempt of a call above it, timed out."""
        while attempt not in self.lost:
            if attempt.call is None:
                return False
            attempt = attempt.call.parent
        return True

    def check_attempt(self, attempt: Attempt) -> None:
        """Raise if what it comes to does not count any more."""
        if self.is_lost(attempt):
            raise Unwind(Why.TIMED_OUT, f"a checkpoint of execution {self.exec_id} timed out")

    def check_owner(self) -> None:
        """Raise if this process may own nothing any more: before each body.

        A body that runs already may still record: the epoch decides that. A lease that is
        over may be renewed: it is waited for (``regaining.py``).
        """
        if self.services.when_renewed is None and not self.services.is_owner():
            raise self.end(
                Why.LOST,
                f"the lock of this process in the store's folder was closed or removed: execution "
                f"{self.exec_id} is given up here, because others may take it over",
            )

    def end(self, why: Why, message: str, error: BaseException | None = None) -> Unwind:
        """Tell everything in this run to unwind; the first reason stays.

        On the loop: by a task that raises what this returns.
        """
        self._tell()
        with self._lock:
            if self.ended is not None:
                return self.ended
            self.ended = Unwind(why, message, error)
            wakers = list(self._wakers)
        for wake in wakers:
            wake()
        return self.ended

    def _tell(self) -> None:
        if asyncio._get_running_loop() is not None:
            self.told.add(asyncio.current_task())

    @contextmanager
    def waking(self, wake: Callable[[], object]) -> Iterator[None]:
        """While inside, ``wake`` is called if the run is told to end."""
        with self._lock:
            self._wakers.add(wake)
            ended = self.ended is not None
        if ended:
            wake()
        try:
            yield
        finally:
            with self._lock:
                self._wakers.discard(wake)

    # --- facts that ride in the next transaction -----------------------------------

    def queue(self, *facts: Fact, event: Event | None = None) -> None:
        """``event`` is told when these facts are durable."""
        with self._lock:
            self._queue.extend(facts)
            if event is not None:
                self._riding.append(event)

    def set_metadata(self, merge: Callable[[dict[str, Any]], None]) -> None:
        with self._lock:
            merge(self.metadata)
            self._metadata_changed = True

    def ride(self, fact: LearntRow) -> None:
        """Record it with the next transaction, whatever that is; no body waits for it."""
        if fact.identity in self.learnt:
            return
        self.learnt[fact.identity] = fact.value
        with self._lock:
            self._riders.append(fact)

    @property
    def owes_much(self) -> bool:
        """Whether more was learnt than should be held in memory."""
        return len(self._queue) > MAX_QUEUED

    @property
    def owes(self) -> bool:
        """Whether something that was learnt has not been taken along by any write yet."""
        return bool(self._queue) or self._metadata_changed

    @property
    def flights(self) -> list[Latch]:
        """Writes under way that carry what was learnt: over when it is durable.

        A body may begin only when those of others are through, too: one of them
        may carry what this body depends on, and not even be queued yet.
        """
        return list(self._flights.values()) if self._flights else []

    def take_facts(self, *calls: CallRow, artifacts: Sequence[ArtifactRow] = ()) -> Facts:
        """All that is queued, these outcomes, and what was saved on the way to them.

        Follow with :meth:`landed` after the commit.
        """
        if not self._queue and not self._metadata_changed and not self._riders:
            return Facts(calls, artifacts=artifacts)
        with self._lock:
            queued, self._queue = [*self._queue, *self._riders], []
            self._riders = []
            metadata = json.dumps(self.metadata) if self._metadata_changed else None
            self._metadata_changed = False
            facts = Facts(
                (*_only(CallRow, queued), *calls),
                tuple(_only(LearntRow, queued)),
                tuple(_only(CodeRow, queued)),
                tuple(_only(NoteRow, queued)),
                metadata,
                waits=tuple(_only(WaitRow, queued)),
                intents=tuple(_only(IntentRow, queued)),
                artifacts=artifacts,
                memories=tuple(_only(MemoryRow, queued)),
            )
            self._flights[id(facts)] = Latch()
            if self._riding:
                self._rides[id(facts)], self._riding = self._riding, []
        return facts

    def landed(self, facts: Facts) -> Sequence[Event]:
        """The transaction that carried these facts is durable (or will never be) -> its events."""
        flight = self._flights.pop(id(facts), None)
        if flight is not None:
            flight.over()
        if self.on_progress is not None and facts.calls:
            progress, self.on_progress = self.on_progress, None
            progress()
        return self._rides.pop(id(facts), ()) if self._rides else ()

    def refused(self, error: BaseException) -> Unwind:
        """A write was refused: this process has no more business with the execution."""
        if isinstance(error, Refused) and _is_cancelling(error.row, self.epoch):
            return self.end(Why.CANCELLED, f"execution {self.exec_id} is cancelled", error)
        if isinstance(error, Fenced):
            silence, outage = self.services.silence(), self.services.outage.said()
            because = next((f", because {each}" for each in (silence, outage) if each), "")
            message = (
                f"execution {self.exec_id} was taken over by another process{because}: "
                "what this one still does is not recorded"
            )
            if outage is not None:
                self.services.say(message, once=("late", self.exec_id, self.epoch))
            return self.end(Why.LOST, message, error)
        if isinstance(error, (Refused, KitaruBackendError)):
            return self.end(
                Why.STORE_FAILED,
                f"execution {self.exec_id} cannot be recorded: {error}",
                error,
            )
        raise error

    # --- what earlier lives recorded ------------------------------------------------

    def payload_of(self, call: int) -> Payload:
        if self.store.is_remote and self.events.active:
            self._window.learn_seconds(call)  # its event is told where nobody may wait
        return self._window.payload_of(call)

    def seconds_of(self, call: int) -> float:
        """How long a recorded body took; read for those who listen only."""
        return self._window.seconds_of(call)

    def places(
        self, parent: bytes | None, parent_attempt: int, branch: str, checkpoint: str
    ) -> Places:
        """Successes that earlier lives recorded there; all are read at the first asking."""
        with self._places_lock:
            if self._places is None:
                self._places = _by_where(self.store.list_places(self.id))
            where = (parent, parent_attempt, branch, checkpoint)
            found = self._places.get(where)
            if found is None:
                found = self._places[where] = Places({}, OpenPlaces(()))
            return found

    def use_source(self, call: int) -> bool:
        """Claim a source of reuse for one call of this execution; False if it is taken."""
        with self._lock:
            if call in self.used_sources:
                return False
            self.used_sources.add(call)
            return True

    def learn_values(self, values: Iterable[Any]) -> None:
        """Values that every life sees alike, however fresh they look."""
        # Only what a hint could be about: the __hash__ of others is code of the user's.
        self.learnt_values.update(value for value in values if may_look_volatile(value))

    def note(self, kind: str, message: str, event: Event | None = None) -> None:
        text = message.encode("utf-8", "backslashreplace").decode()
        self.queue(NoteRow(kind, text, self.env.now()), event=event)

    # --- whose failure left the flow --------------------------------------------------

    def remember_failure(self, exc: BaseException, identity: bytes, checkpoint: str | None) -> None:
        self.failures.append((exc, identity, checkpoint))

    def carried_all(self, failed_calls: Sequence[bytes]) -> bool:
        """Whether a replay took all of these failures over: where they ran, their tries were."""
        taken = self.past is not None and self.past.failures
        return bool(failed_calls and taken and taken.issuperset(failed_calls))

    def calls_behind(self, exc: BaseException) -> list[tuple[bytes, str | None]]:
        """(identity, checkpoint) of the recorded failures in an exception's chain or groups.

        Of a wait that expired there is no checkpoint.

        A recorded failure ends its branch of the search: what Python put into
        its ``__context__`` was being handled when it was raised, so the flow
        had caught that one.
        """
        known = {id(known_exc): (identity, name) for known_exc, identity, name in self.failures}
        found: list[tuple[bytes, str | None]] = []
        seen: set[int] = set()
        todo: list[BaseException] = [exc]
        while todo and len(seen) < 10_000:
            one = todo.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            if id(one) in known:
                found.append(known[id(one)])
                continue
            if isinstance(one, BaseExceptionGroup):
                todo.extend(one.exceptions)
            if one.__cause__ is not None:
                todo.append(one.__cause__)
            elif one.__context__ is not None and not one.__suppress_context__:
                todo.append(one.__context__)
        return list(dict.fromkeys(found))


def _is_cancelling(row: ExecutionRow | None, epoch: int) -> bool:
    return row is not None and row.status is State.CANCELLING and row.epoch == epoch


def _only(kind: type[Any], facts: Iterable[Any]) -> list[Any]:
    return [fact for fact in facts if type(fact) is kind]


def _by_where(rows: Iterable[Place]) -> dict[tuple[Any, ...], Places]:
    found: dict[tuple[Any, ...], list[Place]] = {}
    for row in rows:
        found.setdefault(row[:4], []).append(row)
    return {
        where: Places({row.identity: row for row in places}, OpenPlaces(places))
        for where, places in found.items()
    }
