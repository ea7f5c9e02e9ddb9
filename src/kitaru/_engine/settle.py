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
    """End what an attempt left running -> the first failure that nobody looked at, or None.

    Tasks are cancelled, as ``asyncio.run`` does; what was submitted is waited
    for. With ``dropping`` (the attempt failed, or the execution leaves) what
    has not begun is never started; bodies that run are waited for all the
    same, because what they did is worth recording. The attempt is over then.
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
        self._drop()
        for future in self.attempt.futures:
            while not future.wait_for_end(_LOOK_AROUND_SECONDS):
                if run.services.gone:
                    return None
        while self._bodies_in_threads() and not run.services.gone:
            threading.Event().wait(_BODY_POLL_SECONDS)
        for future in self.attempt.futures:
            if not future.done and self.dropping is None and run.ended is None:
                try:
                    future.wait(None)
                except Unwind:
                    # The run was told to end meanwhile; the caller sees that.
                    break
        return self._over()

    async def perform_async(self) -> BaseException | None:
        current = asyncio.current_task()
        while left := [task for task in self.attempt.tasks if task is not current]:
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        self._drop()
        for future in self.attempt.futures:
            await future.ended()
        while self._bodies_in_threads():
            await asyncio.sleep(_BODY_POLL_SECONDS)
        return self._over()

    def _bodies_in_threads(self) -> bool:
        """Whether a thread that nobody awaited is still in a checkpoint of this attempt."""
        bodies = self.run.bodies
        return bool(bodies) and any(call.parent is self.attempt for call in tuple(bodies))

    def _drop(self) -> None:
        if self.dropping is not None:
            for future in self.attempt.futures:
                future.drop(self.dropping)

    def _over(self) -> BaseException | None:
        self.attempt.is_over = True
        for future in self.attempt.futures:
            error = future.error
            if error is not None and not future.looked and not isinstance(error, Unwind):
                found: BaseException = error
                return found
        return None
