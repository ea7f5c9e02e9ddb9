"""What parked executions hold: memory, threads and CPU of a process that only waits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from bench import processes
from bench.figures import Row, Sample, Target
from bench.stores import Bench

_IDLE_SECONDS = 5.0
_MEGABYTE = 1_000_000


def measure(bench: Bench) -> Iterator[Row]:
    count = 10_000 if bench.full else 2_000
    bench.say(f"{count:,} parked executions")
    found = [_park(bench, count) for _ in range(2 if bench.full else 1)]
    assert all(one["waiting"] >= count for one in found)
    last = found[-1]
    yield Row(
        f"{count:,} parked executions, memory over the import",
        "MB",
        Sample.of([one["bytes"] / _MEGABYTE for one in found]),
        target=Target(50, of="maximum", unit="MB"),
        note=(
            f"{last['threads']} more threads than for 2; {100 * last['idle_cpu']:.2f} % of one CPU "
            f"while nothing happens; {1e3 * last['seconds'] / count:.2f} ms to run and park one"
        ),
        extra=last,
    )


def _park(bench: Bench, count: int) -> dict[str, Any]:
    said = subprocess.run(
        [sys.executable, str(processes.PROGRAMS / "parked.py"), str(count), str(_IDLE_SECONDS)],
        env=processes.environment(bench.fresh("parked")),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: dict[str, Any] = json.loads(said)
    return found
