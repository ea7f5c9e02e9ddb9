"""Where the tasks and threads of an execution stand while they wait for something durable.

From it the decision to park: once nothing of the execution does anything but stand
here, or wait for what does, it is unwound and lets go of its thread, its task and
its process. Whoever cannot be seen to wait only for that keeps the execution hot:
a park that was not due would cut work short, one that comes late costs little.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru._engine.quiet import only_stand
from kitaru._engine.unwind import Why

if TYPE_CHECKING:
    from kitaru._engine.run import Run

HOT_SECONDS = 1.0
"""What is due within this time is not worth parking for."""

MAX_PAUSE_SECONDS = 60.0
"""The wall clock may be set while we wait: look at it again at least this often."""

_MAX_REASONS = 3


class Stand:
    """One place where a task or thread waits for something that outlives the process.

    ``due_at``: when it goes on by itself. ``wait``, ``child``: what else ends it.
    ``hot_seconds``: how long it waits before it may park. With ``parks_at_exit`` it
    parks at once when the interpreter wants to go.
    """

    __slots__ = (
        "call",
        "child",
        "due_at",
        "future",
        "hot_until",
        "is_attended",
        "parks_at_exit",
        "reason",
        "task",
        "thread",
        "wait",
        "wake",
    )

    def __init__(
        self,
        run: Run,
        reason: str,
        *,
        due_at: int | None = None,
        wait: bytes | None = None,
        child: str | None = None,
        call: Any = None,
        hot_seconds: float = 0.0,
        parks_at_exit: bool = False,
    ) -> None:
        self.reason = reason
        self.due_at = due_at
        self.wait = wait
        self.child = child
        self.call = call
        """The call whose next attempt is waited for."""
        self.hot_until = run.env.monotonic() + hot_seconds if hot_seconds else 0.0
        self.parks_at_exit = parks_at_exit
        self.is_attended: Callable[[], bool] | None = None
        """Whether somebody in this process is about to end it: hot for as long."""
        self.wake: Callable[[], object] = _nobody
        self.thread: int | None = None
        self.task: asyncio.Task[Any] | None = None
        self.future: asyncio.Future[None] | None = None
        """What its task awaits; done: it has been woken."""


def _nobody() -> None:
    return None


class Parking(NamedTuple):
    """What a parked execution waits for."""

    waits: tuple[bytes, ...]
    children: tuple[str, ...]
    due_at: int | None
    reason: str


class Standing:
    """All stands of one run. Its lock guards the set and the decision; nothing waits under it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._stands: dict[Stand, None] = {}
        # In the order of their coming: reasons are shown in it.
        self._checking = False
        self.parking: Parking | None = None
        """Decided: the run is being unwound in order to wait for this."""
        self.root: asyncio.Task[Any] | None = None
        """The task of an async flow."""
        self.thread: int | None = None
        """The thread of a sync flow."""
        self.following = False
        """The sync flow's own thread waits for a call that it had submitted."""

    def __bool__(self) -> bool:
        return bool(self._stands)

    def enter(self, stand: Stand) -> None:
        with self._lock:
            self._stands[stand] = None

    def leave(self, stand: Stand) -> None:
        """Go on. Check the run afterwards: a park that counted this stand was decided before."""
        with self._lock:
            self._stands.pop(stand, None)

    def look(self) -> None:
        """Something may have arrived: everybody who stands here looks for what they wait for."""
        with self._lock:
            stands = [stand for stand in self._stands if stand.wait or stand.child]
        for stand in stands:
            stand.wake()

    def tick(self, now: int) -> None:
        """Wake what is due by the wall clock, which may have been set; park what may park."""
        if not self._stands:
            return
        with self._lock:
            due = [
                stand for stand in self._stands if stand.due_at is not None and stand.due_at <= now
            ]
        for stand in due:
            stand.wake()
        self.consider()

    # --- deciding -----------------------------------------------------------------

    def consider(self) -> None:
        """Park if nothing else is going on: decided here, or on the loop of an async flow."""
        if self.root is None:
            with self._lock:
                if self._may_park() and self._thread_stands():
                    self._park()
            return
        with self._lock:
            if self._checking or not self._may_park():
                return
            self._checking = True
        loop = self.root.get_loop()
        if asyncio._get_running_loop() is loop:
            loop.call_soon(self._check, 1)
        else:
            loop.call_soon_threadsafe(self._check, 1)

    def _check(self, again: int) -> None:
        """On the loop. Twice in a row, so that whatever was ready the first time has run."""
        with self._lock:
            self._checking = False  # whatever happens: or nobody would ever look again
            if self._may_park() and self._tasks_stand():
                if again:
                    asyncio.get_running_loop().call_soon(self._check, again - 1)
                    self._checking = True
                    return
                self._park()

    def _may_park(self) -> bool:
        run = self._run
        if run.ended is not None or not self._stands or run.bodies or run.flights:
            return False
        return all(map(self._is_cold, self._stands)) and self._futures_stand()

    def _is_cold(self, stand: Stand) -> bool:
        run = self._run
        if run.services.parks_at_once:
            return True
        if stand.parks_at_exit and (run.services.exiting or run.services.draining):
            return True
        if stand.due_at is not None and (stand.due_at - run.env.now()) / 1e6 < HOT_SECONDS:
            return False
        if stand.is_attended is not None and stand.is_attended():
            return False
        return not stand.hot_until or run.env.monotonic() >= stand.hot_until

    def _futures_stand(self) -> bool:
        """Whether what was submitted is done, or waits for its next attempt."""
        calls = {id(stand.call) for stand in self._stands}
        return all(
            future.done or future.follows or id(future.call) in calls
            for future in self._run.top.futures
        )

    def _thread_stands(self) -> bool:
        return self.following or any(stand.thread == self.thread for stand in self._stands)

    def _tasks_stand(self) -> bool:
        assert self.root is not None
        tasks = {self.root, *self._run.top.tasks}
        standing = {
            stand.task
            for stand in self._stands
            if stand.task is not None and stand.future is not None and not stand.future.done()
        }
        return only_stand(tasks, standing)

    def _park(self) -> None:
        stands = list(self._stands)
        reasons = list(dict.fromkeys(stand.reason for stand in stands))
        more = len(reasons) - _MAX_REASONS
        reason = "; ".join(reasons[:_MAX_REASONS]) + (f"; and {more} more" if more > 0 else "")
        self.parking = Parking(
            tuple(stand.wait for stand in stands if stand.wait is not None),
            tuple(stand.child for stand in stands if stand.child is not None),
            min((stand.due_at for stand in stands if stand.due_at is not None), default=None),
            reason,
        )
        self._run.end(Why.PARKED, f"execution {self._run.exec_id} is parked: it {reason}")
