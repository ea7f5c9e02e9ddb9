"""How much an idle process asks of PostgreSQL: statements are counted, and time is the test's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests import postgres
from tests.store.worlds import StillEnv

import kitaru
from kitaru import app, flow, settings, working
from kitaru._engine.leases import Leases
from kitaru._store.postgres.connection import Connection
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import Beat, RegisterOwner, Start

from .looking import PATIENCE_SECONDS, execution

LEASE_SECONDS = 15.0
SECONDS = 60


@flow
def asks() -> int:
    answer: int = kitaru.wait(name="go", schema=int)
    return answer


@flow
def gives() -> int:
    return 1


class Clock(StillEnv):
    def boottime(self) -> float:
        return self.at / 1e6


class Idle:
    """A process whose time passes by the test's word, beside another one that is busy."""

    def __init__(self, url: str) -> None:
        postgres.give_time(url)
        self.clock = clock = Clock()
        self.store = PostgresStore.open(url, env=clock, project="demo")
        self.leases = Leases(
            self.store, clock, lease_seconds=LEASE_SECONDS, clock=clock.boottime, thread=False
        )
        self.app = app.Kitaru(
            settings=settings.resolve(),
            store=self.store,
            liveness=self.leases,
            env=clock,
            project="demo",
            root=None,
        )
        self.app.runner.poll_seconds = 2.0
        # Nothing ticks but when the test says so.
        self.app.host.stop()
        self.app.runner.alarm = None
        self.app.runner.flows = app.known_flows
        app.use(self.app)
        self.other = PostgresStore.open(url, env=Clock(1), project="demo")
        self.busy = self.other.apply(
            RegisterOwner("busy", 1, "there", clock.now(), lease_seconds=LEASE_SECONDS)
        )

    def pass_seconds(self, seconds: float) -> None:
        """Tick as the host does, and beat as the lease's thread does."""
        until, beat_at = self.clock.at + seconds * 1e6, 0.0
        while self.clock.at < until:
            if self.clock.at >= beat_at:
                assert self.leases.lease is not None
                beat_at = self.clock.at + self.leases.beat(self.leases.lease) * 1e6
            # Whoever else commits anything must not make this one look.
            self.other.apply(Beat(self.busy.id, LEASE_SECONDS, self.clock.now()))
            pause = self.app.runner.tick()
            assert pause is not None
            assert pause > 0, "it would never rest"
            self.clock.at += round(min(pause, 0.25) * 1e6)

    def close(self) -> None:
        app.use(None)
        self.app.close(PATIENCE_SECONDS)
        self.other.close()


@pytest.fixture
def idle(own_store: Any, postgres_url: str) -> Iterator[Idle]:
    idle = Idle(postgres_url)
    yield idle
    idle.close()


@pytest.fixture
def asked(idle: Idle, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What this process asks from now on; the other one's is not counted."""
    counted: Counter[str] = Counter()
    ask, execute = Connection.ask, psycopg.Cursor.execute

    def count(connection: Any, query: Any) -> None:
        if connection in idle.store._database._made:
            counted[str(query).split("\n")[0][:60]] += 1

    def asking(self: Any, sql: str, *args: Any) -> Any:
        count(self, sql)
        return ask(self, sql, *args)

    def executing(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        count(self.connection, query)
        return execute(self, query, *args, **kwargs)

    monkeypatch.setattr(Connection, "ask", asking)
    monkeypatch.setattr(psycopg.Cursor, "execute", executing)
    return counted


def test_an_idle_worker_asks_less_than_once_a_second(idle: Idle, asked: Counter[str]) -> None:
    working.begin({gives.spec.id: gives.spec}, name="w", queues=(), concurrency=2)
    idle.pass_seconds(10)  # it registers, and has its first look
    asked.clear()
    idle.pass_seconds(SECONDS)
    assert asked.total() < SECONDS, asked
    # A look each two seconds, a heartbeat each five, the schedules each ten.
    assert sorted(asked.values()) == pytest.approx([6, 12, 30], abs=1)


def test_a_process_whose_executions_wait_asks_less_than_once_a_second(
    idle: Idle, asked: Counter[str]
) -> None:
    handle = asks.run()
    assert idle.app.runner.wait_idle(PATIENCE_SECONDS)
    idle.pass_seconds(10)
    assert execution(handle.exec_id).status.value == "waiting"
    asked.clear()
    idle.pass_seconds(SECONDS)
    assert 0 < asked.total() < SECONDS, asked


def test_what_is_queued_is_claimed_at_the_next_look_untold(idle: Idle) -> None:
    working.begin({gives.spec.id: gives.spec}, name="w", queues=(), concurrency=2)
    idle.pass_seconds(10)
    other = PostgresStore.open(idle.store._database.place, env=idle.clock, project="demo")
    other._teller.close()  # so that nobody is told
    starts: list[Start] = []
    apply = idle.store.apply
    idle.store.apply = lambda write: starts.append(write) or apply(write)  # type: ignore[method-assign]
    first = gives.enqueue()
    idle.pass_seconds(2.25)
    assert first.wait(timeout=PATIENCE_SECONDS) == 1
    again = next(write for write in starts if isinstance(write, Start))
    row = other.apply(again._replace(exec_id=idle.clock.new_id(), at=idle.clock.now())).row
    idle.pass_seconds(2.25)
    assert idle.app.runner.wait_idle(PATIENCE_SECONDS)
    assert execution(row.exec_id).status.value == "completed"
    other.close()
