"""Whether a step stays as fast: late in a long execution, and in a store of many.

The limit here is Kitaru itself in an empty store, fifty steps of each in
turns. Two stores are open at once for that: a flow that runs keeps the store it
began in, so the next can be started in another.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

from bench import fill, steps
from bench.figures import Rounds, Row, Target
from bench.stores import Bench, close_store, open_store
from kitaru import app as kitaru_app
from kitaru import flow

CHUNK = 50

Numbers = range
_asks: queue.Queue[Numbers] = queue.Queue()
_answers: queue.Queue[steps.Lap] = queue.Queue()


def measure(bench: Bench) -> Iterator[Row]:
    marks = [100, 1_000, 10_000, 100_000]
    for kind, long in (("sync", long_flow), ("async", long_async_flow)):
        ends = marks if bench.full or kind == "sync" else marks[:-1]
        yield from _long_execution(bench, kind, long, ends)
    for executions in [100_000, 1_000_000] if bench.full else [100_000]:
        yield from _many_executions(bench, executions)


# --- late in one execution ---------------------------------------------------------------


def _compare(numbers: Numbers) -> steps.Lap:
    """Have steps made in the empty store, and wait for them: called from the long flow."""
    _asks.put(numbers)
    return _answers.get()


@flow
def long_flow(marks: list[int], chunks: int) -> None:
    done = 0
    for mark in marks:
        rounds = Rounds()
        turns = min(chunks, mark // CHUNK - 1)
        while done < mark - CHUNK * turns:
            steps.step(-done)
            done += 1
        for _ in range(turns):
            own = steps.timed(steps.step, range(-done - CHUNK + 1, -done + 1))
            done += CHUNK
            rounds.add(own.seconds, _compare(steps.new_numbers(CHUNK)).seconds, own.cpu_seconds)
        _found.append(rounds)


@flow
async def long_async_flow(marks: list[int], chunks: int) -> None:
    import asyncio

    done = 0
    for mark in marks:
        rounds = Rounds()
        turns = min(chunks, mark // CHUNK - 1)
        while done < mark - CHUNK * turns:
            await steps.async_step(-done)
            done += 1
        for _ in range(turns):
            own = await steps.timed_async(steps.async_step, range(-done - CHUNK + 1, -done + 1))
            done += CHUNK
            # In a thread: the loop has to stay free for the other flow.
            other = await asyncio.to_thread(_compare, steps.new_numbers(CHUNK))
            rounds.add(own.seconds, other.seconds, own.cpu_seconds)
        _found.append(rounds)


_found: list[Rounds] = []


def _long_execution(bench: Bench, kind: str, long: Any, marks: list[int]) -> Iterator[Row]:
    bench.say(f"up to {marks[-1]:,} calls in one execution, {kind}")
    empty_flow = steps.steps if kind == "sync" else steps.async_steps
    _found.clear()
    with bench.store(), _second_store(bench) as other:
        handle = long.run(marks, 2 * bench.rounds)
        _answer_until(handle, other, empty_flow)
    for mark, rounds in zip(marks, _found, strict=True):
        yield rounds.row(
            f"a step at {mark:,} calls in one execution, {kind}",
            "ms",
            scale=1e3,
            limit_name="the same in an empty store",
            target=Target(1.2),
        )


def _answer_until(handle: Any, other: kitaru_app.Kitaru, empty_flow: Any) -> None:
    """Make the steps that the long flow asks for, until it has ended."""
    mine = kitaru_app.current()
    kitaru_app.use(other)
    empty_flow.run(steps.new_numbers(30).start, 30).wait()
    steps.laps()
    try:
        while not handle.status.is_finished:
            try:
                numbers = _asks.get(timeout=0.2)
            except queue.Empty:
                continue
            empty_flow.run(numbers.start, len(numbers)).wait()
            _answers.put(steps.laps()[0])
    finally:
        kitaru_app.use(mine)
    handle.wait()


class _second_store:
    """An empty store beside the one that is in use."""

    def __init__(self, bench: Bench) -> None:
        self._path = bench.fresh("empty")

    def __enter__(self) -> kitaru_app.Kitaru:
        mine = kitaru_app.current()
        self._app = open_store(self._path)
        kitaru_app.use(mine)
        return self._app

    def __exit__(self, *_: object) -> None:
        mine = kitaru_app.current()
        close_store(self._app)
        kitaru_app.use(mine)


# --- in a store of many -------------------------------------------------------------------


def _many_executions(bench: Bench, executions: int) -> Iterator[Row]:
    path, seconds = fill.filled_store(bench, executions)
    size = (path / "kitaru.db").stat().st_size
    for kind, plain in (("sync", steps.steps), ("async", steps.async_steps)):
        name = f"a step with {executions:,} executions in the store, {kind}"
        bench.say(name)
        rounds = Rounds()
        with bench.store(path), _second_store(bench) as other:
            mine = kitaru_app.current()
            for app in (mine, other):
                kitaru_app.use(app)
                plain.run(steps.new_numbers(30).start, 30).wait()
            steps.laps()
            for _ in range(4 * bench.rounds):
                for app in (mine, other):
                    kitaru_app.use(app)
                    plain.run(steps.new_numbers(CHUNK).start, CHUNK).wait()
                full, empty = steps.laps()
                rounds.add(full.seconds, empty.seconds, full.cpu_seconds)
            kitaru_app.use(mine)
        yield rounds.row(
            name,
            "ms",
            scale=1e3,
            limit_name="the same in an empty store",
            target=Target(1.2),
            note=f"{size / 1e6:,.0f} MB, filled in {seconds:.0f} s",
        )
