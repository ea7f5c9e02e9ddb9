"""The rows of the table, in the order of DESIGN's; each module measures one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.figures import Row
from bench.rows import (
    checkpoint,
    disk,
    fanout,
    flows,
    growth,
    logs,
    parked,
    postgres,
    recall,
    resume,
    startup,
    takeover,
)
from bench.stores import Bench

ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "checkpoint": checkpoint.measure,
    "flows": flows.measure,
    "fanout": fanout.measure,
    "resume": resume.measure,
    "recall": recall.measure,
    "growth": growth.measure,
    "startup": startup.measure,
    "disk": disk.measure,
    "logs": logs.measure,
    "takeover": takeover.measure,
    "parked": parked.measure,
    "postgres": postgres.measure,
}
