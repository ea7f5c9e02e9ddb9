"""What the tests of cancelling share: a cancel that comes between, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kitaru import ExecutionStatus, app
from kitaru._engine import cancelling
from kitaru._store.protocol import Cancel
from kitaru.errors import KitaruCancelledError

from .looking import PATIENCE_SECONDS, execution


def wait_cancelled(handle: Any) -> KitaruCancelledError:
    with pytest.raises(KitaruCancelledError) as cancelled:
        handle.wait(PATIENCE_SECONDS)
    assert handle.status is ExecutionStatus.CANCELLED
    return cancelled.value


class Racing:
    """The store, but before a write of a kind something else happens first, once."""

    def __init__(self, store: Any, kind: type, first: Callable[[], object]) -> None:
        self._store = store
        self._kind = kind
        self._first: Callable[[], object] | None = first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def apply(self, write: Any) -> Any:
        if type(write) is self._kind and self._first is not None:
            first, self._first = self._first, None
            first()
        return self._store.apply(write)


def cancel_but_first(exec_id: str, first: Callable[[], object]) -> Any:
    """Cancel an execution; between its reading and its writing something happens."""
    runner = app.current().runner
    store, row = runner.store, execution(exec_id)
    runner.store = Racing(store, Cancel, first)
    try:
        return cancelling.cancel(runner, row, by="a test", reason="")
    finally:
        runner.store = store
