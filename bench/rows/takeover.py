"""SIGKILL to takeover on one host: a process that called ``kitaru.recover()`` goes on."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench import processes
from bench.figures import Rounds, Row, Target, percentile
from bench.stores import Bench


def measure(bench: Bench) -> Iterator[Row]:
    kills = 100 if bench.full else 30
    name = "SIGKILL to takeover: the heir's first body"
    bench.say(f"{name}, {kills} kills")
    store = bench.fresh("takeover")
    heir = processes.start("napper.py", store, BENCH_LIFE="heir")
    processes.read_line(heir)
    rounds, taken = Rounds(), []
    try:
        owner = _owner(store, 0)
        for number in range(kills):
            killed_at = _kill(owner)
            limit = _lock_seconds(bench)
            seen, began_at = processes.read_line(heir).split()
            assert int(seen) == number, (seen, number)
            taken.append(float(began_at) - killed_at)
            rounds.add([taken[-1]], [limit])
            if number + 1 < kills:
                owner = _owner(store, number + 1)
    finally:
        processes.end(heir)
    row = rounds.row(
        name,
        "s",
        limit_name="a waiter gets the OS lock of a killed process",
        target=Target(2, of="p99", unit="s"),
        p99=percentile(taken, 99),
        note=f"p50 {percentile(taken, 50):.3f}, p99 {percentile(taken, 99):.3f} of {kills} kills",
    )
    # An interval of asking beside a wait: their ratio would say nothing.
    yield replace(row, ratio=None)


def _owner(store: Path, number: int) -> processes.Program:
    owner = processes.start("napper.py", store, BENCH_LIFE="owner", BENCH_NUMBER=str(number))
    processes.read_line(owner)
    return owner


def _kill(process: processes.Program) -> float:
    killed_at = time.monotonic()
    process.kill()
    processes.read_to_end(process)
    return killed_at


def _lock_seconds(bench: Bench) -> float:
    path = bench.fresh("lock")
    holder = processes.start("lock_holder.py", path, BENCH_LOCK=str(path))
    processes.read_line(holder)
    file = os.open(path, os.O_RDWR)
    try:
        began = time.monotonic()
        holder.kill()
        fcntl.flock(file, fcntl.LOCK_EX)
        return time.monotonic() - began
    finally:
        os.close(file)
        processes.read_to_end(holder)
