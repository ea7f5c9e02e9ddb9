"""From a claimed execution to its end in this process: its thread or task, and how it left.

What the procedure records is not decided here; only what is said and kept of an
execution that left without a recorded end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from kitaru._core.values import encode_failure
from kitaru._engine.capture import listen
from kitaru._engine.execution import Life, run_flow
from kitaru._engine.losing import end as end_lost
from kitaru._engine.losing import take_up_again
from kitaru._engine.pool import Pool
from kitaru._engine.run import Run
from kitaru._engine.unwind import Unwind, Why
from kitaru._store.protocol import NO_FACTS, Finish, Refused
from kitaru.errors import FailureOrigin, KitaruBackendError

if TYPE_CHECKING:
    from kitaru._engine.runner import Runner


class Launching:
    """Belongs to a runner, and shares its lock."""

    def __init__(self, runner: Runner, threads: Pool) -> None:
        self._runner = runner
        self._services = runner.services
        self._threads = threads
        runner.services.loop.on_death = self._loop_died

    def launch(self, life: Life) -> None:
        """Hand it to its thread or to the loop. Called with the lock held."""
        # A copy: the next life begins with what the caller had, not with what this one made of
        # it; and it may begin before this one's thread has left.
        context = life.context.copy()
        if life.flow.is_async:
            self._services.loop.spawn(lambda: self._run_async(life), context)
        else:
            self._threads.submit(lambda: context.run(self._run_sync, life))

    def begin(self, life: Life) -> None:
        """Make its run, on its own thread or on the loop's."""
        runner = self._runner
        if self._services.logs is not None:
            listen()
        spec, remote = json.loads(life.row.spec), self._services.remote
        if remote is None:
            run = Run(self._services, life.row, spec)
        else:
            run = remote.through(lambda: Run(self._services, life.row, spec))
        if life.taken_from is not None:
            run.note(
                "takeover",
                f"taken over by process {runner.ownership.pid} at epoch {run.epoch}, because the "
                f"process that ran it (owner {life.taken_from}) had died",
            )
        if runner.places.is_alone(life.row.exec_id):
            run.on_progress = lambda: runner.no_suspect(life.row.exec_id)
        life.begin(run)
        if runner.ownership.was_own(life.row.owner):
            end_lost(runner, run)  # declared dead between the claim and now

    def _run_sync(self, life: Life) -> None:
        try:
            self.begin(life)
            self._services.drive(run_flow(life), self._services.env)
        except BaseException as error:
            self._broken(life, error)
        finally:
            self._ended(life)

    async def _run_async(self, life: Life) -> None:
        try:
            await self._elsewhere(lambda: self.begin(life))
            await self._services.drive_async(run_flow(life), self._services.env)
        except BaseException as error:
            broken = error  # the name of a handler is gone behind it
            await self._elsewhere(lambda: self._broken(life, broken))
        finally:
            await self._elsewhere(lambda: self._ended(life))

    async def _elsewhere(self, function: Callable[[], None]) -> None:
        """Call what asks the store: on the loop if that costs nothing, else on a thread."""
        remote = self._services.remote
        if remote is None:
            function()
        else:
            await remote.elsewhere(function)

    # --- how it left ---------------------------------------------------------------------

    def _broken(self, life: Life, error: BaseException) -> None:
        """The execution left without a recorded end: keep why, for whoever waits here."""
        if isinstance(error, asyncio.CancelledError) and life.began and life.run.ended is not None:
            error = life.run.ended
        if isinstance(error, Unwind):
            life.completion.unwound = error
            if error.why is Why.CANCELLED:
                # In between two tries of the flow: its code has stopped.
                with contextlib.suppress(Refused, KitaruBackendError):
                    self._runner.release(life.row, life.run.epoch)
            elif error.why is not Why.HANDED_BACK:
                self._services.say(str(error))
                self._runner.events.lost(life.row, str(error))
        elif isinstance(error, (KitaruBackendError, Refused)):
            life.completion.unwound = Unwind(Why.STORE_FAILED, str(error), error)
            self._runner.events.lost(life.row, str(error))
        else:
            self._fail(life, error)

    def _fail(self, life: Life, error: BaseException) -> None:
        """A bug of ours: say so on the record, so that nothing is stuck."""
        reason = f"an error inside Kitaru: {type(error).__name__}: {error}"
        row, now = life.row, self._services.env.now()
        failure = encode_failure(error, origin=FailureOrigin.RUNTIME)
        finish = Finish(row.id, row.epoch, None, failure, (), reason, NO_FACTS, now)
        life.completion.cause = error
        try:
            self._runner.finish(row, finish)
        except (Refused, KitaruBackendError):
            life.completion.unwound = Unwind(Why.STORE_FAILED, reason, error)

    def _loop_died(self, error: Exception) -> None:
        """What ran on the event loop will never end by itself: whoever waits for it is told."""
        with self._runner.lock:
            lives = list(self._runner.places.active.values())
        for life in lives:
            message = (
                f"execution {life.row.exec_id} stopped, because Kitaru's event loop failed "
                f"({type(error).__name__}: {error}): something may have closed descriptors that it "
                "had not opened"
            )
            unwound = Unwind(Why.STORE_FAILED, message, error)
            if life.began:
                unwound = life.run.end(Why.STORE_FAILED, message, error)
            if life.flow.is_async:
                self._broken(life, unwound)
                self._ended(life)

    def _ended(self, life: Life) -> None:
        if life.began and life.run.log is not None:
            life.run.log.ended(life.run)
        self._runner.ended(life)
        take_up_again(self._runner, life)
        life.completion.over()
        if self._runner.queued:
            self._runner.dispatch()
        if life.parked_as is not None:
            # An answer that came before it was listed has told nobody, and a tick may have
            # seen that one already.
            self._runner.noticing.look_at(life.row.exec_id)
