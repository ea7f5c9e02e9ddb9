"""SIGKILL in checkpoint 1,001: how long until a new process runs its first new body."""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator
from pathlib import Path

from bench import processes
from bench.figures import Rounds, Row, Target
from bench.stores import Bench

STEPS = 1_001


def measure(bench: Bench) -> Iterator[Row]:
    name = f"SIGKILL in checkpoint {STEPS:,}: start to the first new body"
    bench.say(name)
    rounds, twice = Rounds(), 0
    for _ in range(bench.rounds):
        store, journal = bench.fresh("resumed"), bench.fresh("journal")
        first = _life(store, journal, "1")
        processes.read_to_end(first)
        assert first.returncode == -9, first.returncode
        figure = _second_life(store, journal)
        rounds.add([figure], [_bare(store)])
        ran = collections.Counter(journal.read_text().split())
        assert len(ran) == STEPS, len(ran)
        # The last was not acknowledged when the process was killed in it.
        twice += sum(count - 1 for number, count in ran.items() if number != str(STEPS))
    yield rounds.row(
        name,
        "s",
        limit_name="bare process: open, read and decode 1,000 rows",
        target=Target(0.30, of="median", unit="s"),
        note=f"{twice} acknowledged bodies ran twice in {bench.rounds} kills",
        extra={"ran_twice": twice},
    )


def _life(store: Path, journal: Path, life: str) -> processes.Program:
    return processes.start(
        "resumed.py",
        store,
        BENCH_LIFE=life,
        BENCH_JOURNAL=str(journal),
        BENCH_STEPS=str(STEPS),
    )


def _second_life(store: Path, journal: Path) -> float:
    began = time.monotonic()
    process = _life(store, journal, "2")
    seconds = float(processes.read_line(process)) - began
    processes.read_to_end(process)
    assert process.returncode == 0, process.returncode
    return seconds


def _bare(store: Path) -> float:
    began = time.monotonic()
    process = processes.start(
        "bare_resume.py",
        store,
        BENCH_DATABASE=str(store / "kitaru.db"),
        BENCH_STEPS=str(STEPS + 1),
    )
    seconds = float(processes.read_line(process)) - began
    processes.read_to_end(process)
    return seconds
