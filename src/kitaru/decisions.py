"""Deciding what is to become of a call: which one is meant, whether it makes sense, one write.

Needs a store and a clock, and no engine, like ``answering.py``, whose waits these are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kitaru import answering
from kitaru._core.lifecycle import FINISHED, WaitKind, WaitState
from kitaru._core.names import did_you_mean, shortened
from kitaru._engine.asking import who
from kitaru._engine.deciding import DECISIONS, Decision, sealed
from kitaru._store.protocol import Answer, ExecutionRow, NotInState, RecordedWait, Store
from kitaru.env import Env
from kitaru.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.records import wait_id

NO_VALUE: Any = type("NoValue", (), {"__repr__": lambda self: "no value"})()
"""Nothing was given; None is a value."""


def decide(
    store: Store,
    env: Env,
    row: ExecutionRow,
    call: str,
    decision: str,
    *,
    record: str | None = None,
    value: Any = NO_VALUE,
    by: str | None = None,
) -> tuple[RecordedWait, ExecutionRow]:
    """Close the question -> (it as it was, the execution as it stands then)."""
    if decision not in DECISIONS:
        raise KitaruUsageError(
            f'decision={shortened(decision)}: pass "run", "adopt" or "abort"', code="option-invalid"
        )
    found = find(store, row, call)
    _check_value(row, found, decision, record, value)
    if decision == "abort":
        answering.abort(store, env, row, wait_id(row.exec_id, found, 32), by=by)
        return found, store.find_execution(row.exec_id) or row
    chosen = _chosen(row, found, record) if decision == "adopt" and value is NO_VALUE else None
    made = Decision(decision, "", None if value is NO_VALUE else value, chosen)
    write = Answer(row.id, found.row.identity, sealed(made), by or who(), env.now())
    try:
        return found, store.apply(write)
    except NotInState as error:
        raise _decided(store, row, found) from error


def find(store: Store, row: ExecutionRow, call: object) -> RecordedWait:
    """The open question about the call of that id, or the only one about that checkpoint."""
    if not isinstance(call, str) or not call.strip():
        raise KitaruUsageError(
            f"call is {shortened(call)}: pass a call's id or a checkpoint's name as a str",
            code="wait-not-found",
        )
    waits = [each for each in store.list_waits(row.id) if each.row.kind is WaitKind.DECISION]
    fitting = answering.fitting(waits, call)
    still_open = [each for each in fitting if each.state is WaitState.OPEN]
    if row.status in FINISHED:
        still_open = []
    if len(still_open) == 1:
        return still_open[0]
    if not fitting:
        raise KitaruNotFoundError(
            f"execution {row.exec_id} asks for no decision about {shortened(call)}."
            f"{did_you_mean(call, {each.row.label for each in waits})} {_listed(row, waits)}\n"
            f"Look: kitaru executions get {row.exec_id}",
            code="wait-not-found",
        )
    if still_open:
        raise KitaruStateError(
            f"{shortened(call)} fits several calls of execution {row.exec_id}: name one by its "
            f"id. {_listed(row, still_open)}",
            code="wait-ambiguous",
        )
    raise _decided(store, row, fitting[-1])


def about(found: RecordedWait) -> dict[str, Any]:
    """What is recorded of a question: its problem, its call, the records that may be adopted."""
    said = json.loads(found.row.metadata or "{}")
    return said if isinstance(said, dict) else {}


def _listed(row: ExecutionRow, waits: Iterable[RecordedWait]) -> str:
    lines = [
        f"\n  {each.row.label}  {about(each).get('call')}  {each.row.question or ''}"
        for each in waits
        if each.state is WaitState.OPEN
    ]
    if not lines:
        return f"It asks for no decision now: see kitaru executions get {row.exec_id}"
    return "Open are:" + "".join(lines[: answering.MAX_LISTED])


def _check_value(
    row: ExecutionRow, found: RecordedWait, decision: str, record: object, value: Any
) -> None:
    name = found.row.label
    if decision != "adopt" and (record is not None or value is not NO_VALUE):
        raise KitaruUsageError(
            f"to {decision} checkpoint {name!r} takes neither a value nor a record: leave them "
            'out, or decide "adopt"',
            code="option-invalid",
        )
    if decision != "adopt":
        return
    records = about(found).get("records") or []
    if not records and (value is NO_VALUE or record is not None):
        raise KitaruUsageError(
            f"checkpoint {name!r} of execution {row.exec_id} has no record that could be adopted: "
            "say what it came to, value=... (None is a value), on the command line --value JSON",
            code="option-invalid",
        )
    if records and value is not NO_VALUE:
        raise KitaruUsageError(
            f"checkpoint {name!r} of execution {row.exec_id} is recorded already: adopt takes the "
            "recorded call, so leave out the value",
            code="option-invalid",
        )


def _chosen(row: ExecutionRow, found: RecordedWait, record: str | None) -> bytes:
    records = [str(each).rpartition(":")[2] for each in about(found)["records"]]
    if record is None and len(records) == 1:
        return bytes.fromhex(records[0])
    part = "" if record is None else str(record).strip().lower().rpartition(":")[2]
    fitting = [
        each for each in records if part and (each.startswith(part) or part.startswith(each))
    ]
    if len(fitting) == 1:
        return bytes.fromhex(fitting[0])
    listed = "".join(f"\n  {row.exec_id}:{each}" for each in records)
    why = "which one is adopted" if record is None else f"{shortened(record)} is none of them"
    raise KitaruStateError(
        f"several recorded calls may stand for checkpoint {found.row.label!r}: {why}? Name it by "
        f"its id, record=..., on the command line --record. There are:{listed}",
        code="wait-ambiguous",
    )


def _decided(store: Store, row: ExecutionRow, found: RecordedWait) -> KitaruStateError:
    now = store.find_wait(row.id, found.row.identity) or found
    look = f"see kitaru executions get {row.exec_id}"
    if now.state is WaitState.OPEN:
        standing = store.get_status(row.id)[0]
        text = f"execution {row.exec_id} is {standing}: nobody waits for a decision any more"
    else:
        by = f" by {now.closed_by}" if now.closed_by else ""
        text = f"checkpoint {now.row.label!r} of execution {row.exec_id} was decided{by} already"
    return KitaruStateError(f"{text}; {look}", code="wait-closed")
