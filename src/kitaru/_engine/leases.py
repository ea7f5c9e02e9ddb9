"""This process's lease: its right to own executions, renewed by heartbeats, and its own doubts.

The store judges whose lease is over. A process judges only its own, and more
strictly: it counts from the instant at which it *sent* the last heartbeat that was
answered, by a clock that also runs while the machine sleeps. Once that is as long ago
as the lease is, others may take over what it owns, so it starts nothing new until a
heartbeat is answered again. The answer is one of two: renewed, because nobody had
noticed, or dead, and then for ever.

Heartbeats come from a thread of their own and, where the store has one, over a
connection of their own: a busy event loop, bodies and long commits do not delay them.
Only C code that holds the interpreter's lock does. One that is late, and only such a one,
rides along with what the process records next: progress renews.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from kitaru._engine.waking import Latch
from kitaru._store.protocol import Beat, Beaten, Overdue, Owner, Store
from kitaru.env import Env, boottime

BEATS = 3
"""Heartbeats in a lease: two of them may be lost."""

LATE = 1.5
"""After so many heartbeats' time without an answer the next write carries one."""

_NAME_BYTES = 16
_AGAIN_SECONDS = 1.0
"""How soon a heartbeat that failed is sent again, at most."""


class Lease:
    """One registration of this process, and until when it is sure of it. Dead is for ever."""

    def __init__(self, owner: int, name: str, seconds: float, sent: float) -> None:
        self.owner = owner
        self.name = name
        self.seconds = seconds
        self.is_dead = False
        self.silent_seconds = 0.0
        """How long no heartbeat had been answered when the last one was, or now that it is dead."""
        self.error: Exception | None = None
        """Why the last heartbeat was not answered; None: it was."""
        self.silent_because: Exception | None = None
        """What the silence before the last answer was due to, where an error told it."""
        self.is_told = False
        """Whether people were told that it is over."""
        self.stop = threading.Event()
        self.beaten = sent
        """When the last heartbeat that came through by itself was sent."""
        self.is_carried = False
        """Whether people were told that only what is recorded renews it."""
        self._sent = sent
        self._carry_at = sent + seconds * LATE / BEATS
        self._lock = threading.Lock()
        self._news = Latch()

    def holds(self, now: float) -> bool:
        return not self.is_dead and now - self._sent < self.seconds

    def silence(self, now: float) -> float:
        """How long it has been, or was at its last breath, since an answered heartbeat was sent."""
        return self.silent_seconds if self.is_dead else now - self._sent

    def is_to_ride(self, now: float) -> bool:
        """Whether the next write carries a heartbeat; True is said once in a while."""
        if now < self._carry_at or self.is_dead or self.stop.is_set():
            return False
        self._carry_at = now + self.seconds / (4 * BEATS)
        return True

    def answered(self, sent: float, beaten: Beaten) -> None:
        """A heartbeat that was sent then: who waits for news goes on, whichever they are."""
        with self._lock:
            self.silent_because, self.error = self.error, None
            self.silent_seconds = sent - self._sent
            if beaten.lease_until is None:
                self.is_dead = True
            elif sent > self._sent:
                self._sent = sent
                self._carry_at = sent + self.seconds * LATE / BEATS
                self.is_told = False
            news, self._news = self._news, Latch()
        news.over()

    def news(self) -> Latch:
        """Over at the next answer to a heartbeat."""
        with self._lock:
            return self._news


