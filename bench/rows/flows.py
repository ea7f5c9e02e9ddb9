"""Whole flows of three checkpoints: one after another, and sixteen at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from bench import steps
from bench.figures import Rounds, Row, Target
from bench.rows.checkpoint import probe_row_bytes
from bench.stores import Bench

COMMITS = 5
"""Of a flow: its start, its three checkpoints, its end."""

THREADS = 16


def measure(bench: Bench) -> Iterator[Row]:
    row_bytes = probe_row_bytes(bench)
    for kind, flow in (("sync", steps.three), ("async", steps.three_async)):
        yield one_after_another(bench, kind, flow, row_bytes)
    for kind, flow in (("sync", steps.three), ("async", steps.three_async)):
        yield at_once(bench, kind, flow, row_bytes)


def one_after_another(bench: Bench, kind: str, flow: Any, row_bytes: int) -> Row:
    name = f"flows of 3 checkpoints, one after another, {kind}"
    bench.say(name)
    count = 200 if bench.full else 60
    rounds = Rounds()
    for _ in range(bench.rounds):
        with bench.store():
            flow.run(steps.new_numbers(1).start).wait()
            rates = []
            for number in steps.new_numbers(count):
                began = time.perf_counter()
                flow.run(number).wait()
                rates.append(1 / (time.perf_counter() - began))
        bare = bench.bare(row_bytes)
        bare.commits(20)
        taken = bare.commits(count * COMMITS)
        each = [1 / sum(taken[at : at + COMMITS]) for at in range(0, len(taken), COMMITS)]
        rounds.add(rates, each)
        bare.close()
    return rounds.row(
        name,
        "flows/s",
        limit_name=f"{COMMITS} bare commits a flow",
        target=Target(0.7, at_least=True),
    )


def at_once(bench: Bench, kind: str, flow: Any, row_bytes: int) -> Row:
    name = f"flows of 3 checkpoints, {THREADS} at once, {kind}"
    bench.say(name)
    count = 1_000 if bench.full else 320
    rounds = Rounds()
    for _ in range(bench.rounds):
        with bench.store(), ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda number: flow.run(number).wait(), steps.new_numbers(THREADS)))
            numbers = steps.new_numbers(count)
            began, cpu = time.perf_counter(), time.process_time()
            list(pool.map(lambda number: flow.run(number).wait(), numbers))
            rate = count / (time.perf_counter() - began)
            cpu_seconds = (time.process_time() - cpu) / count
        bare = bench.bare(row_bytes)
        bare.commits(20, rows=THREADS)
        groups = bare.commits(count // THREADS * COMMITS, rows=THREADS)
        rounds.add([rate], [count / sum(groups)], cpu_seconds)
        bare.close()
    row = rounds.row(
        name,
        "flows/s",
        limit_name=f"bare commits of {THREADS} rows, {COMMITS} for {THREADS} flows",
        target=Target(1_000, of="median", at_least=True, unit="flows/s"),
    )
    assert row.cpu is not None
    milliseconds = row.cpu.median * 1e3
    return replace(row, cpu=None, note=f"{milliseconds:.2f} ms of CPU a flow, all threads")
