"""What happens to executions and calls: one event for each transition.

Decided from what was written and what the store answered, by functions that touch
nothing. Who hears of it, and when, is the business of listeners.py.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru._core.lifecycle import CallSource, CallState, State
from kitaru._core.naming import shown_name
from kitaru._core.payload import Payload
from kitaru._core.reuse import explain
from kitaru._core.values import failure_info
from kitaru._store.protocol import (
    CallRow,
    Cancel,
    Claim,
    ExecutionRow,
    Facts,
    Finish,
    GiveUp,
    Park,
    Record,
    Release,
    Retry,
    Start,
    TryAgain,
)
from kitaru.errors import KitaruError
from kitaru.notices import one_line

if TYPE_CHECKING:
    from kitaru._engine.call import Call, CheckpointSpec
    from kitaru._engine.carrying import Carried
    from kitaru._engine.context import Attempt
    from kitaru._engine.run import Run

CALL_ID_DIGITS = 12
"""Hex digits of a call's identity in its id, as `kitaru executions why` takes it."""

_MAX_REASON_CHARACTERS = 500

LEVELS = {
    "execution.started": logging.INFO,
    "execution.queued": logging.INFO,
    "execution.claimed": logging.INFO,
    "execution.taken_over": logging.WARNING,
    "execution.handed_back": logging.INFO,
    "execution.waiting": logging.INFO,
    "execution.lost": logging.WARNING,
    "execution.retrying": logging.WARNING,
    "execution.completed": logging.INFO,
    "execution.failed": logging.ERROR,
    "execution.cancelling": logging.WARNING,
    "execution.cancelled": logging.WARNING,
    "calls.submitted": logging.DEBUG,
    "call.started": logging.DEBUG,
    "call.recalled": logging.DEBUG,
    "call.reused": logging.DEBUG,
    "call.carried": logging.DEBUG,
    "call.overridden": logging.INFO,
    "call.completed": logging.DEBUG,
    "call.failed": logging.WARNING,
    "call.retrying": logging.WARNING,
    "call.abandoned": logging.DEBUG,
    "call.drifted": logging.WARNING,
    "calls.not_started": logging.WARNING,
}
"""Every event there is, and how loud it is."""


class Event(NamedTuple):
    """Something that happened. What does not apply is None."""

    name: str
    exec_id: str
    flow: str
    attempt: int | None = None
    """Of the call; of the execution where no call is named."""
    epoch: int | None = None
    checkpoint: str | None = None
    call_id: str | None = None
    parent_call_id: str | None = None
    seq: int | None = None
    source: str | None = None
    """ran, recalled, reused, carried or override."""
    seconds: float | None = None
    """How long the body took, as recorded: for a recalled or reused outcome, what was saved."""
    delay_seconds: float | None = None
    """How long until the next attempt."""
    calls: int | None = None
    """How many calls a ``calls.…`` event is about."""
    reason: str | None = None
    parent_exec_id: str | None = None
    """Of an execution: the one in which it was started, and ``parent_call_id`` by which call."""

    @property
    def level(self) -> int:
        return LEVELS[self.name]

    def words(self) -> str:
        """The event as one line for people.

        >>> Event("call.completed", "01ab", "trip", checkpoint="fetch", seconds=0.25).words()
        'execution 01ab of flow trip: checkpoint fetch completed in 0.250 s'
        """
        subject, _, verb = self.name.partition(".")
        verb = _VERBS.get(self.name) or verb.replace("_", " ")
        text = f"execution {self.exec_id} of flow {self.flow}"
        if subject != "execution":
            calls = "" if self.calls is None else f"{self.calls} calls of "
            text += f": {calls}checkpoint {self.checkpoint}"
        text += f" {verb}"
        if self.seconds is not None:
            text += f" {'after' if self.name in _FAILURES else 'in'} {self.seconds:.3f} s"
        if self.attempt is not None and self.attempt > 1:
            text += f", attempt {self.attempt}"
        if self.delay_seconds is not None:
            text += f", again in {self.delay_seconds:.1f} s"
        text = f"{text}: {self.reason}" if self.reason else text
        return text if text.isprintable() else one_line(text)


_FAILURES = ("call.failed", "call.retrying")

_VERBS = {
    "execution.waiting": "is parked",
    "execution.retrying": "is tried again",
    "execution.lost": "left this process",
    "execution.cancelling": "is told to stop",
    "call.recalled": "recalled, recorded",
    "call.reused": "reused, recorded",
    "call.carried": "carried over, recorded",
    "call.overridden": "was given its outcome",
    "call.retrying": "failed",
    "call.abandoned": "was cancelled by its caller",
    "calls.submitted": "are submitted",
    "calls.not_started": "were not started",
}


# --- deciding -----------------------------------------------------------------------------


def of_write(row: ExecutionRow, write: Any, answer: Any) -> Iterator[Event]:
    """What a durable write says, in the order in which it happened. ``row``: the execution."""
    facts = getattr(write, "facts", None)
    if facts is not None:
        yield from _of_outcomes(row, facts)
    if type(write) is not Record:
        event = _of_transition(row, write, answer)
        if event is not None:
            yield event


