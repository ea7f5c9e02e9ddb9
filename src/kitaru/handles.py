"""``FlowHandle``: one execution, as whoever started it or asks for it holds it.

Follows an execution wherever it runs: in this process through its completion, in
another by looking now and then. Knows nothing of flows but what their results are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NamedTuple,
    TypeVar,
)

from kitaru import app as _app
from kitaru._core.checks import check_timeout
from kitaru._core.lifecycle import State
from kitaru._core.payload import Payload
from kitaru._engine.asking import who
from kitaru._engine.awaited import describe, open_waits
from kitaru._engine.cancelling import cancel, settle
from kitaru._engine.children import (
    TIMED_OUT,
    Followed,
    await_end,
    failure_seen,
    remember_failure,
)
from kitaru._engine.context import here
from kitaru._engine.debugging import was_quit
from kitaru._engine.effects import Ask
from kitaru._engine.execution import FlowSpec
from kitaru._engine.frames import fold
from kitaru._engine.futures import asyncio_running
from kitaru._engine.hints import POLL_SECONDS, Patience
from kitaru._engine.outage import is_away
from kitaru._engine.outcomes import open_result, raise_failure
from kitaru._engine.unwind import Why
from kitaru.cancels import checked_reason
from kitaru.errors import (
    KitaruBackendError,
    KitaruContextError,
    KitaruError,
    KitaruExecutionError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruTimeoutError,
)
from kitaru.pending import Pending
from kitaru.status import ExecutionStatus

if TYPE_CHECKING:
    from kitaru._engine.children import Child
    from kitaru._engine.context import Place
    from kitaru._engine.effects import Steps
    from kitaru._engine.execution import Completion
    from kitaru._engine.run import Run
    from kitaru._engine.within import Within
    from kitaru._store.protocol import ExecutionRow

R = TypeVar("R")

_WORKERS_SECONDS = 1.0
"""How often it is looked who could run what nobody runs."""


class Asked(NamedTuple):
    """By whom an execution was asked for inside another one, and under which name."""

    run: Run
    identity: bytes
    is_child: bool
    """Whether it was born there; with a key it may have been there before."""

    @classmethod
    def of(cls, child: Child, row: ExecutionRow) -> Asked:
        return cls(child.run, child.identity, row.parent_exec_id == child.run.exec_id)


class FlowHandle(Generic[R]):
    """A hold on one execution, running here or anywhere.

    ``wait()``, ``await handle`` and ``get()`` give exactly what the flow
    returned, None included, or raise a ``KitaruExecutionError`` with
    ``exec_id``, ``status`` and ``failure_origin``.

    >>> import kitaru
    >>> @kitaru.flow
    ... def greet(name: str) -> str:
    ...     return f"Hello, {name}"
    >>> handle = greet.run("river")
    >>> handle.wait(timeout=60)
    'Hello, river'
    >>> handle.status.is_successful, handle.get()
    (True, 'Hello, river')
    """

    def __init__(
        self,
        exec_id: str,
        row_id: int,
        flow: FlowSpec | None,
        *,
        adopts: bool = False,
        completion: Completion | None = None,
        asked: Asked | None = None,
        within: Within | None = None,
    ) -> None:
        self._exec_id = exec_id
        self._row_id = row_id
        self._flow = flow
        self._adopts = adopts and flow is not None
        """Whether waiting here takes the execution over if its process dies."""
        self._completion = completion
        self._app = _app.current()
        self._cause: BaseException | None = None
        """The very exception that left the flow, if it ran here."""
        self._given_up: KitaruBackendError | None = None
        """Why this process stopped running it, although it owns it."""
        self._said: set[str] = set()
        self._look_at_workers = 0.0
        self._asked = asked
        self._within = within
        """The transaction of the program's in which it was started: it may not be there yet."""

    def __kitaru_key__(self) -> str:
        """As an argument of a checkpoint it counts by its execution."""
        return self._exec_id

    def __repr__(self) -> str:
        name = "?" if self._flow is None else self._flow.name
        return f"<FlowHandle {name} {self._exec_id}>"

    @property
    def exec_id(self) -> str:
        """The execution's id. Ids ascend in time; commands take any unique part of one."""
        return self._exec_id

    @property
    def status(self) -> ExecutionStatus:
        """What the execution is doing, read now: ``interrupted`` if its owner is dead."""
        if self._within is not None:
            self._row()
        state, _, owner = self._app.store.get_status(self._row_id)
        alive = self._app.runner.ownership.is_alive
        if state.value == "running" and not alive(owner):
            return ExecutionStatus.INTERRUPTED
        return ExecutionStatus(state.value)

    def get(self) -> R:
        """The result if it is finished, else ``KitaruStateError``; at once."""
        if not self.status.is_finished:
            raise KitaruStateError(
                f"execution {self._exec_id} is {self.status}: it has no result yet; "
                "use wait(), or look again later",
                code="no-result",
            )
        try:
            return self._give(self._row(), here.get())
        except KitaruError as error:
            fold(error)
            raise

    def wait(self, timeout: float | None = None) -> R:
        """Block until it is finished; return its result or raise its error.

        ``timeout`` in seconds; after it ``KitaruTimeoutError``, and the
        execution goes on. On a running event loop write ``await handle``.
        """
        check_timeout(timeout)
        if asyncio_running():
            raise KitaruContextError(
                "wait() would block the running event loop: write `await handle`",
                code="event-loop-would-block",
            )
        try:
            return self._wait(timeout)
        except KitaruError as error:
            fold(error)
            raise

    def _wait(self, timeout: float | None) -> R:
        place = here.get()
        if place is not None:
            following = self._follow_inside(place, timeout)
            return self._give(self._app.services.drive(following, self._app.env), place)
        began = self._app.env.monotonic()
        host = self._app.host
        host.go_on()
        patience = self._app.services.hints.patience(self._row_id)
        while True:
            left = None if timeout is None else timeout - (self._app.env.monotonic() - began)
            if left is not None and left <= 0:
                raise self._timed_out_there(timeout, self._app.env.monotonic() - began)
            try:
                patience.look()
                finished = self._look()
                if finished is not None:
                    return self._open(finished)
                self._pause(patience, left)
            except KitaruBackendError as error:
                self._wait_for_store(error, left)
            except KeyboardInterrupt:
                if host.is_for_a_debugger():
                    continue
                if not _is_interactive():
                    host.interrupt()
                raise

    def _pause(self, patience: Patience, left: float | None) -> None:
        completion = self._completion
        if completion is None:
            patience.pause(left)
            return
        completion.wait(left)
        patience.restart()

    def __await__(self) -> Generator[Any, None, R]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> R:
        try:
            return await self._follow_async()
        except KitaruError as error:
            fold(error)
            raise

    async def _follow_async(self) -> R:
        place = here.get()
        if place is not None:
            following = self._follow_inside(place, None)
            found = await self._app.services.drive_async(following, self._app.env)
            return await self._elsewhere(lambda: self._give(found, place))
        patience = self._app.services.hints.patience(self._row_id)
        while True:
            patience.look()
            finished = await self._look_async()
            if finished is not None:
                return await self._elsewhere(partial(self._open, finished))
            completion = self._completion
            if completion is None:
                await patience.pause_async()
                continue
            await completion.wait_async()
            patience.restart()

    def cancel(self, *, reason: str | None = None) -> None:
        """Cancel the execution and its children, wherever they run; returns at once.

        What runs is ``cancelling`` until its code has stopped, then ``cancelled``: nothing new
        starts, bodies that are running may finish and are recorded, ``finally`` blocks run.
        What waits or has not begun is ``cancelled`` at once. ``wait()`` then raises
        ``KitaruCancelledError``. Raises ``KitaruStateError`` if the execution is finished.

        >>> import kitaru, threading
        >>> @kitaru.flow
        ... def endless() -> None:
        ...     while True:
        ...         kitaru.check()
        ...         threading.Event().wait(0.01)
        >>> handle = endless.run()
        >>> handle.cancel(reason="an example")
        >>> handle.wait()
        Traceback (most recent call last):
        ...
        kitaru.errors.KitaruCancelledError: ...
        """
        try:
            cancel(self._app.runner, self._row(), by=who(), reason=checked_reason(reason))
        except KitaruError as error:
            fold(error)
            raise

    # --- inside another execution ------------------------------------------------------

    def _named_in(self, run: Run) -> Asked | None:
        asked = self._asked
        return asked if asked is not None and asked.run is run else None

    def _follow_inside(self, place: Place, timeout: float | None) -> Steps[Any]:
        """Wait as whoever runs in an execution waits: it gives up its slot, and may park."""
        run, began = place.run, self._app.env.monotonic()
        asked = self._named_in(run)
        if asked is not None:
            seen = yield Ask("child", lambda: failure_seen(run, asked.identity, self._row))
            if seen is not None:
                return seen
        found = yield from await_end(
            run,
            Followed(self._exec_id, lambda: self._completion, self._look),
            flow=self._exec_id if self._flow is None else self._flow.name,
            is_child=asked is not None and asked.is_child,
            timeout=timeout,
        )
        if found is TIMED_OUT:
            elapsed = run.env.monotonic() - began
            raise (yield Ask("child", lambda: self._timed_out(timeout, elapsed)))
        return found

    def _give(self, finished: ExecutionRow | Payload, place: Place | None) -> R:
        """The result or the error, and what the execution in which it is given learns of it."""
        try:
            return self._open(finished)
        except KitaruExecutionError as error:
            asked = None if place is None else self._named_in(place.run)
            if asked is not None and not isinstance(finished, Payload):
                remember_failure(asked.run, asked.identity, finished, error)
            raise

    # --- following -------------------------------------------------------------------

    def _look(self) -> ExecutionRow | Payload | None:
        """What it came to if it is finished: the recorded result where it ran here, or the row.

        Else find out whom to wait for, taking over if need be.
        """
        completion = self._completion
        if completion is not None:
            if not completion.is_over:
                return None
            if completion.result is not None:
                return completion.result
            self._left_here(completion)
        row = self._row()
        if row.status.value in ("completed", "failed", "cancelled"):
            return row
        runner = self._app.runner
        if row.status is State.WAITING:
            self._say_waiting(row)
            if self._adopts and self._flow is not None:
                runner.take(self._flow, row)
        self._completion = runner.completion(self._exec_id)
        if self._completion is not None:
            return None
        if self._given_up is not None and runner.ownership.is_own(row):
            raise self._given_up
        if runner.ownership.is_abandoned(row) and not settle(runner, row):
            if self._adopts and self._flow is not None:
                self._completion = runner.take(self._flow, row)
            else:
                self._say_abandoned(row)
        return None

    def _say_why_pending(self, row: ExecutionRow, pending: Pending) -> None:
        """Once, if nobody who lives is going to run it: whoever waits would wait for ever."""
        missing = pending.missing(row)
        if missing is not None:
            self._said.add("pending")
            self._app.services.say(
                f"execution {self._exec_id} of flow {row.flow_name!r} is pending: {missing}"
            )

    def _wait_for_store(self, error: KitaruBackendError, left: float | None) -> None:
        """While the store is away, which is said once, whoever waits goes on waiting."""
        if not is_away(error):
            raise error
        # In slices, so that Ctrl-C is seen everywhere.
        slice_seconds = POLL_SECONDS if left is None else min(POLL_SECONDS, left)
        self._app.services.outage.wait(error, slice_seconds)

    async def _look_async(self) -> ExecutionRow | Payload | None:
        """Look, on a thread where that is a wait for the network: not on the caller's loop."""
        completion, remote = self._completion, self._app.services.remote
        if remote is None or (completion is not None and not completion.is_over):
            return self._look()
        return await remote.ask(self._look)

    async def _elsewhere(self, function: Callable[[], R]) -> R:
        """Call what may ask the store: here if that costs nothing, else on a thread."""
        remote = self._app.services.remote
        return function() if remote is None else await remote.ask(function)

    def _left_here(self, completion: Completion) -> None:
        """It is over in this process: recorded, or lost, or the store is gone."""
        self._completion = None
        self._cause = completion.cause
        unwound = completion.unwound
        if unwound is None:
            return
        if unwound.why is Why.STORE_FAILED:
            self._given_up = KitaruBackendError(
                f"{unwound}. What it recorded is kept; when the cause is mended: "
                f"kitaru executions resume {self._exec_id}",
                code="recording-stopped",
            )
            raise self._given_up from unwound.error
        if unwound.why is Why.HANDED_BACK:
            quit = was_quit(unwound.error)
            because = "a debugger in it was quit" if quit else "this process is ending"
            raise KitaruStateError(
                f"execution {self._exec_id} was handed back because {because}; "
                f"it goes on with: kitaru executions resume {self._exec_id}",
                code="process-interrupted",
            )

    def _say_waiting(self, row: ExecutionRow) -> None:
        """How to answer, once for what it waits for; while it sleeps there is nothing to do."""
        waits = open_waits(self._app.store, row)
        if waits:
            asked = tuple(sorted(wait.row.identity for wait in waits))
            self._app.services.say(describe(self._app.store, row), once=("waits", row.id, asked))

    def _say_abandoned(self, row: ExecutionRow) -> None:
        now = self._app.env.monotonic()
        if self._said & {"abandoned", "pending"} or self._look_at_workers > now:
            return
        is_first, self._look_at_workers = not self._look_at_workers, now + _WORKERS_SECONDS
        alive = self._app.runner.ownership.is_alive
        pending = Pending(
            self._app.store, self._app.project, now=self._app.env.now(), is_alive=alive
        )
        if row.status is State.PENDING and (row.epoch == 0 or pending.workers):
            # Whoever starts programs and workers together is given a moment to do so.
            if not is_first:
                self._say_why_pending(row, pending)
            return
        if pending.workers and pending.missing(row) is None:
            return  # a worker goes on with it
        self._said.add("abandoned")
        self._app.services.say(
            f"execution {self._exec_id} of flow {row.flow_name!r} is interrupted: the process "
            f"that ran it is gone. Continue it with: kitaru executions resume {self._exec_id}"
        )

    def _row(self) -> ExecutionRow:
        find = partial(self._app.store.find_execution, self._exec_id)
        within = self._within
        if within is not None:
            found = within.look(self._exec_id, find)
            self._within = None  # once it is there it stays, or is deleted as any other
            return found
        row = find()
        if row is None:
            raise KitaruNotFoundError(
                f"execution {self._exec_id} is not in the store any more: it was deleted",
                code="execution-not-found",
            )
        return row

    def _open(self, finished: ExecutionRow | Payload) -> R:
        if isinstance(finished, Payload):
            name = self._exec_id if self._flow is None else self._flow.name
            result: R = open_result(finished, name, self._flow)
            return result
        if finished.result is not None:
            result = open_result(finished.result, finished.flow_name, self._flow)
            return result
        raise_failure(self._app.store, finished, self._cause)

    def _timed_out_there(self, timeout: float | None, elapsed: float) -> KitaruTimeoutError:
        """The same where it may be the store that was waited for."""
        try:
            return self._timed_out(timeout, elapsed)
        except KitaruBackendError as error:
            if not is_away(error):
                raise
            late = KitaruTimeoutError(
                f"what execution {self._exec_id} is doing is not known after {elapsed:.1f} s, "
                "because the store is away: what runs goes on and is recorded when it is back; "
                "wait() again",
                exec_id=self._exec_id,
                timeout_seconds=timeout,
                elapsed_seconds=elapsed,
                code="wait-timed-out",
            )
            raise late from error

    def _timed_out(self, timeout: float | None, elapsed: float) -> KitaruTimeoutError:
        status = self.status
        says = f"execution {self._exec_id} is {status} after {elapsed:.1f} s"
        if status.value == "interrupted":
            next_step = f"nobody runs it; continue it: kitaru executions resume {self._exec_id}"
        else:
            next_step = f"it goes on; wait() again, or look: kitaru executions get {self._exec_id}"
        return KitaruTimeoutError(
            f"{says}: {next_step}",
            exec_id=self._exec_id,
            timeout_seconds=timeout,
            elapsed_seconds=elapsed,
            last_status=status,
            code="wait-timed-out",
        )


def _is_interactive() -> bool:
    return hasattr(sys, "ps1") or bool(sys.flags.interactive)
