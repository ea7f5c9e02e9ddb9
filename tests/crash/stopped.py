"""Flows of the corpus that are cancelled, or out of time, wherever their process dies.

Whoever plays one cancels it in each life anew, so that a cancel meets every state. What is
called ``never`` comes after the cancel, and must not start.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import kitaru
from kitaru import KitaruClient, Retry, app, checkpoint, flow

from . import clock
from .corpus import KEY, SCENARIOS, Scenario, work, work_async
from .journal import body, got
from .parked import parked_or_over

SOON = 0.05


def _enter(played: Any, *, by_whom: str, sequential: bool = True) -> None:
    def play() -> Any:
        kitaru.KitaruClient()
        if by_whom == "a clock":
            clock.stand()  # until it has come so far
        if by_whom == "nobody":
            clock.count_by_hand()
        handle = played.options(key=KEY).run()
        if by_whom == "whoever plays":
            _cancel(handle.exec_id)
        if by_whom == "a clock":
            parked_or_over(handle)
            clock.go()
        try:
            return handle.wait()
        except kitaru.KitaruCancelledError:
            return _with_all_children(handle.exec_id)
        except kitaru.KitaruExecutionError as error:
            return f"{error.failure_origin}: {error.code}"

    SCENARIOS[played.spec.name] = Scenario(played.spec.name, play, sequential=sequential)


def _with_all_children(exec_id: str) -> str:
    """``cancelled``, once all that it had started are, too."""
    for child in app.current().store.list_children(exec_id, limit=100):
        try:
            return f"a child came to {KitaruClient().executions.handle(child.exec_id).wait()}"
        except kitaru.KitaruCancelledError:
            continue
    return "cancelled"


def _cancel(exec_id: str) -> None:
    try:
        KitaruClient().executions.cancel(exec_id, reason="a trial")
    except kitaru.KitaruStateError:
        return  # an earlier life has done it


@checkpoint(cache=False)
def cancels_all(what: str) -> str:
    """A body in whose middle the cancel comes: it finishes, and is recorded."""
    with body(f"cancels_all({what})") as mark:
        _cancel(str(kitaru.current_execution_id()))
        return f"{what}{mark}"


@checkpoint(cache=False)
async def cancels_all_async(what: str) -> str:
    with body(f"cancels_all_async({what})") as mark:
        _cancel(str(kitaru.current_execution_id()))
        await asyncio.sleep(0)
        return f"{what}{mark}"


@flow
def cancelled_in_a_body() -> Any:
    try:
        got("before", work("before"))
        cancels_all("now")
        return work("never")
    finally:
        work("never in a finally")


@flow
async def cancelled_in_an_async_body() -> Any:
    try:
        got("before", await work_async("before"))
        await cancels_all_async("now")
        return await work_async("never")
    finally:
        await work_async("never in a finally")


@flow
async def cancelled_among_branches() -> Any:
    async def branch(n: int) -> Any:
        return await work_async(f"before {n}"), await work.submit(f"thread {n}")

    await asyncio.gather(branch(1), branch(2))
    await asyncio.gather(cancels_all_async("now"), branch(3))
    return await work_async("never")


@flow
def cancelled_while_submitting() -> Any:
    futures = [work.submit(n) for n in range(3)]
    cancels_all.submit("now").result()
    work("never")
    return [future.result() for future in futures]


@flow
def cancelled_from_outside() -> Any:
    got("before", work("before"))
    while True:
        kitaru.check()
        threading.Event().wait(0.001)


@flow
def cancelled_while_it_waits() -> Any:
    got("before", work("before"))
    kitaru.wait(name="nobody answers", schema=str)
    return work("never")


@flow
async def cancelled_while_branches_wait() -> Any:
    async def branch(n: int) -> Any:
        await work_async(f"before {n}")
        return await kitaru.wait(name=f"nobody answers {n}", schema=str)

    await asyncio.gather(branch(1), branch(2), kitaru.sleep(3600))
    return await work_async("never")


@flow
def a_child() -> Any:
    got("in the child", work("child"))
    while True:
        kitaru.check()
        threading.Event().wait(0.001)


@flow
def cancelled_with_its_child() -> Any:
    got("before", work("before"))
    a_child.run().wait()
    return work("never")


@flow(timeout=SOON)
def out_of_time() -> Any:
    got("before", work("before"))
    clock.go()
    while True:
        kitaru.check()
        threading.Event().wait(0.001)


@flow(timeout=SOON)
def out_of_time_while_it_waits() -> Any:
    got("before", work("before"))
    kitaru.wait(name="nobody answers", schema=str)
    return work("never")


@checkpoint(cache=False, timeout=SOON, retries=Retry(max_attempts=2, initial_seconds=0))
def second_try(what: str) -> str:
    """Its first try is lost, in a thread that never ends."""
    with body(f"second_try({what})") as mark:
        if kitaru.current().attempt == 1:
            clock.let_pass(SOON)
            threading.Event().wait()
        return f"{what}{mark}"


@checkpoint(cache=False, timeout=SOON, retries=Retry(max_attempts=2, initial_seconds=0))
async def second_try_async(what: str) -> str:
    with body(f"second_try_async({what})") as mark:
        if kitaru.current().attempt == 1:
            clock.let_pass(SOON)
            await asyncio.sleep(3600)
        return f"{what}{mark}"


@flow
def goes_on_without_a_body() -> Any:
    return [got("first", work("first")), got("second", second_try("second"))]


@flow
async def goes_on_without_an_async_body() -> Any:
    return [got("first", await work_async("first")), got("second", await second_try_async("2"))]


for each in (cancelled_in_a_body, cancelled_in_an_async_body):
    _enter(each, by_whom="a body")
for each in (cancelled_among_branches, cancelled_while_submitting):
    _enter(each, by_whom="a body", sequential=False)
for each in (cancelled_from_outside, cancelled_while_it_waits, cancelled_while_branches_wait):
    _enter(each, by_whom="whoever plays", sequential=False)
_enter(cancelled_with_its_child, by_whom="whoever plays", sequential=False)
for each in (out_of_time, out_of_time_while_it_waits):
    _enter(each, by_whom="a clock")
for each in (goes_on_without_a_body, goes_on_without_an_async_body):
    _enter(each, by_whom="nobody")
