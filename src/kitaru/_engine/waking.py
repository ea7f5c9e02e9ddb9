"""Waking a coroutine from another thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def waker() -> tuple[asyncio.Future[None], Callable[[], object]]:
    """A future of the running loop, and a function for any thread that completes it once."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def complete() -> None:
        if not future.done():
            future.set_result(None)

    return future, lambda: loop.call_soon_threadsafe(complete)
