"""Bytes on disk for each checkpoint of 1 KB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bench import steps
from bench.figures import Rounds, Row, Target
from bench.rows.checkpoint import probe_row_bytes
from bench.stores import Bench, database_bytes


def measure(bench: Bench) -> Iterator[Row]:
    count = 20_000 if bench.full else 3_000
    row_bytes = probe_row_bytes(bench)
    payload = len(json.dumps(steps.RESULT, separators=(",", ":")))
    for name, flow in (
        ("bytes on disk, a checkpoint of 1 KB", steps.steps),
        ("the same, cache=False", steps.steps_without_reuse),
    ):
        bench.say(name)
        rounds = Rounds()
        rounds.add([_kitaru(bench, flow, count)], [_bare(bench, row_bytes, count)])
        yield rounds.row(
            name,
            "bytes",
            limit_name=f"a bare table with rows of {row_bytes} bytes",
            target=Target(1_500, of="median", unit="bytes"),
            note=f"{payload} of them the outcome; {count:,} calls; an empty store is not counted",
        )


def _kitaru(bench: Bench, flow: Any, count: int) -> float:
    path = bench.fresh("disk")
    with bench.store(path):
        flow.run(steps.new_numbers(1).start, 1).wait()
    before = database_bytes(path)
    with bench.store(path):
        flow.run(steps.new_numbers(count).start, count).wait()
    steps.laps()
    return (database_bytes(path) - before) / count


def _bare(bench: Bench, row_bytes: int, count: int) -> float:
    bare = bench.bare(row_bytes)
    bare.commits(count // 500, rows=500)
    bare.close()
    return bare.bytes_on_disk() / (count // 500 * 500)
