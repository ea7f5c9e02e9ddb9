"""A process whose heartbeats reach nobody, and whose records do."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.proxy import Proxy, proxy
from tests.store.worlds import call_row, facts, started

from kitaru._engine.leases import Lease, Leases
from kitaru._store.postgres.database import Database
from kitaru._store.postgres.pulse import Pulse
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import Fenced, Reap, Record, RegisterOwner
from kitaru.env import SystemEnv

from .kit import HANG_SECONDS, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LEASE_SECONDS = 9.0


@pytest.fixture
def hole(postgres_url: str) -> Iterator[Proxy]:
    """The server behind a line on which connections are accepted and no byte passes."""
    said = conninfo_to_dict(postgres_url)
    with proxy(str(said["host"]), int(str(said["port"]))) as way:
        way.hold()
        yield way


def alive(store: PostgresStore, name: str) -> tuple[Leases, Lease]:
    leases = Leases(store, SystemEnv(), lease_seconds=LEASE_SECONDS)
    sent = leases.clock()
    write = RegisterOwner(name, 1, "here", SystemEnv().now(), LEASE_SECONDS)
    return leases, leases.begin(store.apply(write), sent)


def test_what_is_recorded_keeps_a_process_alive_whose_heartbeats_vanish(
    postgres_url: str, hole: Proxy
) -> None:
    env = SystemEnv()
    store = PostgresStore.open(postgres_url, env=env, project="demo")
    watching = PostgresStore.open(postgres_url, env=env, project="demo")
    through = make_conninfo(postgres_url, host="127.0.0.1", port=str(hole.port))
    lost = Database(through, env)
    store._pulse = Pulse(lost.connect, lost.place)
    _, lease = alive(store, "busy")
    registered = lease.beaten
    watchers, watcher = alive(watching, "watcher")

    def until_when() -> int:
        """Until when the database holds it for alive; whoever is over by then is dead."""
        watching.apply(Reap(watchers.patience_seconds, 9, env.now()))
        owner = watching.get_owner(lease.owner)
        assert owner.lease_until is not None
        return owner.lease_until if owner.died_at is None else 0

    row = started(store, lease.owner).row
    began, pause = until_when(), threading.Event()
    for number in range(round(HANG_SECONDS / 0.1)):
        store.apply(Record(row.id, 1, facts(call_row(number.to_bytes(32, "big")))))
        if until_when() > began + 1.5 * LEASE_SECONDS * 1e6:
            break
        pause.wait(0.1)
    assert lease.beaten == registered, "not one heartbeat came through by itself"
    assert lease.holds(watchers.clock())
    assert store.get_owner(lease.owner).died_at is None

    # Who records nothing any more is as silent as it seems.
    until(lambda: until_when() == 0)
    with pytest.raises(Fenced):
        started(store, lease.owner, "e-2")
    until(lambda: lease.is_dead)  # the heartbeat that this carried was told so
    for each in (lease, watcher):
        each.stop.set()
    hole.let_go()
    lost.close()
    store.close()
    watching.close()
