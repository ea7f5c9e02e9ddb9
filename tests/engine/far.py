"""A store as it is over a network: asked on no event loop, and sometimes away.

Stands before a real one and passes on what it is asked. While it is ``away`` it refuses
as PostgreSQL's does; a write whose answer is ``lost`` is done all the same, and recognised
when the very same one is repeated.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kitaru._store.protocol import Store, Write
from kitaru.errors import KitaruBackendError

_LOCAL = frozenset({"close", "project", "is_remote"})


class FarStore:
    """See the module. Knows nothing of what is asked."""

    is_remote = True

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: list[tuple[Write, Callable[[Any, BaseException | None], None]]] = []
        self._answers: dict[int, tuple[Write, Any]] = {}
        self.held_the_loop: list[str] = []
        """What was asked on the thread of a running event loop."""
        self.is_away = False
        self.asked_while_away = threading.Event()
        self.loses: Callable[[Write], bool] = lambda write: False
        """Which writes are done without being answered."""
        self.refused: list[Write] = []
        """Writes that found it away."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name in _LOCAL or not callable(found):
            return found

        def ask(*args: Any, **kwargs: Any) -> Any:
            self._reach(name)
            return found(*args, **kwargs)

        return ask

    def close(self) -> None:
        self._store.close()

    # --- writes --------------------------------------------------------------------

    def apply(self, write: Write) -> Any:
        self._reach("apply", write)
        return self._write(write)

    def post(self, write: Write, done: Callable[[Any, BaseException | None], None]) -> None:
        self._reach("post", None)  # a large value goes first
        self._queue.append((write, done))

    def flush(self, *, wait: bool) -> bool:
        if not wait:
            return False
        while self._queue:
            write, done = self._queue.pop(0)
            try:
                self._reach("flush", write)
                answer = self._write(write)
            except Exception as error:
                done(None, error)
            else:
                done(answer, None)
        return True

    def _write(self, write: Write) -> Any:
        known = self._answers.pop(id(write), None)
        if known is not None:
            return known[1]
        answer = self._store.apply(write)
        if self.loses(write):
            self._answers[id(write)] = (write, answer)
            raise self._gone()
        return answer

    # --- the network ----------------------------------------------------------------

    def _reach(self, name: str, write: Write | None = None) -> None:
        if asyncio._get_running_loop() is not None:
            self.held_the_loop.append(name)
        if self.is_away:
            if write is not None:
                self.refused.append(write)
            self.asked_while_away.set()
            raise self._gone()

    def _gone(self) -> KitaruBackendError:
        return KitaruBackendError("the store is away (no route)", code="store-away")

    @contextmanager
    def away(self) -> Iterator[None]:
        self.is_away = True
        self.asked_while_away.clear()
        try:
            yield
        finally:
            self.is_away = False
