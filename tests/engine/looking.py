"""What is recorded, for tests to assert on: read from the store, not from memory."""

from __future__ import annotations

import threading
from typing import Any

from kitaru import app
from kitaru._store.protocol import Retry

PATIENCE_SECONDS = 120.0
"""How long a test waits for what must happen; only a broken program makes it wait so long."""


def execution(exec_id: str) -> Any:
    row = app.current().store.find_execution(exec_id)
    assert row is not None
    return row


def calls(exec_id: str) -> list[Any]:
    """The recorded attempts, in the order of recording."""
    store = app.current().store
    return [call.row for call in store.list_calls(execution(exec_id).id, limit=10_000)]


def notes(exec_id: str) -> list[str]:
    return [note.message for note in app.current().store.list_notes(execution(exec_id).id)]


def retry(flow: Any, exec_id: str) -> Any:
    """Open a failed execution again and run it here."""
    running = app.current()
    row = execution(exec_id)
    row = running.store.apply(Retry(row.id, row.epoch, running.env.now()))
    assert running.runner.take(flow.spec, row, asked=True) is not None
    return flow.handle(exec_id)


class Gate:
    """Something that a test lets happen: bodies wait for it, and say that they do."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE_SECONDS), "nobody opened the gate"

    def wait_until_reached(self) -> None:
        assert self.reached.wait(PATIENCE_SECONDS), "nobody came to the gate"

    def open(self) -> None:
        self.opened.set()
