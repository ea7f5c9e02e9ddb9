"""What is different where the store is reached over a network (decision 30).

Nothing waits for it on the event loop: what a procedure asks there goes to a thread, and
the task waits. And it may be away for minutes: everything asked is asked again until it is
back. The procedures know nothing of this; where the store is a file, nobody comes by here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from kitaru._engine import drivers
from kitaru._engine.pool import Pool

if TYPE_CHECKING:
    from kitaru._engine.effects import Steps
    from kitaru._engine.outage import Outage
    from kitaru._engine.run import Run
    from kitaru.env import Env

T = TypeVar("T")

MAX_ASKING = 16
"""Threads that ask the store for tasks of the loop; none of them ever waits for user code."""


class Remote:
    """The drivers over a remote store, and the threads that ask it. See ``drivers.py``."""

    def __init__(self, outage: Outage) -> None:
        self.outage = outage
        self._threads = Pool("store", MAX_ASKING)

    def drive(self, steps: Steps[T], env: Env) -> T:
        """Run a procedure to its end on this thread."""
        return drivers.drive(steps, env, lambda effect: effect.perform_remote(self))

    def drive_async(self, steps: Steps[T], env: Env) -> Coroutine[Any, Any, T]:
        """Run a procedure to its end in a task of the event loop."""
        return drivers.drive_async(steps, env, lambda effect: effect.perform_remote_async(self))

    def through(self, ask: Callable[[], T]) -> T:
        """Ask the store on this thread, until it is there."""
        return self.outage.through(ask)

    async def elsewhere(self, function: Callable[[], T]) -> T:
        """Call it on a thread, with this task's context; the loop goes on meanwhile.

        A task that is cancelled leaves at once. What was asked for it may still be done:
        every write of a procedure is guarded by its epoch, and found again by its identity.
        """
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        context = copy_context()

        def settle(answer: T | None, error: BaseException | None) -> None:
            if not done.done():
                done.set_result((answer, error))

        def work() -> None:
            answer, error = None, None
            try:
                answer = context.run(function)
            except BaseException as failure:
                error = failure
            try:
                loop.call_soon_threadsafe(settle, answer, error)
            except RuntimeError:
                return  # that loop was closed: nobody waits in it any more

        self._threads.submit(work)
        answer, error = await done
        if error is not None:
            raise error
        return answer  # type: ignore[no-any-return]

    async def ask(self, question: Callable[[], T]) -> T:
        """Ask the store on a thread, until it is there."""
        return await self.elsewhere(lambda: self.outage.through(question))

    # --- before a body -------------------------------------------------------------------

    def be_there(self, run: Run) -> None:
        """Wait while the store is away: nothing new starts."""
        while (latch := self.outage.latch) is not None and run.ended is None:
            woken = threading.Event()
            latch.when_over(woken.set)
            with run.waking(woken.set):
                woken.wait()

    async def be_there_async(self, run: Run) -> None:
        while (latch := self.outage.latch) is not None and run.ended is None:
            await latch.wait_async()

    def close(self) -> None:
        self.outage.stop()
        self._threads.close()
