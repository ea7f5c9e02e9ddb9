"""The durable logic, written once: generators that yield effects and decide in between.

Read ``run_checkpoint`` first; it is the product in ten lines. A crash between
any two effects leaves what the last committed write says, and the next life
starts from there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kitaru._core.lifecycle import CallSource, CallState
from kitaru._core.payload import Payload
from kitaru._core.retry import decide as decide_retry
from kitaru._core.reuse import decided
from kitaru._core.values import (
    decode,
    decode_failure,
    decode_pickled,
    encode,
    encode_failure,
    encode_pickled,
    is_exact,
)
from kitaru._core.values.classes import FRESH, take_fresh
from kitaru._engine.awaiting import back_off
from kitaru._engine.call import hints_of
from kitaru._engine.deciding import adopted_record, claim_adopted, decide, drifted
from kitaru._engine.effects import Ask, CallBody, Commit, Encoded, Land, Raised, Steps
from kitaru._engine.events import of_carried, of_reuse
from kitaru._engine.frames import OUR_FOLDER, lend_frames
from kitaru._engine.regaining import Regain
from kitaru._engine.reuse import find_source, remember
from kitaru._engine.settle import Settle
from kitaru._engine.timeouts import TimedBody
from kitaru._engine.watch import (
    Drift,
    watch_for_classes,
    watch_for_drift,
    watch_for_mutation,
    watch_for_volatile,
)
from kitaru._store.protocol import CallRow, Record
from kitaru.errors import (
    FailureOrigin,
    KitaruBackendError,
    KitaruDivergenceError,
    KitaruRuntimeError,
    KitaruTimeoutError,
    KitaruUserCodeError,
    KitaruValueError,
)

if TYPE_CHECKING:
    from kitaru._engine.call import Call
    from kitaru._engine.transactional import TransactionBody


def run_checkpoint(call: Call) -> Steps[Outcome]:
    """Recall what this call came to before, or run it and record what it comes to.

    A crash after the body and before the record runs the body again on
    recovery: bodies run at least once, outcomes are recorded exactly once.
    """
    recorded = (yield from recall(call)) if call.run.resumed else None
    if recorded is None:
        recorded = yield from reuse(call)
    try:
        while recorded is None:
            result = yield from attempt(call)
            recorded = yield from record(call, result)
    finally:
        body_is_done(call)
    return recorded


class Outcome:
    """A recorded outcome: opened, it is the value, or raises the recorded exception.

    Opened by whoever drove the procedure and not inside it: there a
    ``StopIteration`` of the user's would be taken for the generator's end.
    """

    __slots__ = ("payload", "raised", "state", "value")

    def __init__(
        self,
        state: CallState,
        payload: Payload | None,
        value: Any = None,
        raised: BaseException | None = None,
    ) -> None:
        self.state = state
        self.payload = payload
        self.value = value
        self.raised = raised
        """What the body raised, if it ran in this life: the record has no frames."""

    def open(self, call: Call) -> Any:
        """The *decoded record*, in the first life too, so that no life differs from another."""
        if self.payload is None:
            return self.value
        if self.state is CallState.COMPLETED:
            try:
                return self._read(self.payload, call)
            except KitaruValueError as error:
                # Nothing new starts on top of what cannot be read, whatever the flow makes
                # of the error: once the code is mended, a retry goes on from here.
                call.run.stopped_by = call.run.stopped_by or error
                raise
        exc, recorded = decode_failure(self.payload)
        if call.spec.runtime == "process" and "\n  File " in recorded.traceback:
            # Its frames were in another process, in this life as in every other.
            exc.add_note(f"in its own process:\n{recorded.traceback.rstrip()}")
        call.run.remember_failure(exc, call.identity, call.spec.name)
        if self.raised is not None:
            lend_frames(self.raised, exc)
        raise exc

    def _read(self, payload: Payload, call: Call) -> Any:
        if call.spec.pickled:
            return decode_pickled(payload, what=call.spec.name, hints=hints_of(call))
        # The store compared the digest, or the bytes have never left this process.
        return decode(payload, what=call.spec.name, hints=hints_of(call), checked=True)


# --- recall ----------------------------------------------------------------------


def recall(call: Call) -> Steps[Outcome | None]:
    """The outcome that an earlier life recorded for this very call, if there is one."""
    run = call.run
    found = run.outcomes.get(call.identity)
    if found is None and call.spec.aliases:
        found = recall_by_alias(call)
    if found is None:
        count_earlier_tries(call)
        if run.past is not None and call.identity not in run.tries:
            carried = yield from carry(call)
            if carried is not None:
                return carried
        if call.attempt == 1:
            drifted = yield Ask("drift", lambda: watch_for_drift(call))
            if drifted is not None:
                return (yield from _decided_drift(call, drifted))
        # Records are read when drift is first looked for: what this life has
        # recorded by then must not look like something that nobody called.
        run.claimed.add(call.identity)
        return None
    run.claimed.add(call.identity)
    if run.waits and (call.spec.once or "strict" in run.spec):
        claim_adopted(call)
    if call.named is not None:
        yield Ask("drift", lambda: watch_for_drift(call))
    payload = yield Ask("recall", lambda: run.payload_of(found.id))
    if run.events.active:
        run.events.recalled(call, found)
    return Outcome(found.state, payload)


def _decided_drift(call: Call, drift: Drift) -> Steps[Outcome | None]:
    """A person says what a drifted call is that does not run by itself; None: it runs."""
    run, problem = call.run, drifted(call, drift.record, drift.what)
    found = yield from decide(call, problem)
    run.claimed.add(call.identity)
    if found.decision != "adopt":
        return None
    identity = adopted_record(call, found, problem.records)
    run.claimed.add(identity)
    payload = yield Ask("recall", lambda: run.payload_of(run.outcomes[identity].id))
    now = run.env.now()
    row = call_row(
        call,
        CallState.COMPLETED,
        payload,
        source=CallSource.OVERRIDE,
        reason=decided("adopt", found.by),
        started_at=now,
        ended_at=now,
    )
    facts = run.take_facts(row)
    yield Commit(run, Record(run.id, run.epoch, facts), facts)
    return Outcome(CallState.COMPLETED, payload)


def recall_by_alias(call: Call) -> Any:
    for identity in call.alias_identities():
        run = call.run
        if identity in run.outcomes or identity in run.tries or identity in run.uncertain:
            # From here on the call goes by the name under which it is recorded.
            call.identity = identity
            return call.run.outcomes.get(identity)
    return None


def count_earlier_tries(call: Call) -> None:
    tries = call.run.tries.get(call.identity)
    if tries is not None:
        call.attempt = tries.failures + 1
        call.round_attempts = tries.round_failures


# --- carry -------------------------------------------------------------------------


def carry(call: Call) -> Steps[Outcome | None]:
    """What a replay keeps of its source for this call, or was given for it.

    Learnt like what is reused: queued with its own copies of the values, and durable
    before any body starts. A run of carried calls costs one commit, or one for each
    thousand.
    """
    run = call.run
    past = run.past
    assert past is not None
    found = yield Ask("carry", lambda: past.take(call))
    if found is None:
        attempt, rows = yield Ask("earlier", lambda: past.earlier(call))
        call.attempt = attempt
        call.round_attempts = attempt - 1
        run.queue(*rows)
        return None
    now = run.env.now()
    call.attempt = found.attempt
    call.metadata = json.loads(found.metadata) if found.metadata else {}
    run.claimed.add(call.identity)
    event = of_carried(call, found) if run.events.active else None
    own = call_row(
        call,
        found.state,
        found.payload,
        source=found.source,
        reason=found.reason,
        reused_from=found.id,
        started_at=now,
        ended_at=now,
    )._replace(code=found.code)
    # Below first, as where it ran: what is inside a call is recorded before it.
    run.queue(*found.rows, own, event=event)
    if run.owes_much:
        facts = run.take_facts()
        yield Commit(run, Record(run.id, run.epoch, facts), facts)
    return Outcome(found.state, found.payload)


# --- reuse -------------------------------------------------------------------------


def reuse(call: Call) -> Steps[Outcome | None]:
    """The outcome that another execution recorded for the same call, learnt by this one.

    It is queued, with its own copy of the value, and committed with the next
    transaction: before any body starts (R4).
    """
    source = yield Ask("reuse", lambda: find_source(call))
    if source is None:
        return None
    run = call.run
    now = run.env.now()
    run.queue(
        call_row(
            call,
            CallState.COMPLETED,
            source.payload,
            source=CallSource.REUSED,
            reason=source.reason,
            reused_from=source.id,
            started_at=now,
            ended_at=now,
        ),
        event=of_reuse(call, source.seconds, source.reason) if run.events.active else None,
    )
    return Outcome(CallState.COMPLETED, source.payload)


# --- run and record ------------------------------------------------------------------


def attempt(call: Call) -> Steps[Any]:
    """Run the body once. What the execution has learnt is durable before it starts."""
    run = call.run
    if run.resumed:
        tries = run.tries.get(call.identity)
        if tries is not None and tries.retry_at and call.attempt == tries.failures + 1:
            yield from back_off(call, tries.retry_at)
    watch_for_volatile(call)
    if run.owes:
        facts = run.take_facts()
        yield Commit(run, Record(run.id, run.epoch, facts), facts)
    for flight in run.flights:
        yield Land(run, flight)
    run.bodies.add(call)
    call.parent.bodies.add(call)
    body = CallBody(call) if call.spec.is_plain else _guarded_body(call)
    if not run.services.is_owner():
        yield Regain(run)
    result = yield body
    of_it = body.attempt
    if of_it.futures or of_it.tasks or of_it.bodies:
        failed = type(result) is Raised
        unseen = yield Settle(run, of_it, dropping="its caller failed" if failed else None)
        if run.ended is not None and not all(future.done for future in of_it.futures):
            raise run.ended  # it has not come to an outcome
        if unseen is not None and not failed:
            return Raised(unseen)
    else:
        of_it.is_closed = of_it.is_over = True
    watch_for_mutation(call)
    return result


def _guarded_body(call: Call) -> CallBody | TransactionBody:
    """A body that is given up, or killed, at its timeout; or that has a transaction."""
    if call.spec.transactional:
        from kitaru._engine.transactional import TransactionBody

        return TransactionBody(call)
    if call.spec.runtime == "inline":
        return TimedBody(call)
    # Loaded here: what it takes to start programs.
    from kitaru._engine.processes import ProcessBody

    return ProcessBody(call)


def body_is_done(call: Call) -> None:
    call.run.bodies.discard(call)
    call.parent.bodies.discard(call)


def record(call: Call, result: Any) -> Steps[Outcome | None]:
    """Commit an attempt's outcome; None if it failed and is to be tried again, after its delay."""
    run = call.run
    if type(result) is Encoded:
        yield _commit_row(call, CallState.COMPLETED, result.payload)
        return Outcome(CallState.COMPLETED, result.payload)
    if type(result) is not Raised:
        if FRESH:
            take_fresh()
        try:
            write = encode_pickled if call.spec.pickled else encode
            payload = write(result, what=call.spec.name)
        except KitaruValueError as error:
            error.checkpoint = call.spec.name
            result = Raised(error)
        else:
            if FRESH:
                watch_for_classes(call, take_fresh())
            yield _commit_row(call, CallState.COMPLETED, payload)
            if is_exact(result):
                return Outcome(CallState.COMPLETED, None, result)
            return Outcome(CallState.COMPLETED, payload)

    exc = result.exc
    payload = result.payload or encode_failure(
        exc, origin=origin_of(exc), drop_frames_of=OUR_FOLDER
    )
    delay_seconds = _delay(call, exc)
    if delay_seconds is None:
        yield _commit_row(call, CallState.FAILED, payload)
        # What was raised in another process has no frames here but ours.
        return Outcome(CallState.FAILED, payload, raised=None if result.payload else exc)
    retry_at = run.env.now() + int(delay_seconds * 1e6)
    yield _commit_row(call, CallState.FAILED, payload, retry_at=retry_at)
    body_is_done(call)
    run.services.say(
        f"checkpoint {call.spec.name!r} failed ({type(exc).__name__}), attempt {call.attempt}; "
        f"trying again in {delay_seconds:.1f} s",
        once=("retry", call.run.exec_id, call.spec.id, call.attempt),
    )
    call.attempt += 1
    call.round_attempts += 1
    call.metadata = {}
    if delay_seconds > 0:
        yield from back_off(call, retry_at)
    return None


