"""A submitted call: run by a pool thread, by a task of the loop, or by whoever waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from kitaru._core.checks import check_timeout
from kitaru._engine.context import Attempt, Place
from kitaru._engine.loop import our_coroutines
from kitaru._engine.once import steps_of
from kitaru._engine.quiet import Following
from kitaru._engine.unwind import Unwind
from kitaru._engine.waking import call_all, waker
from kitaru.errors import KitaruContextError, KitaruStateError, KitaruTimeoutError

if TYPE_CHECKING:
    from kitaru._engine.call import Call, CheckpointSpec
    from kitaru._engine.run import Run

_WAITING, _RUNNING, _DONE, _DROPPED = "waiting", "running", "done", "not started"


class Submitted:
    """The state of one submitted call, whatever runs it.

    Exactly one party takes it from ``waiting`` to ``running``: the pool, or a
    thread that asks for its result first, so that waiting can never deadlock
    the pool.
    """

    on_loop = False
    """Whether it is run by a task of the event loop."""
    follows = False
    """Whether it only waits for other submitted calls."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.on_loop = self.on_loop or call.spec.is_async
        self.may_be_stolen = True
        """Whether a waiting thread may run it: not under a cap on concurrency."""
        self.looked = False
        """Whether anybody has seen the outcome: an unseen failure fails the flow."""
        self.was_raised = False
        """Whether its failure was raised to user code."""
        self.dropped_because: str | None = None
        self.task: asyncio.Task[Any] | None = None
        """The task that runs it, on the loop."""
        self._state = _WAITING
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._callbacks: list[Callable[[], object]] = []
        self._value: Any = None
        self._error: BaseException | None = None
        self._context: Context = copy_context()
        call.parent.futures.append(self)

    @property
    def state(self) -> str:
        return self._state

    @property
    def done(self) -> bool:
        return self._state in (_DONE, _DROPPED)

    @property
    def error(self) -> BaseException | None:
        return self._error

    @property
    def is_unseen_failure(self) -> bool:
        """Whether it failed and nobody looked: that fails whoever submitted it."""
        return self._error is not None and not self.looked and not isinstance(self._error, Unwind)

    @property
    def was_withheld(self) -> bool:
        """Whether it failed and user code was never given the failure, so cannot have caught it."""
        return self._error is not None and not self.was_raised

    # --- who runs it ---------------------------------------------------------------

    def take(self) -> bool:
        """Claim the right to run it; False if somebody has."""
        with self._lock:
            if self._state != _WAITING:
                return False
            self._state = _RUNNING
            return True

    def drop(self, why: str) -> bool:
        """Never start it; False if it has begun."""
        with self._lock:
            if self._state != _WAITING:
                return False
            self._state = _DROPPED
            self.dropped_because = why
        self._finish()
        return True

    def run_here(self) -> None:
        """Run a sync call on this thread, if nobody else has taken it."""
        if self.take():
            # A copy: the same context may be entered by one thread at a time.
            self._context.run(self._run)

    def _run(self) -> None:
        call = self.call
        try:
            self._value = call.run.services.drive(steps_of(call), call.run.env).open(call)
        except BaseException as error:
            self._error = error
        self._state = _DONE
        self._finish()

    async def _outcome_on_loop(self) -> Any:
        return await call_on_loop(self.call)

    async def run_on_loop(self) -> None:
        if not self.take():
            return
        self.task = asyncio.current_task()
        try:
            self._value = await self._outcome_on_loop()
        except BaseException as error:
            self._error = error
        self._state = _DONE
        self._finish()

    def _finish(self) -> None:
        with self._lock:
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        call_all(callbacks)

    # --- who waits for it --------------------------------------------------------------

    def when_done(self, callback: Callable[[], object]) -> None:
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def wait(self, timeout: float | None) -> bool:
        """Block until it is done; runs it here if it has not begun. False on timeout."""
        run = self.call.run
        if not self.done:
            if asyncio_running():
                raise KitaruContextError(
                    f"the result of checkpoint {self.call.spec.name!r} was asked for on the event "
                    "loop, which it would block: write `await future`",
                    code="event-loop-would-block",
                )
            run.check()
            if self.may_be_stolen and not self.on_loop and timeout is None:
                self.run_here()
        if self._done.is_set():
            return True
        # An event of its own: the run's end wakes the waiter, and does not end the call.
        woken = threading.Event()
        self.when_done(woken.set)
        standing = run.standing
        # With a timeout it waits for a clock of this process, too.
        is_flow = timeout is None and standing.thread == threading.get_ident()
        standing.following = is_flow or standing.following
        try:
            with run.waking(woken.set):
                self._lent_wait(woken, timeout)
        finally:
            standing.following = standing.following and not is_flow
        self._forget(woken.set)
        if not self.done:
            run.check()
        return self.done

    def _lent_wait(self, woken: threading.Event, timeout: float | None) -> None:
        """Wait; a pool thread gives up its slot meanwhile."""
        pool = self.call.run.services.bodies
        if not pool.is_working_here():
            woken.wait(timeout)
            return
        pool.lend()
        try:
            woken.wait(timeout)
        finally:
            pool.give_back()

    def wait_for_end(self, timeout: float | None) -> bool:
        """Wait for a body that runs, without running it or raising: used while unwinding."""
        if self._state == _RUNNING:
            self._done.wait(timeout)
        return self._state != _RUNNING

    def result(self, timeout: float | None = None) -> Any:
        """Wait, and return the value or raise; ``KitaruTimeoutError`` after ``timeout`` seconds."""
        self._wait_or_time_out(timeout)
        return self.outcome()

    def _wait_or_time_out(self, timeout: float | None) -> None:
        check_timeout(timeout)
        if not self.wait(timeout):
            call = self.call
            raise KitaruTimeoutError(
                f"checkpoint {call.spec.name!r} of execution {call.run.exec_id} did not finish "
                f"within {timeout} s; it goes on: call result() again",
                exec_id=call.run.exec_id,
                timeout_seconds=timeout,
                elapsed_seconds=timeout,
                code="wait-timed-out",
            )

    def outcome(self) -> Any:
        """The value, or the recorded exception raised; only once done."""
        self.looked = True
        if self._state == _DROPPED:
            raise self._not_started()
        if self._error is not None:
            self.was_raised = True
            raise self._error
        return self._value

    def failure(self, timeout: float | None = None) -> BaseException | None:
        """Wait; its failure, or why it was not started, without raising it. It counts as seen."""
        self._wait_or_time_out(timeout)
        self.looked = True
        if self._state == _DROPPED:
            return self._not_started()
        return self._error

    def _not_started(self) -> KitaruStateError:
        return KitaruStateError(
            f"checkpoint {self.call.spec.name!r} was not started: {self.dropped_because}. "
            "It has no result: call it again if you need one",
            code="call-not-started",
        )

    async def wait_async(self) -> None:
        if self.done:
            return
        finished, wake = waker(Following)
        with self.call.run.waking(wake):
            await self._until(finished, wake)
        if not self.done:
            self.call.run.check()

    async def ended(self) -> None:
        """Wait until it is done, without raising: used while an attempt ends."""
        if not self.done:
            await self._until(*waker(Following))

    async def _until(self, finished: asyncio.Future[None], wake: Callable[[], object]) -> None:
        self.when_done(wake)
        try:
            await finished
        finally:
            self._forget(wake)

    def _forget(self, callback: Callable[[], object]) -> None:
        with self._lock, suppress(ValueError):
            self._callbacks.remove(callback)


