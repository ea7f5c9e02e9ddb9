"""The timeout of a flow: an absolute instant by the store's clock, after which it has failed.

Recorded with the execution, so it holds across lives, parks and processes. Whoever ticks
ends what runs here and fails what nobody runs; whoever is about to claim an execution
looks first. Knows nothing of how code is made to stop.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from kitaru._core.values import encode_failure
from kitaru._engine.unwind import Unwind, Why
from kitaru._store.protocol import ExecutionRow, GiveUp, Refused
from kitaru.errors import FailureOrigin, KitaruTimeoutError

if TYPE_CHECKING:
    from kitaru._engine.runner import Runner


def deadline_of(timeout_seconds: float | None, now: int) -> int | None:
    """When an execution that begins now is out of time; None: never."""
    return None if timeout_seconds is None else now + int(timeout_seconds * 1e6)


def fresh_deadline(row: ExecutionRow, now: int) -> int | None:
    """The deadline of a retry of this execution: its timeout counts anew."""
    seconds = _timeout_of(row)
    return row.deadline_at if seconds is None else deadline_of(seconds, now)


def is_over(row: ExecutionRow, now: int) -> bool:
    return row.deadline_at is not None and row.deadline_at <= now


def out_of_time(row: ExecutionRow) -> Unwind:
    """What its code is ended with."""
    return Unwind(Why.TIMED_OUT, f"execution {row.exec_id} is out of time", error_of(row))


def enforce(runner: Runner) -> None:
    """End what runs here and is out of time, and fail what has not begun in time."""
    now = runner.services.env.now()
    for life in runner.lives():
        if is_over(life.row, now):
            life.stop(out_of_time(life.row))
    for row in runner.withdraw(lambda row: is_over(row, now)):
        with contextlib.suppress(Refused):  # somebody else has been quicker
            fail_late(runner, row)


def fail_late(runner: Runner, row: ExecutionRow) -> None:
    """Fail an execution that is out of time and that nobody alive runs; may be refused."""
    now = runner.services.env.now()
    dead = row.owner
    if runner.ownership.is_own(row):
        # Given up here before, by a process that lives: handed back first.
        runner.release(row, row.epoch)
        row, dead = row._replace(epoch=row.epoch + 1), None
    error = error_of(row)
    failure = encode_failure(error, origin=FailureOrigin.TIMEOUT)
    reason = f"{type(error).__name__}: {error}"
    write = GiveUp(row.id, row.epoch, dead, failure, reason, now)
    runner.events.written(row, write, runner.store.apply(write))
    if dead is not None:
        runner.ownership.forget(dead)


def error_of(row: ExecutionRow) -> KitaruTimeoutError:
    seconds = _timeout_of(row)
    within = "in time" if seconds is None else f"within {seconds:g} s"
    return KitaruTimeoutError(
        f"flow {row.flow_name!r} did not end {within}: what it recorded is kept. Give it more "
        "time (timeout=), or go on with a retry, whose time begins anew",
        exec_id=row.exec_id,
        timeout_seconds=seconds,
        code="flow-timed-out",
    )


def _timeout_of(row: ExecutionRow) -> float | None:
    spec: Any = json.loads(row.spec)
    seconds = spec.get("timeout_seconds") if isinstance(spec, dict) else None
    return seconds if isinstance(seconds, (int, float)) else None
