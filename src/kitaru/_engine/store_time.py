"""The store's clock as this process knows it, where many machines share a store.

Instants that a machine writes are judged by others: when an execution is due, which
deadline has passed. So all of them read one clock, the database's, as far as they know
it: whenever the database is asked for the time, its answer was true at some moment
between asking and hearing, and from there on the clock that counts this machine's own
seconds goes on. Setting this machine's clock changes nothing.

The error is bounded by the time that the last heartbeat took to be answered, and by what
the two clocks drift apart until the next one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from kitaru._store.protocol import Store
from kitaru.env import Env, boottime

STEP_BACK_MICROSECONDS = 1_000_000
"""Small corrections are waited out, so that time never goes back; a database whose clock was
set back by more than that is followed at once, because it judges what is due."""


class StoreTime:
    """An :class:`Env` whose ``now()`` is the store's; the rest is that of ``env``."""

    def __init__(self, env: Env, *, clock: Callable[[], float] = boottime) -> None:
        self._env = env
        self._clock = clock
        self._lock = threading.Lock()
        self._offset: float | None = None
        """The store's microseconds less those of our clock; None: not measured yet."""
        self._last = 0
        self.monotonic = env.monotonic
        self.new_id = env.new_id
        self.random_bytes = env.random_bytes
        self.jitter = env.jitter
        self.crash_point = env.crash_point

    def now(self) -> int:
        offset = self._offset
        if offset is None:
            return self._env.now()
        at = round(self._clock() * 1e6 + offset)
        with self._lock:
            if at < self._last < at + STEP_BACK_MICROSECONDS:
                return self._last
            self._last = at
        return at

    def measured(self, store_now: int, asked: float, heard: float) -> None:
        """The store said that it is ``store_now``, between these two instants of our clock."""
        least, most = store_now - heard * 1e6, store_now - asked * 1e6
        with self._lock:
            known = self._offset
            if known is None:
                self._offset = (least + most) / 2
            else:
                # What agrees with the answer stays: no answer is as exact as the quickest.
                self._offset = min(max(known, least), most)

    def measure(self, store: Store) -> None:
        """Ask the store now."""
        asked = self._clock()
        store_now = store.read_clock(self._env.now())
        self.measured(store_now, asked, self._clock())
