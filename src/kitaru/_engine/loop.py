"""Kitaru's own event loop: one daemon thread on which async flows and bodies run.

Every task made inside a flow gets a branch of its own, by what it runs with
what; and the writes of one tick of the loop are committed together.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

from kitaru._core.coroutines import coroutine_digest
from kitaru._core.keeping import keep_for_ever
from kitaru._engine.context import Place, here
from kitaru._engine.outage import Outage, is_away
from kitaru._store.protocol import Store, Write

_STOP_SECONDS = 5.0


class LoopThread:
    """Starts its thread at first use; there is one per process and store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.on_death: Callable[[Exception], None] | None = None
        """Told on the loop's thread, once the loop is of no use any more."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stopping = False
        self._flush_scheduled = False
        self._flusher_wake = threading.Event()
        self._flusher: threading.Thread | None = None
        self.outage: Outage | None = None
        """Holds what cannot be written while the store is away; handed in with the services."""
        self._outgoing: deque[tuple[Write, Done]] = deque()
        """For a remote store: handed to it by the thread that flushes, which may wait."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            with self._lock:
                if self._loop is None:
                    self._start()
        assert self._loop is not None
        return self._loop

    def _start(self) -> None:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(branching_task)  # type: ignore[arg-type]

        def run() -> None:
            asyncio.set_event_loop(loop)
            while True:
                try:
                    loop.run_forever()
                    return
                except (SystemExit, KeyboardInterrupt):
                    # asyncio lets these through the loop once the task that raised
                    # them has them as its outcome; other flows live here.
                    continue
                except Exception as error:
                    self._died(loop, error)
                    return

        # First known, then started: what is handed to it before it runs is queued.
        self._loop = loop
        self._thread = threading.Thread(target=run, name="kitaru-loop", daemon=True)
        self._thread.start()

    def _died(self, loop: asyncio.AbstractEventLoop, error: Exception) -> None:
        """The loop cannot wait for anything any more: its own descriptors were closed under it.

        Nothing on it can be woken, so whoever waits for it has to be told. The next use makes
        another loop.
        """
        keep_for_ever(loop)
        self._flush_scheduled = False  # that flush was the dead loop's
        self._loop = None
        if self.on_death is not None:
            self.on_death(error)

    def stop(self) -> None:
        """End the thread, from another one, once what is ready now has run."""
        self._stopping = True
        self._flusher_wake.set()
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_STOP_SECONDS)
        if not thread.is_alive():
            loop.close()

    def be_silent(self) -> None:
        """Report nothing that tasks come to any more: a test has killed this life."""
        if self._loop is not None:
            self._loop.set_exception_handler(lambda loop, context: None)

    def is_current(self) -> bool:
        """Whether the calling code runs on this very loop."""
        return self._loop is not None and asyncio._get_running_loop() is self._loop

    def call_if_running(self, function: Callable[..., object], *args: Any) -> None:
        """Call it on the loop, soon; not at all if nothing ever ran there."""
        if self._loop is not None:
            with suppress(RuntimeError):  # closed: nothing runs there any more
                self._loop.call_soon_threadsafe(function, *args)

    def spawn(
        self, make: Callable[[], Coroutine[Any, Any, Any]], context: Context | None = None
    ) -> None:
        """Run ``make()`` as a task of the loop, in ``context``, without a branch of its own."""
        context = context if context is not None else copy_context()

        def begin() -> None:
            task = asyncio.Task(make(), loop=self.loop, context=context)
            _keep.add(task)
            task.add_done_callback(_keep.discard)

        if self.is_current():
            begin()
        else:
            self.loop.call_soon_threadsafe(begin)

    # --- writes, once per tick -------------------------------------------------------

    async def commit(self, write: Write, landed: Landed) -> Any:
        """Commit a write with all others of this tick; shielded, so a cancel cannot lose it.

        ``landed`` is called once it is durable or refused, whoever still waits.
        """
        loop = asyncio.get_running_loop()
        pending = _PendingWrite(loop, landed)
        if self._store.is_remote:
            self._send(write, pending.done)
            return await pending.answer()
        self._store.post(write, pending.done)
        if not _others_ready(loop):
            # Alone on the loop: there is nobody to share the commit with.
            self._flush()
        elif not self._flush_scheduled:
            self._flush_scheduled = True
            loop.call_soon(self._flush)
        return await pending.answer()

    def _flush(self) -> None:
        self._flush_scheduled = False
        if not self._store.flush(wait=False):
            self._flush_elsewhere()

    def _send(self, write: Write, done: Done) -> None:
        """Have it committed off the loop, and held while the store is away."""
        outage, was_held = self.outage, False
        assert outage is not None

        def answered(answer: Any, error: BaseException | None) -> None:
            nonlocal was_held
            if error is not None and is_away(error) and not outage.is_given_up:
                was_held = True
                outage.hold(send, error)
                return
            if was_held:
                outage.arrived()
            done(answer, error)

        def send() -> None:
            self._outgoing.append((write, answered))
            self._flush_elsewhere()

        send()

    def _hand_over(self) -> None:
        """To the store, which may ask the network where to put a large value."""
        while self._outgoing:
            write, done = self._outgoing.popleft()
            try:
                self._store.post(write, done)
            except Exception as error:
                done(None, error)

    def _flush_elsewhere(self) -> None:
        """The write lock is taken: wait for it off the loop."""
        if self._flusher is None:
            self._flusher = threading.Thread(
                target=self._keep_flushing, name="kitaru-commit", daemon=True
            )
            self._flusher.start()
        self._flusher_wake.set()

    def _keep_flushing(self) -> None:
        while True:
            self._flusher_wake.wait()
            self._flusher_wake.clear()
            if self._stopping:
                return
            self._hand_over()
            try:
                self._store.flush(wait=True)
            except Exception:
                # Each queued write has been given its own error by the store.
                continue


