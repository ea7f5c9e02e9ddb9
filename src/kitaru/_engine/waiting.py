"""Waits and sleeps of a flow as procedures: recorded, stood in, and recalled in every later life.

A wait is on record before anybody waits for it, so an answer can never come too
early. Its identity is where it was asked (branch), under which name or with which
words, and n: an answer belongs to that asking for ever.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru._core.identity import asked_identity, framed
from kitaru._core.lifecycle import WaitKind, WaitState
from kitaru._core.payload import Payload
from kitaru._engine import schemas
from kitaru._engine.asking import Question
from kitaru._engine.awaited import command, instant_of, reason_of
from kitaru._engine.awaiting import Await, until
from kitaru._engine.context import Place
from kitaru._engine.effects import Ask, Commit, Land, Steps
from kitaru._engine.standing import Stand
from kitaru._engine.unwind import Why
from kitaru._store.protocol import (
    Answer,
    Expire,
    LearntRow,
    NoteRow,
    NotInState,
    Record,
    RecordedWait,
    WaitRow,
)
from kitaru.errors import (
    KitaruContextError,
    KitaruTimeoutError,
    KitaruUsageError,
    KitaruWaitValidationError,
)

if TYPE_CHECKING:
    from kitaru._engine.run import Run


class Terms(NamedTuple):
    """What a wait asks, checked; instants and defaults are relative to nothing yet."""

    name: str | None
    question: str | None
    asked: Any
    """The type of the answer; None: a gate."""
    schema: str | None
    metadata: str | None
    hot_seconds: float
    expires_seconds: float | None
    on_expire: Any


class Asked:
    """One wait of a flow: asked, and not answered yet in this life."""

    def __init__(self, place: Place, terms: Terms) -> None:
        self.run = run = place.run
        self.terms = terms
        self._open_name = None if terms.name is None else (place.branch.digest, terms.name)
        if self._open_name in run.open_names:
            raise KitaruUsageError(
                f"wait {terms.name!r} is open in this branch already: give the two different "
                "names, or await the first before you ask again",
                code="wait-name-open",
            )
        self._branch = place.branch
        self._key = _key(terms)
        self._n = place.branch.ask("wait", self._key)
        self._round = 0
        """How often it was asked again, because the class refused what the schema had let in."""
        self._received: Any = None
        identity = self._identity(0)
        recorded = run.waits.get(identity)
        # One that was open when an earlier attempt ended, or whose expiry ended it, is asked anew.
        is_known = recorded is not None and recorded.state is not WaitState.ABORTED
        self.recorded = recorded if is_known else None
        self.row = (
            self._new_row(place, identity, recorded) if self.recorded is None else self.recorded.row
        )
        if self._open_name is not None:
            run.open_names.add(self._open_name)
        if terms.schema is not None:
            schemas.remember(run.row.flow_id, terms.schema, terms.asked)

    def _identity(self, round_: int) -> bytes:
        kind = f"wait~{round_}" if round_ else "wait"
        return asked_identity(None, 0, self._branch.digest, kind, self._key, self._n)

    def refusal(self, found: RecordedWait) -> str | None:
        """Why this answer does not count, although it is on record; None: it does.

        A later round says so for ever: mending a validator must not change what a resume does.
        """
        if self._identity(self._round + 1) in self.run.waits:
            return ""
        if found.state is WaitState.ANSWERED and found.payload is not None:
            try:
                label = found.row.label
                self._received = schemas.receive(found.payload, self.terms.asked, wait=label)
            except KitaruWaitValidationError as error:
                return str(error)
        return None

    def ask_again(self, found: RecordedWait, why: str) -> None:
        """Open it anew, under its name and with what is left of its time."""
        run = self.run
        self._round += 1
        identity = self._identity(self._round)
        recorded = run.waits.get(identity)
        is_known = recorded is not None and recorded.state is not WaitState.ABORTED
        self.recorded = recorded if is_known else None
        if self.recorded is not None:
            self.row = self.recorded.row
            return
        self.row = self.row._replace(identity=identity, opened_at=run.env.now())
        if why:
            text = f"refused what {found.closed_by or 'somebody'} answered: {why}"
            run.queue(NoteRow("answer_refused", text, run.env.now()))
            run.services.say(f"execution {run.exec_id} {text}")

    def _new_row(self, place: Place, identity: bytes, before: RecordedWait | None) -> WaitRow:
        run, terms = self.run, self.terms
        label = terms.name if before is None else before.row.label
        if label is None:
            label = f"wait_condition:{run.unnamed_waits}"
            run.unnamed_waits += 1
        now = run.env.now()
        expires_at = None
        if terms.expires_seconds is not None:
            expires_at = now + int(terms.expires_seconds * 1e6)
        return WaitRow(
            identity,
            WaitKind.INPUT,
            label,
            terms.name,
            terms.question,
            terms.schema,
            terms.metadata,
            place.branch.label,
            None,
            now,
            expires_at,
            self._default(label),
        )

    def _default(self, label: str) -> Payload | None:
        on_expire = self.terms.on_expire
        if on_expire is None or _is_exception(on_expire):
            return None
        return schemas.default_of(on_expire, self.terms.asked, wait=label)

    def closed(self) -> None:
        """Nobody stands in it any more: its name may be asked again."""
        if self._open_name is not None:
            self.run.open_names.discard(self._open_name)

    def value(self, found: RecordedWait) -> Any:
        """What the flow gets: the decoded answer, or the exception that it expired."""
        run, terms, label = self.run, self.terms, found.row.label
        if found.state is WaitState.ABORTED:
            raise run.end(
                Why.CANCELLED,
                f"execution {run.exec_id} is cancelled: its wait {label!r} was aborted",
            )
        payload = found.payload if found.state is WaitState.ANSWERED else found.row.default
        if payload is None:
            error = self._expired(label)
            run.remember_failure(error, found.row.identity, None)
            raise error
        value = self._received
        if found.state is not WaitState.ANSWERED:
            value = schemas.receive(payload, terms.asked, wait=label)
        run.learn_values([value])
        return value

    def _expired(self, label: str) -> BaseException:
        row, run, on_expire = self.row, self.run, self.terms.on_expire
        seconds = None if row.expires_at is None else (row.expires_at - row.opened_at) / 1e6
        error = KitaruTimeoutError(
            f"wait {label!r} of execution {run.exec_id} expired after {seconds} s without an "
            "answer: catch this, or say what it comes to with wait(..., on_expire=VALUE)",
            exec_id=run.exec_id,
            timeout_seconds=seconds,
            elapsed_seconds=seconds,
            code="wait-expired",
        )
        if not _is_exception(on_expire) or on_expire is KitaruTimeoutError:
            return error
        raised: BaseException = on_expire(str(error)) if isinstance(on_expire, type) else on_expire
        raised.__cause__ = error
        return raised


def _is_exception(thing: Any) -> bool:
    kind = thing if isinstance(thing, type) else type(thing)
    return issubclass(kind, Exception)


def _key(terms: Terms) -> str:
    """What tells a wait from others of its branch: its name, else all that it says."""
    if terms.name is not None:
        return f"={terms.name}"
    parts = (terms.question, terms.schema, terms.metadata)
    said = framed(*(None if each is None else _bytes(each) for each in parts))
    return f"#{blake2b(said, digest_size=16).hexdigest()}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def ask(question: Asked) -> Steps[RecordedWait]:
    """Open the wait if no earlier life did, and stand in it until it is closed for good."""
    try:
        while True:
            found = yield from _once(question)
            refusal = question.refusal(found)
            if refusal is None:
                return found
            question.ask_again(found, refusal)
    finally:
        question.closed()


def _once(question: Asked) -> Steps[RecordedWait]:
    run, recorded = question.run, question.recorded
    if recorded is not None and recorded.state is not WaitState.OPEN:
        return recorded
    if recorded is None:
        run.queue(question.row)
    yield from be_durable(run)
    past = run.past
    given = None if past is None else (yield Ask("given", lambda: past.answer_to(question.row)))
    if given is not None:
        yield from be_durable(run)
        found = yield Ask("given", lambda: _answered(run, question.row, given))
        if found.state is not WaitState.OPEN:
            return found  # type: ignore[no-any-return]
    stand = Stand(
        run,
        reason_of(question.row),
        wait=question.row.identity,
        due_at=question.row.expires_at,
        hot_seconds=question.terms.hot_seconds,
        parks_at_exit=True,
    )
    _offer(question, stand)
    try:
        return (yield from stand_in(run, question.row, stand))
    finally:
        run.services.asker.withdraw(run.id, question.row.identity)


def _answered(run: Run, row: WaitRow, given: Payload) -> RecordedWait:
    """Answer it with what whoever made the replay gave, unless somebody was quicker."""
    assert run.past is not None
    by = f"the replay of {run.past.spec.source}"
    with suppress(NotInState):
        run.store.apply(Answer(run.id, row.identity, given, by, run.env.now()))
    found = run.store.find_wait(run.id, row.identity)
    assert found is not None, "it is on record"
    return found


def _offer(question: Asked, stand: Stand) -> None:
    """Ask there and then, if a person sits at this terminal: it stays hot for as long."""
    run, row, asker = question.run, question.row, question.run.services.asker
    put = Question(run.id, run.exec_id, run.row.flow_name, row, question.terms.asked)
    if asker.offer(put):
        stand.is_attended = lambda: asker.holds(run.id, row.identity)
    elif question.terms.hot_seconds:
        # Whoever waits for the execution sees nothing of it until it is parked.
        run.services.say(
            f"execution {run.exec_id} of flow {run.row.flow_name!r} {reason_of(row)}. "
            f"Answer: {command(run.exec_id, row)}",
            once=("waits", run.id, (row.identity,)),
        )


def stand_in(run: Run, row: WaitRow, stand: Stand) -> Steps[RecordedWait]:
    """Stand in a wait that is on record until it is answered, expired or aborted."""
    while True:
        found: RecordedWait = yield Await(run, stand, _looking(run, row))
        if found.state is WaitState.OPEN:
            # Its time is over. Whoever commits first, an answer or this, has won.
            found = yield Commit(run, Expire(run.id, row.identity, run.env.now()))
        if found.state is not WaitState.OPEN:
            return found


def _looking(run: Run, row: WaitRow) -> Callable[[], RecordedWait | None]:
    def look() -> RecordedWait | None:
        found = run.store.find_wait(run.id, row.identity)
        assert found is not None, "a wait is on record before anybody stands in it"
        is_over = row.expires_at is not None and run.env.now() >= row.expires_at
        return found if is_over or found.state is not WaitState.OPEN else None

    return look


def be_durable(run: Run) -> Steps[None]:
    """Commit what the execution has learnt, and wait for what others of it are committing."""
    if run.owes:
        facts = run.take_facts()
        yield Commit(run, Record(run.id, run.epoch, facts), facts)
    for flight in run.flights:
        yield Land(run, flight)


# --- sleeping --------------------------------------------------------------------


def sleep(place: Place, seconds: float) -> Steps[None]:
    """Sleep until an instant that is learnt once; what is left of it is slept in a later life."""
    run, branch = place.run, place.branch
    identity = asked_identity(None, 0, branch.digest, "sleep", None, branch.ask("sleep"))
    return _sleep(run, identity, seconds)


def _sleep(run: Run, identity: bytes, seconds: float) -> Steps[None]:
    recorded = run.learnt.get(identity)
    if recorded is None:
        recorded = str(run.env.now() + int(seconds * 1e6))
        run.learnt[identity] = recorded
        run.queue(LearntRow(identity, "sleep", recorded))
        yield from be_durable(run)
    due_at = int(recorded)
    reason = f"sleeps until {instant_of(due_at)}"
    stand = Stand(run, reason, due_at=due_at, parks_at_exit=True)
    yield from until(run, stand)


# --- where -------------------------------------------------------------------------


def flow_place(place: Place | None, what: str, instead: str) -> Place:
    """Where a flow asks, or ``KitaruContextError`` that names the right place."""
    if place is None:
        raise KitaruContextError(
            f"kitaru.{what} was called outside a flow, or in a thread that does not carry the "
            "flow's context: call it inside a function decorated with @flow",
            code="outside-flow",
        )
    place.check()
    if place.call is not None:
        raise KitaruContextError(
            f"kitaru.{what} was called inside checkpoint {place.call.spec.name!r}: an execution "
            f"can only park between checkpoints. {instead}",
            code="wait-in-checkpoint",
        )
    if place.attempt.is_closed:
        raise KitaruContextError(
            f"kitaru.{what} was called by something that the flow left running: the flow has "
            "returned. Await tasks and threads before returning",
            code="attempt-is-over",
        )
    if asyncio._get_running_loop() is not None and not place.run.services.loop.is_current():
        raise KitaruContextError(
            f"kitaru.{what} was called inside an event loop of your own (asyncio.run): make the "
            "flow `async def`, Kitaru then runs it on its own loop",
            code="own-event-loop",
        )
    return place


def metadata_json(metadata: Any) -> str | None:
    return None if metadata is None else json.dumps(metadata, sort_keys=True)