class Leases:
    """Liveness by leases. One lease at a time; the next is a new owner's.

    ``measured`` is told the store's clock of each answer, and our own before and after;
    ``unanswered`` is called with each heartbeat that fails once none has come through for as
    long as the lease, ``died`` once it is known to be lost.
    """

    def __init__(
        self,
        store: Store,
        env: Env,
        *,
        lease_seconds: float,
        clock: Callable[[], float] = boottime,
        thread: bool = True,
    ) -> None:
        self.lease_seconds = lease_seconds
        self.clock = clock
        self.measured: Callable[[int, float, float], None] = lambda now, sent, received: None
        self.unanswered: Callable[[Lease], None] = lambda lease: None
        self.died: Callable[[Lease], None] = lambda lease: None
        self._store = store
        self._env = env
        self._has_thread = thread
        self._lease: Lease | None = None
        self._wake = threading.Event()
        store.carry(self.late)

    @property
    def patience_seconds(self) -> float:
        """One heartbeat: what those that live get, after an outage, before others take over."""
        return self.lease_seconds / BEATS

    @property
    def lease(self) -> Lease | None:
        """The last one, lost or not."""
        return self._lease

    # --- what the engine asks of every kind of liveness ---

    def register(self) -> str:
        return self._env.random_bytes(_NAME_BYTES).hex()

    def alive(self, lock_name: str) -> bool:
        """Of an owner without a lease, where everybody has one: nobody vouches for it."""
        return self.holds(lock_name)

    def holds(self, lock_name: str) -> bool:
        """Whether this process may start something new under that name."""
        lease = self._lease
        return lease is not None and lease.name == lock_name and lease.holds(self.clock())

    def forget(self, lock_name: str) -> None:
        """There is nothing beside the store."""

    def release(self, lock_name: str) -> None:
        lease = self._lease
        if lease is not None and lease.name == lock_name:
            lease.stop.set()
            self._wake.set()

    # --- beating ---

    def begin(self, owner: Owner, sent: float) -> Lease:
        """Keep this registration alive from now on; it was sent at that instant of our clock."""
        lease = Lease(owner.id, owner.lock_name, self.lease_seconds, sent)
        self._lease = lease
        if self._has_thread:
            beating = threading.Thread(
                target=self._keep_beating, args=(lease,), name="kitaru-lease", daemon=True
            )
            beating.start()
        return lease

    def _keep_beating(self, lease: Lease) -> None:
        pause_seconds = self.patience_seconds
        while not lease.stop.is_set() and not lease.is_dead:
            self._wake.wait(pause_seconds)
            self._wake.clear()
            if not lease.stop.is_set():
                pause_seconds = self.beat(lease)

    def hurry(self) -> None:
        """Beat now: somebody waits to be allowed to go on."""
        self._wake.set()

    def beat(self, lease: Lease) -> float:
        """Renew the lease if that can be done -> in how many seconds to beat again."""
        sent = self.clock()
        write = Beat(lease.owner, lease.seconds, self._env.now())
        try:
            beaten = self._store.beat(write)
        except Exception as error:
            # Whatever it is, to stop trying would be to die of it.
            lease.error = error
            if self.clock() - lease.beaten >= lease.seconds:
                self.unanswered(lease)
            return min(_AGAIN_SECONDS, lease.seconds / (4 * BEATS))
        lease.beaten, lease.is_carried = sent, False
        self._answered(lease, sent, beaten)
        if lease.is_dead:
            self.died(lease)
        return max(0.0, self.patience_seconds - (self.clock() - sent))

    def _answered(self, lease: Lease, sent: float, beaten: Beaten) -> None:
        self.measured(beaten.now, sent, self.clock())
        lease.answered(sent, beaten)

    # --- progress renews ---

    def late(self) -> Overdue | None:
        """The heartbeat that the next write carries; None, nearly always: they are on time."""
        lease, sent = self._lease, self.clock()
        if lease is None or not lease.is_to_ride(sent):
            return None

        def carried(beaten: Any, error: BaseException | None) -> None:
            if error is None:
                self._answered(lease, sent, beaten)
            if lease.is_dead:
                # Whoever commits may be in the midst of anything.
                threading.Thread(target=self.died, args=(lease,), daemon=True).start()

        return Beat(lease.owner, lease.seconds, self._env.now()), carried


def why_over(lease: Lease, now: float) -> str | None:
    """Why others may have taken over what this process owned; None: it was alive all the time."""
    silence, error = lease.silence(now), lease.error
    if silence <= lease.silent_seconds:
        silence, error = lease.silent_seconds, lease.silent_because
    if silence < lease.seconds and not lease.is_dead:
        return None
    if silence < lease.seconds:
        return (
            f"its lease was ended {silence:.1f} s after it had renewed it, though it holds for "
            f"{lease.seconds:g} s (a backup was put back and a new generation declared, or a "
            "heartbeat was long on its way)"
        )
    cause = "the process was stopped or suspended, or C code held the interpreter's lock"
    if error is not None:
        cause = f"the store did not answer: {error}"
    return (
        f"this process had not renewed its lease for {silence:.1f} s, and it holds for "
        f"{lease.seconds:g} s ({cause})"
    )
