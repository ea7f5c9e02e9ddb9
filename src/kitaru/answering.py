"""Answering what executions wait for: which wait is meant, whether the answer fits, one write.

Needs a store and a clock, and no engine: a command answers and leaves, and whoever
serves the execution takes it from there. Knows nothing of terminals.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kitaru._core.lifecycle import FINISHED, State, WaitKind, WaitState
from kitaru._core.names import check_name, did_you_mean, shortened
from kitaru._engine import schemas
from kitaru._engine.asking import who
from kitaru._store.protocol import (
    Answer,
    Cancel,
    ExecutionRow,
    Fenced,
    NotInState,
    RecordedWait,
    Store,
)
from kitaru.env import Env
from kitaru.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.records import instant, wait_digits, wait_id

MAX_LISTED = 20
_LEAST_DIGITS = 4
_MAX_TRIES = 10
"""Of a cancel that finds the execution changed each time: somebody passes it on and on."""


def answer(
    store: Store, env: Env, row: ExecutionRow, wait: str, value: Any, *, by: str | None = None
) -> tuple[RecordedWait, ExecutionRow]:
    """Close the wait with its answer -> (the wait as it was, the execution as it stands then).

    Raises ``KitaruWaitValidationError`` if the answer does not fit; the wait stays open. The first
    answer that fits wins: whoever comes later gets ``KitaruStateError``.
    """
    found = find_open(store, row, wait)
    _insist_on_input(row, found)
    data = schemas.answer_of(value, wait=found.row.label)
    schema = found.row.schema
    asked = None if schema is None else schemas.known_type(row.flow_id, schema)
    problems = schemas.find_misfits(data, schema, asked)
    if problems:
        raise schemas.unfit(found.row.label, problems)
    payload = schemas.sealed_answer(data, schema=schema, wait=found.row.label)
    write = Answer(row.id, found.row.identity, payload, _checked_by(by), env.now())
    try:
        return found, store.apply(write)
    except NotInState as error:
        raise _closed(store, row, found) from error


def abort(
    store: Store, env: Env, row: ExecutionRow, wait: str, *, by: str | None = None
) -> tuple[RecordedWait, list[tuple[str, State]]]:
    """Abort the wait and cancel its execution -> (the wait as it was, what the cancel came to)."""
    found = find_open(store, row, wait)
    said_by = _checked_by(by)
    reason = f"wait {found.row.label!r} was aborted by {said_by}"
    for _ in range(_MAX_TRIES):
        write = Cancel(row.id, row.epoch, said_by, reason, env.now(), wait=found.row.identity)
        try:
            return found, store.apply(write)
        except NotInState as error:
            raise _closed(store, row, found) from error
        except Fenced:
            row = _again(store, row)
    raise KitaruStateError(
        f"execution {row.exec_id} changes hands all the time: try again", code="already-running"
    )


def _again(store: Store, row: ExecutionRow) -> ExecutionRow:
    found = store.find_execution(row.exec_id)
    if found is None:
        raise KitaruNotFoundError(
            f"execution {row.exec_id} was deleted meanwhile: see `kitaru executions list`",
            code="execution-not-found",
        )
    return found


def _checked_by(by: str | None) -> str:
    return who() if by is None else check_name("by", by)


# --- which wait ---------------------------------------------------------------------------


def find_open(store: Store, row: ExecutionRow, wait: object) -> RecordedWait:
    """The open wait of that name, label or (unique part of an) id.

    Raises ``KitaruNotFoundError`` or ``KitaruStateError`` that lists what is open.
    """
    if not isinstance(wait, str) or not wait.strip():
        raise KitaruUsageError(
            f"wait is {shortened(wait)}: pass a wait's name, label or id as a str",
            code="wait-not-found",
        )
    waits = store.list_waits(row.id)
    found = fitting(waits, wait)
    still_open = [each for each in found if each.state is WaitState.OPEN]
    if len(still_open) == 1 and row.status not in FINISHED:
        return still_open[0]
    if not found:
        raise KitaruNotFoundError(
            f"execution {row.exec_id} has no wait {shortened(wait)}."
            f"{did_you_mean(wait, {each.row.label for each in waits})} {_listed(row, waits)}",
            code="wait-not-found",
        )
    if len(still_open) > 1:
        raise KitaruStateError(
            f"{shortened(wait)} fits several open waits of execution {row.exec_id}: name one by "
            f"its id. {_listed(row, still_open, among=waits)}",
            code="wait-ambiguous",
        )
    raise _closed(store, row, found[-1])


def fitting(waits: Iterable[RecordedWait], wait: str) -> list[RecordedWait]:
    """By name or label first; a part of an id only if nothing is called that.

    Of a wait that asks what is to become of a call, the beginning of the call's id too.
    """
    waits = list(waits)
    named = [each for each in waits if wait in (each.row.label, each.row.name)]
    part = wait.strip().lower().rpartition(":")[2]
    if named or len(part) < _LEAST_DIGITS or not set(part) <= set("0123456789abcdef"):
        return named
    return [
        each
        for each in waits
        if part in each.row.identity.hex() or (each.row.call or b"").hex().startswith(part)
    ]


def _listed(
    row: ExecutionRow, waits: Iterable[RecordedWait], *, among: Iterable[RecordedWait] = ()
) -> str:
    waits = list(waits)
    digits = wait_digits([*waits, *among])  # as the ids are shown everywhere
    lines = [
        f"\n  {each.row.label}  {wait_id(row.exec_id, each, digits)}"
        + (f"  {each.row.question}" if each.row.question else "")
        for each in waits
        if each.state is WaitState.OPEN
    ]
    if not lines:
        return f"It waits for nothing now: see kitaru executions get {row.exec_id}"
    more = "\n  and more" if len(lines) > MAX_LISTED else ""
    return "Open are:" + "".join(lines[:MAX_LISTED]) + more


def _insist_on_input(row: ExecutionRow, found: RecordedWait) -> None:
    if found.row.kind is WaitKind.INPUT:
        return
    raise KitaruStateError(
        f"wait {found.row.label!r} of execution {row.exec_id} asks what is to become of a call, "
        f"not for input: call client.executions.decide(), or run "
        f"kitaru executions decide {row.exec_id}",
        code="wait-closed",
    )


def _closed(store: Store, row: ExecutionRow, found: RecordedWait) -> KitaruStateError:
    """Why nobody can answer it any more: who was first, and when."""
    now = store.find_wait(row.id, found.row.identity) or found
    label = f"wait {now.row.label!r} of execution {row.exec_id}"
    if now.state is WaitState.OPEN:
        standing = store.get_status(row.id)[0]
        if now.row.expires_at is not None and standing not in FINISHED:
            said = f"{label} has expired at {instant(now.row.expires_at):%Y-%m-%d %H:%M:%SZ}"
        else:
            said = f"execution {row.exec_id} is {standing}: nobody waits any more"
    else:
        by = f" by {now.closed_by}" if now.closed_by else ""
        at = "" if now.closed_at is None else f" at {instant(now.closed_at):%Y-%m-%d %H:%M:%SZ}"
        was = {"answered": "was answered", "expired": "has expired", "aborted": "was aborted"}
        said = f"{label} {was[now.state]}{by}{at}"
    return KitaruStateError(f"{said}; see kitaru executions get {row.exec_id}", code="wait-closed")
