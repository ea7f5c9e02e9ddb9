"""This process as an owner of executions: registered, alive, and sure of it.

A process owns under a number that the store gave it, for as long as it holds the
lock file that is recorded with that number, or renews the lease that is (O1, O2).
Others are asked for in the same way. This file decides nothing about executions: it
says who may and who lives.

A lease that was lost is lost for ever, but the process is not: it registers anew and
goes on as another owner.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable

from kitaru._core.lifecycle import State
from kitaru._engine.leases import Lease, Leases, why_over
from kitaru._engine.liveness import Liveness
from kitaru._store.protocol import (
    DeclareDead,
    ExecutionRow,
    Fenced,
    Owner,
    Reap,
    Refused,
    RegisterOwner,
    Store,
)
from kitaru.env import Env
from kitaru.errors import KitaruBackendError, KitaruError

_OWNER_CHECK_SECONDS = 0.02
"""How long a look at our own lock holds good; the epoch fences in any case."""

_MAX_REAPED = 100
"""Owners that one look declares dead: what each of them had is taken over one by one."""

_REAP_SECONDS = 1.0
"""How often a process looks for leases that are over, at most: or up to twice as often."""


class Ownership:
    """Who this process is to the store, and who of the others is alive."""

    def __init__(self, store: Store, liveness: Liveness, env: Env, *, host: str, pid: int) -> None:
        self._store = store
        self._liveness = liveness
        self._leases = liveness if isinstance(liveness, Leases) else None
        self._env = env
        self._host = host
        self.pid = pid
        self._lock = threading.Lock()
        self._number: int | None = None
        self._lock_name: str | None = None
        self._sure_until = 0.0
        self._former: set[int] = set()
        """Numbers under which this process was declared dead."""
        self.reap_again_at = 0.0
        self.say: Callable[[str], None] = lambda text: None
        self.lost: Callable[[], None] = lambda: None
        """Called once this process learns that it was declared dead: what it owned is lost."""
        if self._leases is not None:
            self._leases.unanswered = lambda lease: self._say_unanswered(lease)
            self._leases.died = lambda lease: self._is_lost(lease)

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
        leases = self._leases
        sent = 0.0 if leases is None else leases.clock()
        seconds = None if leases is None else leases.lease_seconds
        write = RegisterOwner(name, self.pid, self._host, self._env.now(), seconds)
        try:
            registered: Owner = self._store.apply(write)
        except BaseException:
            self._liveness.release(name)
            raise
        if leases is not None:
            leases.begin(registered, sent)
        self._lock_name = name
        self._number = registered.id
        return registered.id

    def holds(self) -> bool:
        """Whether this process may start anything new.

        False once its lock file was closed under it or removed: others then
        take it for dead, and are right to. False, too, while its lease is over.
        """
        if self._leases is not None:
            lease = self._leases.lease
            return lease is None or self._number is None or lease.holds(self._leases.clock())
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
            self._store.apply(DeclareDead(number, self._env.now(), itself=True))
        except (Refused, KitaruBackendError):
            pass  # the released lock says the same, or soon a lease that nobody renews
        self._liveness.release(name)

    def is_own(self, row: ExecutionRow) -> bool:
        """Recorded as this process's. If it does not run here, it was given up here."""
        return row.owner is not None and row.owner == self._number

    def was_own(self, owner: int | None) -> bool:
        """Whether it is a number under which this process was declared dead."""
        return owner in self._former

    def is_alive(self, owner: int | None) -> bool:
        """Whether a process that owns (or serves) executions lives: what people are shown."""
        if owner is None:
            return False
        return owner == self._number or self._lives(self._store.get_owner(owner))

    def is_gone(self, owner: int | None) -> bool:
        """Whether what a process owns (or serves) may be taken over.

        Where processes have leases it has to be declared dead first; whoever asks does that,
        if the lease is over.
        """
        if owner is None:
            return True
        if owner == self._number:
            return False
        record = self._store.get_owner(owner)
        if self._lives(record):
            return False
        if record.died_at is not None or record.lease_until is None:
            return True
        return owner in self.reap()

    def _lives(self, record: Owner) -> bool:
        if record.died_at is not None:
            return False
        if record.lease_until is not None:
            return record.lease_until >= self._env.now()
        return self._liveness.alive(record.lock_name)

    def is_abandoned(self, row: ExecutionRow) -> bool:
        """Whether nobody alive runs, or is going to run, an unfinished execution."""
        if row.status in (State.RUNNING, State.CANCELLING):
            return self.is_gone(row.owner)
        return row.status is State.PENDING and self.is_gone(row.home)

    def bury(self, owners: Iterable[Owner]) -> list[int]:
        """Have the store declare dead whose lock nobody holds any more -> who was, just now.

        Whoever has a lease is judged by the store's clock, and not by us.
        """
        buried = list(self.reap())
        for owner in owners:
            if owner.id == self._number or owner.lease_until is not None:
                continue
            if self._liveness.alive(owner.lock_name):
                continue
            if self._store.apply(DeclareDead(owner.id, self._env.now())):
                buried.append(owner.id)
            self._liveness.forget(owner.lock_name)
        return buried

    def forget(self, owner: int) -> None:
        """Another's death is committed; what it left beside the store can go."""
        if owner == self._number:
            return
        # Tidiness alone: whoever claims must launch, even if the store cannot be read now.
        with contextlib.suppress(KitaruError):
            self._liveness.forget(self._store.get_owner(owner).lock_name)

    # --- leases ------------------------------------------------------------------------------

    @property
    def has_leases(self) -> bool:
        """Whether the store's clock says who is alive, or the locks of this machine do."""
        return self._leases is not None

    def reap(self) -> set[int]:
        """Declare dead whose lease is over, now and then -> who was, just now."""
        leases = self._leases
        if leases is None:
            return set()
        now = self._env.monotonic()
        with self._lock:
            if now < self.reap_again_at:
                return set()
            # Not all at the same instant: each process looks when it has waited a little longer.
            self.reap_again_at = now + _REAP_SECONDS * (1 - self._env.jitter() / 2)
        self.number()  # where nobody has a lease that runs, nobody is declared dead
        reaped: list[Owner] = self._store.apply(
            Reap(leases.patience_seconds, _MAX_REAPED, self._env.now())
        )
        return {owner.id for owner in reaped}

    def _is_lost(self, lease: Lease) -> None:
        """Others have declared this process dead. From now on it is another owner."""
        with self._lock:
            if self._number != lease.owner:
                return
            # In this order: who begins under this number now finds out (Runner._begin).
            self._former.add(lease.owner)
            self._number = self._lock_name = None
        self._liveness.release(lease.name)
        assert self._leases is not None
        self.say(
            f"process {self.pid} was declared dead by another one, because "
            f"{why_over(lease, self._leases.clock())}: what it owned is given up, and what its "
            "bodies still come to is refused once others have taken over. It goes on as another "
            "owner"
        )
        self.lost()

    def goes_on(self, refusal: Exception, owner: int) -> bool:
        """Whether a write of that owner was refused because its lease is lost: then it is worth
        another try, as the owner that this process is from now on."""
        leases = self._leases
        if leases is None or not isinstance(refusal, Fenced):
            return False
        lease = leases.lease
        if lease is not None and lease.owner == owner and self.is_declared_dead():
            leases.beat(lease)  # and hears of it
        return self.was_own(owner)

    @property
    def is_suspended(self) -> bool:
        """Whether its lease is over, but not known to be lost: nothing new starts until it is
        renewed."""
        return self._leases is not None and not self.holds()

    def when_renewed(self, callback: Callable[[], object]) -> None:
        """Call it once the next heartbeat is answered; one is sent now."""
        leases = self._leases
        lease = None if leases is None else leases.lease
        if leases is None or lease is None or not self.is_suspended:
            callback()
            return
        self._say_suspended(lease)
        lease.news().when_over(callback)
        leases.hurry()

    def _say_unanswered(self, lease: Lease) -> None:
        assert self._leases is not None
        now = self._leases.clock()
        if not lease.holds(now):
            self._say_suspended(lease)
        elif not lease.is_carried:
            lease.is_carried = True
            self.say(
                f"no heartbeat of this process has been answered for {now - lease.beaten:.1f} s "
                f"({lease.error}): what it records renews its lease meanwhile"
            )

    def _say_suspended(self, lease: Lease) -> None:
        assert self._leases is not None
        why = why_over(lease, self._leases.clock())
        if why is not None and not lease.is_told:
            lease.is_told = True
            self.say(f"{why}: nothing new starts until it is renewed; what runs goes on")

    def silence(self) -> str | None:
        """Why others may have taken over what this process owned: its lease was over."""
        leases = self._leases
        lease = None if leases is None else leases.lease
        return None if leases is None or lease is None else why_over(lease, leases.clock())
