"""A fleet on PostgreSQL: claims, flows a second by workers, enqueue to start, kill to takeover."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import processes, servers, steps
from bench.figures import Row, Sample, Target, percentile
from bench.stores import Bench
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import ClaimNext, RegisterOwner
from kitaru.env import SystemEnv

ROOT = Path(__file__).resolve().parent.parent
CLAIMERS = 8
LEASE_SECONDS = 2.0
POLL_SECONDS = 2.0
FINISH_SECONDS = 600


def claims(bench: Bench, url: str, batch: int, beside: str) -> Row:
    """As many executions as there are, taken by eight claimers, so many by each claim."""
    count = (8_000 if bench.full else 1_600) * (1 if batch == 1 else 4)
    name = f"PostgreSQL: claims a second, {CLAIMERS} claimers, {batch} a claim{beside}"
    bench.say(f"{name}: enqueueing {count:,}")
    _queue_up(url, count)
    bench.say(name)
    taken: list[list[tuple[float, int]]] = [[] for _ in range(CLAIMERS)]
    stores = [PostgresStore.open(url, env=SystemEnv(), project=servers.PROJECT) for _ in taken]

    def claim(number: int) -> None:
        _claim_all(stores[number], number, batch, taken[number])

    try:
        seconds = servers.at_once(claim, CLAIMERS)
    finally:
        for store in stores:
            store.close()
    each = [one for part in taken for one, _ in part]
    assert sum(rows for part in taken for _, rows in part) == count, "claimed twice, or not at all"
    _finish_by_sql(url)
    limit = servers.bare_claims(url, CLAIMERS, count, batch)
    note = (
        f"{count:,} executions; a claim took {percentile(each, 50) * 1e3:.1f} ms "
        f"(p99 {percentile(each, 99) * 1e3:.1f} ms)"
    )
    return _rate(name, "claims/s", count / seconds, limit, "a bare table, SKIP LOCKED:", note)


def _queue_up(url: str, count: int) -> None:
    """One by the library, the others as copies of it."""
    servers.enqueue(url, 1)
    with servers.psycopg.connect(url, autocommit=True) as connection:
        copying = servers.copying(connection, "executions", "'queued-' || e.id || '-' || number")
        connection.execute(copying, (1, count - 1))
        servers.set_numbers(connection)
        connection.execute("analyze kitaru.executions")


def _claim_all(
    store: PostgresStore, number: int, batch: int, taken: list[tuple[float, int]]
) -> None:
    env = SystemEnv()
    name = f"claimer-{number}-{env.new_id()}"
    owner = store.apply(RegisterOwner(name, number, "bench", env.now())).id
    while True:
        began = time.perf_counter()
        write = ClaimNext(servers.PROJECT, (steps.three.spec.id,), (), owner, batch, env.now())
        rows = store.apply(write)
        if not rows:
            return
        taken.append((time.perf_counter() - began, len(rows)))


def _finish_by_sql(url: str) -> None:
    with servers.psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "update kitaru.executions set status = 'completed', owner = null,"
            " ended_at = created_at where owner is not null"
        )
        connection.execute("vacuum analyze kitaru.executions")


def _rate(name: str, unit: str, figure: float, limit: float, what: str, note: str) -> Row:
    return Row(
        name,
        unit,
        Sample.of([figure]),
        limit=Sample.of([limit]),
        limit_name=what,
        ratio=Sample.of([figure / limit]),
        note=note,
    )


# --- workers ---


def served(bench: Bench, url: str, beside: str) -> Iterator[Row]:
    """Flows a second by workers of their own processes, and from enqueue to start."""
    count = 1_000 if bench.full else 150
    for number in (1, 2, 4):
        name = f"PostgreSQL: flows of 3 checkpoints, {number} workers{beside}"
        bench.say(name)
        with workers(url, number):
            _wait_for_workers(url, number)
            _run(url, 4 * number)
            began = time.perf_counter()
            _run(url, count)
            rate = count / (time.perf_counter() - began)
            if number == 1:
                yield latency(bench, url, beside)
        limit = servers.bare_rate(url, 4 * number, 100) / servers.COMMITS_OF_A_FLOW
        note = f"{count} executions, enqueued one by one while they ran"
        what = f"{servers.COMMITS_OF_A_FLOW} bare commits a flow, {4 * number} connections:"
        yield _rate(name, "flows/s", rate, limit, what, note)


def _wait_for_workers(url: str, number: int) -> None:
    until = time.monotonic() + FINISH_SECONDS
    query = (
        "select count(*) from kitaru.workers as w join kitaru.owners as o on o.id = w.owner"
        " where o.died_at is null and w.draining = 0"
    )
    while servers.asked(url, query)[0][0] < number:
        assert time.monotonic() < until, "the workers do not come up"
        time.sleep(0.02)


def _run(url: str, count: int) -> None:
    """Enqueue so many, and wait until all of them are finished."""
    servers.enqueue(url, count)
    until = time.monotonic() + FINISH_SECONDS
    query = (
        "select count(*) from kitaru.executions where project = 'bench'"
        " and status in ('pending', 'running', 'cancelling')"
    )
    while servers.asked(url, query)[0][0]:
        assert time.monotonic() < until, "the workers do not finish"
        time.sleep(0.02)


def latency(bench: Bench, url: str, beside: str) -> Row:
    """One at a time, while the worker has nothing else to do."""
    count = 100 if bench.full else 20
    name = f"PostgreSQL: from enqueue to start{beside}"
    bench.say(name)
    for _ in range(count):
        _run(url, 1)
    rows = servers.asked(
        url,
        "select (started_at - created_at) / 1e6 from kitaru.executions"
        f" order by id desc limit {count}",
    )
    seconds = [float(one) for (one,) in rows]
    limit = servers.bare_notices(url, count)
    note = f"p50 {percentile(seconds, 50) * 1e3:.3g}, p99 {percentile(seconds, 99) * 1e3:.3g} ms"
    return Row(
        name,
        "ms",
        Sample.of(seconds).map(1e3),
        limit=Sample.of([limit]).map(1e3),
        limit_name="an insert and a NOTIFY, committed, to another connection's hearing of it:",
        ratio=Sample.of([percentile(seconds, 50) / limit]),
        note=f"{note} of {count}",
    )


@contextmanager
def workers(url: str, count: int) -> Iterator[None]:
    command = [sys.executable, "-m", "kitaru", "worker", "bench.steps", "--concurrency", "4"]
    quiet = subprocess.DEVNULL
    said = servers.environment(url)
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


# --- SIGKILL to takeover ---


def takeover(bench: Bench, url: str, beside: str) -> Row:
    """From SIGKILL of an owner inside a checkpoint to the heir's first body."""
    kills = 30 if bench.full else 8
    name = f"PostgreSQL: SIGKILL to takeover, lease {LEASE_SECONDS:g} s{beside}"
    bench.say(f"{name}, {kills} kills")
    said = {"KITARU_PROJECT": servers.PROJECT, "KITARU_LEASE_SECONDS": str(LEASE_SECONDS)}

    def start(**more: str) -> processes.Program:
        store = bench.folder / "postgres"
        return processes.start("napper.py", store, KITARU_STORE=url, **said, **more)

    heir = start(BENCH_LIFE="heir")
    processes.read_line(heir)
    taken, limits = [], []
    try:
        for number in range(kills):
            owner = start(BENCH_LIFE="owner", BENCH_NUMBER=str(number))
            processes.read_line(owner)
            killed_at = time.monotonic()
            owner.kill()
            processes.read_to_end(owner)
            limits.append(_left_of_its_lease(url))
            seen, began_at = processes.read_line(heir).split()
            assert int(seen) == number, (seen, number)
            taken.append(float(began_at) - killed_at)
            bench.say(f"{name}: {number + 1} of {kills}")
    finally:
        processes.end(heir)
    bound = LEASE_SECONDS + POLL_SECONDS + 1
    return Row(
        name,
        "s",
        Sample.of(taken),
        limit=Sample.of(limits),
        limit_name="what was left of the lease at the kill:",
        ratio=Sample.of([one / left for one, left in zip(taken, limits, strict=True)]),
        target=Target(bound, of="p99", unit="s"),
        p99=percentile(taken, 99),
        note=f"p50 {percentile(taken, 50):.2f}, p99 {percentile(taken, 99):.2f} s of {kills} kills"
        "; the target is lease + poll + 1 s",
    )


def _left_of_its_lease(url: str) -> float:
    """Of the process that was killed just now: it is the newest one that runs anything."""
    ((left,),) = servers.asked(
        url,
        "select (o.lease_until - kitaru.clock(0)) / 1e6 from kitaru.owners as o"
        " join kitaru.executions as e on e.owner = o.id order by o.id desc limit 1",
    )
    return max(float(left), 0.001)