def _of_transition(row: ExecutionRow, write: Any, answer: Any) -> Event | None:
    kind = type(write)
    if kind is Start:
        if not answer.created:
            return None
        row = answer.row
        return of_execution(row, "execution.queued" if row.owner is None else "execution.started")
    if kind is Claim:
        if write.from_owner is None:
            return of_execution(answer, "execution.claimed")
        why = f"the process that ran it (owner {write.from_owner}) had died"
        return of_execution(answer, "execution.taken_over", reason=why)
    if kind is Cancel:
        if dict(answer)[row.exec_id] is not State.CANCELLED:
            return None  # told where it runs, when that process sees it
        return of_execution(row, "execution.cancelled", reason=write.reason)
    if kind is Release and answer is State.CANCELLED:
        return of_execution(row, "execution.cancelled")
    if kind is Release:
        return of_execution(row, "execution.handed_back")
    if kind is Park:
        return _of_park(row, write, answer)
    if kind is TryAgain:
        return of_execution(row, "execution.retrying", reason=_failure(write.failure))
    if kind is Retry:
        return of_execution(answer, "execution.retrying", reason="asked for")
    if kind is GiveUp:
        return of_execution(row, "execution.failed", reason=write.reason)
    if kind is Finish:
        return _of_end(row, write, answer)
    return None


def _of_park(row: ExecutionRow, park: Park, state: State) -> Event:
    if state is State.CANCELLED:
        return of_execution(row, "execution.cancelled")
    return of_execution(row, "execution.waiting", reason=park.reason)


def _of_end(row: ExecutionRow, finish: Finish, state: State | None) -> Event:
    if state is State.CANCELLED:
        return of_execution(row, "execution.cancelled")
    if finish.failure is None:
        return of_execution(row, "execution.completed")
    return of_execution(row, "execution.failed", reason=finish.reason)


def of_execution(row: ExecutionRow, name: str, **more: Any) -> Event:
    event = Event(name, row.exec_id, row.flow_name, row.attempt, row.epoch, **more)
    parent = row.parent_exec_id
    if parent is None:
        return event
    by = (json.loads(row.spec).get("called") or {}).get("by")
    call = None if by is None else call_id(parent, bytes.fromhex(by))
    return event._replace(parent_exec_id=parent, parent_call_id=call)


def _of_outcomes(row: ExecutionRow, facts: Facts) -> Iterator[Event]:
    for call in facts.calls:
        # What was reused has its event with it, because its row does not know what it saved.
        if call.source is CallSource.RAN:
            yield _of_call_row(row, call)


def _of_call_row(row: ExecutionRow, call: CallRow) -> Event:
    event = Event(
        "call.completed",
        row.exec_id,
        row.flow_name,
        call.attempt,
        row.epoch,
        shown_name(call.checkpoint, row.code_module),
        call_id(row.exec_id, call.identity),
        call_id(row.exec_id, call.parent),
        call.seq,
        "ran",
        (call.ended_at - call.started_at) / 1e6,
    )
    if call.state is CallState.COMPLETED:
        return event
    reason = _failure(call.payload)
    if call.retry_at is None:
        return event._replace(name="call.failed", reason=reason)
    delay_seconds = max(0.0, (call.retry_at - call.ended_at) / 1e6)
    return event._replace(name="call.retrying", reason=reason, delay_seconds=delay_seconds)


def _failure(payload: Payload) -> str:
    try:
        info = failure_info(payload)
    except KitaruError as error:
        return str(error)
    text = f"{info.exception_type}: {info.message}" if info.message else info.exception_type
    # A handler that writes UTF-8 must not stumble over what is no text.
    return text[:_MAX_REASON_CHARACTERS].encode("utf-8", "backslashreplace").decode()


def call_id(exec_id: str, identity: bytes | None) -> str | None:
    return None if identity is None else f"{exec_id}:{identity.hex()[:CALL_ID_DIGITS]}"


def of_call(call: Call, name: str, **more: Any) -> Event:
    """An event of a call that is on its way."""
    row = call.run.row
    return Event(
        name,
        row.exec_id,
        row.flow_name,
        call.attempt,
        row.epoch,
        shown_name(call.spec.id, row.code_module),
        call_id(row.exec_id, call.identity),
        call_id(row.exec_id, call.parent.identity),
        call.seq,
        **more,
    )


def of_calls(
    run: Run,
    spec: CheckpointSpec,
    parent: Attempt,
    name: str,
    calls: int,
    reason: str | None = None,
) -> Event:
    """An event of many calls of one checkpoint, made in ``parent``."""
    row = run.row
    return Event(
        name,
        row.exec_id,
        row.flow_name,
        epoch=row.epoch,
        checkpoint=shown_name(spec.id, row.code_module),
        parent_call_id=call_id(row.exec_id, parent.identity),
        calls=calls,
        reason=reason,
    )


def of_drifted_child(row: ExecutionRow, flow: str, reason: str) -> Event:
    """A flow was run inside an execution with other inputs than in an earlier life."""
    return Event("call.drifted", row.exec_id, row.flow_name, checkpoint=flow, reason=reason)


def of_reuse(call: Call, seconds: float, reason: str) -> Event:
    """A reuse, to ride with its row. ``seconds``: how long the body took where it ran."""
    return of_call(call, "call.reused", source="reused", seconds=seconds, reason=explain(reason))


def of_carried(call: Call, found: Carried) -> Event:
    """A call of a replay that took an outcome over, or was given one, to ride with its row."""
    name = "call.carried" if found.source is CallSource.CARRIED else "call.overridden"
    reason = explain(found.reason)
    return of_call(call, name, source=found.source.value, seconds=found.seconds, reason=reason)