def asyncio_running() -> bool:
    """Whether this thread is inside an event loop."""
    return asyncio._get_running_loop() is not None


def submit(call: Call) -> Submitted:
    """Begin a call beside the caller, with the caller's context."""
    submitted = Submitted(call)
    start(submitted)
    return submitted


async def call_on_loop(call: Call) -> Any:
    """Run a call in a task of the loop -> its value, or its exception raised."""
    outcome = await call.run.services.drive_async(steps_of(call), call.run.env)
    return outcome.open(call)


class _Unknown(NamedTuple):
    """What is known of a call before its arguments are."""

    run: Run
    spec: CheckpointSpec
    parent: Attempt


class Deferred(Submitted):
    """A submitted call that waits for futures among its arguments, in a task of the loop."""

    on_loop = True
    follows = True

    def __init__(self, place: Place, spec: CheckpointSpec, turn: asyncio.Future[Call]) -> None:
        super().__init__(cast("Call", _Unknown(place.run, spec, place.attempt)))
        self._turn = turn

    async def _outcome_on_loop(self) -> Any:
        call = await asyncio.shield(self._turn)
        inner = Submitted(call)
        inner.looked = True  # by this one
        start(inner)
        await inner.wait_async()
        return inner.outcome()


def start(submitted: Submitted) -> None:
    services = submitted.call.run.services
    if submitted.on_loop:
        services.loop.spawn(submitted.run_on_loop, submitted._context)
    else:
        services.bodies.submit(submitted.run_here)


class FutureBase:
    """What the public ``CheckpointFuture`` is to the engine: an argument to be resolved."""

    __slots__ = ("_submitted",)

    def __init__(self, submitted: Submitted) -> None:
        self._submitted = submitted

    def __repr__(self) -> str:
        return f"<CheckpointFuture {self._submitted.call.spec.name!r} {self._submitted.state}>"


our_coroutines(__file__)
