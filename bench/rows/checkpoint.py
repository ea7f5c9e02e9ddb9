"""One checkpoint against one bare commit of the same bytes, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from bench import steps
from bench.figures import Rounds, Row, Target
from bench.stores import Bench, recorded_row_bytes

_WARM_UP = 30


def measure(bench: Bench) -> Iterator[Row]:
    count = 1_000 if bench.full else 400
    row_bytes = probe_row_bytes(bench)
    for name, flow in (
        ("a checkpoint", steps.steps),
        ("a checkpoint, cache=False", steps.steps_without_reuse),
        ("an async checkpoint", steps.async_steps),
    ):
        bench.say(name)
        rounds, growing = Rounds(), []
        for _ in range(bench.rounds):
            lap = run_steps(bench, flow, count)
            limit, limit_cpu = bare_commits(bench, row_bytes, count)
            rounds.add(lap.seconds, limit, lap.cpu_seconds, limit_cpu)
            growing += bare_commits(bench, row_bytes, count // 2, log_grows=True)[0]
        milliseconds = statistics.median(growing) * 1e3
        yield rounds.row(
            name,
            "ms",
            scale=1e3,
            limit_name=f"bare commit of {row_bytes} bytes",
            target=Target(1.3),
            note=f"a bare commit that lengthens the log (a new file): {milliseconds:.3f} ms",
            extra={"growing_log_ms": milliseconds},
        )


def bare_commits(
    bench: Bench, row_bytes: int, count: int, *, log_grows: bool = False
) -> tuple[list[float], float]:
    """Seconds of each bare commit in a fresh file, and the CPU of one."""
    bare = bench.bare(row_bytes, log_grows=log_grows)
    bare.commits(_WARM_UP)
    seconds = bare.commits(count)
    bare.close()
    bare.path.unlink()
    return seconds, bare.cpu_seconds


def run_steps(bench: Bench, flow: Any, count: int) -> steps.Lap:
    """The laps of one flow in a fresh store, after a flow to warm up."""
    with bench.store():
        flow.run(steps.new_numbers(_WARM_UP).start, _WARM_UP).wait()
        steps.laps()
        flow.run(steps.new_numbers(count).start, count).wait()
    return steps.laps()[0]


def probe_row_bytes(bench: Bench) -> int:
    """How many bytes a checkpoint of 1 KB writes into its row."""
    path = bench.fresh("probe")
    with bench.store(path):
        steps.steps.run(steps.new_numbers(50).start, 50).wait()
    steps.laps()
    return recorded_row_bytes(path)
