"""A recalled call on resume, and a call reused from another execution."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import apsw

from bench import steps
from bench.figures import Rounds, Row, Target
from bench.stores import Bench

BATCH = 64
"""Calls are averaged by batches, so that what is fetched for many counts for each."""


def measure(bench: Bench) -> Iterator[Row]:
    for kind, flow in (("sync", steps.twice), ("async", steps.twice_async)):
        yield recalled(bench, kind, flow)
    for kind, flow in (("sync", steps.steps), ("async", steps.async_steps)):
        yield reused(bench, kind, flow)


def _count(bench: Bench) -> int:
    return 64 * (64 if bench.full else 16)


def _batches(seconds: Sequence[float]) -> list[float]:
    return [
        statistics.fmean(seconds[at : at + BATCH])
        for at in range(0, len(seconds) - BATCH + 1, BATCH)
    ]


def recalled(bench: Bench, kind: str, flow: Any) -> Row:
    name = f"a recalled call, {kind}"
    bench.say(name)
    count, rounds = _count(bench), Rounds()
    for _ in range(bench.rounds):
        with bench.store() as path:
            steps.laps()
            flow.run(steps.new_numbers(count).start, count).wait()
        _, again = steps.laps()
        del path
        rounds.add(_batches(again.seconds), _decoding(count), again.cpu_seconds)
    return rounds.row(
        name,
        "µs",
        scale=1e6,
        limit_name="json.loads of the same bytes",
        target=Target(25, of="median", unit="µs"),
        note="of a retry in one process; fetching from the store is in it, loading the list is not",
    )


def reused(bench: Bench, kind: str, flow: Any) -> Row:
    name = f"a reused call, {kind}"
    bench.say(name)
    count, rounds, whole = _count(bench), Rounds(), []
    for _ in range(bench.rounds):
        path = bench.fresh("reuse")
        with bench.store(path):
            first = steps.new_numbers(count).start
            flow.run(first, count).wait()
            steps.laps()
            began = time.perf_counter()
            flow.run(first, count).wait()
            whole.append((time.perf_counter() - began) / count * 1e6)
            (lap,) = steps.laps()
        rounds.add(_batches(lap.seconds), _lookups(str(path / "kitaru.db")), lap.cpu_seconds)
    return rounds.row(
        name,
        "µs",
        scale=1e6,
        limit_name="bare SELECT by the key, json.loads",
        target=Target(60, of="median", unit="µs"),
        note=f"{statistics.median(whole):.0f} µs each with the flow's start and its one commit",
    )


def _decoding(count: int) -> list[float]:
    data = json.dumps(steps.RESULT).encode()
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        json.loads(data)
        seconds.append(time.perf_counter() - began)
    return _batches(seconds)


def _lookups(path: str) -> list[float]:
    connection = apsw.Connection(path)
    keys = connection.execute("select reuse_key from calls where reuse_key is not null").fetchall()
    query = "select id, data from calls where reuse_key = ? and state = 'completed'"
    seconds = []
    for key in keys:
        began = time.perf_counter()
        ((_, data),) = connection.execute(query, key).fetchall()
        json.loads(bytes(data))  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - began)
    connection.close()
    return _batches(seconds)
