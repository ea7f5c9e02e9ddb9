"""Several hosts on one machine: network namespaces on one switch, and cables that can be cut.

The switch and the database's address are in a namespace of their own, so that nothing of this
machine's network is touched or seen. Whoever has to look past a cut uses the server's socket in
the file system. What is cut is lost without a word: it goes to a hardware address that nobody
has, so that no end hears of it, and each direction can be cut by itself.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from tests import needed
from tools import postgres_server
from tools.postgres_server import Place, Server

Way = Literal["both", "to", "from"]
"""What is lost: all, what the host sends to the database, or what that sends to the host."""

ADDRESS = "10.213.0.1"
_NOWHERE = "02:00:00:00:00:66"
_numbers = itertools.count()


class Impossible(Exception):
    """This machine makes no such network; the message says why."""


def _ip(*words: str) -> None:
    ip = needed.program("ip", "iproute2")
    done = subprocess.run((ip, *words), capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise Impossible(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}")


class Host:
    def __init__(self, network: Network, number: int) -> None:
        self.namespace = f"{network.namespace}-{number}"
        self._hub = network.namespace
        self._cable = f"host{number}"
        self._address = f"10.213.0.{number + 1}"

    def join(self) -> None:
        _ip("netns", "add", self.namespace)
        peer = ("peer", "name", "net", "netns", self.namespace)
        _ip("-n", self._hub, "link", "add", self._cable, "type", "veth", *peer)
        _ip("-n", self._hub, "link", "set", self._cable, "master", "switch", "up")
        _ip("-n", self.namespace, "address", "add", f"{self._address}/24", "dev", "net")
        for device in ("lo", "net"):
            _ip("-n", self.namespace, "link", "set", device, "up")

    @property
    def inside(self) -> tuple[str, ...]:
        """Before a command: runs it on this host."""
        return (needed.program("ip", "iproute2"), "netns", "exec", self.namespace)

    def cut(self, way: Way) -> None:
        nowhere = ("lladdr", _NOWHERE, "nud", "permanent")
        for place in self._ends(way):
            _ip("-n", place[0], "neighbour", "replace", *place[1:], *nowhere)

    def heal(self, way: Way) -> None:
        for place in self._ends(way):
            _ip("-n", place[0], "neighbour", "delete", *place[1:])

    def _ends(self, way: Way) -> list[tuple[str, ...]]:
        ours = (self.namespace, ADDRESS, "dev", "net")
        theirs = (self._hub, self._address, "dev", "switch")
        return {"both": [ours, theirs], "to": [ours], "from": [theirs]}[way]


class Network:
    """A switch; the database's address is on it."""

    def __init__(self) -> None:
        self.namespace = f"kitaru-{os.getpid()}-{next(_numbers)}"
        self.hosts: list[Host] = []

    def begin(self) -> None:
        """What a machine may refuse."""
        _ip("netns", "add", self.namespace)
        _ip("-n", self.namespace, "link", "add", "name", "switch", "type", "bridge")

    def raise_up(self) -> None:
        _ip("-n", self.namespace, "address", "add", f"{ADDRESS}/24", "dev", "switch")
        for device in ("lo", "switch"):
            _ip("-n", self.namespace, "link", "set", device, "up")

    def host(self) -> Host:
        host = Host(self, len(self.hosts) + 1)
        self.hosts.append(host)
        host.join()
        return host

    def take_down(self) -> None:
        for namespace in (*(host.namespace for host in self.hosts), self.namespace):
            with suppress(Impossible):
                _ip("netns", "delete", namespace)

    def place(self) -> Place:
        """Where the database listens, as an ordinary user."""
        user = str(postgres_server.NOBODY)
        enter = (
            needed.program("nsenter", "util-linux"),
            f"--net=/run/netns/{self.namespace}",
            "--setuid",
            user,
            "--setgid",
            user,
        )
        return Place(ADDRESS, enter)


@contextmanager
def network(hosts: int) -> Iterator[Network]:
    """So many hosts; where this machine makes none, the test is skipped, loudly."""
    if os.geteuid() != 0:
        needed.not_tested("network namespaces are root's to make")
    made = Network()
    try:
        try:
            made.begin()
        except Impossible as error:
            needed.not_tested(f"no network namespaces: {error}")
        made.raise_up()
        for _ in range(hosts):
            made.host()
        yield made
    finally:
        made.take_down()


@contextmanager
def database_on(network: Network) -> Iterator[Server]:
    with postgres_server.running(at=network.place()) as server:
        yield server