def _delay(call: Call, exc: BaseException) -> float | None:
    if call.policy is None:
        return None
    return decide_retry(
        call.policy,
        attempts=call.round_attempts + 1,
        exc=exc,
        jitter=call.run.env.jitter(),
        now=call.run.env.now(),
    )


def _commit_row(
    call: Call, state: CallState, payload: Payload, *, retry_at: int | None = None
) -> Commit:
    run = call.run
    row = call_row(
        call,
        state,
        payload,
        source=CallSource.RAN,
        reason=call.inputs_reason,
        retry_at=retry_at,
        started_at=call.started_at,
        ended_at=run.env.now(),
    )
    if state is CallState.COMPLETED and (code := remember(call, row.arguments)) is not None:
        run.queue(code)
    saved = call.take_saved() if call.saved else ()
    facts = run.take_facts(row, artifacts=saved)
    return Commit(run, Record(run.id, run.epoch, facts), facts)


def call_row(
    call: Call,
    state: CallState,
    payload: Payload,
    *,
    source: CallSource,
    reason: str,
    started_at: int,
    ended_at: int,
    reused_from: int | None = None,
    retry_at: int | None = None,
) -> CallRow:
    inputs = call.inputs
    parent = call.parent
    return CallRow(
        call.identity,
        call.attempt,
        state,
        source,
        call.seq,
        call.number,
        call.n,
        call.spec.id,
        call.named,
        call.spec.kind,
        parent.identity,
        parent.number,
        call.branch.label,
        inputs.arguments_json(),
        inputs.preview,
        inputs.digest,
        call.reuse_key if source is CallSource.RAN and state is CallState.COMPLETED else None,
        None if call.code is None else call.code.digest,
        reused_from,
        reason,
        json.dumps(call.metadata) if call.metadata else None,
        retry_at,
        started_at,
        ended_at,
        payload,
    )


def origin_of(exc: BaseException) -> FailureOrigin:
    """Whose fault an exception is, by its type: a misuse of Kitaru is the user's code's."""
    for kind, origin in _ORIGINS:
        if isinstance(exc, kind):
            return origin
    return FailureOrigin.USER_CODE


_ORIGINS: tuple[tuple[type[BaseException], FailureOrigin], ...] = (
    (KitaruDivergenceError, FailureOrigin.DIVERGENCE),
    (KitaruTimeoutError, FailureOrigin.TIMEOUT),
    (KitaruBackendError, FailureOrigin.BACKEND),
    (KitaruUserCodeError, FailureOrigin.USER_CODE),
    (KitaruRuntimeError, FailureOrigin.RUNTIME),
)
