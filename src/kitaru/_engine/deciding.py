"""What only a person can decide of a call: run it, adopt an outcome for it, or abort.

Asked like any input, by a wait of its own kind: on record before anybody stands in it,
answered from anywhere, once. Inside the body of another checkpoint it is stood in
without parking, because the body could not go on where it stands.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru._core.identity import asked_identity
from kitaru._core.lifecycle import WaitKind, WaitState
from kitaru._core.payload import Payload
from kitaru._core.values import decode, encode
from kitaru._engine.asking import Question, who
from kitaru._engine.awaited import instant_of, reason_of
from kitaru._engine.effects import Ask, Steps
from kitaru._engine.events import call_id
from kitaru._engine.standing import Stand
from kitaru._engine.unwind import Unwind, Why
from kitaru._engine.waiting import be_durable, stand_in
from kitaru._store.protocol import Cancel, IntentRow, Place, RecordedWait, WaitRow
from kitaru.errors import KitaruStateError

if TYPE_CHECKING:
    from kitaru._engine.call import Call

DECISIONS = ("run", "adopt", "abort")

_MAX_TRIES = 10


class Decision(NamedTuple):
    """What somebody decided. ``value`` or ``record`` is what an adopted call comes to."""

    decision: str
    by: str
    value: Any = None
    record: bytes | None = None


class Problem(NamedTuple):
    """Why somebody has to decide, in words, and what may be decided."""

    kind: str
    """``uncertain``, or ``drift``."""
    question: str
    records: tuple[bytes, ...] = ()
    """The recorded calls that may be adopted; none: a value has to be given."""


def uncertain(call: Call, intent: IntentRow) -> Problem:
    name = call.spec.name
    if intent.identity == call.identity:
        what = f"began at {instant_of(intent.at)}, and no outcome was recorded"
    else:
        what = (
            f"was begun with other inputs at {instant_of(intent.at)}, no outcome was recorded, "
            "and now it is called with these"
        )
    return Problem(
        "uncertain",
        f"checkpoint {name!r} {what}: did it take effect? Decide run (it did not), adopt with a "
        "value (it did, and came to this), or abort",
    )


def drifted(call: Call, record: Place, what: str) -> Problem:
    return Problem(
        "drift",
        f"checkpoint {call.spec.name!r} is recorded with other inputs ({what} changed): decide "
        "run (this is another call), adopt (the record stands for it), or abort",
        _open_records(call, record),
    )


def _open_records(call: Call, record: Place) -> tuple[bytes, ...]:
    """The records that this call may stand for: the likeliest first."""
    run, parent = call.run, call.parent
    places = run.places(parent.identity, parent.number, call.branch.label, call.spec.id)
    others = [
        each.identity
        for each in places.by_identity.values()
        if each.identity != record.identity and each.identity not in run.claimed
    ]
    return (record.identity, *others)


def decide(call: Call, problem: Problem) -> Steps[Decision]:
    """What somebody decides, or has decided in an earlier life; ends the run if that is abort."""
    run = call.run
    identity = asked_identity(call.identity, call.attempt, b"", problem.kind, None, 0)
    recorded = run.waits.get(identity)
    row = _new_row(call, identity, problem) if recorded is None else recorded.row
    if recorded is None:
        run.queue(row)
    if recorded is None or recorded.state is WaitState.OPEN:
        yield from be_durable(run)
        try:
            recorded = yield from stand_in(run, row, _stand(call, row))
        finally:
            run.services.asker.withdraw(run.id, identity)
    found = _read(recorded)
    if found.decision == "abort":
        yield Ask("abort", lambda: _abort(call, found))
    return found


def _new_row(call: Call, identity: bytes, problem: Problem) -> WaitRow:
    run = call.run
    choices = ["run", "adopt", "abort"] if problem.records else ["run", "abort"]
    about = {
        "problem": problem.kind,
        "call": call_id(run.exec_id, call.identity),
        "records": [call_id(run.exec_id, each) for each in problem.records],
    }
    return WaitRow(
        identity,
        WaitKind.DECISION,
        call.spec.name,
        None,
        problem.question,
        json.dumps({"enum": choices}),
        json.dumps(about),
        call.branch.label,
        call.identity,
        run.env.now(),
        None,
        None,
    )


def _stand(call: Call, row: WaitRow) -> Stand:
    run, asker = call.run, call.run.services.asker
    stand = Stand(run, reason_of(row), wait=row.identity, call=call, parks_at_exit=True)
    if asker.offer(Question(run.id, run.exec_id, run.row.flow_name, row)):
        stand.is_attended = lambda: asker.holds(run.id, row.identity)
    return stand


def _read(recorded: RecordedWait) -> Decision:
    by = recorded.closed_by or "somebody"
    if recorded.state is not WaitState.ANSWERED or recorded.payload is None:
        return Decision("abort", by)
    said: Any = decode(recorded.payload, what=f"the decision on {recorded.row.label!r}")
    if isinstance(said, str):  # asked in a terminal
        records = json.loads(recorded.row.metadata or "{}").get("records") or [None]
        return Decision(said, by, record=_identity(recorded, records[0]))
    return Decision(said["decision"], by, said.get("value"), said.get("record"))


def _identity(recorded: RecordedWait, shown: str | None) -> bytes | None:
    """The terminal adopts the likeliest record; its whole identity is looked up by its caller."""
    return None if shown is None else bytes.fromhex(shown.rpartition(":")[2])


def sealed(decision: Decision) -> Payload:
    """What is recorded of a decision."""
    said: dict[str, Any] = {"decision": decision.decision}
    if decision.record is not None:
        said["record"] = decision.record
    elif decision.decision == "adopt":
        said["value"] = decision.value
    return encode(said, what="the decision")


def _abort(call: Call, found: Decision) -> Unwind:
    run = call.run
    reason = f"the decision on checkpoint {call.spec.name!r} was to abort, by {found.by}"
    status, epoch, _ = run.store.get_status(run.id)
    if status.value == "running" and epoch == run.epoch:
        run.store.apply(Cancel(run.id, epoch, found.by, reason, run.env.now()))
    raise run.end(Why.CANCELLED, f"execution {run.exec_id} is cancelled: {reason}")


def claim_adopted(call: Call) -> None:
    """A recalled call that adopted a record in an earlier life stands for it: nobody else does."""
    run = call.run
    recorded = run.waits.get(asked_identity(call.identity, 1, b"", "drift", None, 0))
    if recorded is None or recorded.state is not WaitState.ANSWERED:
        return
    found = _read(recorded)
    if found.decision == "adopt" and found.record is not None:
        run.claimed.update(each for each in run.outcomes if each.startswith(found.record))


def adopted_record(call: Call, found: Decision, records: tuple[bytes, ...]) -> bytes:
    """The recorded call that was adopted, of those that may be."""
    if found.record is None:
        return records[0]
    fitting = [each for each in records if each.startswith(found.record)]
    if len(fitting) == 1:
        return fitting[0]
    raise KitaruStateError(
        f"the decision on checkpoint {call.spec.name!r} of execution {call.run.exec_id} adopts the "
        f"record {found.record.hex()}, which is not there for this call any more: abort it, or "
        f"look: kitaru executions get {call.run.exec_id}",
        code="call-not-found",
    )


__all__ = ["DECISIONS", "Decision", "Problem", "decide", "drifted", "uncertain", "who"]
