"""Waiting for something that happens once, from threads and from coroutines."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class Latch:
    """Something that happens once. Its lock guards the callbacks, which run outside it."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []

    @property
    def is_over(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        return self._event.wait(timeout)

    def when_over(self, callback: Callable[[], object]) -> None:
        """Call it once it is over: now, or later and from another thread."""
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def over(self) -> None:
        with self._lock:
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        call_all(callbacks)

    async def wait_async(self) -> None:
        if self._event.is_set():
            return
        future, wake = waker()
        self.when_over(wake)
        try:
            await future
        finally:
            # Whoever polls with a timeout must not leave a callback each time.
            with self._lock, suppress(ValueError):
                self._callbacks.remove(wake)


def call_all(callbacks: list[Callable[[], object]]) -> None:
    """Call each; what one raises is reported and keeps the others from nothing."""
    for callback in callbacks:
        try:
            callback()
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)


def waker(
    kind: type[asyncio.Future[None]] | None = None,
) -> tuple[asyncio.Future[None], Callable[[], object]]:
    """A future of the running loop, and a function for any thread that completes it once."""
    # Not at the top: a list of executions asks who lives, and needs no loop for it.
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future() if kind is None else kind(loop=loop)

    def complete() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(complete)
        except RuntimeError:
            return  # That loop was closed: nobody waits in it any more.

    return future, wake
