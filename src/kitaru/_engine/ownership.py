"""This process as an owner of executions: registered, alive, and sure of it.

A process owns under a number that the store gave it, for as long as it holds the
lock file that is recorded with that number (O1, O2). Others are asked for in the same
way. This file decides nothing about executions: it says who may and who lives.
"""

from __future__ import annotations

import contextlib
import threading

from kitaru._core.lifecycle import State
from kitaru._engine.liveness import Liveness
from kitaru._store.protocol import DeclareDead, ExecutionRow, Owner, Refused, RegisterOwner, Store
from kitaru.env import Env
from kitaru.errors import KitaruBackendError, KitaruError

_OWNER_CHECK_SECONDS = 0.02
"""How long a look at our own lock holds good; the epoch fences in any case."""


class Ownership:
    """Who this process is to the store, and who of the others is alive."""

    def __init__(self, store: Store, liveness: Liveness, env: Env, *, host: str, pid: int) -> None:
        self._store = store
        self._liveness = liveness
        self._env = env
        self._host = host
        self.pid = pid
        self._lock = threading.Lock()
        self._number: int | None = None
        self._lock_name: str | None = None
        self._sure_until = 0.0

    def number(self) -> int:
        """This process's row among the owners; registered, lock first, at first need."""
        number = self._number
        if number is None:
            with self._lock:
                number = self._number
                if number is None:
                    number = self._register()
        return number

    def _register(self) -> int:
        name = self._liveness.register()
        write = RegisterOwner(name, self.pid, self._host, self._env.now())
        try:
            registered: Owner = self._store.apply(write)
        except BaseException:
            self._liveness.release(name)
            raise
        self._lock_name = name
        self._number = registered.id
        return registered.id

    def holds(self) -> bool:
        """Whether this process may still own executions.

        False once its lock file was closed under it or removed: others then
        take it for dead, and are right to.
        """
        now = self._env.monotonic()
        if now < self._sure_until:
            return True
        holds = self._lock_name is None or self._liveness.holds(self._lock_name)
        if holds:
            self._sure_until = now + _OWNER_CHECK_SECONDS
        return holds

    def is_declared_dead(self) -> bool:
        """Whether another process has taken this one for dead: then it never owns again."""
        number = self._number
        try:
            return number is not None and self._store.get_owner(number).died_at is not None
        except KitaruBackendError:
            return False

    def retire(self) -> None:
        """Stop being an owner, at a clean exit with nothing left to own."""
        with self._lock:
            number, name = self._number, self._lock_name
            self._number = self._lock_name = None
        if number is None or name is None:
            return
        try:
            self._store.apply(DeclareDead(number, self._env.now()))
        except (Refused, KitaruBackendError):
            pass  # the released lock says the same
        self._liveness.release(name)

    def is_own(self, row: ExecutionRow) -> bool:
        """Recorded as this process's. If it does not run here, it was given up here."""
        return row.owner is not None and row.owner == self._number

    def is_alive(self, owner: int | None) -> bool:
        """Whether a process that owns (or serves) executions lives."""
        if owner is None:
            return False
        if owner == self._number:
            return True
        record = self._store.get_owner(owner)
        return record.died_at is None and self._liveness.alive(record.lock_name)

    def is_abandoned(self, row: ExecutionRow) -> bool:
        """Whether nobody alive runs, or is going to run, an unfinished execution."""
        if row.status in (State.RUNNING, State.CANCELLING):
            return not self.is_alive(row.owner)
        return row.status is State.PENDING and not self.is_alive(row.home)

    def forget(self, owner: int) -> None:
        """Another's death is committed; what it left beside the store can go."""
        if owner == self._number:
            return
        # Tidiness alone: whoever claims must launch, even if the store cannot be read now.
        with contextlib.suppress(KitaruError):
            self._liveness.forget(self._store.get_owner(owner).lock_name)
