from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests import postgres
from tests.proxy import Proxy, proxy
from tools import postgres_server
from tools.postgres_server import Server

from kitaru import app, settings
from kitaru._store.postgres.store import PostgresStore
from kitaru.env import SystemEnv

from .flows import HANG_SECONDS

LEASE_SECONDS = 2.0


class Line:
    """This process's Kitaru, its database, and what is in between."""

    def __init__(self, server: Server, url: str, way: Proxy, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self._server = server
        self._proxy = way
        self._others: list[subprocess.Popen[str]] = []

    @contextmanager
    def away(self, how: str = "cut") -> Iterator[None]:
        """The database cannot be reached: the network is ``cut``, or the server is stopped."""
        app.current()  # it was there before
        if how == "cut":
            self._proxy.is_refusing = True
            self._proxy.cut_all()
        else:
            self._server.stop(how)
        try:
            yield
        finally:
            if how == "cut":
                self._proxy.is_refusing = False
            else:
                self._server.start()

    def is_missed(self) -> bool:
        """Whether this process has noticed."""
        return app.current().services.outage.latch is not None

    def through(self) -> str:
        return make_conninfo(self.url, host="127.0.0.1", port=str(self._proxy.port))

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """Past the network."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(sql.encode()).fetchall()

    @contextmanager
    def elsewhere(self) -> Iterator[PostgresStore]:
        """The store as a machine has it that is not cut off."""
        store = PostgresStore.open(self.url, env=SystemEnv(), project="demo")
        try:
            yield store
        finally:
            store.close()

    def other(self, url: str, *words: str) -> subprocess.Popen[str]:
        """Another process, which takes over what nobody runs."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.outages.flows", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "KITARU_STORE": url},
        )
        self._others.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n", process.communicate()[1]
        return process

    def end_others(self) -> None:
        for process in self._others:
            if process.returncode is None:
                process.communicate(timeout=HANG_SECONDS)
            for pipe in (process.stdin, process.stdout, process.stderr):
                assert pipe is not None
                pipe.close()


@pytest.fixture(scope="session")
def own_server() -> Iterator[Server]:
    """A server that a test may stop."""
    with postgres_server.running() as server:
        yield server


@pytest.fixture(scope="session")
def own_template(own_server: Server) -> Iterator[str]:
    with postgres.database(own_server.url()) as url:
        PostgresStore.open(url, env=SystemEnv(), project="demo").close()
        yield str(conninfo_to_dict(url)["dbname"])


@pytest.fixture
def line(
    own_server: Server, own_template: str, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Line]:
    with (
        postgres.database(own_server.url(), like=own_template) as url,
        proxy("127.0.0.1", own_server.port) as way,
    ):
        made = Line(own_server, url, way, own_store.parent)
        monkeypatch.setenv("KITARU_STORE", made.through())
        monkeypatch.setenv("KITARU_PROJECT", "demo")
        monkeypatch.setenv("KITARU_POLL_SECONDS", "0.2")
        monkeypatch.setenv("XDG_DATA_HOME", str(own_store.parent))
        monkeypatch.setenv("OUTAGE_FOLDER", str(own_store.parent))
        settings.forget_configuration()
        yield made
        app.close(HANG_SECONDS)  # while its database is there
        made.end_others()


@pytest.fixture
def short_lease(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_LEASE_SECONDS", str(LEASE_SECONDS))
