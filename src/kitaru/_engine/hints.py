"""What other processes tell of, handed to whom it concerns; and how long one waits untold.

A hint is worth a look and nothing else: whoever is told looks in the store, and does so now
and then without being told. A process listens once it has something to wait for, because that
takes a connection.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from kitaru._engine.waking import Latch
from kitaru._store.protocol import Hint, Store

if TYPE_CHECKING:
    from kitaru.env import Env

FIRST_PAUSE_SECONDS = 0.02
POLL_SECONDS = 0.25
"""How often whoever waits for an execution that runs in another process looks at it (S5)."""

MAX_POLL_SECONDS = 2.0
"""The same where each look is a question over a network: when hints are heard, or in the end."""

_SHARE = 4
"""Unheard, the pauses grow to this part of what was waited already."""


class Hints:
    """Belongs to a process's services. Its lock guards the latches, nothing is called under it."""

    def __init__(self, store: Store, env: Env) -> None:
        self._store = store
        self._env = env
        self._lock = threading.Lock()
        self._listens = False
        self._latches: WeakValueDictionary[int, Latch] = WeakValueDictionary()
        self.heard: Callable[[Hint], None] = lambda hint: None
        """Told of every hint, on the store's thread: it must not wait."""

    def listen(self) -> None:
        """From now on hear what others tell, where that can be."""
        if self._listens:
            return
        with self._lock:
            if self._listens:
                return
            self._listens = True
        self._store.listen(self._hear)

    def _hear(self, hint: Hint) -> None:
        with self._lock:
            told = [at for at in list(self._latches) if hint.concerns((at,))]
            latches = [self._latches.pop(at, None) for at in told]
        for latch in latches:
            if latch is not None:
                latch.over()
        self.heard(hint)

    def latch(self, execution: int) -> Latch:
        """Over at the next hint about that execution; to be had before it is looked at."""
        with self._lock:
            found = self._latches.get(execution)
            if found is None:
                found = self._latches[execution] = Latch()
        return found

    def patience(self, execution: int) -> Patience:
        return Patience(self, self._store, self._env, execution)


class Patience:
    """How somebody waits for one execution elsewhere: until a hint, or for so long."""

    def __init__(self, hints: Hints, store: Store, env: Env, execution: int) -> None:
        self._hints = hints
        self._store = store
        self._env = env
        self._execution = execution
        self._began = env.monotonic()
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._latch: Latch | None = None

    def look(self) -> None:
        """It is going to be looked at now: what is told from here on ends the pause after it."""
        if self._store.is_remote:
            self._latch = self._hints.latch(self._execution)

    def restart(self) -> None:
        """Something has happened: look soon again."""
        self._pause_seconds = FIRST_PAUSE_SECONDS

    def pause(self, left: float | None) -> None:
        seconds = self._next_pause()
        seconds = seconds if left is None else min(seconds, left)
        (self._latch or Latch()).wait(seconds)

    async def pause_async(self) -> None:
        seconds = self._next_pause()
        if self._latch is None:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._latch.wait_async(), seconds)

    def _next_pause(self) -> float:
        seconds = self._pause_seconds
        bound = POLL_SECONDS
        if self._store.is_remote:
            if seconds >= POLL_SECONDS:
                self._hints.listen()  # whoever is answered at once needs no connection for it
            waited = self._env.monotonic() - self._began
            bound = max(bound, min(MAX_POLL_SECONDS, waited / _SHARE))
            if self._store.hears:
                bound = MAX_POLL_SECONDS
        self._pause_seconds = min(bound, seconds * 2)
        return min(seconds, bound)
