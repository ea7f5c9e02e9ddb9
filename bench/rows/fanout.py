"""Five hundred checkpoints of 5 ms each, submitted at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import steps
from bench.bare import BareStore
from bench.figures import Rounds, Row, Target
from bench.rows.checkpoint import probe_row_bytes
from bench.stores import Bench

COUNT = 500
POOL = 32
"""``max_concurrency`` as it is built in: so many sync bodies run at once."""


def measure(bench: Bench) -> Iterator[Row]:
    row_bytes = probe_row_bytes(bench)
    async_limit = ("the naps, gathered, and one bare commit", _async_limit)
    sync_limit = (f"the naps on {POOL} threads, a bare commit a batch", _sync_limit)
    for name, flow, (limit_name, limit), target in (
        ("async, gather", steps.naps_gathered, async_limit, Target(0.15, of="median", unit="s")),
        ("async, .map", steps.naps_mapped_async, async_limit, Target(0.15, of="median", unit="s")),
        ("sync, .map", steps.naps_mapped, sync_limit, None),
    ):
        name = f"{COUNT} checkpoints of 5 ms at once, {name}"
        bench.say(name)
        rounds = Rounds()
        for _ in range(bench.rounds):
            figure = _flow_seconds(bench, flow)
            bare = bench.bare(row_bytes)
            bare.commits(20)
            rounds.add([figure], [_seconds(limit, bare)])
            bare.close()
        yield rounds.row(name, "s", limit_name=limit_name, target=target)


def _flow_seconds(bench: Bench, flow: Any) -> float:
    with bench.store():
        flow.run(steps.new_numbers(POOL).start, POOL).wait()
        first = steps.new_numbers(COUNT).start
        return _seconds(lambda: flow.run(first, COUNT).wait())


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def _async_limit(bare: BareStore) -> None:
    async def naps() -> None:
        await asyncio.gather(*[asyncio.sleep(0.005) for _ in range(COUNT)])

    asyncio.run(naps())
    bare.commits(1, rows=COUNT)


def _sync_limit(bare: BareStore) -> None:
    with ThreadPoolExecutor(POOL) as pool:
        list(pool.map(lambda _: time.sleep(0.005), range(COUNT)))
    bare.commits(-(-COUNT // POOL), rows=POOL)
