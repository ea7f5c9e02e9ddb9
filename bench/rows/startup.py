"""What importing costs over a bare interpreter, and hello world from start to exit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from bench import processes
from bench.figures import Rounds, Row, Sample, Target
from bench.stores import Bench

IMPORTS = (
    ("import kitaru", Target(40, of="median", unit="ms")),
    ("from kitaru import flow, checkpoint", Target(40, of="median", unit="ms")),
)


def measure(bench: Bench) -> Iterator[Row]:
    store = bench.fresh("startup")
    for code, target in IMPORTS:
        yield _import(bench, store, code, target)
    yield _hello(bench, fresh=False)
    yield _hello(bench, fresh=True)


def _import(bench: Bench, store: object, code: str, target: Target) -> Row:
    bench.say(code)
    path = bench.fresh("unused")
    over, bare, ratios = [], [], []
    processes.seconds_of(["-c", code], path)
    for _ in range(3 * bench.rounds):
        empty = processes.seconds_of(["-c", "pass"], path)
        whole = processes.seconds_of(["-c", code], path)
        over.append(whole - empty)
        bare.append(empty)
        ratios.append(whole / empty)
    return Row(
        f"{code}, over a bare interpreter",
        "ms",
        Sample.of(over).map(1e3),
        limit=Sample.of(bare).map(1e3),
        limit_name="python -c pass, start to exit",
        ratio=Sample.of(ratios),
        target=target,
        note="the ratio is of whole processes",
    )


def _hello(bench: Bench, *, fresh: bool) -> Row:
    name = "hello world, start to exit, " + ("first run ever" if fresh else "store exists")
    bench.say(name)
    rounds = Rounds()
    program = str(processes.PROGRAMS / "hello.py")
    store = bench.fresh("hello")
    for number in range(3 * bench.rounds):
        if fresh:
            shutil.rmtree(store, ignore_errors=True)
        elif number == 0:
            processes.seconds_of([program, "first"], store)
        # A new name each time: the checkpoint runs, it is not reused.
        figure = processes.seconds_of([program, f"world {number}"], store)
        rounds.add([figure], [processes.seconds_of(["-c", "pass"], store)])
    return rounds.row(
        name,
        "ms",
        scale=1e3,
        limit_name="python -c pass, start to exit",
        target=Target(200, of="median", unit="ms"),
    )
