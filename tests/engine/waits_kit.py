"""For tests of waits: what is parked, what it waits for, and a clock that can be set."""

from __future__ import annotations

from typing import Any

import kitaru
from kitaru import app
from kitaru._core.lifecycle import WaitState
from kitaru._store.protocol import RecordedWait
from kitaru.env import SystemEnv

from .looking import PATIENCE_SECONDS, execution


class SetEnv(SystemEnv):
    """The wall clock as somebody sets it; the other clock goes on."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def now(self) -> int:
        return super().now() + int(self.ahead_seconds * 1e6)


class Hurried(SystemEnv):
    """The clock that measures how long something takes, set forward by somebody."""

    ahead_seconds = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_seconds


def parked(handle: Any) -> Any:
    """Wait until nothing runs in this process; the execution then waits."""
    assert app.current().runner.wait_idle(PATIENCE_SECONDS), "it did not park"
    row = execution(handle.exec_id)
    assert row.status == "waiting", f"{row.status}: {row.status_reason}"
    return row


def waits(handle: Any) -> list[RecordedWait]:
    return app.current().store.list_waits(execution(handle.exec_id).id)


def open_waits(handle: Any) -> list[RecordedWait]:
    return [wait for wait in waits(handle) if wait.state is WaitState.OPEN]


def answer(handle: Any, wait: Any, value: Any) -> None:
    """Answer by name, or the very wait, as a program in this process would."""
    named = wait if isinstance(wait, str) else wait.row.identity.hex()
    kitaru.KitaruClient().executions.input(handle.exec_id, wait=named, value=value)


def result(handle: Any) -> Any:
    return handle.wait(timeout=PATIENCE_SECONDS)
