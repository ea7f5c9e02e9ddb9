"""A store full of executions, made by SQL in a minute instead of by flows in an hour.

One flow runs for real; its execution and its call are then copied, with ids,
identities and reuse keys of their own, so that the indexes are as large and as
random as those of a store that grew by itself.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import apsw

from bench import steps
from bench.stores import Bench

BATCH = 20_000

_OWN = {
    "executions": {"exec_id": "printf('%08x', i) || substr(exec_id, 9)"},
    "calls": {
        "execution": "execution + i",
        "identity": "randomblob(16)",
        "reuse_key": "randomblob(16)",
        "inputs_digest": "randomblob(16)",
    },
}


def filled_store(bench: Bench, executions: int) -> tuple[Path, float]:
    """A store of that many finished executions of one 1 KB call each -> (path, seconds)."""
    path = bench.fresh(f"filled-{executions}")
    began = time.perf_counter()
    with bench.store(path):
        steps.steps.run(steps.new_numbers(1).start, 1).wait()
        steps.laps()
    connection = apsw.Connection(str(path / "kitaru.db"))
    connection.pragma("synchronous", 0)
    connection.pragma("cache_size", -512 * 1024)
    for at in range(1, executions, BATCH):
        _copy(connection, at, min(BATCH, executions - at))
        if at % (BATCH * 10) == 1:
            bench.say(f"filling a store: {at:,} of {executions:,} executions")
    connection.execute("analyze; pragma wal_checkpoint(truncate)").fetchall()
    ((found,),) = connection.execute("select count(*) from calls").fetchall()
    assert found == executions, found
    connection.close()
    # Else the first commits that are measured would sync all of it.
    with (path / "kitaru.db").open("rb+") as file:
        os.fsync(file.fileno())
    return path, time.perf_counter() - began


def _copy(connection: apsw.Connection, first: int, count: int) -> None:
    connection.execute("begin immediate")
    for table, own in _OWN.items():
        columns = [row[1] for row in connection.execute(f"pragma table_info({table})")]
        names = [name for name in columns if name != "id"]
        values = [own.get(name, name) for name in names]
        connection.execute(
            "with recursive numbers(i) as (select ? union all "
            "select i + 1 from numbers where i < ?) "
            f"insert into {table} (id, {', '.join(names)}) "
            f"select t.id + i, {', '.join(values)} from numbers, {table} as t where t.id = 1",
            (first, first + count - 1),
        )
    connection.execute("commit")
