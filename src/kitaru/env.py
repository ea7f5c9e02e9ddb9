"""The one place that touches clocks, identifiers, randomness and crash points.

Everything below the public API receives an :class:`Env`; tests hand in one
whose clock stands still and whose crash points kill. Instants are whole
microseconds since the epoch, UTC (``…_at`` in rows); durations are seconds.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Protocol


class Process:
    """This process. To ask the system at every call would cost 0.5 µs each time."""

    def __init__(self) -> None:
        self.id = os.getpid()
        os.register_at_fork(after_in_child=self._is_forked)

    def _is_forked(self) -> None:
        self.id = os.getpid()


process = Process()


class Env(Protocol):
    def now(self) -> int:
        """Wall-clock time in microseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds from a clock that never goes back; for measuring and waiting."""
        ...

    def new_id(self) -> str:
        """A fresh execution id: a UUIDv7 (RFC 9562), so that ids sort by time."""
        ...

    def random_bytes(self, count: int) -> bytes: ...

    def jitter(self) -> float:
        """A random float in [0, 1), for backoff."""
        ...

    def crash_point(self, name: str) -> None:
        """A named place at which a test may end this process. Otherwise nothing."""
        ...


_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Of Linux. On macOS the monotonic clock of the system counts sleep by itself."""


def boottime() -> float:
    """Seconds from a clock that never goes back, and that runs while the machine sleeps."""
    return time.clock_gettime(_BOOT_CLOCK)


class SystemEnv:
    """The real clock, the operating system's randomness, and crash points that do nothing."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    def new_id(self) -> str:
        return uuid7(time.time_ns() // 1_000_000, os.urandom(10))

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def jitter(self) -> float:
        return random.random()

    def crash_point(self, name: str) -> None:
        return None


def nanoseconds_of(env: Env) -> Callable[[], int]:
    """The clock of ``env.now`` in nanoseconds, for what asks it at every line that is printed.

    The real clock is handed out itself: a frame of ours around it would take longer than it.
    """
    real = getattr(type(env), "now", None) is SystemEnv.now
    return time.time_ns if real else lambda: env.now() * 1000


_last_ms = 0
_last_ms_lock = threading.Lock()


def uuid7(unix_ms: int, entropy: bytes) -> str:
    """A UUID version 7 (RFC 9562, section 5.7) in its text form.

    Ids made by one process never sort before an earlier one, even when the
    clock steps back: the last millisecond is kept.

    >>> uuid7(2**47, bytes(10))[14]
    '7'
    """
    global _last_ms
    with _last_ms_lock:
        _last_ms = unix_ms = max(unix_ms, _last_ms if unix_ms > _last_ms - 60_000 else 0)
    value = (unix_ms & (1 << 48) - 1) << 80 | int.from_bytes(entropy[:10], "big")
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
