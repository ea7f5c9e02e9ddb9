"""Checkpoints with ``transaction=True``: the outcome is recorded in the body's own transaction.

What the body writes and what is recorded of it are committed together or not at all, so
nothing is ever uncertain: a life that finds no outcome finds none of its rows either. The
body runs again where its transaction was lost, and only its rows count once.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from kitaru._core import reuse as rules
from kitaru._core.lifecycle import CallSource, CallState
from kitaru._core.payload import Payload
from kitaru._core.values import encode, encode_pickled, is_exact
from kitaru._core.values.classes import FRESH, take_fresh
from kitaru._engine.effects import CallBody, Commit, Effect, Raised, Steps, user_exception
from kitaru._engine.once import kept, recall_kept
from kitaru._engine.procedures import Outcome, attempt, body_is_done, call_row, record
from kitaru._engine.timeouts import TimedBody
from kitaru._engine.transacted import TransactionAttempt, leave
from kitaru._engine.unwind import Unwind
from kitaru._engine.waking import Latch
from kitaru._engine.watch import watch_for_classes
from kitaru._store.protocol import Facts, Record, Refused, Transaction, TransactionLost
from kitaru.errors import (
    KitaruBackendError,
    KitaruError,
    KitaruValueError,
)

if TYPE_CHECKING:
    from kitaru._engine.call import Call
    from kitaru._engine.remote import Remote

MAX_LOSSES = 3
"""Transactions of a call lost in a row, before that counts as its failure."""


def run_in_transaction(call: Call) -> Steps[Outcome]:
    """Recall what this call came to, or run its body in the transaction that records it."""
    run = call.run
    recorded = kept(call)
    if recorded is None and run.resumed:
        recorded = yield from recall_kept(call)
    call.inputs_reason = rules.in_transaction()
    call.transacted = None
    losses = 0
    try:
        while recorded is None:
            result = yield from attempt(call)
            ended: Outcome | Raised | TransactionLost = yield from _end(call, result)
            leave(call)
            if isinstance(ended, Outcome):
                recorded = ended
            elif isinstance(ended, TransactionLost) and losses < MAX_LOSSES:
                losses += 1
                _begin_again(call, ended)
            else:
                losses = 0
                recorded = yield from record(call, _failure(call, ended))
    finally:
        body_is_done(call)
        leave(call)
    if call.parent.call is not None:
        run.kept[call.identity] = (recorded, call.attempt)
    return recorded


def _end(call: Call, result: Any) -> Steps[Outcome | Raised | TransactionLost]:
    """Commit the transaction with the call's outcome in it, or roll it back."""
    assert call.transacted is not None
    transaction = call.transacted.transaction
    assert transaction is not None
    found = result if isinstance(result, Raised) else _encoded(call, result)
    if not isinstance(found, Raised):
        refused: Raised | TransactionLost | None = yield Conclude(call, transaction, found)
        if refused is not None:
            return refused
        if is_exact(result):
            return Outcome(CallState.COMPLETED, None, result)
        return Outcome(CallState.COMPLETED, found)
    error = found.exc
    timed_out = isinstance(error, KitaruError) and error.code == "checkpoint-timed-out"
    was_lost = not timed_out and transaction.was_lost(error)
    yield RollBack(transaction)
    return TransactionLost(str(error)) if was_lost else found


def _encoded(call: Call, result: Any) -> Payload | Raised:
    if FRESH:
        take_fresh()
    write = encode_pickled if call.spec.pickled else encode
    try:
        payload: Payload = write(result, what=call.spec.name)
    except KitaruValueError as error:
        error.checkpoint = call.spec.name
        return Raised(error)
    if FRESH:
        watch_for_classes(call, take_fresh())
    return payload


def _begin_again(call: Call, lost: TransactionLost) -> None:
    """As if its body had not begun. The note proves, before the next one, who owns this."""
    call.saved, call.metadata = {}, {}
    name = call.spec.name
    message = (
        f"the transaction of checkpoint {name!r} was lost ({lost}) and nothing of it is in the "
        "database: its body runs again"
    )
    call.run.note("transaction", message)
    call.run.services.say(message, once=("lost", call.run.exec_id, call.spec.id))


def _failure(call: Call, result: Raised | TransactionLost) -> Raised:
    if type(result) is Raised:
        return result
    return Raised(
        KitaruBackendError(
            f"the transaction of checkpoint {call.spec.name!r} was lost {MAX_LOSSES + 1} times in "
            f"a row ({result}): nothing of it is in the database. Look into the server's log for "
            "what ends it, then retry the execution",
            code="transaction-lost",
        )
    )


