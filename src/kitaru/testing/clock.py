"""A clock that stands still until it is moved, and randomness that is the same each time."""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, datetime
from hashlib import blake2b

from kitaru.env import SystemEnv, uuid7


class VirtualClock:
    """The time of a world. Only the wall clock is virtual: what is really waited for takes time.

    Each new id takes a millisecond, so that ids sort in the order of their making.
    """

    def __init__(self, start: datetime) -> None:
        self._at = round(start.timestamp() * 1e6)
        self._numbers = itertools.count()
        self._real = SystemEnv()
        self._lock = threading.Lock()

    def now(self) -> int:
        return self._at

    def move_to(self, at: int) -> None:
        """Move on to an instant; never back."""
        with self._lock:
            self._at = max(self._at, at)

    def monotonic(self) -> float:
        return self._real.monotonic()

    def new_id(self) -> str:
        with self._lock:
            self._at += 1000
            return uuid7(self._at // 1000, self.random_bytes(10))

    def random_bytes(self, count: int) -> bytes:
        """As good as random, and in every world the same."""
        number = next(self._numbers).to_bytes(8, "little")
        return blake2b(number, digest_size=count, person=b"kitaru.testing").digest()

    def jitter(self) -> float:
        return int.from_bytes(self.random_bytes(4), "little") / (1 << 32)

    @property
    def shown(self) -> datetime:
        return datetime.fromtimestamp(self._at / 1e6, UTC)
