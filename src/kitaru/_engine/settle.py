"""The end of an attempt: nothing that it began may outlive it unseen."""

from __future__ import annotations

import asyncio
import threading

from kitaru._engine.context import Attempt
from kitaru._engine.effects import Effect
from kitaru._engine.run import Run
from kitaru._engine.unwind import Unwind

_LOOK_AROUND_SECONDS = 1.0
_BODY_POLL_SECONDS = 0.02


class Settle(Effect):
    """Bring an attempt to its end -> the first failure that nobody looked at, or None.

    What was submitted, and bodies in threads that nobody awaited, are waited
    for: what they did is worth recording. With ``dropping`` (the attempt
    failed, or the execution leaves) what has not begun is never started. The
    tasks that a flow leaves are cancelled, as ``asyncio.run`` does; those that
    a body leaves (a client's connection) live on and end with the flow.
    """

    __slots__ = ("attempt", "dropping", "run")
    waits = True
    name = "settle"

    def __init__(self, run: Run, attempt: Attempt, *, dropping: str | None) -> None:
        self.run = run
        self.attempt = attempt
        self.dropping = dropping

    def perform(self) -> BaseException | None:
        run = self.run
        self._close()
        for future in self.attempt.futures:
            while not future.wait_for_end(_LOOK_AROUND_SECONDS):
                if run.services.gone:
                    return None
        for future in self.attempt.futures:
            if not future.done and self.dropping is None and run.ended is None:
                try:
                    future.wait(None)
                except Unwind:
                    # The run was told to end meanwhile; the caller sees that.
                    break
        while self._has_bodies() and not run.services.gone:
            threading.Event().wait(_BODY_POLL_SECONDS)
        return self._over()

    async def perform_async(self) -> BaseException | None:
        self._close()
        if self.attempt.call is None:
            await self._cancel_tasks()
        for future in self.attempt.futures:
            await future.ended()
        while self._has_bodies():
            await asyncio.sleep(_BODY_POLL_SECONDS)
        return self._over()

    async def _cancel_tasks(self) -> None:
        current = asyncio.current_task()
        while left := [task for task in self.attempt.tasks if task is not current]:
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def _close(self) -> None:
        self.attempt.is_closed = True
        if self.dropping is not None:
            for future in self.attempt.futures:
                future.drop(self.dropping)

    def _has_bodies(self) -> bool:
        """Whether a thread or task that nobody awaited is still in a checkpoint of this attempt."""
        bodies = self.run.bodies
        return bool(bodies) and any(call.parent is self.attempt for call in tuple(bodies))

    def _over(self) -> BaseException | None:
        self.attempt.is_over = True
        self._bequeath_tasks()
        for future in self.attempt.futures:
            error = future.error
            if error is not None and not future.looked and not isinstance(error, Unwind):
                found: BaseException = error
                return found
        return None

    def _bequeath_tasks(self) -> None:
        call = self.attempt.call
        if call is None:
            return
        heirs = call.run.top.tasks
        for task in self.attempt.tasks:
            heirs.add(task)
            task.add_done_callback(heirs.discard)
