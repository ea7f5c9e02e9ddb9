"""What a procedure may ask for, and the two ways of doing it.

A procedure yields an effect and is sent its answer. ``perform`` does it on the
calling thread; ``perform_async`` awaits. Most effects never wait, so one way
serves both. Answers are values, user exceptions included: nothing is thrown
into a procedure but :class:`Unwind`, which ends it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from kitaru._core.payload import Payload
from kitaru._engine.context import Attempt, Place, here
from kitaru._engine.debugging import was_quit
from kitaru._engine.unwind import Unwind, Why
from kitaru._engine.waking import Latch
from kitaru._store.protocol import Facts, Refused, Write
from kitaru.errors import KitaruBackendError, KitaruContextError

if TYPE_CHECKING:
    from kitaru._engine.call import Call
    from kitaru._engine.remote import Remote
    from kitaru._engine.run import Run

T = TypeVar("T")

SLOW_ON_LOOP_SECONDS = 0.25
"""After this long on the event loop a sync checkpoint is told about ``.submit()``."""


class Effect:
    """Something to be done for a procedure. ``waits``: it may not be done inline on a loop."""

    __slots__ = ()
    waits = False
    name = "effect"

    def perform(self) -> Any:
        raise NotImplementedError(type(self).__name__)

    async def perform_async(self) -> Any:
        return self.perform()

    def perform_remote(self, remote: Remote) -> Any:
        """``perform`` where the store is reached over a network, and may be away."""
        return self.perform()

    async def perform_remote_async(self, remote: Remote) -> Any:
        return await self.perform_async()


Steps = Generator[Effect, Any, T]


class Raised:
    """The answer of a body that raised."""

    __slots__ = ("exc", "payload")

    def __init__(self, exc: BaseException, payload: Payload | None = None) -> None:
        self.exc = exc
        self.payload = payload
        """The failure as it is to be recorded, if it was encoded where the body ran."""


class Encoded:
    """The answer of a body that ran elsewhere, where its result was encoded, too."""

    __slots__ = ("payload",)

    def __init__(self, payload: Payload) -> None:
        self.payload = payload


class Commit(Effect):
    """Apply a write in its own durable transaction; answer what the store answers.

    Unwinds if the write is refused or the store is gone: nobody may go on as
    if it had been recorded.
    """

    __slots__ = ("facts", "run", "write")
    waits = True
    name = "commit"

    def __init__(self, run: Run, write: Write, facts: Facts | None = None) -> None:
        self.run = run
        self.write = write
        self.facts = facts

    def perform(self) -> Any:
        return self._by(self.run.store.apply)

    def perform_remote(self, remote: Remote) -> Any:
        apply = self.run.store.apply
        return self._by(lambda write: remote.through(lambda: apply(write)))

    def _by(self, apply: Callable[[Write], Any]) -> Any:
        try:
            answer = apply(self.write)
        except BaseException as error:
            self._landed(None, error)
            if isinstance(error, (Refused, KitaruBackendError)):
                raise self.run.refused(error) from error
            raise
        self._landed(answer, None)
        return answer

    async def perform_async(self) -> Any:
        try:
            return await self.run.services.loop.commit(self.write, self._landed)
        except (Refused, KitaruBackendError) as error:
            raise self.run.refused(error) from error

    def _landed(self, answer: Any, error: BaseException | None) -> None:
        """Called once the write is durable or refused, even if nobody waits for it any more."""
        if isinstance(error, (Refused, KitaruBackendError)):
            # First: what it carried is lost, so nothing may begin after it.
            self.run.refused(error)
        rides = () if self.facts is None else self.run.landed(self.facts)
        if self.run.events.active and error is None:
            self.run.events.tell(*rides)
            self.run.events.written(self.run.row, self.write, answer)


class Land(Effect):
    """Wait until another branch's write, which carries facts of this execution, is durable."""

    __slots__ = ("flight", "run")
    waits = True
    name = "land"

    def __init__(self, run: Run, flight: Latch) -> None:
        self.run = run
        self.flight = flight

    def perform(self) -> None:
        if not self.flight.is_over:
            # On the loop's own thread it may be posted for a tick that cannot
            # come while we wait here.
            self.run.store.flush(wait=True)
            self.flight.wait()

    async def perform_async(self) -> None:
        await self.flight.wait_async()


