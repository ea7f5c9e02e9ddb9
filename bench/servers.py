"""A PostgreSQL server from a wheel: databases on it, what fills them, and what it needs at least.

Everything but the library's own work is here: which rows a database begins with, and what a
bare connection to the same server takes for the same commits.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

import kitaru
from bench import steps
from bench.stores import Bench, close_store, open_store
from kitaru._store.postgres.store import PostgresStore
from kitaru.env import SystemEnv

PROJECT = "bench"
BATCH = 50_000
WARM_UP = 30
COMMITS_OF_A_FLOW = 6
"""Enqueued, claimed, three outcomes, its end."""


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
    """A database with an empty store -> its address."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"create database {name}")  # type: ignore[arg-type]
    url: str = server.url(name)
    PostgresStore.open(url, env=SystemEnv(), project=PROJECT).close()
    return url


def asked(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


def enqueue(url: str, count: int) -> None:
    kitaru.configure(runner="worker")
    try:
        with using(url):
            for number in steps.new_numbers(count):
                steps.three.run(number)
    finally:
        kitaru.configure(runner="thread")


_OWN = {
    "executions": {"exec_id": "'filled-' || number", "key": "null"},
    "calls": {
        "execution": "e.execution + number",
        "identity": "decode(md5(number::text), 'hex')",
        "reuse_key": "decode(md5('reuse' || number), 'hex')",
        "inputs_digest": "decode(md5('inputs' || number), 'hex')",
    },
}


def fill(bench: Bench, url: str, count: int) -> None:
    """Finished executions of one call of 1 KB each, copied by SQL from one that ran.

    Ids, identities and keys are their own, so that the indexes are as large and as random as if
    all of them had run.
    """
    with using(url):
        steps.steps.run(steps.new_numbers(1).start, 1).wait()
        steps.laps()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")
        statements = [copying(connection, table) for table in _OWN]
        for first in range(1, count, BATCH):
            last = min(first + BATCH, count) - 1
            for statement in statements:
                connection.execute(statement, (first, last))
            bench.say(f"filling PostgreSQL: {last + 1:,} of {count:,} finished executions")
        set_numbers(connection)
        bench.say("filling PostgreSQL: vacuum, analyze, checkpoint")
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")


def set_numbers(connection: psycopg.Connection[Any]) -> None:
    """The numbers that follow come after those that were copied."""
    for table in _OWN:
        connection.execute(
            f"select setval(pg_get_serial_sequence('kitaru.{table}', 'id'),"  # type: ignore[arg-type]
            f" (select max(id) from kitaru.{table}))"
        )


def copying(connection: psycopg.Connection[Any], table: str, exec_id: str | None = None) -> Any:
    """The statement that copies the newest row of a table, for the numbers from one to another."""
    found = connection.execute(
        "select column_name from information_schema.columns where table_schema = 'kitaru'"
        " and table_name = %s and column_name <> 'id'",
        (table,),
    )
    names = [name for (name,) in found]
    own = {**_OWN[table], **({"exec_id": exec_id} if exec_id else {})}
    chosen = ", ".join(own.get(name, f"e.{name}") for name in names)
    ((source,),) = connection.execute(f"select max(id) from kitaru.{table}").fetchall()  # type: ignore[arg-type]
    return (
        f"insert into kitaru.{table} (id, {', '.join(names)})"
        f" select e.id + number, {chosen} from kitaru.{table} as e,"
        f" generate_series(%s::bigint, %s) as number where e.id = {source}"
    )


# --- what the server needs at least ---


def bare_commits(url: str, row_bytes: int, count: int) -> tuple[list[float], float]:
    """Seconds of each insert that commits by itself, and the CPU of one."""
    data = bytes(row_bytes)
    insert = "insert into bare (data) values ($1)"
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.RawCursor) as connection:
        connection.execute("drop table if exists bare")
        connection.execute("create table bare (id bigint generated always as identity, data bytea)")
        for _ in range(WARM_UP):
            connection.execute(insert, (data,), binary=True)
        seconds = []
        cpu = time.thread_time()
        for _ in range(count):
            began = time.perf_counter()
            connection.execute(insert, (data,), binary=True)
            seconds.append(time.perf_counter() - began)
        return seconds, (time.thread_time() - cpu) / count


def bare_rate(url: str, connections: int, count: int) -> float:
    """Commits a second of ``connections`` that insert 1 KB at once."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop table if exists bare")
        connection.execute("create table bare (id bigint generated always as identity, data bytea)")

    def insert(_: int) -> None:
        with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.RawCursor) as one:
            for _ in range(count):
                one.execute("insert into bare (data) values ($1)", (bytes(1024),), binary=True)

    return connections * count / at_once(insert, connections)


_QUEUE = """
drop table if exists bare_queue;
create table bare_queue (id bigint primary key, state text not null);
insert into bare_queue select n, 'pending' from generate_series(1, {count}) as n;
create index on bare_queue (id) where state = 'pending';
analyze bare_queue
"""
_CLAIM = """
update bare_queue set state = 'running' where id in (
    select id from bare_queue where state = 'pending' order by id limit $1
    for no key update skip locked) returning id
"""


def bare_claims(url: str, claimers: int, count: int, batch: int) -> float:
    """Rows a second that ``claimers`` take from a table that has nothing but a state."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_QUEUE.format(count=count))  # type: ignore[arg-type]

    def claim(_: int) -> None:
        with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.RawCursor) as one:
            while one.execute(_CLAIM, (batch,)).fetchall():
                pass

    return count / at_once(claim, claimers)


def bare_notices(url: str, count: int) -> float:
    """Seconds from an insert to another connection's hearing of it: the median."""
    seconds = []
    with (
        psycopg.connect(url, autocommit=True) as listener,
        psycopg.connect(url, autocommit=True) as teller,
    ):
        listener.execute("listen bench_bare")
        teller.execute("create table if not exists bare_told (at bigint)")
        for number in range(count):
            began = time.perf_counter()
            with teller.transaction():
                teller.execute("insert into bare_told values (%s)", (number,))
                teller.execute("notify bench_bare")
            next(iter(listener.notifies(timeout=60, stop_after=1)))
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def at_once(work: Callable[[int], None], threads: int) -> float:
    """Seconds that as many threads take to do it, each with its own number."""
    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    began = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return time.perf_counter() - began


def environment(url: str, **more: str) -> dict[str, str]:
    """Of a process that works on that database."""
    said = {"KITARU_STORE": url, "KITARU_PROJECT": PROJECT, "KITARU_RUNNER": "thread"}
    return {**os.environ, **said, **more}
