"""Cancelling executions: one write, then telling those that it concerns in this process.

The write decides, whoever makes it; an owner in another process sees it when it looks
at what has changed. An execution is cancelled once its code has stopped: its owner
records that, or, where the owner died first, whoever comes by.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kitaru._core.lifecycle import FINISHED, State
from kitaru._engine.events import of_execution
from kitaru._engine.unwind import Unwind, Why
from kitaru._store.protocol import (
    Cancel,
    DeclareDead,
    ExecutionRow,
    Fenced,
    NotInState,
    Refused,
)
from kitaru.errors import KitaruBackendError, KitaruNotFoundError, KitaruStateError

if TYPE_CHECKING:
    from kitaru._engine.execution import Life
    from kitaru._engine.runner import Runner

_MAX_LOOKED_AT = 100

_MAX_TRIES = 100
"""Each that fails was overtaken by a whole claim, hand-back or park of somebody else."""


def cancel(runner: Runner, row: ExecutionRow, *, by: str, reason: str) -> ExecutionRow:
    """Cancel the execution and its descendants -> the row as it stands then.

    One that is being cancelled stays so. Raises ``KitaruStateError`` if it is finished.
    """
    tell(runner, _write(runner, row, by, reason))
    return _found(runner, row.exec_id)


def _write(runner: Runner, row: ExecutionRow, by: str, reason: str) -> list[tuple[str, State]]:
    said = f"cancelled by {by}: {reason}" if reason else f"cancelled by {by}"
    for _ in range(_MAX_TRIES):
        if row.status in FINISHED:
            break
        write = Cancel(row.id, row.epoch, by, said, runner.services.env.now())
        try:
            answer: list[tuple[str, State]] = runner.store.apply(write)
        except (Fenced, NotInState):
            # It went on, or came to its end, since it was read: look again.
            row = _found(runner, row.exec_id)
            continue
        runner.events.written(row, write, answer)
        return answer
    if row.status in FINISHED:
        raise KitaruStateError(
            f"execution {row.exec_id} is {row.status}: it has ended, and there is nothing to "
            f"cancel. Look at it: kitaru executions get {row.exec_id}",
            code="nothing-to-cancel",
        )
    raise KitaruBackendError(
        f"execution {row.exec_id} changes hands again and again: try again",
        code="store-failed",
    )


def _found(runner: Runner, exec_id: str) -> ExecutionRow:
    row = runner.store.find_execution(exec_id)
    if row is None:
        raise KitaruNotFoundError(
            f"execution {exec_id} is not in the store any more: it was deleted",
            code="execution-not-found",
        )
    return row


def tell(runner: Runner, cancelled: Iterable[tuple[str, State]]) -> None:
    """What a cancel answered: tell what is here, and end what nobody runs any more."""
    for exec_id, state in cancelled:
        notice(runner, exec_id, state)
        row = runner.store.find_execution(exec_id) if state is State.CANCELLING else None
        if row is not None:
            settle(runner, row)


def notice(runner: Runner, exec_id: str, state: State) -> None:
    """A cancel is durable: what runs here is told to stop, what waits for its turn is dropped."""
    if state is State.CANCELLING:
        life = runner.find_life(exec_id)
        if life is not None and life.stop(
            Unwind(Why.CANCELLED, f"execution {exec_id} is cancelled")
        ):
            _say(runner, life)
    else:
        runner.withdraw(lambda row: row.exec_id == exec_id)
        runner.noticing.forget(exec_id)


def _say(runner: Runner, life: Life) -> None:
    if runner.events.active:
        row = runner.store.find_execution(life.row.exec_id)
        reason = None if row is None else row.status_reason
        runner.events.tell(of_execution(life.row, "execution.cancelling", reason=reason))


def look(runner: Runner) -> None:
    """Somebody has committed something: look for cancels of what runs, or is to run, here."""
    if runner.outlook.signs.cancelling:
        owner = runner.ownership.number()
        for exec_id, _ in runner.store.list_owned(owner, statuses=[State.CANCELLING]):
            notice(runner, exec_id, State.CANCELLING)
    for row in runner.candidates()[:_MAX_LOOKED_AT]:
        if runner.store.get_status(row.id)[0] in FINISHED:
            notice(runner, row.exec_id, State.CANCELLED)


def settle(runner: Runner, row: ExecutionRow) -> bool:
    """Record that a cancelling execution which nobody runs any more has stopped.

    False if there is nothing to record: it is in another state, or somebody runs it.
    """
    ownership = runner.ownership
    if row.status is not State.CANCELLING or runner.completion(row.exec_id) is not None:
        return False
    if not ownership.is_own(row):
        if not ownership.is_abandoned(row):
            return False
        # For ever: whatever it may still write is refused.
        assert row.owner is not None
        runner.store.apply(DeclareDead(row.owner, runner.services.env.now()))
        ownership.forget(row.owner)
    try:
        runner.release(row, row.epoch)
    except Refused:
        return False  # somebody else has done it
    return True
