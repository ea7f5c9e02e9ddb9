"""The effect by which a task or thread stands in something durable until it is there.

Whoever stands looks for what it waits for, is woken, and looks again. If the
execution is parked meanwhile, a thread gets :class:`Unwind` and a task of an
async flow is cancelled, as asyncio code expects.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from kitaru._engine.awaited import instant_of
from kitaru._engine.effects import SLOW_ON_LOOP_SECONDS, Effect, Steps
from kitaru._engine.loop import our_coroutines
from kitaru._engine.standing import MAX_PAUSE_SECONDS, Stand
from kitaru.errors import KitaruContextError

if TYPE_CHECKING:
    from kitaru._engine.call import Call
    from kitaru._engine.remote import Remote
    from kitaru._engine.run import Run

R = TypeVar("R")


class Await(Effect):
    """Stand until ``look()`` answers something else than None -> that answer.

    ``look`` may read the store; it is asked again whenever the stand is woken.
    """

    __slots__ = ("look", "run", "stand")
    waits = True
    name = "await"

    def __init__(self, run: Run, stand: Stand, look: Callable[[], Any]) -> None:
        self.run = run
        self.stand = stand
        self.look = look

    def perform(self) -> Any:
        run, stand = self.run, self.stand
        self._say_if_on_loop()
        woken = threading.Event()
        stand.wake = woken.set
        stand.thread = threading.get_ident()
        run.standing.enter(stand)
        try:
            with run.waking(woken.set), run.services.slot_lent(run):
                while (answer := self.look()) is None:
                    run.check()
                    run.standing.consider()
                    woken.wait(self._seconds())
                    # Before looking: what arrives from here on sets it again.
                    woken.clear()
        finally:
            run.standing.leave(stand)
        run.check()
        return answer

    async def perform_async(self) -> Any:
        async def look() -> Any:
            return self.look()

        return await self._stand(look)

    async def perform_remote_async(self, remote: Remote) -> Any:
        return await self._stand(lambda: remote.ask(self.look))

    def perform_remote(self, remote: Remote) -> Any:
        look = self.look
        self.look = lambda: remote.through(look)
        return self.perform()

    async def _stand(self, look: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        run, stand = self.run, self.stand
        loop = asyncio.get_running_loop()
        woken = False

        def complete() -> None:
            nonlocal woken
            woken = True
            if stand.future is not None and not stand.future.done():
                stand.future.set_result(None)

        stand.wake = lambda: loop.call_soon_threadsafe(complete)
        stand.task = asyncio.current_task()
        run.standing.enter(stand)
        try:
            with run.waking(stand.wake):
                while True:
                    woken = False
                    answer = await look()
                    if answer is not None:
                        break
                    self._check_on_loop()
                    if woken:
                        continue  # while it looked
                    stand.future = loop.create_future()
                    seconds = self._seconds()
                    timer = None if seconds is None else loop.call_later(seconds, complete)
                    run.standing.consider()
                    try:
                        await stand.future
                    finally:
                        if timer is not None:
                            timer.cancel()
        finally:
            run.standing.leave(stand)
        self._check_on_loop()
        return answer

    def _seconds(self) -> float | None:
        due_at = self.stand.due_at
        if due_at is None:
            return None
        return min(MAX_PAUSE_SECONDS, max(0.0, (due_at - self.run.env.now()) / 1e6))

    def _check_on_loop(self) -> None:
        if self.run.ended is not None and self.run.standing.root is not None:
            # An exception of ours could become an outcome of a gather or a group.
            raise asyncio.CancelledError(str(self.run.ended))
        self.run.check()

    def _say_if_on_loop(self) -> None:
        seconds = self._seconds()
        if seconds is None or seconds <= SLOW_ON_LOOP_SECONDS:
            return
        if asyncio._get_running_loop() is not None:
            self.run.services.say(
                f"the backoff of a plain checkpoint holds the event loop for {seconds:.1f} "
                "s: every async flow of this process stands still. Call it with "
                "`await checkpoint.submit(...)`",
                once=("pause on loop", self.run.exec_id),
            )


def until(run: Run, stand: Stand) -> Steps[None]:
    """Stand until the stand's own instant has come."""
    due_at = stand.due_at
    assert due_at is not None
    yield Await(run, stand, lambda: True if run.env.now() >= due_at else None)


def back_off(call: Call, retry_at: int) -> Steps[None]:
    """Wait for the next attempt of a call; long, and the execution parks."""
    reason = f"tries checkpoint {call.spec.name!r} again at {instant_of(retry_at)}"
    yield from until(call.run, Stand(call.run, reason, due_at=retry_at, call=call))


class Promised(Coroutine[Any, Any, R]):
    """What an async flow gets from ``kitaru.wait()`` or ``kitaru.sleep()``: to be awaited.

    A coroutine in all respects, but that asking it for its truth is an error: an
    ``await`` that was forgotten must not approve anything.
    """

    def __init__(self, what: str, coroutine: Coroutine[Any, Any, R]) -> None:
        coroutine.__qualname__ = coroutine.__name__ = f"kitaru.{what}"  # type: ignore[attr-defined]
        self.__qualname__ = self.__name__ = f"kitaru.{what}"
        self._what = what
        self._coroutine: Any = coroutine

    def __repr__(self) -> str:
        return f"<kitaru.{self._what}() to be awaited>"

    def __bool__(self) -> NoReturn:
        raise KitaruContextError(
            f"kitaru.{self._what}() has to be awaited in an async flow: write "
            f"`await kitaru.{self._what}(...)`",
            code="wait-not-awaited",
        )

    def __await__(self) -> Generator[Any, None, R]:
        steps: Generator[Any, None, R] = self._coroutine.__await__()
        return steps

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *args: Any) -> Any:
        return self._coroutine.throw(*args)

    def close(self) -> None:
        self._coroutine.close()

    @property
    def cr_code(self) -> Any:
        return self._coroutine.cr_code

    @property
    def cr_frame(self) -> Any:
        return self._coroutine.cr_frame

    @property
    def cr_running(self) -> Any:
        return self._coroutine.cr_running

    @property
    def cr_await(self) -> Any:
        return self._coroutine.cr_await


our_coroutines(__file__)
