"""The timeout of a checkpoint: its call goes on without a body that does not end in time.

An async body is cancelled, as asyncio does it. A thread cannot be made to stop, so
the body of a plain function runs in a helper thread, and one that is too late is
*lost*: what it returns is ignored, and what it asks of Kitaru from then on raises.
Nobody waits for it, not even the interpreter at its end, for the thread is a daemon.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextvars import Context, copy_context
from typing import Any

from kitaru._engine.context import here
from kitaru._engine.effects import CallBody, Raised, user_exception
from kitaru._engine.pool import end_fork
from kitaru._engine.unwind import Unwind
from kitaru.env import process
from kitaru.errors import KitaruTimeoutError

_MAX_WAIT_SECONDS = 60.0
"""Waits of platforms overflow; a clock of a test may be moved."""


class TimedBody(CallBody):
    """Run the user's function of a call for ``timeout=`` seconds at most."""

    __slots__ = ("_began", "_until")

    def _begin(self) -> Context:
        """Where the body stands -> the context to run it in; its time begins."""
        token = self._enter()
        context = copy_context()
        here.reset(token)
        self._began = self.call.run.env.monotonic()
        assert self.call.spec.timeout_seconds is not None
        self._until = self._began + self.call.spec.timeout_seconds
        return context

    def _left(self) -> float:
        return min(self._until - self.call.run.env.monotonic(), _MAX_WAIT_SECONDS)

    # --- a plain function, in a helper thread -----------------------------------------

    def perform(self) -> Any:
        context = self._begin()
        helper = _Helper(self, context)
        try:
            helper.start()
        except BaseException as exc:
            return user_exception(self.call.run, exc)
        while (left := self._left()) > 0 and not helper.ended.wait(left):
            continue
        if helper.ended.is_set():
            return self._came_to(helper.result)
        self._lose()
        self._say_lost("the thread in which its body runs goes on, and what it returns is ignored")
        return Raised(self._error())

    def _came_to(self, result: Any) -> Any:
        if type(result) is not Raised:
            return result
        if isinstance(result.exc, (Unwind, asyncio.CancelledError)):
            self._abandon()
            raise result.exc
        return user_exception(self.call.run, result.exc)

    # --- an async function, in a task of its own ----------------------------------------

    async def perform_async(self) -> Any:
        context = self._begin()
        loop = asyncio.get_running_loop()
        # Not by the loop's factory: the body is in its attempt's own branch.
        body = asyncio.Task(self._await_body(), loop=loop, context=context)
        while not body.done() and (left := self._left()) > 0:
            try:
                await asyncio.wait([body], timeout=left)
            except asyncio.CancelledError:
                if body.done():
                    # It has an outcome, which is to be recorded: be cancelled after that.
                    _be_cancelled_later()
                else:
                    body.cancel()
        if body.done():
            return self._came_to(body.result())
        self._lose()
        if not await self._cancel(body):
            self._say_lost("it goes on although it was cancelled, and what it returns is ignored")
        return Raised(self._error())

    async def _await_body(self) -> Any:
        try:
            return await self.call.spec.fn(*self.call.args, **self.call.kwargs)
        except BaseException as exc:
            # As a value: a KeyboardInterrupt would leave through the loop.
            return Raised(exc)

    async def _cancel(self, body: asyncio.Task[Any]) -> bool:
        """Cancel the body and what it began; False if it has not ended when patience has."""
        run = self.call.run
        until = run.env.monotonic() + run.services.grace_seconds
        told: set[asyncio.Task[Any]] = set()
        try:
            while running := set(self._tasks(body)):
                for task in running - told:
                    task.cancel()  # once: it may have to await while it cleans up
                told |= running
                left = until - run.env.monotonic()
                if left <= 0:
                    return False
                await asyncio.wait(running, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            return True
        finally:
            self._let_go()

    def _tasks(self, body: asyncio.Task[Any]) -> Iterator[asyncio.Task[Any]]:
        futures = (future.task for future in self.attempt.futures)
        for task in (body, *self.attempt.tasks, *futures):
            if task is not None and not task.done():
                yield task

    # --- losing it -----------------------------------------------------------------------

    def _lose(self) -> None:
        """From here on nothing of this attempt counts, and nothing waits for it."""
        run, attempt = self.call.run, self.attempt
        run.lost.add(attempt)
        attempt.is_closed = True
        for call in tuple(run.bodies):
            if run.is_lost(call.parent):
                run.bodies.discard(call)
                call.parent.bodies.discard(call)
        for future in attempt.futures:
            future.drop("its caller timed out")
            future.looked = True
        if not self.call.spec.is_async:
            self._let_go()

    def _let_go(self) -> None:
        self.attempt.futures = []
        self.attempt.tasks = set()
        self.attempt.bodies = set()

    def _say_lost(self, what: str) -> None:
        spec = self.call.spec
        self.call.run.services.say(
            f"checkpoint {spec.name!r} did not end within {spec.timeout_seconds:g} s: {what}. "
            "kitaru.check() in its body ends it",
            once=("timed out", spec.id),
        )

    def _error(self) -> KitaruTimeoutError:
        call = self.call
        return KitaruTimeoutError(
            f"checkpoint {call.spec.name!r} did not end within {call.spec.timeout_seconds:g} s: "
            "give it more time (timeout=) or another try (retries=), or catch "
            "KitaruTimeoutError in the flow",
            exec_id=call.run.exec_id,
            timeout_seconds=call.spec.timeout_seconds,
            elapsed_seconds=call.run.env.monotonic() - self._began,
            code="checkpoint-timed-out",
        )


class _Helper:
    """The thread in which the body of a plain function runs."""

    def __init__(self, body: TimedBody, context: Context) -> None:
        self._call = body.call
        self._context = context
        self._pool = body.call.run.services.bodies
        self._is_worker = self._pool.is_working_here()
        self.ended = threading.Event()
        self.result: Any = None

    def start(self) -> None:
        name = f"kitaru-timed-{self._call.spec.name}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        if self._is_worker:
            # The thread that waits for this one holds a slot: whoever waits here lends it.
            self._pool.work_here()
        call, pid = self._call, process.id
        try:
            self.result = self._context.run(call.spec.fn, *call.args, **call.kwargs)
        except BaseException as exc:
            self.result = Raised(exc)
        end_fork(pid)
        self.ended.set()


def _be_cancelled_later() -> None:
    """Raise the cancellation that was caught at the next await."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()
    task.cancel()
