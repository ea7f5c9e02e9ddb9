"""Workers on PostgreSQL that are killed and stopped, and a database that is restarted, at random.

Much more than the usual runs have time for:
``CHAOS_EXECUTIONS=1000 CHAOS_FAULTS=60 .venv/bin/pytest -s tests/cli/test_chaos.py``;
``CHAOS_SEED=7`` for another course.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests import postgres
from tools import postgres_server
from tools.postgres_server import Server

from .programs import Project
from .test_deploying import Fleet, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

EXECUTIONS = int(os.environ.get("CHAOS_EXECUTIONS", "20"))
FAULTS = int(os.environ.get("CHAOS_FAULTS", "4"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
WORKERS = 3
PARTS = 3
KINDS = ("kill", "drain", "restart", "crash")
"""Of a worker SIGKILL and SIGTERM; of the database a restart, and an end without a checkpoint."""


@pytest.fixture
def server() -> Iterator[Server]:
    with postgres_server.running(postgres.kind()) as server:
        yield server


@pytest.fixture
def fleet(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setenv("PART_SECONDS", "0.5")
    fleet = Fleet(Project(tmp_path / "project", server.url()))
    yield fleet
    for worker in fleet.workers:
        worker.kill()
        worker.wait()


def do(kind: str, fleet: Fleet, server: Server, alive: list[subprocess.Popen[bytes]]) -> None:
    """One fault; a worker that is gone has a successor before the next."""
    if kind in ("restart", "crash"):
        server.restart("fast" if kind == "restart" else "immediate")
        return
    number = signal.SIGKILL if kind == "kill" else signal.SIGTERM
    status = fleet.stop(alive.pop(0), number)
    assert status == (-number if kind == "kill" else 0)
    alive.append(fleet.worker("old"))


def test_nothing_is_lost_and_nothing_is_doubled_whatever_dies(fleet: Fleet, server: Server) -> None:
    chance = random.Random(SEED)
    names = [f"e{number}" for number in range(EXECUTIONS)]
    # First the workers: one that started alone would have done it all before the first fault.
    alive = [fleet.worker("old") for _ in range(WORKERS)]
    ids = fleet.enqueue(*(f"parts:{name}" for name in names))
    assert len(ids) == EXECUTIONS
    # Each kind once before any comes again.
    kinds = [kind for _ in range(FAULTS) for kind in chance.sample(KINDS, len(KINDS))][:FAULTS]
    for number, kind in enumerate(kinds, start=1):
        enough = number * EXECUTIONS * PARTS // (FAULTS + 1)
        until(lambda enough=enough: len(fleet.lines()) >= enough, f"nothing runs before {kind}")
        do(kind, fleet, server, alive)

    until(lambda: unfinished(server) == 0, f"something was lost (seed {SEED})")
    with psycopg.connect(server.url()) as connection:
        ended = connection.execute("select exec_id, status from kitaru.executions").fetchall()
        calls = connection.execute(
            "select e.exec_id, count(*) from kitaru.executions as e"
            " join kitaru.calls as c on c.execution = e.id and c.state = 'completed' group by 1"
        ).fetchall()
    assert sorted(ended) == sorted((exec_id, "completed") for exec_id in ids)
    assert sorted(calls) == sorted((exec_id, PARTS) for exec_id in ids)
    begun = fleet.lines()
    assert doubled(begun) == []
    print(f"chaos {SEED}: {len(ids)} executions, {', '.join(kinds)}; {len(begun)} bodies began, ")
    print(f"{len(begun) - EXECUTIONS * PARTS} of them again, because their process had died")


def unfinished(server: Server) -> int:
    with psycopg.connect(server.url()) as connection:
        found = connection.execute(
            "select count(*) from kitaru.executions"
            " where status not in ('completed', 'failed', 'cancelled')"
        ).fetchone()
    assert found is not None
    return int(found[0])


def doubled(lines: list[str]) -> list[str]:
    """Bodies that began although their outcome had been acknowledged: the next had begun."""
    reached: dict[str, int] = {}
    again = []
    for line in lines:
        name, part = line.split()
        if int(part) < reached.get(name, 0):
            again.append(line)
        reached[name] = max(reached.get(name, 0), int(part))
    return again


def test_a_body_that_begins_behind_its_successor_is_seen() -> None:
    assert doubled(["e0 0", "e0 0", "e0 1", "e1 0", "e0 2"]) == []
    assert doubled(["e0 0", "e0 1", "e0 0"]) == ["e0 0"]
