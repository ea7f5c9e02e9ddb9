"""What a waiting execution waits for, in words, with the command that ends it."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

from kitaru._core.lifecycle import WaitKind, WaitState
from kitaru._engine.events import CALL_ID_DIGITS
from kitaru._store.protocol import ExecutionRow, RecordedWait, Store, WaitRow

_MAX_COMMANDS = 3
_MAX_QUESTION_CHARACTERS = 120


def reason_of(row: WaitRow) -> str:
    """The recorded reason of an execution that is parked in this wait."""
    text = " ".join((row.question or "").split())
    if len(text) > _MAX_QUESTION_CHARACTERS:
        text = text[: _MAX_QUESTION_CHARACTERS - 1] + "…"
    return f"waits for {row.kind} {row.label!r}" + (f" ({text})" if text else "")


def instant_of(at: int) -> str:
    """An instant for people: UTC, to the second.

    >>> instant_of(0)
    '1970-01-01 00:00:00Z'
    """
    try:
        return f"{datetime.fromtimestamp(at // 1_000_000, UTC):%Y-%m-%d %H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        return "a far day"


def open_waits(store: Store, row: ExecutionRow) -> list[RecordedWait]:
    return [wait for wait in store.list_waits(row.id) if wait.state is WaitState.OPEN]


def describe(store: Store, row: ExecutionRow) -> str:
    """What a waiting execution waits for, and how to go on."""
    text = f"execution {row.exec_id} of flow {row.flow_name!r} {row.status_reason or 'waits'}"
    waits = open_waits(store, row)
    commands = [command(row.exec_id, wait.row) for wait in waits[:_MAX_COMMANDS]]
    if not commands:
        return f"{text}; it then goes on by itself, wherever a process serves it"
    more = len(waits) - _MAX_COMMANDS
    return f"{text}. Answer: {'   or: '.join(commands)}" + (f"   and {more} more" * (more > 0))


def command(exec_id: str, wait: WaitRow) -> str:
    """The command by which somebody answers a wait."""
    if wait.kind is WaitKind.DECISION:
        call = "" if wait.call is None else wait.call.hex()[:CALL_ID_DIGITS]
        # To be pasted as it stands: without a choice the command lists them and decides nothing.
        return f"kitaru executions decide {exec_id} {call}   # run, adopt or abort"
    name = shlex.quote(wait.label)
    return f"kitaru executions input {exec_id} --wait {name} --interactive"
