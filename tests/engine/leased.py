"""A fleet in one process: Kitarus over one store in memory; a test moves time and heartbeats."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from kitaru import app as _app
from kitaru import settings
from kitaru._engine.leases import Leases
from kitaru._store.carrying import Carrying
from kitaru._store.protocol import Beat, Beaten, ExecutionRow, Write
from kitaru._store.reference import ReferenceStore
from kitaru.env import SystemEnv
from kitaru.errors import KitaruBackendError
from kitaru.testing.clock import VirtualClock

LEASE_SECONDS = 15.0
BEAT_SECONDS = 5.0
PATIENCE = 120.0
"""Real seconds that something which must happen may take."""


class FleetClock(VirtualClock):
    """The store's clock, and every process's clock for measuring: they run alike here."""

    def boottime(self) -> float:
        return self._at / 1e6

    def pass_seconds(self, seconds: float) -> None:
        self.move_to(self._at + round(seconds * 1e6))


class Front(Carrying):
    """The store that all share, as one process reaches it."""

    def __init__(self, store: ReferenceStore) -> None:
        self._store = store
        self.carries = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def apply(self, write: Write) -> Any:
        self._take_along()
        return self._store.apply(write)

    def post(self, write: Write, done: Callable[[Any, BaseException | None], None]) -> None:
        self._take_along()
        self._store.post(write, done)

    def _take_along(self) -> None:
        overdue = self._overdue() if self.carries else None
        if overdue is not None:
            self._store.post(*overdue)


class Member:
    """One process of the fleet. ``is_cut_off``: its heartbeats do not reach the store, on no
    way; ``is_hushed``: only those that a write carries do."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.store = Front(fleet.store)
        self.carry = self.store.carry
        self.is_hushed = False
        self.leases = Leases(
            self,  # type: ignore[arg-type]  # of the store it asks for heartbeats alone
            fleet.clock,  # type: ignore[arg-type]  # an Env but for crash points, which it has none of
            lease_seconds=LEASE_SECONDS,
            clock=fleet.clock.boottime,
            thread=False,
        )
        self.app = _app.Kitaru(
            settings=settings.resolve(),
            store=self.store,  # type: ignore[arg-type]  # by __getattr__
            liveness=self.leases,
            env=_Env(fleet.clock),
            project="fleet",
            root=None,
        )
        self.app.services.asker.enabled = False
        self.said: list[str] = []
        self.app.services.say = lambda text, once=None: self.said.append(text)  # type: ignore[method-assign]
        self.app.runner.ownership.say = self.said.append
        # Nothing ticks but when the test says so.
        self.app.host.stop()
        self.app.runner.alarm = None

    @property
    def is_cut_off(self) -> bool:
        return not self.store.carries

    @is_cut_off.setter
    def is_cut_off(self, is_cut_off: bool) -> None:
        self.store.carries = not is_cut_off

    def beat(self, write: Beat | None = None) -> Beaten | None:
        """As a store: take a heartbeat. As a member: send one."""
        if write is None:
            if self.leases.lease is not None:
                self.leases.beat(self.leases.lease)
            return None
        if self.is_cut_off or self.is_hushed:
            raise KitaruBackendError("the network is down", code="store-away")
        return self.fleet.store.beat(write)

    @contextmanager
    def working(self) -> Iterator[None]:
        """While inside, flows that are run here are this process's."""
        _app.use(self.app)
        try:
            yield
        finally:
            _app.use(None)

    @property
    def number(self) -> int:
        return self.app.runner.ownership.number()

    def tick(self) -> None:
        self.app.runner.tick()

    def adopt(self) -> None:
        """Look once for what nobody keeps, as a worker does at each poll."""
        self.app.runner.adopting = _app.known_flows
        self.tick()


class _Env(SystemEnv):
    def __init__(self, clock: FleetClock) -> None:
        self._clock = clock
        self.now = clock.now  # type: ignore[method-assign]
        self.monotonic = clock.boottime  # type: ignore[method-assign]
        self.new_id = clock.new_id  # type: ignore[method-assign]


class Fleet:
    def __init__(self) -> None:
        self.clock = FleetClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.store = ReferenceStore(project="fleet", env=SystemEnv())
        self.members: list[Member] = []

    def join(self) -> Member:
        member = Member(self)
        self.members.append(member)
        return member

    def pass_seconds(self, seconds: float, *beating: Member) -> None:
        """Let time pass; these beat on time, all others are silent."""
        while seconds > 0:
            step = min(seconds, BEAT_SECONDS)
            self.clock.pass_seconds(step)
            seconds -= step
            for member in beating:
                member.beat()

    def row(self, exec_id: str) -> ExecutionRow:
        row = self.store.find_execution(exec_id)
        assert row is not None
        return row

    def close(self) -> None:
        for member in self.members:
            member.app.close(PATIENCE)


def eventually(what: Callable[[], bool]) -> None:
    """Wait until it holds; a bound, not a pace."""
    pause = threading.Event()
    left = PATIENCE
    while not what():
        assert left > 0, "it did not come to pass"
        pause.wait(0.005)
        left -= 0.005
