"""Workers on hosts of their own, one of them cut off from the database without a word."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import postgres

from kitaru._store.postgres.store import PostgresStore
from kitaru.env import SystemEnv

from .hosts import Network, Way, database_on, network
from .kit import Fleet, Member, check, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WORKER = ("kitaru", "worker", "tests.leases.program", "--name")


class Site:
    """A network with a database, and a host for each of two workers."""

    def __init__(self, network: Network, fleet: Fleet, url: str) -> None:
        self.hosts = network.hosts
        self.fleet = fleet
        self._url = url

    def worker(self, name: str, host: int) -> Member:
        inside = self.hosts[host].inside
        return self.fleet.join(name, url=self._url, through=inside, program=WORKER)

    def enqueue(self, *names: str) -> None:
        """Executions that run until ``over-<name>`` is there, and the one that `lasts`."""
        assert self.fleet.join(f"desk-{names[0]}", "enqueue", *names).ended() == 0

    def end(self, *names: str) -> None:
        for name in names:
            (self.fleet.folder / f"over-{name}").touch()
        until(lambda: self.fleet.pids_that_own() == {})

    def owned_by(self, member: Member, *names: str) -> None:
        until(lambda: self.fleet.pids_that_own() == dict.fromkeys(names, member.pid))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with (
        network(hosts=2) as wires,
        database_on(wires) as server,
        postgres.database(server.socket_url()) as behind,
    ):
        PostgresStore.open(behind, env=SystemEnv(), project="demo").close()
        name = behind.split("dbname=")[1].split()[0]
        with Fleet(behind, tmp_path) as fleet:
            yield Site(wires, fleet, server.url(name))


@pytest.mark.parametrize("way", ["both", "to", "from"])
def test_a_worker_that_is_cut_off_stops_itself_and_is_refused_after_the_heal(
    site: Site, way: Way
) -> None:
    fleet, host = site.fleet, site.hosts[0]
    site.enqueue("0", "1", "lasts")
    islander = site.worker("islander", 0)
    site.owned_by(islander, "0", "1", "lasts")
    until((fleet.folder / "begun").exists)
    until(lambda: len(fleet.audit()) > 2)
    former = {owner for (owner,) in fleet.ask("select owner from kitaru.executions")}
    heir = site.worker("heir", 1)
    until(lambda: fleet.ask("select count(*) from kitaru.workers") == [(2,)])

    host.cut(way)
    site.owned_by(heir, "0", "1")  # and what lasts has completed there
    until(fleet.have_all_got_on)
    until(lambda: "nothing new starts until it is renewed" in islander.said())
    site.end("0", "1")

    host.heal(way)
    until(lambda: "was declared dead by another one" in islander.said())
    until(lambda: islander.said().count("◐ lost ") == 2)
    (fleet.folder / "healed").touch()  # the third has a body that ends only now
    until(lambda: islander.said().count("◐ lost ") == 3)
    heir.process.send_signal(signal.SIGTERM)
    assert heir.ended() == 0, heir.said()
    site.enqueue("2")
    site.owned_by(islander, "2")
    until(fleet.have_all_got_on)
    ((now,),) = fleet.ask("select owner from kitaru.executions where status = 'running'")
    assert now not in former
    site.end("2")
    islander.process.send_signal(signal.SIGTERM)
    assert islander.ended() == 0, islander.said()

    entries = fleet.audit()
    check(entries)
    assert {entry.pid for entry in entries if entry.owner in former} == {islander.pid}
    twice = "select 1 from kitaru.calls group by execution, identity having count(*) > 1"
    assert fleet.ask(twice) == []
    assert fleet.ask("select distinct status from kitaru.executions") == [("completed",)]