Landed = Callable[[Any, BaseException | None], None]
Done = Landed


class _PendingWrite:
    """A posted write: answered in this tick, or later and from another thread."""

    __slots__ = ("_future", "_landed", "_loop", "_outcome")

    def __init__(self, loop: asyncio.AbstractEventLoop, landed: Landed) -> None:
        self._loop = loop
        self._landed = landed
        self._outcome: tuple[Any, BaseException | None] | None = None
        self._future: asyncio.Future[None] | None = None

    def done(self, answer: Any, error: BaseException | None) -> None:
        self._outcome = (answer, error)
        self._landed(answer, error)
        if asyncio._get_running_loop() is self._loop:
            self._wake()
        else:
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def answer(self) -> Any:
        if self._outcome is None:
            self._future = self._loop.create_future()
            await asyncio.shield(self._future)
        assert self._outcome is not None
        answer, error = self._outcome
        if error is not None:
            raise error
        return answer


_keep: set[asyncio.Task[Any]] = set()

_ASYNCIO_FOLDER = os.path.dirname(asyncio.__file__)


def _others_ready(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether other callbacks wait for this tick; unknown counts as yes."""
    ready = getattr(loop, "_ready", None)
    return ready is None or len(ready) > 0


def branching_task(
    loop: asyncio.AbstractEventLoop,
    coro: Coroutine[Any, Any, Any],
    *,
    context: Context | None = None,
    **options: Any,
) -> asyncio.Task[Any]:
    """Make a task; inside a flow it is a branch, identified by its coroutine and arguments.

    The coroutine's frame is read before it starts. A coroutine of ours (a
    called checkpoint, a future being awaited) took its identity when it was
    called, so it stays in its caller's branch.
    """
    place = here.get() if context is None else context.get(here)
    if place is not None and not _is_ours(coro) and not _made_by_wait_for():
        # A copy even of a context that was handed in: the branch must not be
        # seen by other tasks that share it.
        context = copy_context() if context is None else context.copy()
        name, arguments = coroutine_digest(coro)
        branch = place.branch.child(name, arguments)
        context.run(here.set, Place(place.run, place.attempt, branch))
        task = asyncio.Task(coro, loop=loop, context=context, **options)
        place.attempt.tasks.add(task)
        task.add_done_callback(place.attempt.tasks.discard)
        return task
    return asyncio.Task(coro, loop=loop, context=context, **options)


def _made_by_wait_for() -> bool:
    """Whether this task is how Python 3.11 waits for a coroutine with a timeout.

    Later versions await it in place: it must be in its caller's branch in both,
    or a change of the interpreter would make its calls others.
    """
    if sys.version_info >= (3, 12):
        return False
    frame = sys._getframe(2)
    for _ in range(4):
        if frame.f_code is asyncio.wait_for.__code__:
            return True
        if frame.f_back is None or not frame.f_code.co_filename.startswith(_ASYNCIO_FOLDER):
            return False
        frame = frame.f_back
    return False


def _is_ours(coro: Any) -> bool:
    code = getattr(coro, "cr_code", None)
    return code is not None and code.co_filename in _OUR_FILES


_OUR_FILES: set[str] = set()


def our_coroutines(file: str) -> None:
    """Declare that coroutines of this file took their identity before they became tasks."""
    _OUR_FILES.add(file)
