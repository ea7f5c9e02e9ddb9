"""Checkpoints with ``effect="once"``: a body that starts at most once, unless somebody says run.

Before the body an intent is durable. A life that finds an intent without an outcome does
not know whether the effect took place: the call is uncertain. ``verify=`` may know, else
a person decides. An exception is an outcome: the body itself said that it failed. A body
that timed out said nothing: it is uncertain too.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from kitaru._core import reuse as rules
from kitaru._core.lifecycle import CallSource, CallState
from kitaru._core.payload import Payload
from kitaru._core.values import encode, encode_failure, encode_pickled
from kitaru._core.verdicts import Done, NotDone, Unknown
from kitaru._engine.awaiting import back_off
from kitaru._engine.context import Attempt, Place, here
from kitaru._engine.deciding import Decision, decide, uncertain
from kitaru._engine.effects import Ask, Commit, Effect, Raised, Steps
from kitaru._engine.procedures import (
    Outcome,
    attempt,
    body_is_done,
    call_row,
    count_earlier_tries,
    recall,
    recall_by_alias,
    record,
    run_checkpoint,
)
from kitaru._engine.regaining import Regain
from kitaru._engine.unwind import Unwind, Why
from kitaru._store.protocol import IntentRow, Record
from kitaru.errors import FailureOrigin, KitaruError, KitaruStateError

if TYPE_CHECKING:
    from kitaru._engine.call import Call

DUE_AT_ONCE = 0
"""``retry_at`` of a try whose effect did not take place: the next is no retry of a failure."""


def steps_of(call: Call) -> Steps[Outcome]:
    """The procedure of a call."""
    if not call.spec.once:
        return run_checkpoint(call)
    if call.spec.transactional:
        from kitaru._engine.transactional import run_in_transaction

        return run_in_transaction(call)
    return run_once(call)


def run_once(call: Call) -> Steps[Outcome]:
    """Recall what this call came to, settle it if nobody knows, or run it under an intent."""
    run = call.run
    recorded = kept(call)
    if recorded is None and (run.resumed or call.identity in run.uncertain):
        recorded = yield from recall_kept(call)
    call.inputs_reason = rules.never_reused()
    try:
        while recorded is None:
            yield from _ready(call)
            intent = _intent(call)
            run.queue(intent)
            run.uncertain[call.identity] = intent  # and stays, if the body is cancelled
            result = yield from attempt(call)
            if type(result) is Raised and _was_cut_off(result):
                recorded = yield from _settle(call, intent)
            else:
                recorded = yield from record(call, result)
                run.uncertain.pop(call.identity, None)
    finally:
        body_is_done(call)
    if call.parent.call is not None:
        run.kept[call.identity] = (recorded, call.attempt)
    return recorded


def _ready(call: Call) -> Steps[None]:
    """Wait until the body may start, so that its intent is not recorded long before."""
    run = call.run
    tries = run.tries.get(call.identity)
    if tries is not None and tries.retry_at and call.attempt == tries.failures + 1:
        yield from back_off(call, tries.retry_at)
    run.check()
    if not run.services.is_owner():
        yield Regain(run)
    if run.services.draining:
        raise run.end(Why.HANDED_BACK, f"execution {run.exec_id} is handed back")


def _intent(call: Call) -> IntentRow:
    inputs, parent = call.inputs, call.parent
    return IntentRow(
        call.identity,
        call.attempt,
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
        call.run.env.now(),
    )


def _was_cut_off(result: Raised) -> bool:
    """Whether the body said nothing: it passed its timeout, or its own process died.

    Such an answer was made for it and never raised; what a body raises has frames, or
    comes encoded from where it ran.
    """
    exc = result.exc
    made = result.payload is None and exc.__traceback__ is None
    return made and isinstance(exc, KitaruError) and exc.code in _CUT_OFF


_CUT_OFF = frozenset({"checkpoint-timed-out", "process-died"})


# --- what is known already ------------------------------------------------------------


def kept(call: Call) -> Outcome | None:
    """What an earlier attempt of the caller made of this very call, in this life.

    Its success stays. Its failure was an outcome of that attempt: a new one tries again.
    """
    found = call.run.kept.get(call.identity)
    if found is None:
        return None
    outcome: Outcome = found[0]
    if outcome.state is CallState.COMPLETED:
        return outcome
    call.attempt = found[1] + 1
    return None


def recall_kept(call: Call) -> Steps[Outcome | None]:
    """What an earlier life recorded; a call of which it recorded only the intent is settled."""
    run = call.run
    if call.spec.aliases and call.identity not in run.outcomes:
        recall_by_alias(call)
    found = run.outcomes.get(call.identity)
    failed = found is not None and found.state is CallState.FAILED
    if failed and (yield Ask("recall", lambda: _was_of_another_attempt(call))):
        count_earlier_tries(call)
        call.round_attempts = 0
        run.claimed.add(call.identity)
        return None
    if found is None:
        count_earlier_tries(call)
        intent = run.uncertain.get(call.identity)
        if intent is not None:
            call.attempt = intent.attempt
            run.claimed.add(call.identity)
            return (yield from _settle(call, intent))
        other = _drifted_from_uncertain(call) if call.attempt == 1 else None
        if other is not None:
            run.claimed.add(other.identity)
            run.claimed.add(call.identity)
            return (yield from _settle(call, other))
    return (yield from recall(call))


def _was_of_another_attempt(call: Call) -> bool:
    """Whether the recorded failure is of an earlier attempt of the caller, which is tried again."""
    if call.parent.call is None:
        return False
    last = call.run.last_row(call.identity)
    now = (call.parent.identity, call.parent.number)
    return last is not None and (last.parent, last.parent_attempt) != now


def _drifted_from_uncertain(call: Call) -> IntentRow | None:
    """An intent without outcome that this call should have been, had its inputs not changed."""
    parent = call.parent
    where = (parent.identity, parent.number, call.branch.label, call.spec.id)
    for intent in call.run.uncertain.values():
        there = (intent.parent, intent.parent_attempt, intent.branch, intent.checkpoint)
        unclaimed = intent.identity not in call.run.claimed and intent.named is None
        if there == where and unclaimed and intent.place <= call.number:
            return intent
    return None


# --- settling what nobody knows ---------------------------------------------------------


def _settle(call: Call, intent: IntentRow) -> Steps[Outcome | None]:
    """What an uncertain call comes to; None: its body may run."""
    run = call.run
    problem = uncertain(call, intent)
    verify = call.spec.verify
    asked = any(wait.row.call == call.identity for wait in run.waits.values())
    if verify is not None and intent.identity == call.identity and not asked:
        verdict = yield Verify(call)
        if isinstance(verdict, Done):
            return (yield from adopt(call, verdict.value, rules.verified(done=True)))
        if verdict is NotDone or isinstance(verdict, NotDone):
            _note_not_done(call, intent, rules.verified(done=False))
            return None
        if verdict is not Unknown and not isinstance(verdict, Unknown):
            said = verdict.exc if type(verdict) is Raised else verdict
            run.note(
                "verify",
                f"verify= of checkpoint {call.spec.name!r} gave {_shown(said)}, which is neither "
                "kitaru.Done(value), kitaru.NotDone nor kitaru.Unknown: a person decides",
            )
    found: Decision = yield from decide(call, problem)
    if found.decision == "adopt":
        return (yield from adopt(call, found.value, rules.decided("adopt", found.by)))
    _note_not_done(call, intent, rules.decided("run", found.by))
    return None


def _shown(said: Any) -> str:
    text = f"{type(said).__name__}: {said}" if isinstance(said, BaseException) else repr(said)
    return text[:200]


def adopt(call: Call, value: Any, reason: str) -> Steps[Outcome]:
    """Record as the call's outcome what its body did not return here."""
    write = encode_pickled if call.spec.pickled else encode
    return (yield from adopt_payload(call, write(value, what=call.spec.name), reason))