# --- the body --------------------------------------------------------------------------


class TransactionBody(Effect):
    """Begin a transaction and run the user's function of a call in it."""

    __slots__ = ("attempt", "body", "call")
    waits = True
    name = "body"

    def __init__(self, call: Call) -> None:
        self.call = call
        self.body = CallBody(call) if call.spec.timeout_seconds is None else TimedBody(call)
        call.transacted = self.attempt = self.body.attempt = TransactionAttempt(call)

    def _ask(self) -> Latch:
        place = self.attempt.place = Latch()
        self.call.run.services.transactions.ask(place)
        return place

    def _begin(self) -> None:
        run, transactions = self.call.run, self.call.run.store.transactions
        assert transactions is not None
        is_async = self.call.spec.is_async
        self.attempt.begun(transactions.begin(run.exec_id, run.epoch, is_async=is_async))

    # --- on a thread ---

    def perform_remote(self, remote: Remote) -> Any:
        run = self.call.run
        remote.be_there(run)
        place, woken = self._ask(), threading.Event()
        place.when_over(woken.set)
        with run.services.bodies.lent_here(), run.waking(woken.set):
            woken.wait()
        run.check()
        try:
            remote.through(self._begin)
        except KitaruBackendError as error:
            raise run.refused(error) from error
        result = self.body.perform()
        return result if type(result) is Raised else self._run_hooks(result)

    def _run_hooks(self, result: Any) -> Any:
        try:
            for hook in self.attempt.hooks:
                hook()
        except Unwind:
            raise
        except BaseException as exc:
            return user_exception(self.call.run, exc)
        return result

    # --- on the loop ---

    async def perform_remote_async(self, remote: Remote) -> Any:
        run = self.call.run
        await remote.be_there_async(run)
        place, woken = self._ask(), Latch()
        place.when_over(woken.over)
        with run.waking(woken.over):
            await woken.wait_async()
        run.check()
        try:
            await remote.ask(self._begin)
        except KitaruBackendError as error:
            raise run.refused(error) from error
        result = await self.body.perform_async()
        return result if type(result) is Raised else await self._run_hooks_async(result)

    async def _run_hooks_async(self, result: Any) -> Any:
        try:
            for hook in self.attempt.hooks:
                await hook()
        except (Unwind, asyncio.CancelledError):
            raise
        except BaseException as exc:
            return user_exception(self.call.run, exc)
        return result


# --- the end of the transaction -----------------------------------------------------------


class Conclude(Commit):
    """Record the call in its transaction and commit -> None, or why neither was done.

    A task that is cancelled meanwhile leaves; the commit goes on.
    """

    __slots__ = ("transaction",)
    name = "conclude"

    def __init__(self, call: Call, transaction: Transaction, payload: Payload) -> None:
        run = call.run
        row = call_row(
            call,
            CallState.COMPLETED,
            payload,
            source=CallSource.RAN,
            reason=call.inputs_reason,
            started_at=call.started_at,
            ended_at=run.env.now(),
        )
        # What other branches have learnt meanwhile goes elsewhere: this may be rolled back.
        facts = Facts((row,), artifacts=call.take_saved() if call.saved else ())
        super().__init__(run, Record(run.id, run.epoch, facts), facts)
        self.transaction = transaction

    def perform_remote(self, remote: Remote) -> Raised | TransactionLost | None:
        write = self.write
        assert isinstance(write, Record)
        try:
            remote.through(lambda: self.transaction.record(write))
        except (Refused, KitaruBackendError) as error:
            self._landed(None, error)
            raise self.run.refused(error) from error
        except TransactionLost as lost:
            return lost
        except Exception as error:
            return Raised(error)
        self._landed(None, None)
        return None

    async def perform_remote_async(self, remote: Remote) -> Any:
        return await remote.elsewhere(lambda: self.perform_remote(remote))


class RollBack(Effect):
    """Nothing that the body wrote stays."""

    __slots__ = ("transaction",)
    waits = True
    name = "roll_back"

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction

    def perform_remote(self, remote: Remote) -> None:
        self.transaction.roll_back()

    async def perform_remote_async(self, remote: Remote) -> None:
        await remote.elsewhere(self.transaction.roll_back)
