"""A store in memory that outlives the "processes" that use it, and who of them lives.

Each life sees the one store through a :class:`Lifetime`. Once a life is dead nothing
that its threads still do is recorded: exactly as after a ``kill -9``, but for code of
the user's that goes on until it meets Kitaru.

The store is the reference model, to which the databases are held by a stream of random
operations: it is small, it is the same everywhere, and it needs no files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

from kitaru._engine.unwind import Unwind, Why
from kitaru._store.commit import AFTER_COMMIT, BEFORE_COMMIT
from kitaru._store.protocol import Fenced, Store, Write
from kitaru._store.reference import ReferenceStore
from kitaru.testing.clock import VirtualClock

Done = Callable[[Any, BaseException | None], None]


class Liveness:
    """Which lives are alive. One for a world."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._alive: set[str] = set()

    def register(self) -> str:
        name = self._clock.random_bytes(16).hex()
        self._alive.add(name)
        return name

    def alive(self, lock_name: str) -> bool:
        return lock_name in self._alive

    def holds(self, lock_name: str) -> bool:
        return lock_name in self._alive

    def forget(self, lock_name: str) -> None:
        self._alive.discard(lock_name)

    release = forget

    def everybody_dies(self) -> None:
        self._alive.clear()


class LifeEnv:
    """The environment of one life: the world's clock, and a place at which to die."""

    def __init__(self, clock: VirtualClock, *, dies_at: int | None = None) -> None:
        self._clock = clock
        self.dies_at = dies_at
        """The number of the crash point, from 1, at which this life ends."""
        self.points: list[str] = []
        """The crash points that it came to."""
        self.died = threading.Event()
        self.on_death: Callable[[], None] | None = None
        self._lock = threading.Lock()

    def now(self) -> int:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def new_id(self) -> str:
        return self._clock.new_id()

    def random_bytes(self, count: int) -> bytes:
        return self._clock.random_bytes(count)

    def jitter(self) -> float:
        return self._clock.jitter()

    def die(self) -> None:
        self.died.set()
        if self.on_death is not None:
            self.on_death()

    def crash_point(self, name: str) -> None:
        """Die here if this is the place, and wherever one comes to when one is dead already."""
        with self._lock:
            if not self.died.is_set():
                self.points.append(name)
                if len(self.points) != self.dies_at:
                    return
                self.die()
        raise Unwind(Why.LOST, f"this life ended at {name}: it was killed by kitaru.testing")


class Lifetime:
    """The store as one life sees it: every write is a place to die before and after."""

    def __init__(self, store: ReferenceStore, env: LifeEnv) -> None:
        self._store = store
        self._env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def apply(self, write: Write) -> Any:
        self._check()
        self._point(BEFORE_COMMIT[type(write)])
        answer = self._store.apply(write)
        self._point(AFTER_COMMIT[type(write)])
        return answer

    def post(self, write: Write, done: Done) -> None:
        self._check()
        self._point(BEFORE_COMMIT[type(write)])

        def committed(answer: Any, error: BaseException | None) -> None:
            try:
                if error is None:
                    self._point(AFTER_COMMIT[type(write)])
            except Fenced as dead:
                answer, error = None, dead
            done(answer, error)

        self._store.post(write, committed)

    def flush(self, *, wait: bool) -> bool:
        # Dead or alive: whoever posted waits for an answer.
        return self._store.flush(wait=wait)

    def close(self) -> None:
        """The life is over; the store is not."""

    def _check(self) -> None:
        if self._env.died.is_set():
            raise Fenced("this life was killed by kitaru.testing")

    def _point(self, name: str) -> None:
        try:
            self._env.crash_point(name)
        except Unwind as dead:
            raise Fenced(str(dead)) from None


def seen_by(store: ReferenceStore, env: LifeEnv) -> Store:
    """The store for one life."""
    return cast(Store, Lifetime(store, env))
