"""So many at once: who comes later waits for a place, in the order of coming."""

from __future__ import annotations

import threading
from collections import deque

from kitaru._engine.waking import Latch


class Turns:
    """Its lock guards the count and the queue, and is not held while anybody is told."""

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._free = most
        self._waiting: deque[Latch] = deque()

    def ask(self, place: Latch) -> None:
        """``place`` is over once there is one; give it back with :meth:`leave`."""
        with self._lock:
            if self._free == 0:
                self._waiting.append(place)
                return
            self._free -= 1
        place.over()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    def leave(self, place: Latch) -> None:
        """Let the next one have it, or do not wait for it any more."""
        with self._lock:
            if place in self._waiting:
                self._waiting.remove(place)
                return
            if not self._waiting:
                self._free += 1
                return
            following = self._waiting.popleft()
        following.over()