def adopt_payload(call: Call, payload: Payload, reason: str) -> Steps[Outcome]:
    run, now = call.run, call.run.env.now()
    row = call_row(
        call,
        CallState.COMPLETED,
        payload,
        source=CallSource.OVERRIDE,
        reason=reason,
        started_at=now,
        ended_at=now,
    )
    facts = run.take_facts(row)
    yield Commit(run, Record(run.id, run.epoch, facts), facts)
    run.uncertain.pop(call.identity, None)
    return Outcome(CallState.COMPLETED, payload)


def _note_not_done(call: Call, intent: IntentRow, reason: str) -> None:
    """The effect did not take place: that try is on record, and the next one may begin.

    It rides with the next intent, so that a death in between leaves the call uncertain.
    """
    run = call.run
    run.uncertain.pop(intent.identity, None)
    if intent.identity == call.identity:
        failure = KitaruStateError(
            f"checkpoint {call.spec.name!r} began, and its effect did not take place",
            code="effect-not-done",
        )
        run.queue(
            call_row(
                call,
                CallState.FAILED,
                encode_failure(failure, origin=FailureOrigin.RUNTIME),
                source=CallSource.RAN,
                reason=reason,
                retry_at=DUE_AT_ONCE,
                started_at=intent.at,
                ended_at=run.env.now(),
            )
        )
        call.attempt += 1


class Verify(Effect):
    """Ask the user's ``verify=`` -> its verdict, or :class:`Raised`.

    It stands in the call, whose ``idempotency_key`` it may look for, but calls nothing.
    """

    __slots__ = ("call",)
    waits = True
    name = "verify"

    def __init__(self, call: Call) -> None:
        self.call = call

    def _ask(self) -> Any:
        call = self.call
        place = Attempt(call)
        place.is_closed = True
        token = here.set(Place(call.run, place, place.root))
        try:
            assert call.spec.verify is not None
            return call.spec.verify(*call.args, **call.kwargs)
        finally:
            here.reset(token)

    def perform(self) -> Any:
        try:
            return self._ask()
        except Unwind:
            raise
        except Exception as exc:
            return Raised(exc)

    async def perform_async(self) -> Any:
        try:
            verdict = self._ask()
            return await verdict if inspect.isawaitable(verdict) else verdict
        except (Unwind, asyncio.CancelledError):
            raise
        except Exception as exc:
            return Raised(exc)
