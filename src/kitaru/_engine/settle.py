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
        call = self.attempt.call
        if call is not None and asyncio._get_running_loop() is not None:
            # A plain checkpoint called on the loop: what it submitted may need the
            # loop that waiting would block, so its caller's end waits instead.
            self.attempt.hand_over(call.parent, over=False)
            return None
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
        # One that has ended may still be listed: from Python 3.12 on a gather of such does not
        # let the loop go round, and would wait for it for ever.
        while left := [
            task for task in self.attempt.tasks if task is not current and not task.done()
        ]:
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def _close(self) -> None:
        self.attempt.is_closed = True
        if self.dropping is not None:
            for future in self.attempt.futures:
                future.drop(self.dropping)

    def _has_bodies(self) -> bool:
        """Whether something that nobody awaited is still in a checkpoint of this attempt.

        At the end of the flow: in any, because a cancelled body's own are left to it.
        """
        return bool(self.run.bodies if self.attempt.call is None else self.attempt.bodies)

    def _over(self) -> BaseException | None:
        call = self.attempt.call
        unseen = next((each for each in self.attempt.futures if each.is_unseen_failure), None)
        if call is None:
            self.attempt.is_closed = self.attempt.is_over = True
        else:
            # Tasks that a body leaves behind (a client's connection) end with the flow.
            self.attempt.hand_over(call.run.top, over=True)
        error: BaseException | None = None if unseen is None else unseen.error
        return error
