"""The work that is measured: checkpoints that return a dict with a 1 KB string.

Flows time their own steps, because only there is nothing but the step between
two readings of the clock; what they took is fetched with :func:`laps`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from kitaru import checkpoint, flow

TEXT = "The quick brown fox jumps over the lazy dog, and records it. " * 17
RESULT = {"model": "bench-1", "text": TEXT[:1024]}

_numbers = itertools.count(1)


def new_numbers(count: int) -> range:
    """Numbers that no call of this process has had: nothing is reused by accident."""
    first = next(_numbers)
    for _ in range(count - 1):
        next(_numbers)
    return range(first, first + count)


class Lap(NamedTuple):
    seconds: list[float]
    """Of each step."""
    cpu_seconds: float
    """Of one step on the thread of the flow, on average."""


_laps: list[Lap] = []


def laps() -> list[Lap]:
    """What the flows took since the last call."""
    taken, _laps[:] = list(_laps), []
    return taken


def timed(step: Callable[[int], Any], numbers: range) -> Lap:
    clock, seconds = time.perf_counter, []
    cpu = time.thread_time()
    for number in numbers:
        began = clock()
        step(number)
        seconds.append(clock() - began)
    return Lap(seconds, (time.thread_time() - cpu) / len(numbers))


async def timed_async(step: Callable[[int], Any], numbers: range) -> Lap:
    clock, seconds = time.perf_counter, []
    cpu = time.thread_time()
    for number in numbers:
        began = clock()
        await step(number)
        seconds.append(clock() - began)
    return Lap(seconds, (time.thread_time() - cpu) / len(numbers))


@checkpoint
def step(number: int) -> dict[str, str]:
    return RESULT


@checkpoint(cache=False)
def step_without_reuse(number: int) -> dict[str, str]:
    return RESULT


@checkpoint
async def async_step(number: int) -> dict[str, str]:
    return RESULT


@checkpoint
def printing_step(number: int) -> dict[str, str]:
    for line in range(10):
        print(f"step {number} has come to line {line}")
    return RESULT


@checkpoint
async def async_printing_step(number: int) -> dict[str, str]:
    for line in range(10):
        print(f"step {number} has come to line {line}")
    return RESULT


@checkpoint
async def async_nap(number: int) -> dict[str, str]:
    await asyncio.sleep(0.005)
    return RESULT


@checkpoint
def nap(number: int) -> dict[str, str]:
    time.sleep(0.005)
    return RESULT


@flow
def steps(first: int, count: int) -> None:
    _laps.append(timed(step, range(first, first + count)))


@flow
def steps_without_reuse(first: int, count: int) -> None:
    _laps.append(timed(step_without_reuse, range(first, first + count)))


@flow
async def async_steps(first: int, count: int) -> None:
    _laps.append(await timed_async(async_step, range(first, first + count)))


@flow
def printing(first: int, count: int) -> None:
    _laps.append(timed(printing_step, range(first, first + count)))


@flow
async def async_printing(first: int, count: int) -> None:
    _laps.append(await timed_async(async_printing_step, range(first, first + count)))


@flow
def three(number: int) -> int:
    for index in range(3):
        step(number * 3 + index)
    return number


@flow
async def three_async(number: int) -> int:
    for index in range(3):
        await async_step(number * 3 + index)
    return number


@flow
async def naps_gathered(first: int, count: int) -> int:
    results = await asyncio.gather(*[async_nap(n) for n in range(first, first + count)])
    return len(results)


@flow
async def naps_mapped_async(first: int, count: int) -> int:
    return len(await async_nap.map(range(first, first + count)))


@flow
def naps_mapped(first: int, count: int) -> int:
    return len(nap.map(range(first, first + count)).results())


class Interrupted(Exception):
    """What ends the first attempt of :func:`twice`."""


@flow(retries=1)
def twice(first: int, count: int) -> None:
    """The steps, and in the second attempt the same steps recalled."""
    _laps.append(timed(step, range(first, first + count)))
    if len(_laps) == 1:
        raise Interrupted


@flow(retries=1)
async def twice_async(first: int, count: int) -> None:
    _laps.append(await timed_async(async_step, range(first, first + count)))
    if len(_laps) == 1:
        raise Interrupted
