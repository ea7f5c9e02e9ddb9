"""The corpus over PostgreSQL: a project for each trial, and a process that outlives the dead.

What is killed leaves a lease that runs on, and after an outage nobody judges before a
heartbeat has passed. So one member of the fleet has always been there, and declares dead
who was killed, as any living process would within the lease; that time passes in an instant,
because in this database leases are judged by the instants of the writes.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from tests import postgres

from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import Reap, RegisterOwner
from kitaru.env import SystemEnv

from .corpus import Scenario
from .harness import ForkServer
from .server import executions, owners

LEASE_SECONDS = 2.0
FOR_EVER_SECONDS = 1e6
HANG_SECONDS = 240.0

_LIVING = """select count(*) from pg_stat_activity
where datname = current_database() and application_name = 'kitaru'"""


class FleetServer(ForkServer):
    """A :class:`ForkServer` whose lives share the database at that URL."""

    all_is_in_files = False

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        postgres.give_time(url)
        self._url = url
        self._trials = 0
        self._env = SystemEnv()
        own = make_conninfo(url, application_name="judge")
        self._look = psycopg.connect(own, autocommit=True)
        self._store = PostgresStore.open(own, env=self._env, project="judge")
        self._store.apply(
            RegisterOwner("judge", 1, "elsewhere", self._env.now(), lease_seconds=FOR_EVER_SECONDS)
        )

    def close(self) -> None:
        super().close()
        self._store.close()
        self._look.close()

    @property
    def _project(self) -> str:
        return f"trial-{self._trials}"

    def settings(self, folder: Path) -> dict[str, str]:
        return {
            "KITARU_STORE": self._url,
            "KITARU_PROJECT": self._project,
            "KITARU_LEASE_SECONDS": str(LEASE_SECONDS),
            "XDG_DATA_HOME": str(folder),
        }

    def new_folder(self, scenario: Scenario) -> Path:
        """A folder, and a project of its own, in which the scenario's prelude was played."""
        self._trials += 1
        folder = self.folder / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if scenario.prelude:
            ended = self._live(folder, scenario, number=0, seed=0)
            assert ended["status"] == 0, ended
            self._inspect(folder)
            (folder / "journal").unlink(missing_ok=True)
        return folder

    def _inspect(self, folder: Path) -> dict[str, Any]:
        """What is committed; then its lease is over, and it is declared dead."""
        self._wait_for_the_dead()
        seen = {
            "executions": executions(self._store, self._project),
            "owners": owners(self._store),
        }
        later = self._env.now() + int(5 * LEASE_SECONDS * 1e6)
        self._store.apply(Reap(LEASE_SECONDS, 100, later))
        return seen

    def _wait_for_the_dead(self) -> None:
        """What a process had sent before it died may still be done by its server."""
        pause = threading.Event()
        for _ in range(int(HANG_SECONDS / 0.002)):
            ((count,),) = self._look.execute(_LIVING).fetchall()
            if not count:
                return
            pause.wait(0.002)
        raise AssertionError("a connection of a dead process does not end")