class CallBody(Effect):
    """Run the user's function of a call -> its value, or :class:`Raised`."""

    __slots__ = ("attempt", "call")
    waits = True
    name = "body"

    def __init__(self, call: Call) -> None:
        self.call = call
        self.attempt = Attempt(call)

    def _enter(self) -> Any:
        call = self.call
        run = call.run
        if run.services.draining:
            raise run.end(Why.HANDED_BACK, f"execution {run.exec_id} is handed back")
        run.check()
        if run.lost:
            run.check_attempt(call.parent)
        if call.parent.is_over:
            raise KitaruContextError(
                f"checkpoint {call.spec.name!r} does not start any more: the attempt in which it "
                "was called is over. Await what you begin",
                code="attempt-is-over",
            )
        call.started_at = run.env.now()
        call.modules = len(sys.modules)
        if run.events.active:
            run.events.started(call)
        return here.set(Place(run, self.attempt, self.attempt.root))

    def perform(self) -> Any:
        call = self.call
        token = self._enter()
        try:
            return call.spec.fn(*call.args, **call.kwargs)
        except Unwind:
            self._abandon()
            raise
        except BaseException as exc:
            return user_exception(call.run, exc)
        finally:
            here.reset(token)

    def perform_remote(self, remote: Remote) -> Any:
        remote.be_there(self.call.run)
        return self.perform()

    async def perform_remote_async(self, remote: Remote) -> Any:
        await remote.be_there_async(self.call.run)
        return await self.perform_async()

    async def perform_async(self) -> Any:
        call = self.call
        token = self._enter()
        try:
            return await call.spec.fn(*call.args, **call.kwargs)
        except (Unwind, asyncio.CancelledError):
            # Cancelled by the flow's own code (a timeout, a sibling's
            # failure): not an outcome; a resume may call it again.
            self._abandon()
            raise
        except BaseException as exc:
            return user_exception(call.run, exc)
        finally:
            here.reset(token)

    def _abandon(self) -> None:
        """The body will have no outcome: cancel what it began; its caller's end waits for that."""
        for task in tuple(self.attempt.tasks):
            if not task.done():
                task.get_loop().call_soon_threadsafe(task.cancel)
        for future in self.attempt.futures:
            future.drop("its caller was cancelled")
            future.looked = True
        self.attempt.hand_over(self.call.parent, over=True)
        if self.call.run.events.active:
            self.call.run.events.abandoned(self.call)


def user_exception(run: Run, exc: BaseException) -> Raised:
    if run.ended is not None and isinstance(exc, GeneratorExit):
        raise run.ended
    if is_shutdown_error(run, exc):
        # The interpreter is going away under the body: that is not its failure.
        raise run.end(Why.HANDED_BACK, f"execution {run.exec_id} is handed back at exit", exc)
    if was_quit(exc):
        raise run.end(Why.HANDED_BACK, f"execution {run.exec_id} is handed back", exc)
    return Raised(exc)


def is_shutdown_error(run: Run, exc: BaseException) -> bool:
    """Whether the interpreter refuses new threads or futures because it ends.

    Python 3.12.0 to 3.12.2 refuse new threads from the moment the main thread
    has ended (python/cpython#113964); others only at the very end.
    """
    return type(exc) is RuntimeError and run.services.exiting and "shutdown" in str(exc)


class Ask(Effect):
    """Call one of our own functions that may ask the store, but never waits for anybody else."""

    __slots__ = ("fn", "name")

    def __init__(self, name: str, fn: Callable[[], Any]) -> None:
        self.name = name
        self.fn = fn

    def perform(self) -> Any:
        return self.fn()

    def perform_remote(self, remote: Remote) -> Any:
        return remote.through(self.fn)

    async def perform_remote_async(self, remote: Remote) -> Any:
        return await remote.ask(self.fn)
